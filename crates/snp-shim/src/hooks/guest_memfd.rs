//! Calls on a guest_memfd's descriptor, which is no file that could be read, written or resized.
//!
//! # Source
//! Linux 7.3, virt/kvm/guest_memfd.c and tools/testing/selftests/kvm/guest_memfd_test.c, read for behaviour.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use libc::{off_t, size_t, ssize_t};
use snp_abi::{Errno, PAGE_SIZE};
use snp_softkvm::GuestMemfd;
use snp_softkvm::ioctl::Object;

use super::{answer, msrs};
use crate::{descriptor, real, table};

/// Where guest_memfds were mapped. What is unmapped stays in the list: it is asked for MADV_COLLAPSE alone.
mod mappings {
    use crate::spin::Spin;

    static MAPPED: Spin<Vec<(usize, usize)>> = Spin::new(Vec::new());

    pub(super) fn add(at: usize, len: usize) {
        MAPPED.lock().push((at, len));
    }

    pub(super) fn is_mapped(address: usize) -> bool {
        MAPPED.lock().iter().any(|(at, len)| (*at..at.saturating_add(*len)).contains(&address))
    }

    pub(crate) fn before_fork() {
        MAPPED.take();
    }

    pub(crate) fn after_fork() {
        MAPPED.give_back();
    }
}

pub(super) use mappings::{after_fork, before_fork};

fn find(fd: c_int) -> Option<Arc<GuestMemfd>> {
    match table::object(fd) {
        Some(Object::GuestMemfd(memfd)) => Some(memfd),
        _ => None,
    }
}

/// A refusal as functions give it that return a count.
pub(super) fn refused(errno: Errno) -> ssize_t {
    answer(Err(errno)) as ssize_t
}

macro_rules! io_hooks {
    ($($name:ident, $real:ident, ($($argument:ident: $type:ty),*);)+) => {
        $(
            /// As the C library's; EINVAL on a guest_memfd.
            ///
            /// # Safety
            /// As the C library's.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name(fd: c_int, $($argument: $type),*) -> ssize_t {
                match find(fd) {
                    Some(_) => refused(Errno::EINVAL),
                    // SAFETY: the caller's.
                    None => unsafe { real::$real(fd, $($argument),*) },
                }
            }
        )+
    };
}

// On x86-64 the functions for large files are the same functions.
io_hooks! {
    pwrite, pwrite, (buffer: *const c_void, len: size_t, at: off_t);
    pwrite64, pwrite, (buffer: *const c_void, len: size_t, at: off_t);
}

/// read(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, len: size_t) -> ssize_t {
    match msrs::find(fd) {
        // SAFETY: the caller's; lseek of a memfd has no conditions.
        Some(found) => unsafe { msrs::read(found, buffer, len, libc::lseek(fd, 0, libc::SEEK_CUR)) },
        None if find(fd).is_some() => refused(Errno::EINVAL),
        // SAFETY: the caller's.
        None => unsafe { real::read(fd, buffer, len) },
    }
}

/// pread(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pread(fd: c_int, buffer: *mut c_void, len: size_t, at: off_t) -> ssize_t {
    match msrs::find(fd) {
        // SAFETY: the caller's.
        Some(found) => unsafe { msrs::read(found, buffer, len, at) },
        None if find(fd).is_some() => refused(Errno::EINVAL),
        // SAFETY: the caller's.
        None => unsafe { real::pread(fd, buffer, len, at) },
    }
}

/// pread(2) for large files.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pread64(fd: c_int, buffer: *mut c_void, len: size_t, at: off_t) -> ssize_t {
    // SAFETY: the caller's.
    unsafe { pread(fd, buffer, len, at) }
}

/// madvise(2): pages of a guest_memfd are not collapsed into large ones.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn madvise(at: *mut c_void, len: size_t, advice: c_int) -> c_int {
    if advice == libc::MADV_COLLAPSE && mappings::is_mapped(at as usize) {
        return answer(Err(Errno::EINVAL));
    }
    // SAFETY: the caller's.
    unsafe { real::madvise(at, len, advice) }
}

/// ftruncate(2): a guest_memfd keeps its size.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn ftruncate(fd: c_int, len: off_t) -> c_int {
    match find(fd) {
        Some(_) => answer(Err(Errno::EINVAL)),
        // SAFETY: the caller's.
        None => unsafe { real::ftruncate(fd, len) },
    }
}

/// ftruncate(2) for large files.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn ftruncate64(fd: c_int, len: off_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { ftruncate(fd, len) }
}

/// fallocate(2): whole pages, and only within the size.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int {
    if let Some(memfd) = find(fd)
        && let Err(errno) = may_allocate(&memfd, mode, at, len)
    {
        return answer(Err(errno));
    }
    // SAFETY: the caller's.
    let done = unsafe { real::fallocate(fd, mode, at, len) };
    if done == 0
        && mode & libc::FALLOC_FL_PUNCH_HOLE != 0
        && let Some(memfd) = find(fd)
    {
        memfd.punch_hole(at as u64, len as u64);
    }
    done
}

/// fallocate(2) for large files.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { fallocate(fd, mode, at, len) }
}

fn may_allocate(memfd: &GuestMemfd, mode: c_int, at: off_t, len: off_t) -> Result<(), Errno> {
    let known = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
    if at < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    if mode & libc::FALLOC_FL_KEEP_SIZE == 0 || mode & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let page = PAGE_SIZE as off_t;
    let end = at.checked_add(len).ok_or(Errno::EINVAL)?;
    if at % page != 0 || len % page != 0 {
        return Err(Errno::EINVAL);
    }
    if mode & libc::FALLOC_FL_PUNCH_HOLE == 0 && end as u64 > memfd.size() {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// mmap(2): a guest_memfd is mapped only if it was made for that, and only shared.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: size_t,
    access: c_int,
    flags: c_int,
    fd: c_int,
    from: off_t,
) -> *mut c_void {
    let memfd = find(fd);
    let refusal = match &memfd {
        Some(memfd) if !memfd.may_be_mapped() => Some(Errno::ENODEV),
        Some(_) if flags & libc::MAP_TYPE == libc::MAP_PRIVATE => Some(Errno::EINVAL),
        _ => None,
    };
    match refusal {
        Some(errno) => {
            real::set_errno(errno.0);
            libc::MAP_FAILED
        }
        // SAFETY: the caller's.
        None if memfd.is_none() => unsafe { real::mmap(at, len, access, flags, fd, from) },
        None => {
            let shared = memfd.is_some_and(|memfd| memfd.is_shared());
            // SAFETY: the caller's.
            let mapped = unsafe {
                if shared {
                    real::mmap(at, len, access, flags, fd, from)
                } else {
                    map_private(at, len, access, flags, from)
                }
            };
            if mapped != libc::MAP_FAILED {
                mappings::add(mapped as usize, len);
            }
            mapped
        }
    }
}

/// Maps memory that is private to the guest: a touch is SIGBUS, as past the end of any file.
///
/// # Safety
/// As mmap(2).
unsafe fn map_private(at: *mut c_void, len: size_t, access: c_int, flags: c_int, from: off_t) -> *mut c_void {
    match descriptor::create(c"kvm-gmem-private", 0, true) {
        Err(errno) => {
            real::set_errno(errno);
            libc::MAP_FAILED
        }
        Ok(empty) => {
            // SAFETY: the caller's; the mapping keeps the file when its descriptor is closed.
            unsafe {
                let mapped = real::mmap(at, len, access, flags, empty, from);
                real::close(empty);
                mapped
            }
        }
    }
}

/// mmap(2) for large files.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: size_t,
    access: c_int,
    flags: c_int,
    fd: c_int,
    from: off_t,
) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { mmap(at, len, access, flags, fd, from) }
}
