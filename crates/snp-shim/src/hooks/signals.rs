//! The program's own handler of SIGILL, once the signal is ours.
#![allow(unsafe_code)]

use std::ffi::c_int;

use libc::sigaction as Sigaction;

use crate::{cpuid, real};

/// sigaction(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sigaction(signal: c_int, new: *const Sigaction, old: *mut Sigaction) -> c_int {
    if signal != libc::SIGILL || !cpuid::owns_sigill() {
        // SAFETY: the caller's.
        return unsafe { real::sigaction(signal, new, old) };
    }
    // SAFETY: each pointer is null or the caller's structure.
    unsafe {
        let before = cpuid::exchange_handler(new.as_ref().copied());
        if let Some(old) = old.as_mut() {
            *old = before;
        }
    }
    0
}

/// signal(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn signal(signal: c_int, handler: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: zeros are a valid structure; BSD semantics, which are the C library's default.
    unsafe {
        let mut new: Sigaction = std::mem::zeroed();
        new.sa_sigaction = handler;
        new.sa_flags = libc::SA_RESTART;
        let mut old: Sigaction = std::mem::zeroed();
        if sigaction(signal, &new, &mut old) == 0 { old.sa_sigaction } else { libc::SIG_ERR }
    }
}
