//! Reading /dev/cpu/N/msr, whose offsets are the numbers of MSRs.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use libc::{off_t, ssize_t};
use snp_abi::Errno;
use snp_softkvm::HostMsrs;
use snp_softkvm::ioctl::Object;

use super::answer;
use crate::table;

/// The MSRs behind a descriptor.
pub(super) fn find(fd: c_int) -> Option<HostMsrs> {
    match table::object(fd) {
        Some(Object::HostMsrs(msrs)) => Some(msrs),
        _ => None,
    }
}

/// Reads as many values as fit: eight bytes each, all of the MSR at that offset.
///
/// # Safety
/// `buffer` has `len` bytes.
pub(super) unsafe fn read(msrs: HostMsrs, buffer: *mut c_void, len: usize, at: off_t) -> ssize_t {
    const VALUE: usize = size_of::<u64>();
    let refused = |errno| answer(Err(errno)) as ssize_t;
    if len == 0 || !len.is_multiple_of(VALUE) {
        return refused(Errno::EINVAL);
    }
    let Some(value) = u32::try_from(at).ok().and_then(|index| msrs.read(index)) else { return refused(Errno::EIO) };
    for place in (0..len).step_by(VALUE) {
        // SAFETY: the caller's; the offset is below `len`.
        unsafe { buffer.byte_add(place).cast::<u64>().write_unaligned(value) };
    }
    len as ssize_t
}
