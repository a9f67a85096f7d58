//! What a user chooses about a guest, whatever image it has.

use snp_abi::{CpuidPage, Gpa, GuestPolicy, SevFeatures, Vmsa};
use snp_launch::{IdBlockPair, LaunchPlan, PlanError, PlanWarning};
use snp_vmsa::reset::{CpuidOrder, ResetProfile, SecMem};
use thiserror::Error;

use crate::kernel::HashTableError;
use crate::{IgvmError, OvmfError, ParameterKind, SectionKind, reset};

/// The choices of a launch that are not in the image.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// How many vCPUs, at least 1.
    pub vcpus: u32,
    /// Who launches: what the VMM puts into reset VMSAs, and how it measures the firmware's metadata.
    pub vmm: &'static ResetProfile,
    /// How a firmware's metadata is measured: as the VMM does, unless told otherwise.
    pub pages: PageRules,
    /// CPUID Fn0000_0001_EAX, which processors have in RDX at reset.
    pub cpu_signature: u32,
    /// SEV_FEATURES with SNPActive; `None` takes those of the boot VMSA that is given or in the image, else the VMM's.
    pub features: Option<SevFeatures>,
    /// The guest policy; `None` takes the image's, else [`GuestPolicy::DEFAULT`].
    pub policy: Option<GuestPolicy>,
    /// HOST_DATA of the attestation report.
    pub host_data: [u8; 32],
    /// The ID block; `None` takes the image's, if it has one.
    pub id_block: Option<IdBlockPair>,
    /// The table for every CPUID page of the image.
    pub cpuid: Box<CpuidPage>,
    /// How the vCPUs get their state.
    pub delivery: Delivery,
}

impl GuestOptions {
    /// QEMU on a current Linux, one vCPU, an empty CPUID table and nothing else chosen.
    pub fn new(delivery: Delivery) -> Self {
        Self::of_vmm(reset::current_qemu(), delivery)
    }

    /// As [`GuestOptions::new`], for another VMM or era.
    pub fn of_vmm(vmm: &'static ResetProfile, delivery: Delivery) -> Self {
        Self {
            vcpus: 1,
            vmm,
            pages: PageRules { cpuid: vmm.cpuid, sec_mem: vmm.sec_mem },
            cpu_signature: 0,
            features: None,
            policy: None,
            host_data: [0; 32],
            id_block: None,
            cpuid: Box::default(),
            delivery,
        }
    }
}

/// How a firmware's metadata is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRules {
    /// When the CPUID page is measured.
    pub cpuid: CpuidOrder,
    /// The page type of SEC_MEM sections.
    pub sec_mem: SecMem,
}

/// How the vCPUs get their state.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The boot processor's VMSA is a page of the launch; nobody makes one for the others.
    Direct {
        /// The VMSA; `None` takes the image's, or makes a reset state.
        vmsa: Option<Box<Vmsa>>,
        /// Where it lies; `None` takes the image's place, or finds one.
        gpa: Option<Gpa>,
    },
    /// KVM makes every vCPU's VMSA from its registers, and measures it.
    Registers,
}

/// A plan that can be launched, and what its maker should know.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The plan; it has been validated.
    pub plan: LaunchPlan,
    /// What is worth a line on the terminal.
    pub warnings: Vec<ImageWarning>,
}

impl Prepared {
    /// Checks the plan and adds its own warnings.
    pub(crate) fn new(plan: LaunchPlan, mut warnings: Vec<ImageWarning>) -> Result<Self, ImageError> {
        plan.validate()?;
        warnings.extend(plan.warnings().into_iter().map(ImageWarning::Plan));
        Ok(Self { plan, warnings })
    }
}

/// Why an image and options make no plan.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// The firmware.
    #[error(transparent)]
    Ovmf(#[from] OvmfError),
    /// The IGVM file.
    #[error(transparent)]
    Igvm(#[from] IgvmError),
    /// The pages do not go together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The hash table.
    #[error(transparent)]
    HashTable(#[from] HashTableError),
    /// A section that nobody here knows what to do with.
    #[error(
        "the firmware has a metadata section of unknown kind {kind} at {gpa}: its page type is not known, so the digest cannot be"
    )]
    UnknownSection {
        /// Its kind.
        kind: SectionKind,
        /// Where it lies.
        gpa: Gpa,
    },
    /// A kernel was given to firmware without a place for its hashes.
    #[error(
        "the firmware has no place for kernel hashes, so a kernel given to it would not be measured; Debian's \
         OVMF.amdsev.fd (package ovmf-amdsev) has one"
    )]
    NoKernelHashes,
    /// The hash table and the section for it are not in one page.
    #[error("the firmware wants the hash table at {table}, but its KERNEL_HASHES page is at {section}")]
    HashTableElsewhere {
        /// Where the firmware's table says that it is.
        table: Gpa,
        /// The section's page.
        section: Gpa,
    },
    /// More than one vCPU, and the firmware does not say where the others start.
    #[error("the firmware has no SEV-ES reset block: only one vCPU can start from registers, {vcpus} are asked for")]
    NoResetBlock {
        /// vCPUs asked for.
        vcpus: u32,
    },
    /// No VMSA to start from.
    #[error("the IGVM file has no VP context for processor 0: give a VMSA")]
    NoVpContext,
    /// An SVSM image without entry point.
    #[error(
        "the SVSM has no SVSM info entry in its table (a789a612-0597-4c4b-a49f-cbb1fe9d1ddd): where it starts is unknown"
    )]
    NoSvsmInfo,
    /// An SVSM whose entry point is not below 4 GiB.
    #[error("the SVSM at {gpa} wants to start {entry:#x} bytes into itself, which is not below 4 GiB")]
    SvsmEntry {
        /// Where it lies.
        gpa: Gpa,
        /// Its entry point, relative to its start.
        entry: u32,
    },
    /// No place for an SVSM.
    #[error(
        "no place for the SVSM below firmware and {vars_size:#x} bytes of variable store: want whole pages above 0"
    )]
    SvsmPlace {
        /// Bytes of the variable store.
        vars_size: u64,
    },
    /// The loader and the options disagree on who makes the VMSA.
    #[error("the loader {loader} delivers the VMSA {}, and the profile does not", if *.registers { "as a page" } else { "through registers" })]
    LoaderDelivery {
        /// The loader.
        loader: &'static str,
        /// The options want registers.
        registers: bool,
    },
    /// The loader fails on 2 MiB pages with data.
    #[error("{loader} fails on 2 MiB pages with data, and the file has one at {gpa}")]
    LoaderLargePage {
        /// The loader.
        loader: &'static str,
        /// The page.
        gpa: Gpa,
    },
    /// No free page below 4 GiB.
    #[error("no page below {below} is free for the boot processor's VMSA: give a GPA for it")]
    NoFreePage {
        /// Where the search started.
        below: Gpa,
    },
}

/// What is worth a line on the terminal.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageWarning {
    /// About the plan, whatever image it came from.
    #[error(transparent)]
    Plan(#[from] PlanWarning),
    /// Loaders disagree on pages without data.
    #[error(
        "{count} pages of the IGVM file have no data: they are launched as normal pages of zeros, as the format says and \
         QEMU does; loaders that launch them as ZERO pages (Cloud Hypervisor on KVM) get another digest"
    )]
    DatalessPages {
        /// How many.
        count: usize,
    },
    /// QEMU changes the order.
    #[error(
        "the IGVM file inserts parameters after pages: QEMU launches the last pages before an insertion after it, and gets \
         another digest than loaders that keep the file's order, as is done here"
    )]
    InsertAfterPages,
    /// Shared pages are not part of the launch.
    #[error("{count} pages of the IGVM file are shared with the host: they are not part of the launch and not loaded")]
    SharedPages {
        /// How many.
        count: usize,
    },
    /// The contents of these pages come from elsewhere.
    #[error("the IGVM file brings a CPUID table of its own, which is replaced by the platform's; it is not measured")]
    CpuidReplaced,
    /// A parameter that nobody fills.
    #[error("the guest asks for its {kind}: nothing is known to tell, it finds zeros (parameters are not measured)")]
    ParameterUnknown {
        /// Which one.
        kind: ParameterKind,
    },
    /// Contexts of other processors.
    #[error("the VP context for processor {vp_index} is left out: only the boot processor starts from a supplied VMSA")]
    OtherVpContext {
        /// Which processor.
        vp_index: u16,
    },
    /// The file is loaded where it says.
    #[error("the IGVM file is relocatable: it is loaded at its preferred addresses")]
    NotRelocated,
    /// QEMU would refuse the file.
    #[error("QEMU refuses this VP context at {gpa}: without direct delivery it takes only {legacy}", legacy = snp_abi::LEGACY_VMSA_GPA)]
    QemuRefusesGpa {
        /// Where the file has its VMSA.
        gpa: Gpa,
    },
    /// State that does not survive the way through registers.
    #[error(
        "the VP context sets {field}, which does not reach the guest through registers: KVM measures its own value (QEMU \
         refuses such a file)"
    )]
    LostInRegisters {
        /// The field's name.
        field: &'static str,
    },
    /// 2 MiB pages of the file have data.
    #[error(
        "{count} pages of the IGVM file are 2 MiB pages with data: the igvm crate (0.5) and QEMU read only 4 KiB of each"
    )]
    LargePages {
        /// How many.
        count: usize,
    },
}
