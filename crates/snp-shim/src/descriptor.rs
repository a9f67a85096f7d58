//! Real descriptors for objects that the kernel does not know.
//!
//! # Unsafety
//! System calls with plain numbers and with buffers that live across the call.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use snp_abi::Errno;
use snp_softkvm::{Counter, Eventfd};

use crate::real;
use crate::spin::Spin;

/// What a descriptor's file is known by: two descriptors with the same are of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// Makes a memfd of `len` bytes.
///
/// # Errors
/// The errno, for instance EMFILE.
pub(crate) fn create(name: &CStr, len: u64, close_on_exec: bool) -> Result<c_int, c_int> {
    let flags = if close_on_exec { libc::MFD_CLOEXEC } else { 0 };
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(real::errno());
    }
    // The hook of ftruncate does not know the descriptor yet and passes the call on.
    // SAFETY: plain numbers.
    if len != 0 && unsafe { libc::ftruncate(fd, len as libc::off_t) } != 0 {
        let errno = real::errno();
        // SAFETY: the descriptor was made above and nobody else knows it.
        unsafe { real::close(fd) };
        return Err(errno);
    }
    Ok(fd)
}

/// A descriptor from which `contents` can be read, as from a file of sysfs or configfs.
///
/// # Errors
/// The errno.
pub(crate) fn with_contents(contents: &[u8], close_on_exec: bool) -> Result<c_int, c_int> {
    let fd = create(c"snp-parameter", 0, close_on_exec)?;
    // SAFETY: the buffer lives across the call; a short write of a few kilobytes to memory does not happen.
    unsafe {
        real::write(fd, contents.as_ptr().cast(), contents.len());
        libc::lseek(fd, 0, libc::SEEK_SET);
    }
    Ok(fd)
}

/// Lets a descriptor survive an exec.
pub(crate) fn keep_on_exec(fd: c_int) {
    // SAFETY: plain numbers.
    unsafe { real::fcntl(fd, libc::F_SETFD, 0) };
}

/// The identity of an open descriptor.
pub(crate) fn identity(fd: c_int) -> Option<Identity> {
    // SAFETY: fstat fills the structure that it is given, and only that; zeros are a valid one.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &mut stat) == 0).then_some(Identity { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Whether a descriptor is of a file whose name begins with one of these.
pub(crate) fn is_file(fd: c_int, names: &[&str]) -> bool {
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    name.is_ok_and(|name| names.iter().any(|want| name.to_string_lossy().starts_with(want)))
}

/// Whether a descriptor is open.
pub(crate) fn is_open(fd: c_int) -> bool {
    identity(fd).is_some()
}

/// Held by whoever looks at an eventfd.
pub(crate) static EVENTFDS: Spin<()> = Spin::new(());

/// The eventfd behind a descriptor, as the kernel counts them. It stays open as long as the answer is kept.
///
/// The program's threads may close descriptors and ask for the same numbers meanwhile: ours are out of their way, and the one
/// that is open for a moment is not seen by another call of this function.
///
/// # Errors
/// EBADF: the descriptor is not open. EINVAL: it is something else.
pub(crate) fn eventfd(fd: c_int) -> Result<Eventfd, Errno> {
    const OUT_OF_THE_WAY: std::ffi::c_ulong = 512;
    let one = EVENTFDS.lock();
    let held = [OUT_OF_THE_WAY, 0].into_iter().find_map(|from| {
        // SAFETY: a plain number; a new descriptor, or none.
        let held = unsafe { real::fcntl(fd, libc::F_DUPFD_CLOEXEC, from) };
        // SAFETY: made above, and nobody else knows it.
        (held >= 0).then(|| unsafe { OwnedFd::from_raw_fd(held) })
    });
    let held = held.ok_or_else(|| Errno(real::errno()))?;
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", held.as_raw_fd())).unwrap_or_default();
    drop(one);
    let identity = told.lines().find_map(|line| line.strip_prefix("eventfd-id:")?.trim().parse().ok());
    Ok(Eventfd::new(identity.ok_or(Errno::EINVAL)?, Held(held)))
}

/// An eventfd of the program's, by a descriptor of our own.
#[derive(Debug)]
struct Held(OwnedFd);

impl Counter for Held {
    fn signal(&self) {
        let fd = self.0.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one descriptor, and no time to wait: an eventfd that is full stays so.
        if unsafe { libc::poll(&raw mut poll, 1, 0) } == 1 {
            let one = 1_u64;
            // SAFETY: eight bytes, which is what an eventfd takes.
            unsafe { real::write(fd, (&raw const one).cast(), size_of_val(&one)) };
        }
    }
}

/// The process.
pub(crate) fn pid() -> i32 {
    // SAFETY: no conditions.
    unsafe { libc::getpid() }
}
