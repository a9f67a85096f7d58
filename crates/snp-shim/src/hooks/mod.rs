//! The functions that the program calls in place of the C library's.
//!
//! # Unsafety
//! They have the C library's names and signatures, and take the program's pointers on trust, as it does. None lets a panic
//! pass into the program.
#![allow(unsafe_code)]

mod descriptors;
mod directories;
mod guest_memfd;
mod msrs;
mod open;
mod signals;
mod stat;
mod write;

use std::ffi::{c_int, c_ulong};
use std::panic::{AssertUnwindSafe, catch_unwind};

use snp_abi::Errno;

use crate::table::{self, Found};
use crate::{platform, real, recorder, report, settings};

/// Runs what answers a call; EIO if it panics.
fn guarded<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        report::event(report::NOTE, "a bug in snpkit: a call panicked and was answered with EIO");
        Err(Errno::EIO)
    })
}

/// An answer as C functions give it.
fn answer(result: Result<c_int, Errno>) -> c_int {
    result.unwrap_or_else(|errno| {
        real::set_errno(errno.0);
        -1
    })
}

/// ioctl(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int {
    match table::find(fd) {
        // SAFETY: the caller's.
        Found::Foreign if recorder::is_of_kvm(request as u32) && settings::get().records => unsafe {
            recorded(fd, request, argument)
        },
        // SAFETY: the caller's.
        Found::Foreign => unsafe { real::ioctl(fd, request, argument) },
        // KVM's descriptors work in the address space that made them.
        Found::Inherited => answer(Err(Errno::EIO)),
        Found::Object(object) => answer(guarded(|| {
            let recording = recorder::begin(fd, request as u32, argument);
            let answer = platform::ioctl(&object, request as u32, argument);
            if let Some(recording) = recording {
                recording.end(answer, Some(&object));
            }
            answer
        })),
    }
}

/// An ioctl that somebody else answers, written down. A bug of ours costs the line, not the call.
///
/// # Safety
/// As [`ioctl`].
unsafe fn recorded(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int {
    let before = real::errno();
    let recording = guarded(|| Ok(recorder::begin(fd, request as u32, argument))).ok().flatten();
    real::set_errno(before);
    // SAFETY: the caller's.
    let result = unsafe { real::ioctl(fd, request, argument) };
    let errno = real::errno();
    if let Some(recording) = recording {
        let answer = if result < 0 { Err(Errno(errno)) } else { Ok(result) };
        let _ = guarded(|| {
            recording.end(answer, None);
            Ok(())
        });
    }
    real::set_errno(errno);
    result
}

/// Ends the program, well, without running what it registered for its end: it is in the middle of KVM_RUN.
pub(crate) fn end_program() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

extern "C" fn before_fork() {
    platform::before_fork();
    table::before_fork();
    recorder::before_fork();
    guest_memfd::before_fork();
}

extern "C" fn after_fork() {
    guest_memfd::after_fork();
    recorder::after_fork();
    table::after_fork();
    platform::after_fork();
}

/// Runs when the library is loaded.
extern "C" fn loaded() {
    // SAFETY: the handlers are functions of this library, which is never unloaded.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
    if settings::replaces_cpuid_at_start() {
        platform::replace_cpuid();
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;
