//! The reverse map table.

use snp_abi::{Asid, Gpa, PageSize, Pfn, RmpEntry};
use thiserror::Error;

/// The reverse map table: one entry per system-physical page, sparse.
#[derive(Debug, Default)]
pub struct Rmp {}

/// The new state that RMPUPDATE gives an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmpUpdate {
    /// Assigned.
    pub assigned: bool,
    /// Immutable: for the firmware's use.
    pub immutable: bool,
    /// The owner.
    pub asid: Asid,
    /// Guest-physical address.
    pub gpa: Gpa,
    /// Size.
    pub page_size: PageSize,
}

/// The RMPUPDATE instruction failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RmpUpdateError {
    /// FAIL_PERMISSION: the entry is immutable.
    #[error("RMPUPDATE: the entry is immutable")]
    Permission,
    /// FAIL_INPUT: illegal input values.
    #[error("RMPUPDATE: illegal input")]
    Input,
}

impl Rmp {
    /// The entry of a page; pages never touched are the hypervisor's.
    pub fn entry(&self, _pfn: Pfn) -> RmpEntry {
        todo!()
    }
}
