//! The launch plan: what is launched, in which order.

use bytes::Bytes;
use snp_abi::{CpuidPage, Gpa, GuestPolicy, IdAuth, IdBlock, PAGE_SIZE, PageType, SevFeatures, Vmsa};
use thiserror::Error;

/// Everything that a back end needs to launch a guest, and that the digest engine needs to predict its digest.
#[derive(Clone, Debug)]
pub struct LaunchPlan {
    /// The guest policy.
    pub policy: GuestPolicy,
    /// Guest OS-visible workarounds, passed through to the secrets page.
    pub gosvw: [u8; 16],
    /// The VM's SEV features **with** SNPActive, as every VMSA must carry them.
    pub features: SevFeatures,
    /// The guest-physical memory, as non-overlapping page-aligned regions; every page of `pages` lies in one.
    pub memory: Vec<MemoryRegion>,
    /// The page operations, in the order in which they are performed and measured.
    pub pages: Vec<LaunchPage>,
    /// Where the vCPUs' state comes from.
    pub boot: BootState,
    /// How many vCPUs the guest has, at least 1. vCPU `i` has APIC ID `i`.
    pub vcpus: u32,
    /// The ID block with its authentication data, if the guest has one.
    pub id_block: Option<IdBlockPair>,
    /// HOST_DATA of the attestation report.
    pub host_data: [u8; 32],
    /// Reports may not be signed with the VCEK.
    pub vcek_disabled: bool,
}

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// First byte, 4 KiB-aligned.
    pub gpa: Gpa,
    /// Bytes, a non-zero multiple of 4 KiB.
    pub len: u64,
}

/// An ID block and what authenticates it.
#[derive(Clone, Debug)]
pub struct IdBlockPair {
    /// The block.
    pub block: IdBlock,
    /// Its authentication data.
    pub auth: Box<IdAuth>,
    /// The author key in `auth` is used.
    pub author_key_enabled: bool,
}

/// Immutable page contents: a non-empty multiple of 4 KiB, shared by reference count and never copied by the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageBytes(Bytes);

impl PageBytes {
    /// Takes whole pages.
    ///
    /// # Errors
    /// [`PlanError::Length`] if `data` is empty or not a multiple of 4 KiB.
    pub fn new(data: Bytes) -> Result<Self, PlanError> {
        if data.is_empty() || !data.len().is_multiple_of(PAGE_SIZE) {
            return Err(PlanError::Length { len: data.len() as u64 });
        }
        Ok(Self(data))
    }

    /// Copies `data` and fills up the last page with zeros; empty `data` gives one page of zeros.
    pub fn padded(data: &[u8]) -> Self {
        let len = data.len().max(1).next_multiple_of(PAGE_SIZE);
        let mut pages = Vec::with_capacity(len);
        pages.extend_from_slice(data);
        pages.resize(len, 0);
        Self(pages.into())
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

/// One page operation, over one page or a run of pages of one type.
#[derive(Clone, Debug)]
pub enum LaunchPage {
    /// Measured contents.
    Normal {
        /// First byte.
        gpa: Gpa,
        /// The contents.
        data: PageBytes,
    },
    /// Contents that are not measured.
    Unmeasured {
        /// First byte.
        gpa: Gpa,
        /// The contents.
        data: PageBytes,
    },
    /// Pages that the firmware fills with zeros.
    Zero {
        /// First byte.
        gpa: Gpa,
        /// Bytes, a non-zero multiple of 4 KiB.
        len: u64,
    },
    /// The page that the firmware fills with the guest's secrets.
    Secrets {
        /// First byte.
        gpa: Gpa,
    },
    /// The page with the CPUID table that the firmware checks.
    Cpuid {
        /// First byte.
        gpa: Gpa,
        /// The table.
        table: Box<CpuidPage>,
    },
    /// A VM save area in guest memory.
    Vmsa {
        /// First byte.
        gpa: Gpa,
        /// The save area.
        vmsa: Box<Vmsa>,
    },
}

impl LaunchPage {
    /// First byte of the run.
    pub fn gpa(&self) -> Gpa {
        match self {
            Self::Normal { gpa, .. }
            | Self::Unmeasured { gpa, .. }
            | Self::Zero { gpa, .. }
            | Self::Secrets { gpa }
            | Self::Cpuid { gpa, .. }
            | Self::Vmsa { gpa, .. } => *gpa,
        }
    }

    /// Length of the run in bytes.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Normal { data, .. } | Self::Unmeasured { data, .. } => data.len(),
            Self::Zero { len, .. } => *len,
            Self::Secrets { .. } | Self::Cpuid { .. } | Self::Vmsa { .. } => PAGE_SIZE as u64,
        }
    }

    /// The page type that SNP_LAUNCH_UPDATE is given.
    pub fn page_type(&self) -> PageType {
        match self {
            Self::Normal { .. } => PageType::NORMAL,
            Self::Unmeasured { .. } => PageType::UNMEASURED,
            Self::Zero { .. } => PageType::ZERO,
            Self::Secrets { .. } => PageType::SECRETS,
            Self::Cpuid { .. } => PageType::CPUID,
            Self::Vmsa { .. } => PageType::VMSA,
        }
    }
}

/// Where the vCPUs' state comes from.
#[derive(Clone, Debug)]
pub enum BootState {
    /// Legacy: user space sets each vCPU's registers, KVM builds a VMSA from them and measures it, at
    /// [`snp_abi::LEGACY_VMSA_GPA`], for every vCPU in index order.
    Registers {
        /// The VMSA that KVM builds for vCPU 0.
        boot: Box<Vmsa>,
        /// The VMSA that KVM builds for each of the others.
        others: Box<Vmsa>,
    },
    /// The boot processor starts from the VMSA page at this GPA, which is one of the plan's pages; nobody makes one for
    /// the others.
    Direct {
        /// GPA of the boot processor's VMSA.
        vmsa_gpa: Gpa,
    },
}

/// A plan that no back end could carry out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Contents that are not whole pages.
    #[error("page contents of {len} bytes: want a non-zero multiple of 4096")]
    Length {
        /// Bytes given.
        len: u64,
    },
    /// A run of pages that is misaligned, empty, or goes past the end of the address space.
    #[error("pages at {gpa}, {len:#x} bytes: want a 4 KiB-aligned range below 2^52")]
    Range {
        /// First byte.
        gpa: Gpa,
        /// Bytes.
        len: u64,
    },
    /// A memory region that is misaligned, empty, or goes past the end of the address space.
    #[error("memory region at {gpa}, {len:#x} bytes: want a 4 KiB-aligned, non-empty range below 2^52")]
    Region {
        /// First byte.
        gpa: Gpa,
        /// Bytes.
        len: u64,
    },
    /// A run of pages outside all memory regions.
    #[error("{page_type} page at {gpa}, {len:#x} bytes: outside the guest's memory")]
    NoMemory {
        /// The page type.
        page_type: PageType,
        /// First byte.
        gpa: Gpa,
        /// Bytes.
        len: u64,
    },
    /// Two memory regions overlap.
    #[error("memory regions at {first} and {second} overlap")]
    RegionsOverlap {
        /// Start of the lower region.
        first: Gpa,
        /// Start of the upper region.
        second: Gpa,
    },
    /// Two runs of pages overlap: the second could never be launched.
    #[error("pages at {gpa} are launched twice")]
    PageTwice {
        /// The first page that both runs have.
        gpa: Gpa,
    },
    /// No vCPU, or more than KVM takes.
    #[error("{vcpus} vCPUs: want 1 to 4096")]
    VcpuCount {
        /// vCPUs asked for.
        vcpus: u32,
    },
    /// The boot state names a GPA at which the plan has no VMSA page.
    #[error("the boot processor's VMSA at {gpa} is not among the plan's pages")]
    NoBootVmsa {
        /// The GPA.
        gpa: Gpa,
    },
    /// Features without SNPActive.
    #[error("SEV features {features:?} lack SNPActive (bit 0)")]
    NotSnp {
        /// The features.
        features: SevFeatures,
    },
}
