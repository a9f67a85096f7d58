//! What becomes of an access that has no page.

use snp_vcpu::NestedFault;

/// Why an access has no page, as KVM sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No slot, or a read-only one that is written: the access is emulated, by a device or by user space.
    Device,
    /// Private and accessed as shared, or the other way round, or private without a guest_memfd: KVM_EXIT_MEMORY_FAULT.
    Attributes {
        /// How it was accessed.
        private: bool,
    },
    /// User memory that is not mapped: KVM_RUN returns EFAULT.
    Unmapped,
    /// The RMP refuses.
    Rmp(snp_asp::RmpFault),
}

/// What KVM does about a nested page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// There is a page by now: the guest goes on.
    Retry,
    /// Exit to user space with KVM_EXIT_MEMORY_FAULT.
    MemoryFault {
        /// How it was accessed.
        private: bool,
    },
    /// KVM_RUN returns EFAULT.
    BadAddress,
    /// Linux maps the page again and the processor faults again: the guest never gets further.
    Stuck,
    /// The access is a device's.
    Device,
}

impl From<Refusal> for NestedFault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Device => Self::Device,
            Refusal::Attributes { .. } | Refusal::Unmapped => Self::NotMapped,
            Refusal::Rmp(snp_asp::RmpFault::Entry) => Self::Rmp,
            Refusal::Rmp(snp_asp::RmpFault::NotValidated) => Self::NotValidated,
            Refusal::Rmp(snp_asp::RmpFault::Vmpl) => Self::Vmpl,
        }
    }
}

impl From<Refusal> for Resolution {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Device => Self::Device,
            Refusal::Attributes { private } => Self::MemoryFault { private },
            Refusal::Unmapped => Self::BadAddress,
            // It was validated in the meantime, or the guest will get its #VC.
            Refusal::Rmp(snp_asp::RmpFault::NotValidated) => Self::Retry,
            Refusal::Rmp(_) => Self::Stuck,
        }
    }
}
