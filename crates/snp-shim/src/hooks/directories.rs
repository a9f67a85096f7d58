//! Directories that are made and removed, for configfs-tsm.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};

use libc::mode_t;
use snp_abi::Errno;

use super::{answer, guarded};
use crate::in_guest::{self, Node};
use crate::real;

/// What the path names in configfs-tsm, if the program runs in a guest.
///
/// # Safety
/// The path is null or a C string.
unsafe fn node(path: *const c_char) -> Option<Node> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    let node = Node::of(unsafe { CStr::from_ptr(path) }.to_bytes())?;
    in_guest::is_there().then_some(node)
}

fn done(call: impl FnOnce() -> Result<(), Errno>) -> c_int {
    answer(guarded(|| call().map(|()| 0)))
}

/// mkdir(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    match unsafe { node(path) } {
        Some(node) => done(|| node.make()),
        // SAFETY: the caller's.
        None => unsafe { real::mkdir(path, mode) },
    }
}

/// mkdirat(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mkdirat(at: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    match unsafe { node(path) } {
        Some(node) => done(|| node.make()),
        // SAFETY: the caller's.
        None => unsafe { real::mkdirat(at, path, mode) },
    }
}

/// rmdir(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: the caller's.
    match unsafe { node(path) } {
        Some(node) => done(|| node.remove()),
        // SAFETY: the caller's.
        None => unsafe { real::rmdir(path) },
    }
}

/// unlinkat(2): files of an entry stay as long as it does.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's.
    match unsafe { node(path) } {
        Some(node) if flags & libc::AT_REMOVEDIR != 0 => done(|| node.remove()),
        Some(node) => done(|| node.want().and(Err(Errno::EPERM))),
        // SAFETY: the caller's.
        None => unsafe { real::unlinkat(at, path, flags) },
    }
}
