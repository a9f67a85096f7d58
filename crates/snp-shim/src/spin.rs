//! A lock that fork handlers can take and give back: a lock of the standard library cannot be opened in the child.
//!
//! # Unsafety
//! The value is reached only between taking the flag and giving it back, by one thread.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A lock for a few instructions at a time.
#[derive(Debug, Default)]
pub(crate) struct Spin<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

/// The locked value.
pub(crate) struct Guard<'a, T>(&'a Spin<T>);

impl<T> Spin<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.take();
        Guard(self)
    }

    /// Takes the lock for a fork.
    pub(crate) fn take(&self) {
        while self.taken.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    /// Gives it back after a fork, in parent and child.
    pub(crate) fn give_back(&self) {
        self.taken.store(false, Ordering::Release);
    }
}

#[allow(unsafe_code)]
mod sharing {
    use super::{Deref, DerefMut, Guard, Spin};

    // SAFETY: the flag lets one thread at a time to the value.
    unsafe impl<T: Send> Sync for Spin<T> {}

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            // SAFETY: this guard holds the flag.
            unsafe { &*self.0.value.get() }
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: this guard holds the flag, and is borrowed alone.
            unsafe { &mut *self.0.value.get() }
        }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
