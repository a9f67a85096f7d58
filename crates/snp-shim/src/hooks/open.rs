//! open(2) and its kin, for the files of [`crate::files`].
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};

use libc::{FILE, mode_t};

use super::{answer, guarded};
use crate::files::{self, File};
use crate::real;

/// The platform's file at the program's path.
///
/// # Safety
/// The path is null or a C string.
pub(super) unsafe fn find(path: *const c_char) -> Option<File> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    files::find(unsafe { CStr::from_ptr(path) }.to_bytes())
}

fn open_file(file: &File, flags: c_int) -> c_int {
    let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
    answer(guarded(|| files::open(file, flags & libc::O_CLOEXEC != 0, writable)))
}

macro_rules! open_hooks {
    ($($name:ident, $real:ident, [$($before:ident)?], [$($mode:ident)?];)+) => {
        $(
            /// As the C library's.
            ///
            /// # Safety
            /// As the C library's. The third argument is read although it may not have been given: it is a register.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name(
                $($before: c_int,)?
                path: *const c_char,
                flags: c_int
                $(, $mode: mode_t)?
            ) -> c_int {
                // SAFETY: the caller's.
                match unsafe { find(path) } {
                    Some(file) => open_file(&file, flags),
                    // SAFETY: the caller's.
                    None => unsafe { real::$real($($before,)? path, flags $(, $mode)?) },
                }
            }
        )+
    };
}

open_hooks! {
    open, open, [], [mode];
    open64, open64, [], [mode];
    __open_2, open_2, [], [];
    __open64_2, open64_2, [], [];
    openat, openat, [at], [mode];
    openat64, openat64, [at], [mode];
    __openat_2, openat_2, [at], [];
    __openat64_2, openat64_2, [at], [];
}

/// fopen(3).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller's.
    unsafe { find(path).map_or_else(|| real::fopen(path, mode), |file| stream(file, mode)) }
}

/// fopen(3) for large files.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller's.
    unsafe { find(path).map_or_else(|| real::fopen64(path, mode), |file| stream(file, mode)) }
}

/// A stream on a file of the platform.
///
/// # Safety
/// `mode` is a C string.
unsafe fn stream(file: File, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller's.
    let writes = unsafe { CStr::from_ptr(mode) }.to_bytes().iter().any(|letter| b"wa+".contains(letter));
    match open_file(&file, if writes { libc::O_RDWR } else { libc::O_RDONLY }) {
        fd if fd < 0 => std::ptr::null_mut(),
        // SAFETY: the descriptor is open; the mode is the caller's.
        fd => unsafe { libc::fdopen(fd, mode) },
    }
}

/// access(2): the platform's files may be read and written, and not executed.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    // SAFETY: the caller's.
    match unsafe { find(path) } {
        Some(file) if mode & libc::X_OK == 0 => answer(guarded(|| file.want().map(|()| 0))),
        Some(_) => answer(Err(snp_abi::Errno(libc::EACCES))),
        // SAFETY: the caller's.
        None => unsafe { real::access(path, mode) },
    }
}
