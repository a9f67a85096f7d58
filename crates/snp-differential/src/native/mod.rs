//! Sequences on this machine's processor.
//!
//! # Unsafety
//! A shared mapping, fork and waitpid; what the child does is in `child`.
#![allow(unsafe_code)]

mod child;
mod shared;

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::case::{Case, Outcome};
use crate::layout::Images;
use shared::{BATCH, NativeCase, SET_UP, Shared};

/// How many cases [`Native::start`] takes.
pub const BATCH_LEN: usize = BATCH;
/// Longest sequence in bytes.
pub const CODE_MAX: usize = shared::CODE_MAX;
/// How long one sequence may take before the child is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// This machine.
#[derive(Debug)]
pub struct Native {
    shared: NonNull<Shared>,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for Native {}

/// A child that runs cases.
#[derive(Debug)]
pub struct Running<'a> {
    native: &'a mut Native,
    child: libc::pid_t,
    count: usize,
}

impl Native {
    /// Makes ready. Why this machine cannot, if it cannot.
    ///
    /// # Errors
    /// There is no memory to share with a child.
    pub fn new() -> Result<Self> {
        // SAFETY: a new mapping.
        let mapped = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(mapped.cast()) {
            Some(shared) if mapped != libc::MAP_FAILED => Ok(Self { shared }),
            _ => bail!("no memory to share with a child: {}", std::io::Error::last_os_error()),
        }
    }

    /// Why sequences cannot run here, or `None`.
    pub fn unsupported() -> Option<&'static str> {
        /// HWCAP2_FSGSBASE of Linux' asm/hwcap2.h.
        const FSGSBASE: u64 = 1 << 1;
        // SAFETY: reads the auxiliary vector.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & FSGSBASE == 0 {
            return Some("the kernel does not let programs write the base of FS");
        }
        (!std::is_x86_feature_detected!("avx")).then_some("the processor has no AVX")
    }

    /// Begins to run cases, at most [`BATCH_LEN`].
    ///
    /// # Errors
    /// fork fails.
    pub fn start<'a>(&'a mut self, cases: &[Case], images: &Images) -> Result<Running<'a>> {
        assert!(cases.len() <= BATCH);
        let shared = self.shared.as_ptr();
        // SAFETY: no child is running, as a `Running` borrows us; the mapping is large enough.
        unsafe {
            (*shared).current.store(SET_UP, Ordering::Release);
            (*shared).count = cases.len();
            for (index, case) in cases.iter().enumerate() {
                (&raw mut (*shared).cases[index]).write(NativeCase::of(case));
            }
        }
        // SAFETY: the child calls nothing that needs other threads or the allocator.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: we are the child.
                unsafe { child::run(shared, images) }
            }
            -1 => bail!("fork: {}", std::io::Error::last_os_error()),
            child => Ok(Running { native: self, child, count: cases.len() }),
        }
    }

    /// Runs cases; `None` for those that ended the child.
    ///
    /// # Errors
    /// Children cannot be run.
    pub fn run(&mut self, cases: &[Case], images: &Images) -> Result<Vec<Option<Outcome>>> {
        let mut outcomes = Vec::with_capacity(cases.len());
        while outcomes.len() < cases.len() {
            let rest = &cases[outcomes.len()..];
            let batch = &rest[..rest.len().min(BATCH)];
            let done = self.start(batch, images)?.wait()?;
            let ended = done.len() < batch.len();
            outcomes.extend(done.into_iter().map(Some));
            if ended {
                outcomes.push(None);
            }
        }
        Ok(outcomes)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, used by nobody else.
        unsafe { libc::munmap(self.shared.as_ptr().cast(), size_of::<Shared>()) };
    }
}

impl Running<'_> {
    /// Waits for the child. Fewer outcomes than cases: the next case ended the child.
    ///
    /// # Errors
    /// It could not begin.
    pub fn wait(self) -> Result<Vec<Outcome>> {
        let shared = self.native.shared.as_ptr();
        // SAFETY: an atomic counter that the child writes.
        let current = || unsafe { (*shared).current.load(Ordering::Acquire) };
        let status = self.watch(&current);
        let reached = current();
        if reached == SET_UP {
            let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 0 };
            bail!("the child that runs sequences could not begin: {} (status {status:#x})", child::reason(code));
        }
        let done = (reached as usize).min(self.count);
        // SAFETY: the child is gone, and has written as many outcomes.
        Ok((0..done).map(|index| unsafe { (*shared).outcomes[index].outcome() }).collect())
    }

    /// Waits for the end of the child, and ends it if it does not come on.
    fn watch(&self, current: &dyn Fn() -> u32) -> libc::c_int {
        let mut last = (current(), Instant::now());
        loop {
            let mut status = MaybeUninit::uninit();
            // SAFETY: our child, not yet waited for.
            match unsafe { libc::waitpid(self.child, status.as_mut_ptr(), libc::WNOHANG) } {
                0 => {}
                // SAFETY: written by waitpid.
                pid if pid == self.child => return unsafe { status.assume_init() },
                _ => return 0,
            }
            let now = current();
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                // SAFETY: our child, not yet waited for.
                unsafe { libc::kill(self.child, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
