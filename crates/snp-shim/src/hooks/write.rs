//! write(2): EINVAL on a guest_memfd, and passed to the few files that say at once what they think of it.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use libc::{size_t, ssize_t};
use snp_abi::Errno;
use snp_softkvm::UserSpace;
use snp_softkvm::ioctl::{Device, Object};

use super::guarded;
use super::guest_memfd::refused;
use crate::memory::Program;
use crate::{real, table};

/// More than any such file takes.
const LIMIT: usize = 4096;

/// write(2).
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t {
    let answer = match table::object(fd) {
        Some(Object::GuestMemfd(_)) => Some(Err(Errno::EINVAL)),
        Some(Object::Device(device)) => written(&*device, buffer as u64, len),
        _ => None,
    };
    match answer {
        Some(Ok(len)) => return len as ssize_t,
        Some(Err(errno)) => return refused(errno),
        None => {}
    }
    // SAFETY: the caller's.
    unsafe { real::write(fd, buffer, len) }
}

fn written(device: &dyn Device, address: u64, len: usize) -> Option<Result<usize, Errno>> {
    let mut data = vec![0; len.min(LIMIT)];
    let answer = guarded(|| {
        Program.read(address, &mut data)?;
        Ok(device.write(&data))
    });
    answer.unwrap_or_else(|errno| Some(Err(errno)))
}
