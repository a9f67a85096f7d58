//! Guest-physical memory: memory slots, private attributes, guest_memfd and the RMP, as a running vCPU meets them.
//!
//! What a VM's memory consists of has a lock of its own, so that running vCPUs do not wait for the VM's.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/mmu/mmu.c (how a fault finds its page, and when it is user space's to resolve) and virt/kvm/guest_memfd.c;
//! AMD 24593 (APM volume 2), "RMP and VMPL Access Checks".

mod encrypted;
mod fault;
mod guest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use snp_abi::Pfn;
use snp_memory::HostPage;

pub(crate) use fault::{Refusal, Resolution};
pub(crate) use guest::{C_BIT, VcpuMemory};

use crate::attributes::PrivateFrames;
use crate::lock;
use crate::memslot::Slots;
use encrypted::Shadows;

/// What a VM's guest-physical memory consists of.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    layout: RwLock<Layout>,
    /// Counted up whenever a page that a processor may have kept is no longer what it was.
    generation: AtomicU64,
    /// Pages from which instructions were decoded, by their address.
    code: Mutex<BTreeMap<usize, Arc<AtomicU32>>>,
    /// VMSA pages that processors run from.
    in_use: Mutex<BTreeSet<Pfn>>,
    /// Plain SEV: encrypted pages as the guest sees them.
    shadows: Shadows,
}

/// Which frames there are, and which are private.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) slots: Slots,
    pub(crate) private: PrivateFrames,
}

impl Memory {
    /// The layout, to look at.
    pub(crate) fn layout(&self) -> RwLockReadGuard<'_, Layout> {
        self.layout.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the layout; processors give up what they kept.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Layout) -> T) -> T {
        let result = change(&mut self.layout.write().unwrap_or_else(PoisonError::into_inner));
        self.invalidate();
        result
    }

    /// Makes every processor ask again for every page.
    pub(crate) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn watch_code(&self, page: &HostPage) -> Arc<AtomicU32> {
        let mut code = lock(&self.code);
        let known = code.len();
        let counter = code.entry(page.address()).or_default().clone();
        if code.len() != known {
            self.invalidate();
        }
        counter
    }

    /// Somebody other than a processor wrote a page: instructions that were decoded from it are decoded again.
    pub(crate) fn code_changed(&self, page: &HostPage) {
        if let Some(counter) = self.code(page) {
            counter.fetch_add(1, Ordering::Release);
        }
    }

    fn code(&self, page: &HostPage) -> Option<Arc<AtomicU32>> {
        lock(&self.code).get(&page.address()).cloned()
    }

    /// A processor runs from that VMSA, until [`Memory::release_vmsa`]; `false` if another does.
    pub(crate) fn use_vmsa(&self, pfn: Pfn) -> bool {
        let new = lock(&self.in_use).insert(pfn);
        if new {
            self.invalidate();
        }
        new
    }

    /// The processor is done with it.
    pub(crate) fn release_vmsa(&self, pfn: Pfn) {
        lock(&self.in_use).remove(&pfn);
    }

    fn is_in_use(&self, pfn: Pfn) -> bool {
        lock(&self.in_use).contains(&pfn)
    }
}
