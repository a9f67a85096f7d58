//! Whether the files of [`crate::files`] are there.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{stat as Stat, statx as Statx};

use super::open::find;
use super::{answer, guarded};
use crate::files::File;
use crate::real;

macro_rules! stat_hooks {
    ($($name:ident, $real:ident, [$($before:ident)?], [$($after:ident)?];)+) => {
        $(
            /// As the C library's.
            ///
            /// # Safety
            /// As the C library's.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name(
                $($before: c_int,)?
                path: *const c_char,
                into: *mut Stat
                $(, $after: c_int)?
            ) -> c_int {
                // SAFETY: the caller's.
                match unsafe { find(path) } {
                    // SAFETY: the caller's.
                    Some(file) => unsafe { fill(&file, into) },
                    // SAFETY: the caller's.
                    None => unsafe { real::$real($($before,)? path, into $(, $after)?) },
                }
            }
        )+
    };
}

// On x86-64 the functions for large files are the same functions.
stat_hooks! {
    stat, stat, [], [];
    stat64, stat, [], [];
    lstat, lstat, [], [];
    lstat64, lstat, [], [];
    fstatat, fstatat, [at], [flags];
    fstatat64, fstatat, [at], [flags];
}

/// # Safety
/// `into` is null or may be written.
unsafe fn fill(file: &File, into: *mut Stat) -> c_int {
    if into.is_null() {
        return answer(Err(snp_abi::Errno::EFAULT));
    }
    if let Err(errno) = guarded(|| file.want()) {
        return answer(Err(errno));
    }
    // SAFETY: zeros are a valid structure, and the pointer is the caller's.
    unsafe {
        std::ptr::write_bytes(into, 0, 1);
        (*into).st_mode = file.mode();
        (*into).st_nlink = 1;
        (*into).st_blksize = 4096;
        if let Some((major, minor)) = file.device() {
            (*into).st_rdev = libc::makedev(major, minor);
        }
    }
    0
}

/// statx(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn statx(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    into: *mut Statx,
) -> c_int {
    // SAFETY: the caller's.
    let Some(file) = (unsafe { find(path) }) else {
        // SAFETY: the caller's.
        return unsafe { real::statx(at, path, flags, mask, into.cast::<c_void>()) };
    };
    if into.is_null() {
        return answer(Err(snp_abi::Errno::EFAULT));
    }
    if let Err(errno) = guarded(|| file.want()) {
        return answer(Err(errno));
    }
    // SAFETY: zeros are a valid structure, and the pointer is the caller's.
    unsafe {
        std::ptr::write_bytes(into, 0, 1);
        (*into).stx_mask = libc::STATX_BASIC_STATS;
        (*into).stx_mode = file.mode() as u16;
        (*into).stx_nlink = 1;
        (*into).stx_blksize = 4096;
        if let Some((major, minor)) = file.device() {
            ((*into).stx_rdev_major, (*into).stx_rdev_minor) = (major, minor);
        }
    }
    0
}
