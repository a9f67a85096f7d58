//! What makes an IGVM file measure differently from one loader to the next.

use snp_abi::{Gpa, LEGACY_VMSA_GPA, LaunchDigest, PAGE_SIZE, SevFeatures, Vmpl, Vmsa};
use thiserror::Error;
use zerocopy::FromBytes;

use crate::{Directive, Igvm, IgvmLoader, PageKind};

/// One hazard: the file is loaded, but not everywhere with the same digest, or not everywhere.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hazard {
    /// Pages without data.
    #[error(
        "{count} pages have no data, the first at {gpa}: ZERO pages for some loaders, normal pages of zeros for others; give them data"
    )]
    DatalessPages {
        /// How many.
        count: usize,
        /// The first.
        gpa: Gpa,
    },
    /// No VMSA for the boot processor.
    #[error("no VP context for processor 0: nothing says where the guest starts")]
    NoVmsa,
    /// VMSAs for other processors.
    #[error(
        "a VP context for processor {vp_index}: left out, measured, or measured blank; let the guest start its other processors"
    )]
    OtherVmsa {
        /// The processor.
        vp_index: u16,
    },
    /// Pages after the VMSA.
    #[error(
        "pages follow the VMSA, the first at {gpa}: loaders that make the VMSA themselves measure it last; put it last"
    )]
    PagesAfterVmsa {
        /// The first.
        gpa: Gpa,
    },
    /// A VMSA where Linux takes none: processors with SEV-SNP may report a false RMP violation when a large page is mapped
    /// over a VMSA that begins one (Linux 7.3, arch/x86/kvm/svm/sev.c, the allocation of pages for VMSAs).
    #[error(
        "the VMSA lies at {gpa}, which is 2 MiB-aligned: Linux takes none there, for an RMP erratum; move it by a page"
    )]
    AlignedVmsa {
        /// Where.
        gpa: Gpa,
    },
    /// A VMSA of another privilege level.
    #[error("the VMSA is for VMPL {vmpl}: the boot processor starts in VMPL 0")]
    Vmpl {
        /// The level.
        vmpl: u8,
    },
    /// A VMSA without SNPActive.
    #[error("the VMSA's SEV_FEATURES {features:?} lack SNPActive (bit 0)")]
    NotSnp {
        /// The features.
        features: SevFeatures,
    },
    /// TSC fields.
    #[error(
        "TSC_SCALE or TSC_OFFSET is not zero: the firmware measures zeros, igvmmeasure and the igvm crate what is there"
    )]
    TscFields,
    /// Registers that KVM's own VMSA would not have.
    #[error("{} fields of the VMSA do not pass through registers ({}): QEMU as released measures another VMSA", fields.len(), fields.join(", "))]
    LostInRegisters {
        /// Their names.
        fields: Vec<&'static str>,
    },
    /// The VMSA is elsewhere than KVM measures it.
    #[error(
        "the VMSA lies at {gpa}: QEMU as released takes only {LEGACY_VMSA_GPA}, where KVM measures it; a direct VMSA needs guest memory"
    )]
    NotAtLegacyGpa {
        /// Where.
        gpa: Gpa,
    },
    /// Shared pages.
    #[error(
        "{count} pages are marked as shared, the first at {gpa}: left out, or launched as normal pages; share memory at run time"
    )]
    SharedPages {
        /// How many.
        count: usize,
        /// The first.
        gpa: Gpa,
    },
    /// 2 MiB pages.
    #[error(
        "{count} pages of 2 MiB, the first at {gpa}: Cloud Hypervisor, OpenVMM and the igvm crate fail on them, or take 4 KiB of one without data; use 4 KiB pages"
    )]
    LargePages {
        /// How many.
        count: usize,
        /// The first.
        gpa: Gpa,
    },
    /// Parameter areas of more than a page.
    #[error(
        "parameter area {area} has {pages} pages: igvmmeasure and Cloud Hypervisor on MSHV measure the first; use areas of one page"
    )]
    LargeParameterArea {
        /// Its index.
        area: u32,
        /// Its pages.
        pages: u64,
    },
    /// A parameter area that QEMU measures before the pages that precede it.
    #[error(
        "parameter area {area} is inserted at {gpa} right after other pages: QEMU launches it before the run of adjacent pages that precedes it; insert areas before all pages"
    )]
    InsertAfterPages {
        /// Its index.
        area: u32,
        /// Where.
        gpa: Gpa,
    },
    /// Pages that are not sorted.
    #[error(
        "the page at {gpa} follows one at a higher address: Cloud Hypervisor on MSHV sorts pages by address; sort them in the file"
    )]
    NotSorted {
        /// The first that does.
        gpa: Gpa,
    },
    /// A VMSA below other pages.
    #[error(
        "the VMSA lies at {gpa}, below other pages: Cloud Hypervisor on MSHV, which sorts by address, measures it before them"
    )]
    VmsaBelowPages {
        /// Where.
        gpa: Gpa,
    },
    /// The file can be relocated.
    #[error("the file says that it can be relocated: the digest depends on where it is loaded")]
    Relocatable,
    /// No guest policy.
    #[error("no guest policy: each loader takes its own default, and the igvm crate does not measure the file")]
    NoPolicy,
    /// An ID block for a digest that the format itself does not give.
    #[error(
        "the ID block is for digest {digest}, which {}: any other launch fails with BAD_MEASUREMENT; sign the file for the loader that launches it",
        givers(loaders)
    )]
    IdBlockDigest {
        /// The digest.
        digest: LaunchDigest,
        /// Who gives it.
        loaders: Vec<&'static str>,
    },
}

fn givers(loaders: &[&str]) -> String {
    match loaders {
        [] => "no loader gives".to_owned(),
        [loader] => format!("only {loader} gives"),
        more => format!("only {} give", more.join(" and ")),
    }
}

/// Everything about a file that makes loaders disagree, in file order. An empty list: the file measures alike everywhere
/// that delivers its VMSA as a page.
pub fn lint(file: &Igvm) -> Vec<Hazard> {
    let mut linter = Linter::default();
    for directive in file.directives() {
        linter.directive(directive);
    }
    let mut hazards = linter.finish();
    hazards.extend(file.is_relocatable().then_some(Hazard::Relocatable));
    hazards.extend(file.policy().is_none().then_some(Hazard::NoPolicy));
    hazards
}

/// The hazard in a file's ID block: `digests` are those that loaders give the file. None if the format's own digest is the
/// block's: who departs from that is told by the other hazards and the notes.
pub fn id_block(file: &Igvm, digests: &[(&'static IgvmLoader, LaunchDigest)]) -> Option<Hazard> {
    let digest = file.id_block()?.block.ld;
    let givers = digests.iter().filter(|(_, given)| *given == digest);
    let loaders: Vec<_> = givers.map(|(loader, _)| loader.name).collect();
    let by_format = loaders.contains(&IgvmLoader::qemu_direct().name);
    (!by_format).then_some(Hazard::IdBlockDigest { digest, loaders })
}

/// (how many, the first)
type Counted = Option<(usize, Gpa)>;

#[derive(Default)]
struct Linter {
    hazards: Vec<Hazard>,
    dataless: Counted,
    shared: Counted,
    large: Counted,
    area_lens: std::collections::BTreeMap<u32, u64>,
    vmsa_seen: bool,
    after_vmsa: Option<Gpa>,
    highest: Option<Gpa>,
    not_sorted: Option<Gpa>,
    page_before: bool,
}

impl Linter {
    fn directive(&mut self, directive: &Directive) {
        match directive {
            Directive::Page { gpa, len, kind, data } => self.page(*gpa, *len, *kind, data.is_some()),
            Directive::ParameterArea { area, len, .. } => {
                self.area_lens.insert(*area, *len);
            }
            Directive::ParameterInsert { gpa, area } => self.insert(*gpa, *area),
            Directive::VpContext { gpa, vp_index: 0, page } => {
                self.vmsa_seen = true;
                self.vmsa(*gpa, &Vmsa::read_from_bytes(page).expect("a VP context is as long as a VMSA"));
            }
            Directive::VpContext { vp_index, .. } => self.hazards.push(Hazard::OtherVmsa { vp_index: *vp_index }),
            Directive::Parameter { .. } | Directive::RequiredMemory { .. } => {}
        }
    }

    fn page(&mut self, gpa: Gpa, len: u64, kind: PageKind, data: bool) {
        let count = |counted: &mut Counted| counted.get_or_insert((0, gpa)).0 += 1;
        if kind == PageKind::Shared {
            return count(&mut self.shared);
        }
        if kind == PageKind::Normal && !data {
            count(&mut self.dataless);
        }
        if len != PAGE_SIZE as u64 {
            count(&mut self.large);
        }
        self.place(gpa);
        self.page_before = true;
    }

    fn insert(&mut self, gpa: Gpa, area: u32) {
        let pages = self.area_lens.get(&area).copied().unwrap_or_default() / PAGE_SIZE as u64;
        if pages > 1 {
            self.hazards.push(Hazard::LargeParameterArea { area, pages });
        }
        if self.page_before {
            self.hazards.push(Hazard::InsertAfterPages { area, gpa });
        }
        self.place(gpa);
    }

    /// The order of what is launched.
    fn place(&mut self, gpa: Gpa) {
        if self.vmsa_seen {
            self.after_vmsa.get_or_insert(gpa);
        }
        if self.highest.is_some_and(|highest| gpa < highest) {
            self.not_sorted.get_or_insert(gpa);
        }
        self.highest = self.highest.max(Some(gpa));
    }

    fn vmsa(&mut self, gpa: Gpa, vmsa: &Vmsa) {
        if vmsa.vmpl != Vmpl(0) {
            self.hazards.push(Hazard::Vmpl { vmpl: vmsa.vmpl.0 });
        }
        if !vmsa.sev_features.has(SevFeatures::SNP_ACTIVE) {
            self.hazards.push(Hazard::NotSnp { features: vmsa.sev_features });
        }
        if (vmsa.tsc_scale, vmsa.tsc_offset) != (0, 0) {
            self.hazards.push(Hazard::TscFields);
        }
        if gpa.is_2mib_aligned() {
            self.hazards.push(Hazard::AlignedVmsa { gpa });
        }
    }

    fn finish(mut self) -> Vec<Hazard> {
        if !self.vmsa_seen {
            self.hazards.push(Hazard::NoVmsa);
        }
        let counted =
            |counted: Counted, hazard: fn(usize, Gpa) -> Hazard| counted.map(|(count, gpa)| hazard(count, gpa));
        let more = [
            counted(self.dataless, |count, gpa| Hazard::DatalessPages { count, gpa }),
            counted(self.shared, |count, gpa| Hazard::SharedPages { count, gpa }),
            counted(self.large, |count, gpa| Hazard::LargePages { count, gpa }),
            self.after_vmsa.map(|gpa| Hazard::PagesAfterVmsa { gpa }),
            self.not_sorted.map(|gpa| Hazard::NotSorted { gpa }),
        ];
        self.hazards.extend(more.into_iter().flatten());
        self.hazards
    }
}

/// What single loaders make of a file's VMSA and what its maker cannot always avoid: told apart from the hazards.
pub fn notes(file: &Igvm) -> Vec<Hazard> {
    let context = file.directives().iter().find_map(|directive| match directive {
        Directive::VpContext { gpa, vp_index: 0, page } => Some((*gpa, Vmsa::read_from_bytes(page).expect("a page"))),
        _ => None,
    });
    let Some((gpa, vmsa)) = context else { return Vec::new() };
    let fields = crate::replay::lost_fields(&vmsa, &crate::replay::through_registers(&vmsa, vmsa.sev_features));
    let lost = (!fields.is_empty()).then_some(Hazard::LostInRegisters { fields });
    let above =
        file.directives().iter().any(|directive| matches!(directive, Directive::Page { gpa: page, .. } if *page > gpa));
    let sorted_before = above.then_some(Hazard::VmsaBelowPages { gpa });
    let elsewhere = (gpa != LEGACY_VMSA_GPA).then_some(Hazard::NotAtLegacyGpa { gpa });
    sorted_before.into_iter().chain(elsewhere).chain(lost).collect()
}
