//! guest_memfd: memory that user space cannot map.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use snp_abi::{PAGE_SIZE, Pfn};
use snp_asp::SealedPage;

use crate::lock;
use crate::vm::VmInner;

/// A guest_memfd. Like the kernel's it keeps its VM alive, and its contents go when it goes.
#[derive(Debug)]
pub struct GuestMemfd {
    vm: Arc<VmInner>,
    /// The frames behind it, consecutive, reserved when it is made.
    start: Pfn,
    pages: u64,
    /// What was put there, by page index. Pages that are not there are the hypervisor's and zero.
    contents: Mutex<HashMap<u64, SealedPage>>,
}

impl GuestMemfd {
    pub(crate) fn new(vm: Arc<VmInner>, start: Pfn, pages: u64) -> Self {
        Self { vm, start, pages, contents: Mutex::default() }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.pages * PAGE_SIZE as u64
    }

    /// Whether it belongs to that VM.
    pub(crate) fn is_of(&self, vm: &VmInner) -> bool {
        std::ptr::eq(&*self.vm, vm)
    }

    pub(crate) fn pfn(&self, index: u64) -> Pfn {
        Pfn(self.start.0 + index)
    }

    /// Keeps the contents of a page that the firmware took.
    pub(crate) fn keep(&self, index: u64, page: SealedPage) {
        lock(&self.contents).insert(index, page);
    }

    /// Lends the contents of a launched page, for the guest's eyes: what the firmware left there.
    pub fn with_page<T>(&self, index: u64, look: impl FnOnce(&SealedPage) -> T) -> Option<T> {
        lock(&self.contents).get(&index).map(look)
    }
}

impl Drop for GuestMemfd {
    fn drop(&mut self) {
        let contents = std::mem::take(&mut *lock(&self.contents));
        self.vm.host.release_frames(self.start, self.pages, contents.into_keys());
    }
}
