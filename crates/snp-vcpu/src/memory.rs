//! Guest-physical memory, as nested paging and the RMP show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use snp_abi::{Vmpl, VmplPermissions};
use snp_memory::HostPage;

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// Data are read.
    Read,
    /// Data are written, or read and written.
    Write,
    /// Instructions are fetched.
    Execute,
}

/// An access to one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Guest-physical address of the page.
    pub gpa: u64,
    /// Read, write or fetch.
    pub kind: AccessKind,
    /// With the C-bit. Always false for guests without SEV.
    pub private: bool,
    /// At CPL 3.
    pub user: bool,
    /// By the walk of the guest's page tables.
    pub table: bool,
    /// The RMP counts (SEV-SNP), and this is the VMPL of the access.
    pub vmpl: Option<Vmpl>,
}

/// A page that may be accessed as asked.
#[derive(Clone, Debug)]
pub struct MappedPage {
    /// The memory.
    pub page: HostPage,
    /// It may also be written, by the same VMPL and privilege.
    pub writable: bool,
    /// Somebody decoded instructions from the page: whoever writes it counts this up afterwards.
    pub code: Option<Arc<AtomicU32>>,
}

/// Why it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NestedFault {
    /// There is a device, or nothing: the access is the hypervisor's to complete.
    Device,
    /// A nested page fault that the hypervisor must resolve: nothing is mapped there, or it is private and the access is
    /// shared, or the other way round.
    NotMapped,
    /// The RMP refuses: the page is not this guest's, or not at this address.
    Rmp,
    /// The RMP refuses: the VMPL may not do that.
    Vmpl,
    /// The page is the guest's and not validated: #VC with exit code 0x404.
    NotValidated,
}

/// PVALIDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pvalidate {
    /// Guest-physical address.
    pub gpa: u64,
    /// A 2 MiB page.
    pub large: bool,
    /// Validate, or rescind validation.
    pub validate: bool,
}

/// RMPADJUST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmpAdjust {
    /// Guest-physical address.
    pub gpa: u64,
    /// A 2 MiB page.
    pub large: bool,
    /// The VMPL whose rights change.
    pub target: Vmpl,
    /// Its new rights.
    pub permissions: VmplPermissions,
    /// The page becomes a VMSA.
    pub vmsa: bool,
    /// The VMPL that executes the instruction.
    pub executing: Vmpl,
}

/// How PVALIDATE or RMPADJUST ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmpResult {
    /// EAX = 0; whether the entry changed. PVALIDATE sets CF if it did not.
    Done {
        /// It changed.
        changed: bool,
    },
    /// EAX = 1: FAIL_INPUT.
    Input,
    /// EAX = 2: FAIL_PERMISSION.
    Permission,
    /// EAX = 6: FAIL_SIZEMISMATCH.
    SizeMismatch,
    /// A nested page fault instead.
    Fault(NestedFault),
}

/// Guest-physical memory.
///
/// A processor may keep a [`MappedPage`] and use it without asking again as long as [`GuestMemory::generation`] stays.
pub trait GuestMemory: Sync {
    /// The page behind an access, or why there is none.
    ///
    /// # Errors
    /// [`NestedFault`]
    fn map(&self, access: &Access) -> Result<MappedPage, NestedFault>;

    /// Counted up whenever a page that was handed out may no longer be used as it was.
    fn generation(&self) -> &AtomicU64;

    /// Notes that instructions were decoded from a page; the counter is [`MappedPage::code`] of every later mapping of it,
    /// and the generation changes so that earlier mappings are given up.
    fn watch_code(&self, page: &HostPage) -> Arc<AtomicU32>;

    /// PVALIDATE.
    fn pvalidate(&self, request: &Pvalidate) -> RmpResult;

    /// RMPADJUST.
    fn rmpadjust(&self, request: &RmpAdjust) -> RmpResult;

    /// Bits of a guest-physical address, without the C-bit.
    fn physical_address_bits(&self) -> u8;

    /// Position of the C-bit, in guests with SEV.
    fn c_bit(&self) -> u8;
}
