//! From a linear address to a page of memory.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Page Translation and Protection"; "Page Table Support" and "Encrypted Memory Accesses" of SEV.

use std::sync::atomic::Ordering;

use snp_abi::SevFeatures;

use super::cpu::*;
use super::tlb::{Rights, Translation};
use crate::{Access, AccessKind, Exception, Exit, MappedPage, NestedFault, NestedFaultExit};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Bits of a page fault's error code.
const ERROR_PRESENT: u32 = 1;
const ERROR_WRITE: u32 = 2;
const ERROR_USER: u32 = 4;
const ERROR_RESERVED: u32 = 8;
const ERROR_FETCH: u32 = 16;
const ERROR_KEY: u32 = 32;

/// #VC: the page is the guest's and not validated.
const VC_NOT_VALIDATED: u32 = 0x404;
/// #VC: a nested page fault on a device.
pub(crate) const VC_NESTED_FAULT: u32 = 0x400;

/// Where the walk of the guest's page tables came to.
#[derive(Clone, Copy, Debug)]
struct Walked {
    /// Guest-physical address of the byte.
    gpa: u64,
    private: bool,
}

/// One walk.
struct Walk {
    address: u64,
    kind: AccessKind,
    rights: Rights,
    /// The rights that all levels grant.
    granted: u64,
    no_execute: bool,
}

impl Cpu<'_> {
    /// The page behind a linear address, with the rights of an access; what may be kept goes into the TLB.
    pub(crate) fn translate(
        &mut self,
        address: u64,
        kind: AccessKind,
        rights: Rights,
    ) -> Done<Result<Translation, u64>> {
        let walked = self.walk(address, kind, rights)?;
        let access = Access {
            gpa: walked.gpa & !0xfff,
            kind,
            private: walked.private,
            user: rights == Rights::User,
            table: false,
            vmpl: self.vmpl(),
        };
        let mapped = match self.memory.map(&access) {
            Ok(mapped) => mapped,
            Err(NestedFault::Device) if kind != AccessKind::Execute => return Ok(Err(walked.gpa)),
            Err(fault) => return Err(self.nested_fault(fault, &access, walked.gpa)),
        };
        let MappedPage { page, code, .. } = mapped;
        let code = if kind == AccessKind::Write { code } else { None };
        // Debug registers watch every access; a page with decoded code watches every write.
        if code.is_none() && (kind == AccessKind::Execute || !self.watches_data()) {
            self.tlb.insert(kind, address, rights, page.clone());
        }
        Ok(Ok(Translation { page, code }))
    }

    /// The guest-physical address of a linear address, and whether an access to it is private: for instructions that take
    /// an address without touching it, with the rights of an access of that kind.
    pub(crate) fn physical(&mut self, address: u64, kind: AccessKind) -> Done<(u64, bool)> {
        let walked = self.walk(address, kind, self.rights)?;
        Ok((walked.gpa, walked.private))
    }

    /// What a nested fault means to the guest or its hypervisor.
    pub(crate) fn nested_fault(&self, fault: NestedFault, access: &Access, gpa: u64) -> Fault {
        match fault {
            NestedFault::NotValidated => Exception::vmm_communication(VC_NOT_VALIDATED).into(),
            NestedFault::Device if self.state.sev_es => Exception::vmm_communication(VC_NESTED_FAULT).into(),
            _ => Exit::NestedFault(NestedFaultExit {
                gpa,
                kind: access.kind,
                private: access.private,
                table: access.table,
                rmp: matches!(fault, NestedFault::Rmp | NestedFault::Vmpl),
                vmpl: fault == NestedFault::Vmpl,
            })
            .into(),
        }
    }

    /// Whether the C-bit of a leaf (or the top of memory in its place) makes an access private.
    fn is_private(&self, gpa: u64, c_bit: bool, kind: AccessKind) -> bool {
        if !self.state.sev {
            return false;
        }
        if self.state.snp() && self.state.sev_features.has(SevFeatures::VTOM) {
            return gpa < self.state.virtual_tom;
        }
        // Fetches are always private, and so is everything while there are no page tables that could have a C-bit.
        c_bit || kind == AccessKind::Execute || self.state.cr0 & CR0_PG == 0 || self.state.cr4 & CR4_PAE == 0
    }

    fn walk(&mut self, address: u64, kind: AccessKind, rights: Rights) -> Done<Walked> {
        if self.state.cr0 & CR0_PG == 0 {
            let gpa = address & 0xffff_ffff;
            return Ok(Walked { gpa, private: self.is_private(gpa, true, kind) });
        }
        let mut walk = Walk { address, kind, rights, granted: WRITABLE | USER, no_execute: false };
        if self.mode.long {
            let levels = if self.state.cr4 & CR4_LA57 != 0 { 5 } else { 4 };
            self.walk_pae(&mut walk, self.state.cr3, levels)
        } else if self.state.cr4 & CR4_PAE != 0 {
            let table = self.state.cr3 & 0xffff_ffe0;
            let pointer = self.entry(&walk, table + (address >> 30 & 3) * 8, 8)?.1;
            if pointer & PRESENT == 0 {
                return Err(self.page_fault(&walk, 0));
            }
            self.walk_pae(&mut walk, pointer, 2)
        } else {
            self.walk_legacy(&mut walk)
        }
    }

    /// The walk of entries of 64 bits, from a table of that level.
    fn walk_pae(&mut self, walk: &mut Walk, root: u64, levels: u32) -> Done<Walked> {
        let mask = self.physical_mask() & !0xfff;
        let c_bit = self.c_bit();
        let mut reserved = !(mask | c_bit | 0xfff | NO_EXECUTE) & ((1 << 52) - 1);
        if self.state.efer & EFER_NXE == 0 {
            reserved |= NO_EXECUTE;
        }
        let mut table = root & mask;
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let at = table + (walk.address >> shift & 0x1ff) * 8;
            let (page, entry) = self.entry(walk, at, 8)?;
            if entry & PRESENT == 0 {
                return Err(self.page_fault(walk, 0));
            }
            let large = entry & LARGE != 0 && (level == 2 || level == 3);
            let low = if large { ((1_u64 << shift) - 1) & !0x1fff } else { 0 };
            let too_large = entry & LARGE != 0 && level > 3;
            if entry & (reserved | low & mask) != 0 || too_large {
                return Err(self.page_fault(walk, ERROR_PRESENT | ERROR_RESERVED));
            }
            walk.granted &= entry;
            walk.no_execute |= entry & NO_EXECUTE != 0;
            let leaf = level == 1 || large;
            if leaf {
                self.check(walk, entry)?;
            }
            let dirty = if leaf && walk.kind == AccessKind::Write { DIRTY } else { 0 };
            self.mark(walk, &page, at, 8, entry, ACCESSED | dirty)?;
            if leaf {
                let offset = (1_u64 << shift) - 1;
                let gpa = entry & mask & !offset | walk.address & offset;
                return Ok(Walked { gpa, private: self.is_private(gpa, entry & c_bit != 0, walk.kind) });
            }
            table = entry & mask;
        }
        unreachable!("the last level is a leaf")
    }

    /// The walk of entries of 32 bits.
    fn walk_legacy(&mut self, walk: &mut Walk) -> Done<Walked> {
        let mut table = self.state.cr3 & 0xffff_f000;
        for level in [2, 1] {
            let shift = 12 + 10 * (level - 1);
            let at = table + (walk.address >> shift & 0x3ff) * 4;
            let (page, entry) = self.entry(walk, at, 4)?;
            if entry & PRESENT == 0 {
                return Err(self.page_fault(walk, 0));
            }
            let large = level == 2 && entry & LARGE != 0 && self.state.cr4 & CR4_PSE != 0;
            if large && entry & 1 << 21 != 0 {
                return Err(self.page_fault(walk, ERROR_PRESENT | ERROR_RESERVED));
            }
            walk.granted &= entry;
            let leaf = level == 1 || large;
            if leaf {
                self.check(walk, entry)?;
            }
            let dirty = if leaf && walk.kind == AccessKind::Write { DIRTY } else { 0 };
            self.mark(walk, &page, at, 4, entry, ACCESSED | dirty)?;
            if leaf {
                let offset = (1_u64 << shift) - 1;
                // PSE-36: bits 39:32 of a large page lie in bits 20:13.
                let high = if large { (entry >> 13 & 0xff) << 32 } else { 0 };
                let gpa = high | entry & 0xffff_f000 & !offset | walk.address & offset;
                return Ok(Walked { gpa, private: self.is_private(gpa, true, walk.kind) });
            }
            table = entry & 0xffff_f000;
        }
        unreachable!("the last level is a leaf")
    }

    /// An entry, and the page that it lies in.
    fn entry(&mut self, walk: &Walk, at: u64, len: usize) -> Done<(MappedPage, u64)> {
        let page = self.table_page(walk, at, AccessKind::Read)?;
        let offset = (at & 0xfff) as usize;
        let entry = if len == 8 { page.page.load64(offset) } else { page.page.load32(offset).into() };
        Ok((page, entry))
    }

    /// Tables are always private in guests with SEV.
    fn table_page(&self, walk: &Walk, at: u64, kind: AccessKind) -> Done<MappedPage> {
        let access = Access {
            gpa: at & !0xfff,
            kind,
            private: self.state.sev,
            user: walk.rights == Rights::User,
            table: true,
            vmpl: self.vmpl(),
        };
        self.memory.map(&access).map_err(|fault| self.nested_fault(fault, &access, at))
    }

    /// Whether the rights that were gathered allow the access.
    fn check(&self, walk: &Walk, entry: u64) -> Done {
        let state = &self.state;
        let user_page = walk.granted & USER != 0;
        let writable = walk.granted & WRITABLE != 0;
        let supervisor = walk.rights != Rights::User;
        let refused = match walk.kind {
            AccessKind::Execute => {
                walk.no_execute || !supervisor && !user_page || supervisor && user_page && state.cr4 & CR4_SMEP != 0
            }
            kind => {
                let write = kind == AccessKind::Write;
                !supervisor && !user_page
                    || walk.rights == Rights::Strict && user_page
                    || write && !writable && (!supervisor || state.cr0 & CR0_WP != 0)
            }
        };
        if refused {
            return Err(self.page_fault(walk, ERROR_PRESENT));
        }
        if self.refused_by_key(walk, entry, user_page) {
            return Err(self.page_fault(walk, ERROR_PRESENT | ERROR_KEY));
        }
        Ok(())
    }

    /// Protection keys of user pages.
    fn refused_by_key(&self, walk: &Walk, entry: u64, user_page: bool) -> bool {
        let state = &self.state;
        if !self.mode.long || state.cr4 & CR4_PKE == 0 || !user_page || walk.kind == AccessKind::Execute {
            return false;
        }
        let rights = state.extended.pkru >> (2 * (entry >> 59 & 0xf)) & 3;
        let supervisor = walk.rights != Rights::User;
        rights & 1 != 0 || rights & 2 != 0 && walk.kind == AccessKind::Write && (!supervisor || state.cr0 & CR0_WP != 0)
    }

    /// Sets the accessed and dirty bits.
    fn mark(&mut self, walk: &Walk, page: &MappedPage, at: u64, len: usize, entry: u64, bits: u64) -> Done {
        if entry & bits == bits {
            return Ok(());
        }
        let writable = if page.writable { page.clone() } else { self.table_page(walk, at, AccessKind::Write)? };
        let offset = (at & 0xfff) as usize;
        let mut seen = entry;
        while let Some(Err(now)) = writable.page.compare_exchange(offset, len, seen, seen | bits) {
            if now & PRESENT == 0 {
                // Another processor took the entry away: the access begins again.
                return Err(self.page_fault(walk, 0));
            }
            seen = now;
        }
        if let Some(code) = &writable.code {
            code.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    #[cold]
    fn page_fault(&self, walk: &Walk, bits: u32) -> Fault {
        let mut error = bits;
        if walk.kind == AccessKind::Write {
            error |= ERROR_WRITE;
        }
        if walk.rights == Rights::User {
            error |= ERROR_USER;
        }
        let state = &self.state;
        let tells_fetch = state.efer & EFER_NXE != 0 && state.cr4 & CR4_PAE != 0 || state.cr4 & CR4_SMEP != 0;
        if walk.kind == AccessKind::Execute && tells_fetch {
            error |= ERROR_FETCH;
        }
        Exception::page_fault(error, walk.address).into()
    }
}
