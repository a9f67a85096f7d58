//! Batched page-state changes.

use snp_abi::PAGE_SIZE;
use snp_abi::ghcb::{PscEntry, psc};
use snp_abi::kvm::KVM_HC_MAP_GPA_RANGE;

use super::{Ghcb, Machine, Outcome, Pending, UserExit};

const HEADER: usize = 8;
const ENTRY: usize = 8;
const LARGE: u64 = 512;

/// Entries that user space changes with one hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    first: u16,
    count: u16,
}

/// The third argument of KVM_HC_MAP_GPA_RANGE.
pub(super) fn map_flags(operation: u8, large: bool) -> u64 {
    const PAGE_SIZE_2M: u64 = 1 << 0;
    const ENCRYPTED: u64 = 1 << 4;
    let encrypted = if operation == psc::PRIVATE { ENCRYPTED } else { 0 };
    encrypted | if large { PAGE_SIZE_2M } else { 0 }
}

impl Ghcb {
    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_handle_vmgexit`, `snp_begin_psc`.
    pub(super) fn begin_psc(&mut self, machine: &mut dyn Machine) -> Outcome {
        // How long the list is, only its header tells.
        if let Err(outcome) = self.set_up_scratch(HEADER as u64, machine) {
            return outcome;
        }
        if !machine.map_gpa_range_exits() {
            return self.end_psc(psc::GENERIC_ERROR);
        }
        self.next_batch()
    }

    pub(super) fn finish_psc(&mut self, batch: Batch, ret: u64, machine: &mut dyn Machine) -> Outcome {
        if ret != 0 {
            return self.end_psc(psc::GENERIC_ERROR);
        }
        self.complete_batch(batch);
        // User space may have turned the capability off meanwhile.
        if !machine.map_gpa_range_exits() {
            return self.end_psc(psc::GENERIC_ERROR);
        }
        self.next_batch()
    }

    fn end_psc(&mut self, info_2: u64) -> Outcome {
        self.mapped().success(info_2);
        Outcome::Resume
    }

    /// Hands the next entries to user space: as many as make one range of pages, of one size and with one operation.
    fn next_batch(&mut self) -> Outcome {
        loop {
            let (current, last) = (self.header(0), self.header(1));
            let room = (self.scratch().len() - HEADER) / ENTRY;
            if usize::from(last) >= room {
                return self.end_psc(psc::INVALID_HEADER);
            }
            let (index, entry) = match self.next_entry(current, last) {
                Ok(Some(found)) => found,
                Ok(None) => return self.end_psc(0),
                Err(error) => return self.end_psc(error),
            };
            let done = u64::from(entry.cur_page());
            // A large page that was begun before goes on in small ones.
            let large = entry.large() && done == 0;
            let mut pages = u64::from(entry.pages()) - done;
            let mut batch = Batch { first: index, count: 1 };
            for next in index + 1..=last {
                let next = self.entry(next);
                let joins = next.operation() == entry.operation()
                    && next.gfn() == entry.gfn() + pages
                    && next.cur_page() == 0
                    && next.large() == large;
                if !joins {
                    break;
                }
                batch.count += 1;
                pages += if large { LARGE } else { 1 };
            }
            if !matches!(entry.operation(), psc::PRIVATE | psc::SHARED) {
                // Smashing and unsmashing are up to the hypervisor, which then has nothing to do.
                self.complete_batch(batch);
                continue;
            }
            let gpa = (entry.gfn() + done) * PAGE_SIZE as u64;
            let args = [gpa, pages, map_flags(entry.operation(), entry.large()), 0, 0, 0];
            self.pending = Pending::Psc(batch);
            return Outcome::Exit(UserExit::Hypercall { nr: KVM_HC_MAP_GPA_RANGE, args, flags: None });
        }
    }

    /// The first entry that is not done. The header's index moves on over those that are.
    ///
    /// # Errors
    /// SW_EXITINFO2: the entry is not valid.
    fn next_entry(&mut self, mut current: u16, last: u16) -> Result<Option<(u16, PscEntry)>, u64> {
        while current <= last {
            let entry = self.entry(current);
            let aligned = entry.gfn().is_multiple_of(u64::from(entry.pages()));
            if entry.cur_page() > entry.pages() || !aligned {
                return Err(psc::INVALID_ENTRY);
            }
            if entry.cur_page() < entry.pages() {
                return Ok(Some((current, entry)));
            }
            current += 1;
            self.scratch().write(0, &current.to_le_bytes());
        }
        Ok(None)
    }

    fn complete_batch(&mut self, batch: Batch) {
        let end = batch.first + batch.count;
        for index in batch.first..end {
            let entry = self.entry(index);
            let done = entry.with_cur_page(entry.pages());
            self.scratch().write(HEADER + ENTRY * usize::from(index), &done.0.to_le_bytes());
        }
        self.scratch().write(0, &end.to_le_bytes());
    }

    /// A field of the header: 0 is the current entry, 1 the last.
    fn header(&mut self, field: usize) -> u16 {
        let bytes = self.scratch().read(2 * field, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// An entry, which the caller knows to be there.
    fn entry(&mut self, index: u16) -> PscEntry {
        let bytes = self.scratch().read(HEADER + ENTRY * usize::from(index), ENTRY);
        PscEntry(u64::from_le_bytes(bytes.try_into().expect("eight bytes were asked for")))
    }
}
