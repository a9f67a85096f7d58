//! What wakes a vCPU that waits, and stops one that runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::lock;

/// A waiting vCPU looks after itself this often: a signal handler that rings between its last look and its sleep goes
/// unheard otherwise. No clock is read.
const PATIENCE: Duration = Duration::from_millis(20);

/// The bell of a vCPU.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// Something happened: the vCPU shall look what.
    rung: AtomicBool,
    /// It was a signal: KVM_RUN returns EINTR.
    signalled: AtomicBool,
    sleeper: Mutex<()>,
    sleeping: Condvar,
}

impl Bell {
    /// Something happened that the vCPU should see.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.sleeping.notify_all();
    }

    /// A signal came. May be called from a signal handler: it takes no lock.
    pub(crate) fn signal(&self) {
        self.signalled.store(true, Ordering::Release);
        self.ring();
    }

    /// What stops a processor.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.rung
    }

    /// Takes note of what rang; whether it was a signal.
    pub(crate) fn answer(&self) -> bool {
        self.rung.store(false, Ordering::Release);
        self.signalled.swap(false, Ordering::AcqRel)
    }

    /// Waits until the bell is rung, or a while has passed.
    pub(crate) fn wait_a_while(&self) {
        let sleeper = lock(&self.sleeper);
        if !self.rung.load(Ordering::Acquire) {
            drop(self.sleeping.wait_timeout(sleeper, PATIENCE));
        }
    }

    /// Waits until the bell is rung.
    pub(crate) fn wait(&self) {
        let mut sleeper = lock(&self.sleeper);
        while !self.rung.load(Ordering::Acquire) {
            sleeper = self.sleeping.wait_timeout(sleeper, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
