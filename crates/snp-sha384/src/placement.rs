//! Where threads run, as far as it matters to work of a few milliseconds.

/// The core that a thread ran on.
///
/// A kernel may leave a new thread on its parent's core until it next balances the load, with another core idle for
/// milliseconds: as long as all of the hashing of some firmware takes. A helper that leaves its parent's core by itself
/// starts at once.
#[derive(Clone, Copy)]
pub(crate) struct Core {
    #[cfg(target_os = "linux")]
    number: usize,
}

#[cfg(target_os = "linux")]
impl Core {
    pub(crate) fn current() -> Self {
        Self { number: rustix::thread::sched_getcpu() }
    }

    /// Keeps the calling thread off this core, if it may run on any other. A hint: failure costs time, nothing else.
    pub(crate) fn leave(self) {
        let Ok(mut allowed) = rustix::thread::sched_getaffinity(None) else { return };
        if self.number >= rustix::thread::CpuSet::MAX_CPU {
            return;
        }
        allowed.unset(self.number);
        if allowed.count() > 0 {
            let _ = rustix::thread::sched_setaffinity(None, &allowed);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Core {
    pub(crate) fn current() -> Self {
        Self {}
    }

    pub(crate) fn leave(self) {}
}
