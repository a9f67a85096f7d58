//! Memory without a hypervisor's protection: for tests, benchmarks and experiments with a processor alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use snp_memory::{HostPage, PAGE_SIZE};

use crate::{Access, AccessKind, GuestMemory, MappedPage, NestedFault, Pvalidate, RmpAdjust, RmpResult};

/// Pages at guest-physical addresses; everywhere else there is a device. There is no RMP.
#[derive(Debug, Default)]
pub struct FlatMemory {
    pages: Mutex<BTreeMap<u64, HostPage>>,
    /// Of pages with decoded code, by the page's own address.
    code: Mutex<HashMap<usize, Arc<AtomicU32>>>,
    generation: AtomicU64,
}

const PAGE: u64 = PAGE_SIZE as u64;

impl FlatMemory {
    /// Without any page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pages of zeros from `gpa` on, for `len` bytes; both multiples of 4096.
    #[must_use]
    pub fn with_zeros(self, gpa: u64, len: u64) -> Self {
        assert!(gpa.is_multiple_of(PAGE) && len.is_multiple_of(PAGE), "whole pages");
        for page in (gpa..gpa + len).step_by(PAGE_SIZE) {
            self.insert(page, HostPage::zeroed());
        }
        self
    }

    /// Puts a page at an address.
    pub fn insert(&self, gpa: u64, page: HostPage) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(gpa, page);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The page that holds an address.
    pub fn page(&self, gpa: u64) -> Option<HostPage> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(&(gpa & !(PAGE - 1))).cloned()
    }

    /// Writes bytes from `gpa` on, where there are pages.
    pub fn write(&self, gpa: u64, data: &[u8]) {
        self.each(gpa, data.len(), |page, offset, range| page.write(offset, &data[range]));
    }

    /// Reads bytes from `gpa` on; zeros where there are no pages.
    pub fn read(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.each(gpa, len, |page, offset, range| page.read(offset, &mut bytes[range]));
        bytes
    }

    fn each(&self, gpa: u64, len: usize, mut visit: impl FnMut(&HostPage, usize, std::ops::Range<usize>)) {
        let mut done = 0;
        while done < len {
            let at = gpa + done as u64;
            let offset = (at % PAGE) as usize;
            let part = (PAGE_SIZE - offset).min(len - done);
            if let Some(page) = self.page(at) {
                visit(&page, offset, done..done + part);
                self.count_code_write(&page);
            }
            done += part;
        }
    }

    fn count_code_write(&self, page: &HostPage) {
        let code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = code.get(&page.address()) {
            counter.fetch_add(1, Ordering::Release);
        }
    }
}

impl GuestMemory for FlatMemory {
    fn map(&self, access: &Access) -> Result<MappedPage, NestedFault> {
        let page = self.page(access.gpa);
        let absent = if access.kind == AccessKind::Execute { NestedFault::NotMapped } else { NestedFault::Device };
        let page = page.ok_or(absent)?;
        let code = self.code.lock().unwrap_or_else(PoisonError::into_inner).get(&page.address()).cloned();
        Ok(MappedPage { page, writable: true, code })
    }

    fn generation(&self) -> &AtomicU64 {
        &self.generation
    }

    fn watch_code(&self, page: &HostPage) -> Arc<AtomicU32> {
        let mut code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = code.entry(page.address()).or_insert_with(|| {
            self.generation.fetch_add(1, Ordering::Release);
            Arc::default()
        });
        counter.clone()
    }

    fn pvalidate(&self, _request: &Pvalidate) -> RmpResult {
        RmpResult::Input
    }

    fn rmpadjust(&self, _request: &RmpAdjust) -> RmpResult {
        RmpResult::Input
    }

    fn physical_address_bits(&self) -> u8 {
        46
    }

    fn c_bit(&self) -> u8 {
        51
    }
}
