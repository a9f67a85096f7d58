//! Translations that were looked up already.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use snp_memory::HostPage;

use crate::AccessKind;

/// Entries for each kind of access. A power of two.
const ENTRIES: usize = 1024;
/// Bits of a tag below the page's address that say in which flush the entry was made.
const EPOCH: u64 = 0x3ff << 2;

/// Whose rights an access has: part of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// CPL 0 to 2, where user pages may be touched as well.
    Supervisor = 0,
    /// CPL 0 to 2, where user pages may not be touched (SMAP).
    Strict = 1,
    /// CPL 3.
    User = 2,
}

#[derive(Clone, Debug)]
struct Entry {
    tag: u64,
    page: HostPage,
}

/// Translations of linear pages.
#[derive(Debug)]
pub(crate) struct Tlb {
    /// Read, write, execute.
    entries: [Vec<Entry>; 3],
    /// In the place of [`EPOCH`]; never zero.
    epoch: u64,
    /// Flushes so far.
    flushes: u64,
    /// Memory's generation when it was last looked at.
    pub(crate) generation: u64,
}

/// What a translation found.
#[derive(Clone, Debug)]
pub(crate) struct Translation {
    pub(crate) page: HostPage,
    /// Whoever writes the page counts this up.
    pub(crate) code: Option<Arc<AtomicU32>>,
}

impl Tlb {
    pub(crate) fn new() -> Self {
        let nothing = Entry { tag: 0, page: HostPage::zeroed() };
        Self { entries: std::array::from_fn(|_| vec![nothing.clone(); ENTRIES]), epoch: 4, flushes: 0, generation: 0 }
    }

    #[inline(always)]
    fn tag(&self, address: u64, rights: Rights) -> u64 {
        address & !0xfff | self.epoch | rights as u64
    }

    #[inline(always)]
    fn place(address: u64) -> usize {
        (address >> 12) as usize % ENTRIES
    }

    /// The page behind a linear address, if it is known.
    #[inline(always)]
    pub(crate) fn find(&self, kind: AccessKind, address: u64, rights: Rights) -> Option<&HostPage> {
        let entry = &self.entries[kind as usize][Self::place(address)];
        (entry.tag == self.tag(address, rights)).then_some(&entry.page)
    }

    pub(crate) fn insert(&mut self, kind: AccessKind, address: u64, rights: Rights, page: HostPage) {
        let tag = self.tag(address, rights);
        self.entries[kind as usize][Self::place(address)] = Entry { tag, page };
    }

    /// Forgets everything.
    pub(crate) fn flush(&mut self) {
        self.flushes += 1;
        self.epoch += 4;
        if self.epoch > EPOCH {
            self.epoch = 4;
            for entry in self.entries.iter_mut().flatten() {
                entry.tag = 0;
            }
        }
    }

    /// Forgets a page.
    pub(crate) fn flush_page(&mut self, address: u64) {
        self.flushes += 1;
        for entries in &mut self.entries {
            entries[Self::place(address)].tag = 0;
        }
    }

    /// How often something was forgotten: what was derived from a translation holds while this stays.
    #[inline(always)]
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes
    }
}
