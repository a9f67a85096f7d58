//! The program's memory and descriptors, as the kernel sees them.
//!
//! # Unsafety
//! Memory is read and written by system calls that fail on addresses that are not mapped, and never touched directly.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::iovec;
use snp_abi::Errno;
use snp_memory::HostPage;
use snp_softkvm::ioctl::Object;
use snp_softkvm::{Eventfd, Fault, GuestMemfd, UserSpace, Vm};

use crate::{descriptor, guest, real, table};

/// The program that this library is loaded into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program;

/// process_vm_readv is refused here, as by some sandboxes.
static REFUSED: AtomicBool = AtomicBool::new(false);

impl UserSpace for Program {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: the buffer lives across the call.
        let vm = |ours, theirs| unsafe { libc::process_vm_readv(descriptor::pid(), ours, 1, theirs, 1, 0) };
        if let Some(answer) = transfer(address, buffer.as_mut_ptr().cast(), buffer.len(), vm) {
            return answer;
        }
        through_pipe(buffer.len(), |[input, output], at, len| {
            // SAFETY: write(2) fails with EFAULT on an address that is not mapped; the buffer has `len` bytes at `at`.
            unsafe {
                real::write(output, (address + at as u64) as *const c_void, len) == len as isize
                    && real::read(input, buffer[at..at + len].as_mut_ptr().cast(), len) == len as isize
            }
        })
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), Fault> {
        // SAFETY: the data live across the call, which only reads them.
        let vm = |ours, theirs| unsafe { libc::process_vm_writev(descriptor::pid(), ours, 1, theirs, 1, 0) };
        if let Some(answer) = transfer(address, data.as_ptr().cast_mut().cast(), data.len(), vm) {
            return answer;
        }
        through_pipe(data.len(), |[input, output], at, len| {
            // SAFETY: read(2) fails with EFAULT on an address that is not mapped; the data have `len` bytes at `at`.
            unsafe {
                real::write(output, data[at..at + len].as_ptr().cast(), len) == len as isize
                    && real::read(input, (address + at as u64) as *mut c_void, len) == len as isize
            }
        })
    }

    fn host_page(&self, address: u64, writable: bool) -> Result<HostPage, Fault> {
        guest::host_page(address, writable)
    }

    fn is_sev_device(&self, fd: u32) -> bool {
        matches!(table::object(fd as c_int), Some(Object::Sev(_)))
    }

    fn vm(&self, fd: u32) -> Result<Vm, Errno> {
        match table::object(fd as c_int) {
            Some(Object::Vm(vm)) => Ok(vm),
            _ => Err(Errno::EBADF),
        }
    }

    fn eventfd(&self, fd: u32) -> Result<Eventfd, Errno> {
        descriptor::eventfd(fd as c_int)
    }

    fn guest_memfd(&self, fd: u32) -> Result<Arc<GuestMemfd>, Errno> {
        match table::object(fd as c_int) {
            Some(Object::GuestMemfd(memfd)) => Ok(memfd),
            _ if descriptor::is_open(fd as c_int) => Err(Errno::EINVAL),
            _ => Err(Errno::EBADF),
        }
    }
}

/// Moves bytes between our memory and the program's, which is the same process; `None` if that system call is refused.
fn transfer(
    address: u64,
    ours: *mut c_void,
    len: usize,
    call: impl Fn(*const iovec, *const iovec) -> isize,
) -> Option<Result<(), Fault>> {
    if REFUSED.load(Ordering::Relaxed) {
        return None;
    }
    if len == 0 {
        return Some(Ok(()));
    }
    let saved = real::errno();
    let ours = iovec { iov_base: ours, iov_len: len };
    let theirs = iovec { iov_base: address as *mut c_void, iov_len: len };
    let moved = call(&ours, &theirs);
    let errno = real::errno();
    real::set_errno(saved);
    if moved < 0 && (errno == libc::ENOSYS || errno == libc::EPERM) {
        REFUSED.store(true, Ordering::Relaxed);
        return None;
    }
    Some(if moved == len as isize { Ok(()) } else { Err(Fault) })
}

/// Moves bytes through a pipe, a page at a time: an address that is not mapped fails the system call, not the program.
fn through_pipe(len: usize, mut step: impl FnMut([c_int; 2], usize, usize) -> bool) -> Result<(), Fault> {
    const CHUNK: usize = 4096;
    let mut pipe = [0; 2];
    // SAFETY: pipe2 fills the two numbers.
    if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(Fault);
    }
    let moved = (0..len).step_by(CHUNK).all(|at| step(pipe, at, CHUNK.min(len - at)));
    for fd in pipe {
        // SAFETY: made above.
        unsafe { real::close(fd) };
    }
    if moved { Ok(()) } else { Err(Fault) }
}
