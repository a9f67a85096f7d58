//! Whether a plan can be carried out at all, and what its maker should know though it can.

use snp_abi::{Gpa, GuestPolicy, LEGACY_VMSA_GPA, PAGE_SIZE, SevFeatures, Vmpl, Vmsa};
use thiserror::Error;

use crate::{BootState, LaunchPage, LaunchPlan, PlanError};

/// The first byte after the largest guest-physical address space.
const ADDRESS_LIMIT: u64 = 1 << 52;

/// The most vCPUs that KVM takes on x86 (`KVM_MAX_VCPUS` at its largest configuration).
const VCPU_LIMIT: u32 = 4096;

/// A range of addresses, `start < end <= ADDRESS_LIMIT`, both page-aligned.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    end: u64,
}

impl Span {
    fn new(gpa: Gpa, len: u64) -> Option<Self> {
        let end = gpa.0.checked_add(len)?;
        let aligned = gpa.is_page_aligned() && len.is_multiple_of(PAGE_SIZE as u64);
        (aligned && len != 0 && end <= ADDRESS_LIMIT).then_some(Self { start: gpa.0, end })
    }
}

impl LaunchPlan {
    /// Checks what every back end relies on. What only one uAPI profile or one firmware refuses (a second VMSA, a policy)
    /// is left to it.
    ///
    /// Takes O(n log n) time in the number of memory regions and page operations, however large they are.
    ///
    /// ```
    /// # use snp_abi::{Gpa, GuestPolicy, SevFeatures};
    /// # use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, PlanError};
    /// let plan = LaunchPlan {
    ///     policy: GuestPolicy::DEFAULT,
    ///     gosvw: [0; 16],
    ///     features: SevFeatures(SevFeatures::SNP_ACTIVE),
    ///     memory: vec![MemoryRegion { gpa: Gpa(0), len: 0x10_0000 }],
    ///     pages: vec![LaunchPage::Zero { gpa: Gpa(0xf_f000), len: 0x1000 }],
    ///     boot: BootState::Direct { vmsa_gpa: Gpa(0x1000) },
    ///     vcpus: 1,
    ///     id_block: None,
    ///     host_data: [0; 32],
    ///     vcek_disabled: false,
    /// };
    /// assert_eq!(plan.validate(), Err(PlanError::NoBootVmsa { gpa: Gpa(0x1000) }));
    /// ```
    ///
    /// # Errors
    /// The first fault found, as any [`PlanError`] but [`PlanError::Length`], which [`PageBytes`](crate::PageBytes) rules
    /// out.
    pub fn validate(&self) -> Result<(), PlanError> {
        if !(1..=VCPU_LIMIT).contains(&self.vcpus) {
            return Err(PlanError::VcpuCount { vcpus: self.vcpus });
        }
        if !self.features.has(SevFeatures::SNP_ACTIVE) {
            return Err(PlanError::NotSnp { features: self.features });
        }
        let memory = self.memory_spans()?;
        self.check_pages(&memory)?;
        self.check_boot()
    }

    /// The memory as sorted spans with gaps between them; adjacent regions become one, for a run of pages may cross from
    /// one into the next.
    fn memory_spans(&self) -> Result<Vec<Span>, PlanError> {
        let mut spans = Vec::with_capacity(self.memory.len());
        for region in &self.memory {
            let span = Span::new(region.gpa, region.len);
            spans.push(span.ok_or(PlanError::Region { gpa: region.gpa, len: region.len })?);
        }
        spans.sort_unstable_by_key(|span| (span.start, span.end));
        if let Some((first, second)) = first_overlap(&spans) {
            return Err(PlanError::RegionsOverlap { first: Gpa(first.start), second: Gpa(second.start) });
        }
        spans.dedup_by(|next, last| {
            let adjacent = last.end == next.start;
            if adjacent {
                last.end = next.end;
            }
            adjacent
        });
        Ok(spans)
    }

    fn check_pages(&self, memory: &[Span]) -> Result<(), PlanError> {
        let mut spans = Vec::with_capacity(self.pages.len());
        for page in &self.pages {
            let (gpa, len) = (page.gpa(), page.len_bytes());
            let span = Span::new(gpa, len).ok_or(PlanError::Range { gpa, len })?;
            let above = memory.partition_point(|region| region.start <= span.start);
            let inside = above.checked_sub(1).is_some_and(|below| span.end <= memory[below].end);
            if !inside {
                return Err(PlanError::NoMemory { page_type: page.page_type(), gpa, len });
            }
            spans.push(span);
        }
        spans.sort_unstable_by_key(|span| span.start);
        match first_overlap(&spans) {
            Some((_, second)) => Err(PlanError::PageTwice { gpa: Gpa(second.start) }),
            None => Ok(()),
        }
    }

    fn check_boot(&self) -> Result<(), PlanError> {
        let BootState::Direct { vmsa_gpa } = self.boot else { return Ok(()) };
        match self.vmsa_pages().any(|(gpa, _)| gpa == vmsa_gpa) {
            true => Ok(()),
            false => Err(PlanError::NoBootVmsa { gpa: vmsa_gpa }),
        }
    }

    /// The VMSAs that are pages of the plan.
    fn vmsa_pages(&self) -> impl Iterator<Item = (Gpa, &Vmsa)> {
        self.pages.iter().filter_map(|page| match page {
            LaunchPage::Vmsa { gpa, vmsa } => Some((*gpa, &**vmsa)),
            _ => None,
        })
    }

    /// What the maker of a plan should know: each is no error by itself, or an error under some uAPI profile only.
    pub fn warnings(&self) -> Vec<PlanWarning> {
        let mut warnings = Vec::new();
        for (gpa, vmsa) in self.vmsa_pages() {
            tsc_warning(gpa, vmsa, &mut warnings);
            self.vmsa_page_warnings(gpa, vmsa, &mut warnings);
        }
        match &self.boot {
            BootState::Registers { boot, others } => {
                for vmsa in [boot, others].into_iter().take(self.vcpus.min(2) as usize) {
                    tsc_warning(LEGACY_VMSA_GPA, vmsa, &mut warnings);
                }
            }
            BootState::Direct { .. } => {
                let count = self.vmsa_pages().count();
                if count > 1 {
                    warnings.push(PlanWarning::SeveralVmsas { count });
                }
            }
        }
        if self.policy.has(GuestPolicy::DEBUG) {
            warnings.push(PlanWarning::DebugPolicy);
        }
        warnings
    }

    /// KVM's demands on a supplied VMSA, and the erratum.
    fn vmsa_page_warnings(&self, gpa: Gpa, vmsa: &Vmsa, warnings: &mut Vec<PlanWarning>) {
        if gpa.is_2mib_aligned() {
            warnings.push(PlanWarning::VmsaAt2Mib { gpa });
        }
        if vmsa.sev_features != self.features {
            warnings.push(PlanWarning::VmsaFeatures { gpa, vmsa: vmsa.sev_features, plan: self.features });
        }
        if vmsa.vmpl != Vmpl(0) {
            warnings.push(PlanWarning::VmsaVmpl { gpa, vmpl: vmsa.vmpl });
        }
    }
}

/// The first two of `spans`, sorted by start, that overlap.
fn first_overlap(spans: &[Span]) -> Option<(Span, Span)> {
    spans.iter().zip(spans.iter().skip(1)).find(|(first, second)| second.start < first.end).map(|(a, b)| (*a, *b))
}

fn tsc_warning(gpa: Gpa, vmsa: &Vmsa, warnings: &mut Vec<PlanWarning>) {
    if (vmsa.tsc_scale, vmsa.tsc_offset) != (0, 0) {
        warnings.push(PlanWarning::TscFields { gpa, scale: vmsa.tsc_scale, offset: vmsa.tsc_offset });
    }
}

/// Something about a plan that is worth a line on the terminal.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanWarning {
    /// The firmware measures these fields as zero; other tools do not know.
    #[error(
        "the VMSA at {gpa} has TSC_SCALE {scale:#x} and TSC_OFFSET {offset:#x}: the firmware measures both as zero, other \
         tools hash these bytes as they are and will disagree"
    )]
    TscFields {
        /// Where the VMSA is measured.
        gpa: Gpa,
        /// TSC_SCALE.
        scale: u64,
        /// TSC_OFFSET.
        offset: u64,
    },
    /// Running from it can trip an erratum; the `vcpu-state` profile refuses it.
    #[error(
        "the VMSA at {gpa} is 2 MiB-aligned: an RMP erratum can make VMRUN fail with it, and the vcpu-state profile \
         refuses it; place it at another page"
    )]
    VmsaAt2Mib {
        /// Where the VMSA lies.
        gpa: Gpa,
    },
    /// KVM refuses the VMSA.
    #[error(
        "the VMSA at {gpa} has SEV_FEATURES {vmsa:?}, the guest has {plan:?}: KVM refuses a VMSA whose features differ"
    )]
    VmsaFeatures {
        /// Where the VMSA lies.
        gpa: Gpa,
        /// The VMSA's features.
        vmsa: SevFeatures,
        /// The guest's features.
        plan: SevFeatures,
    },
    /// KVM refuses the VMSA.
    #[error("the VMSA at {gpa} is for VMPL {}: KVM refuses all but VMPL 0", .vmpl.0)]
    VmsaVmpl {
        /// Where the VMSA lies.
        gpa: Gpa,
        /// Its VMPL.
        vmpl: Vmpl,
    },
    /// The direct-vmsa profile takes one.
    #[error("the plan has {count} VMSA pages: the direct-vmsa profile takes one and answers EBUSY to the next")]
    SeveralVmsas {
        /// How many.
        count: usize,
    },
    /// The guest's memory is open to the host.
    #[error("the guest policy allows debugging (bit 19): the host can read and write all of the guest's memory")]
    DebugPolicy,
}
