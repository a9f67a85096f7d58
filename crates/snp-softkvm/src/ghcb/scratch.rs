//! The scratch area: where a GHCB carries more than registers.

use std::ops::Range;

use snp_abi::ghcb::{Ghcb as Layout, GhcbError};
use snp_abi::{Errno, PAGE_SIZE};

use super::page::Page;
use super::{Config, Machine};

const PAGE: u64 = PAGE_SIZE as u64;

/// The longest scratch area outside of the GHCB.
const LIMIT: u64 = 16 * PAGE;

/// Bytes of guest memory that the exit works on.
#[derive(Debug)]
pub(super) struct Scratch {
    gpa: u64,
    data: Vec<u8>,
    /// What was written of it.
    dirty: Range<usize>,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoScratch {
    /// The guest is told.
    Malformed(GhcbError),
    /// KVM_RUN fails.
    Fail(Errno),
}

impl Scratch {
    /// The scratch area of a request that needs at least `len` bytes of it, which are not none. Inside of the GHCB it reaches
    /// to the end of the shared buffer.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `setup_vmgexit_scratch`.
    pub(super) fn new(page: &Page, config: &Config, machine: &mut dyn Machine, len: u64) -> Result<Self, NoScratch> {
        const INVALID: NoScratch = NoScratch::Malformed(GhcbError::INVALID_SCRATCH_AREA);
        const BUFFER: u64 = std::mem::offset_of!(Layout, shared_buffer) as u64;
        const BUFFER_END: u64 = std::mem::offset_of!(Layout, reserved_0xff0) as u64;
        let gpa = page.valid_scratch();
        let end = gpa.checked_add(len).filter(|_| gpa != 0).ok_or(INVALID)?;
        if gpa / PAGE * PAGE == page.gpa() {
            let first = gpa % PAGE;
            if first < BUFFER || end - page.gpa() > BUFFER_END {
                return Err(INVALID);
            }
            let data = page.bytes(first as usize..BUFFER_END as usize).to_vec();
            return Ok(Self { gpa, data, dirty: 0..0 });
        }
        // Version 2 has the scratch area in the shared buffer only.
        if config.version >= 2 || len > LIMIT {
            return Err(INVALID);
        }
        let mut data = vec![0; len as usize];
        machine.read(gpa, &mut data).map_err(|_| NoScratch::Fail(Errno::EFAULT))?;
        Ok(Self { gpa, data, dirty: 0..0 })
    }

    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// `len` bytes at `at`. The caller has checked that they are there.
    pub(super) fn read(&self, at: usize, len: usize) -> &[u8] {
        &self.data[at..at + len]
    }

    /// Writes `bytes` at `at`, likewise.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        self.data[at..end].copy_from_slice(bytes);
        self.dirty = if self.dirty.is_empty() { at..end } else { self.dirty.start.min(at)..self.dirty.end.max(end) };
    }

    pub(super) fn write_back(&self, machine: &mut dyn Machine) {
        if !self.dirty.is_empty() {
            // As with the page itself, memory that is gone meanwhile is not written.
            let _ = machine.write(self.gpa + self.dirty.start as u64, &self.data[self.dirty.clone()]);
        }
    }
}
