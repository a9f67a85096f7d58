//! Calls that end or duplicate descriptors.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint, c_ulong};

use crate::{real, table};

/// close(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn close(fd: c_int) -> c_int {
    // Before it is closed: another thread may get the number at once.
    table::closing(fd);
    // SAFETY: the caller's.
    unsafe { real::close(fd) }
}

/// dup(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: the caller's.
    duplicated(fd, unsafe { real::dup(fd) })
}

/// dup2(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    // SAFETY: the caller's.
    replaced(old, new, || unsafe { real::dup2(old, new) })
}

/// dup3(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's.
    replaced(old, new, || unsafe { real::dup3(old, new, flags) })
}

/// fcntl(2).
///
/// # Safety
/// As the C library's. The third argument is read although it may not have been given: it is a register.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's.
    after_fcntl(fd, command, unsafe { real::fcntl(fd, command, argument) })
}

/// fcntl(2) for large files.
///
/// # Safety
/// As [`fcntl`].
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's.
    after_fcntl(fd, command, unsafe { real::fcntl64(fd, command, argument) })
}

/// close_range(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    const CLOEXEC: c_int = 4;
    if flags & CLOEXEC == 0 && first <= last {
        table::closing_range(number(first), number(last));
    }
    // SAFETY: the caller's.
    unsafe { real::close_range(first, last, flags) }
}

/// closefrom(3).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn closefrom(first: c_int) {
    table::closing_range(first.max(0), c_int::MAX);
    // SAFETY: the caller's.
    unsafe { real::closefrom(first) }
}

fn number(fd: c_uint) -> c_int {
    c_int::try_from(fd).unwrap_or(c_int::MAX)
}

fn duplicated(old: c_int, new: c_int) -> c_int {
    if new >= 0 {
        table::duplicated(old, new);
    }
    new
}

/// A call that makes `new` a duplicate of `old`, whatever it was before.
fn replaced(old: c_int, new: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let answer = call();
    if answer >= 0 && old != new {
        table::closing(new);
        table::duplicated(old, answer);
    }
    answer
}

fn after_fcntl(fd: c_int, command: c_int, answer: c_int) -> c_int {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, answer),
        _ => answer,
    }
}
