//! KVM_RUN in the program's thread, and the program's memory as the guest's.
//!
//! A signal must end KVM_RUN before its handler runs, as with the kernel's. So all signals wait while the processor model is at
//! work, it stops every few milliseconds, and if one has come that the thread would take, KVM_RUN returns EINTR and lets it in.
//!
//! # Unsafety
//! Signal masks, one mapping per vCPU, and pages of the program that the guest shares. A page is asked for before it is used
//! (MADV_POPULATE fails where an access would fault); a program that unmaps memory while its guest runs in it crashes, where the
//! kernel's KVM_RUN would return EFAULT. See docs/limitations.md.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use snp_abi::{Errno, PAGE_SIZE};
use snp_memory::HostPage;
use snp_softkvm::ioctl::VCPU_MMAP_SIZE;
use snp_softkvm::{Bounds, Fault, GuestMemfd, RunArea, Stop, Vcpu};

use crate::memory::Program;
use crate::{real, report};

/// So many instructions take some milliseconds.
const SLICE: u64 = 400_000;

/// KVM_RUN.
///
/// # Errors
/// Its errno.
pub(crate) fn run(vcpu: &Vcpu) -> Result<(), Errno> {
    let signals = Signals::block();
    let mut told = false;
    loop {
        if signals.have_come(vcpu) {
            vcpu.kick();
        }
        match vcpu.run_within(&Program, &Bounds { instructions: SLICE, breakpoints: &[], wait: false })? {
            Stop::Exit => return Ok(()),
            Stop::Limit | Stop::Breakpoint => {}
            Stop::Waiting => vcpu.wait_a_while(),
            Stop::Stuck => {
                if !std::mem::replace(&mut told, true) {
                    report::event(
                        report::NOTE,
                        "a guest faults for ever, as it would on Linux: its KVM_RUN does not return",
                    );
                }
                vcpu.wait_a_while();
            }
        }
    }
}

/// The thread's signals, all of which wait until this goes.
struct Signals {
    before: libc::sigset_t,
}

impl Signals {
    fn block() -> Self {
        // SAFETY: both sets are filled before they are read.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            // What an access of ours raises must not wait: it would end the program without a word.
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
                libc::sigdelset(&mut all, signal);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self { before }
        }
    }

    /// Whether a signal waits that the thread would take in KVM_RUN.
    fn have_come(&self, vcpu: &Vcpu) -> bool {
        // SAFETY: sigpending fills the set.
        let pending = unsafe {
            let mut pending: libc::sigset_t = std::mem::zeroed();
            if libc::sigpending(&mut pending) != 0 {
                return false;
            }
            pending
        };
        let mask = vcpu.signal_mask();
        let waits = |signal: c_int| {
            // SAFETY: the set was filled.
            unsafe { libc::sigismember(&pending, signal) == 1 }
        };
        let blocked = |signal: c_int| match mask {
            Some(mask) => mask >> (signal - 1) & 1 != 0,
            // SAFETY: the set was filled.
            None => unsafe { libc::sigismember(&self.before, signal) == 1 },
        };
        (1..=64).any(|signal| waits(signal) && !blocked(signal))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the set is the thread's former one.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Maps the pages of a new vCPU's descriptor, which the program will map as well. They stay mapped: the vCPU may outlive the
/// descriptor.
pub(crate) fn share_run_area(vcpu: &Vcpu, fd: c_int) {
    // SAFETY: a new mapping of a file of that size, shared, at an address of the system's choice.
    let at = unsafe {
        real::mmap(std::ptr::null_mut(), VCPU_MMAP_SIZE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
    };
    if at == libc::MAP_FAILED {
        // The program's own mapping will fail as well.
        return;
    }
    let pages = std::array::from_fn(|index| {
        let page =
            NonNull::new(at.cast::<u8>().wrapping_add(index * PAGE_SIZE)).expect("a mapping is nowhere near null");
        // SAFETY: the mapping was made above, is readable and writable, and is never unmapped.
        unsafe { HostPage::borrow(page) }
    });
    vcpu.set_run_area(RunArea::new(pages));
}

/// Maps a guest_memfd that the program may map as well, for its guest. It stays mapped, as above.
pub(crate) fn share_guest_memfd(memfd: &GuestMemfd, fd: c_int) {
    let len = memfd.size() as usize;
    // SAFETY: a new mapping of a file of that size, shared, at an address of the system's choice.
    let at =
        unsafe { real::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) };
    if at == libc::MAP_FAILED {
        return;
    }
    let base = at as usize;
    memfd.set_backing(move |index| {
        let address = base + index as usize * PAGE_SIZE;
        assert!(address < base + len, "a page of the guest_memfd");
        let page = NonNull::new(address as *mut u8).expect("a mapping is nowhere near null");
        // SAFETY: within the mapping made above, which is readable and writable and is never unmapped.
        unsafe { HostPage::borrow(page) }
    });
}

/// A page of the program, for its guest.
pub(crate) fn host_page(address: u64, writable: bool) -> Result<HostPage, Fault> {
    let advice = if writable { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    let at = NonNull::new(address as *mut u8).ok_or(Fault)?;
    let before = real::errno();
    // SAFETY: populating changes no contents, and fails where there is no such mapping.
    let populated = unsafe { real::madvise(at.as_ptr().cast::<c_void>(), PAGE_SIZE, advice) } == 0;
    real::set_errno(before);
    if !populated {
        return Err(Fault);
    }
    // SAFETY: the page is mapped as was asked for. That it stays so is the program's part; see the module's documentation.
    Ok(unsafe { HostPage::borrow(at) })
}
