//! The C library's own functions, behind ours.
//!
//! # Unsafety
//! An address that the dynamic linker gives for a name is called with the C signature of that name.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{FILE, mode_t, off_t, sigaction as Sigaction, size_t, ssize_t};

/// A function that is looked up when it is first called.
struct Real {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Real {
    const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicPtr::new(null_mut()) }
    }

    fn address(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string; the call has no other conditions.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

macro_rules! real {
    ($($symbol:literal $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {
        $(
            /// The C library's function of this name; ENOSYS where it has none.
            ///
            /// # Safety
            /// As the C function.
            pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
                static REAL: Real = Real::new($symbol);
                let address = REAL.address();
                if address.is_null() {
                    set_errno(libc::ENOSYS);
                    return Failure::failure();
                }
                // SAFETY: the symbol has this signature in every C library for x86-64 Linux.
                let function: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(address) };
                // SAFETY: the caller's.
                unsafe { function($($argument),*) }
            }
        )+
    };
}

// The variadic ones (open, fcntl) always take their third argument in the same register, so that a fixed signature calls
// them just as well.
real! {
    c"open" open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    c"open64" open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    c"__open_2" open_2(path: *const c_char, flags: c_int) -> c_int;
    c"__open64_2" open64_2(path: *const c_char, flags: c_int) -> c_int;
    c"openat" openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    c"openat64" openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    c"__openat_2" openat_2(at: c_int, path: *const c_char, flags: c_int) -> c_int;
    c"__openat64_2" openat64_2(at: c_int, path: *const c_char, flags: c_int) -> c_int;
    c"fopen" fopen(path: *const c_char, mode: *const c_char) -> *mut FILE;
    c"fopen64" fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE;
    c"access" access(path: *const c_char, mode: c_int) -> c_int;
    c"ioctl" ioctl(fd: c_int, request: std::ffi::c_ulong, argument: std::ffi::c_ulong) -> c_int;
    c"close" close(fd: c_int) -> c_int;
    c"dup" dup(fd: c_int) -> c_int;
    c"dup2" dup2(old: c_int, new: c_int) -> c_int;
    c"dup3" dup3(old: c_int, new: c_int, flags: c_int) -> c_int;
    c"fcntl" fcntl(fd: c_int, command: c_int, argument: std::ffi::c_ulong) -> c_int;
    c"fcntl64" fcntl64(fd: c_int, command: c_int, argument: std::ffi::c_ulong) -> c_int;
    c"close_range" close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int;
    c"closefrom" closefrom(first: c_int) -> ();
    c"read" read(fd: c_int, buffer: *mut c_void, len: size_t) -> ssize_t;
    c"write" write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t;
    c"pread" pread(fd: c_int, buffer: *mut c_void, len: size_t, at: off_t) -> ssize_t;
    c"pwrite" pwrite(fd: c_int, buffer: *const c_void, len: size_t, at: off_t) -> ssize_t;
    c"ftruncate" ftruncate(fd: c_int, len: off_t) -> c_int;
    c"fallocate" fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int;
    c"mmap" mmap(at: *mut c_void, len: size_t, access: c_int, flags: c_int, fd: c_int, from: off_t) -> *mut c_void;
    c"madvise" madvise(at: *mut c_void, len: size_t, advice: c_int) -> c_int;
    c"stat" stat(path: *const c_char, into: *mut libc::stat) -> c_int;
    c"lstat" lstat(path: *const c_char, into: *mut libc::stat) -> c_int;
    c"fstatat" fstatat(at: c_int, path: *const c_char, into: *mut libc::stat, flags: c_int) -> c_int;
    c"statx" statx(at: c_int, path: *const c_char, flags: c_int, mask: c_uint, into: *mut c_void) -> c_int;
    c"mkdir" mkdir(path: *const c_char, mode: mode_t) -> c_int;
    c"mkdirat" mkdirat(at: c_int, path: *const c_char, mode: mode_t) -> c_int;
    c"rmdir" rmdir(path: *const c_char) -> c_int;
    c"unlinkat" unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int;
    c"sigaction" sigaction(signal: c_int, new: *const Sigaction, old: *mut Sigaction) -> c_int;
}

/// The path by which this library was loaded.
pub(crate) fn own_path() -> Option<PathBuf> {
    // SAFETY: dladdr fills the structure, of which zeros are a valid one, and its name is a C string that lives as long
    // as the library.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let found = libc::dladdr(own_path as *const c_void, &mut info) != 0 && !info.dli_fname.is_null();
        found.then(|| PathBuf::from(OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes())))
    }
}

/// How a C function fails.
trait Failure {
    fn failure() -> Self;
}

impl Failure for c_int {
    fn failure() -> Self {
        -1
    }
}

impl Failure for ssize_t {
    fn failure() -> Self {
        -1
    }
}

impl Failure for () {
    fn failure() -> Self {}
}

impl<T> Failure for *mut T {
    fn failure() -> Self {
        null_mut()
    }
}

/// Sets the calling thread's errno.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the C library gives a valid address.
    unsafe { *libc::__errno_location() = errno };
}

/// The calling thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: the C library gives a valid address.
    unsafe { *libc::__errno_location() }
}
