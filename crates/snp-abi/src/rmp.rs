//! The reverse map: who owns a system-physical page, and in which state it is.

use crate::{Asid, Gpa, VmplPermissions};

/// The size that an RMP entry describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB.
    Size2M,
}

/// The state of a page, as the firmware reads it from the RMP entry.
///
/// # Source
/// AMD 56860, "Page States"; AMD 24593, "RMP Page State".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageState {
    /// Not assigned: the hypervisor's, readable and writable by it.
    Hypervisor,
    /// Assigned to ASID 0, immutable: the firmware may write it.
    Firmware,
    /// Was a firmware page of a guest that is gone; only SNP_PAGE_RECLAIM leads out.
    Reclaim,
    /// Holds a guest context.
    Context,
    /// Holds metadata of swapped pages.
    Metadata,
    /// Assigned to a guest, immutable, not validated: what SNP_LAUNCH_UPDATE wants.
    PreGuest,
    /// Assigned to a guest, immutable, validated: being swapped out.
    PreSwap,
    /// Assigned to a guest, not validated: the guest must PVALIDATE it.
    GuestInvalid,
    /// Assigned to a guest and validated.
    GuestValid,
}

impl PageState {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Hypervisor,
        Self::Firmware,
        Self::Reclaim,
        Self::Context,
        Self::Metadata,
        Self::PreGuest,
        Self::PreSwap,
        Self::GuestInvalid,
        Self::GuestValid,
    ];
}

/// One RMP entry as its fields. The processor's own encoding is not architectural and not modelled.
///
/// # Source
/// AMD 24593 (APM volume 2), "Fields of an RMP Entry".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RmpEntry {
    /// The page belongs to a guest or to the firmware.
    pub assigned: bool,
    /// The guest has validated the page, or the firmware has at launch.
    pub validated: bool,
    /// Software cannot change the entry with RMPUPDATE.
    pub immutable: bool,
    /// The page holds a VM save area.
    pub vmsa: bool,
    /// The owner.
    pub asid: Asid,
    /// Where the guest sees the page.
    pub gpa: Gpa,
    /// The size that the entry describes.
    pub page_size: PageSize,
    /// Rights of VMPL0 to VMPL3.
    pub permissions: [VmplPermissions; 4],
    /// The state, which the firmware keeps along with the fields above.
    pub state: PageState,
}

impl RmpEntry {
    /// A page of the hypervisor.
    pub const HYPERVISOR: Self = Self {
        assigned: false,
        validated: false,
        immutable: false,
        vmsa: false,
        asid: Asid(0),
        gpa: Gpa(0),
        page_size: PageSize::Size4K,
        permissions: [VmplPermissions(0); 4],
        state: PageState::Hypervisor,
    };
}

impl Default for RmpEntry {
    fn default() -> Self {
        Self::HYPERVISOR
    }
}
