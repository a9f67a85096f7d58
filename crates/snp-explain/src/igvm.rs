//! The search over launches of an IGVM file.

use snp_abi::{LaunchDigest, SevFeatures};
use snp_image::loader::{
    DatalessPages, IgvmLoader, LOADERS, LargePages, OtherContexts, PageOrder, ParameterPages, SharedPages,
    StateDelivery,
};
use snp_image::{Directive, Igvm};
use snp_launch::{BootState, LaunchPage};
use snp_vmsa::reset;

use crate::chain::{PageHashes, vmsa_contents};
use crate::search::{Job, Search};
use crate::{Image, Launch, Question, Uapi, space};

pub(crate) fn search(question: &Question, file: &Igvm, append: &str, search: &mut Search<'_>) -> Option<Launch> {
    let stages = Stages { question, image: Image::Igvm { file: Box::new(file.clone()), append: append.to_owned() } };
    let named: Vec<&'static IgvmLoader> = LOADERS.iter().collect();
    let own = file_features(file);
    let mut common = vec![own];
    common.extend(space::common_features().into_iter().filter(|features| *features != own));
    let known = question.cpu_signature.map_or_else(space::model_signatures, |signature| vec![signature]);
    let most = question.most_vcpus;
    stages
        .try_loaders(search, "every known loader, the file's own guest features", &named, &[own], &known, most)
        .or_else(|| {
            let what = format!("every known loader, common guest features, QEMU's CPU models, 1 to {most} vCPUs");
            stages.try_loaders(search, &what, &named, &common, &known, most)
        })
        .or_else(|| {
            let what = "every combination of what loaders do differently";
            stages.try_loaders(search, what, combinations(), &common[..2], &known, most.min(16))
        })
}

/// SEV_FEATURES of the VMSA that an IGVM file has for the boot processor; SNPActive alone if it has none.
pub fn file_features(file: &Igvm) -> SevFeatures {
    use zerocopy::FromBytes;
    let vmsa = file.directives().iter().find_map(|directive| match directive {
        Directive::VpContext { vp_index: 0, page, .. } => snp_abi::Vmsa::read_from_bytes(page).ok(),
        _ => None,
    });
    vmsa.map_or(SevFeatures(SevFeatures::SNP_ACTIVE), |vmsa| vmsa.sev_features)
}

/// Every loader that could be made of what the known ones do. Made once for the process: a launch names its loader for as
/// long as it lives.
fn combinations() -> &'static [&'static IgvmLoader] {
    static ALL: std::sync::LazyLock<Vec<&'static IgvmLoader>> = std::sync::LazyLock::new(|| {
        let mut all: Vec<&'static IgvmLoader> = Vec::new();
        for dataless in [DatalessPages::Normal, DatalessPages::Zero] {
            for order in [PageOrder::File, PageOrder::Runs, PageOrder::Address] {
                for state in
                    [StateDelivery::Page, StateDelivery::QemuRegisters, StateDelivery::CloudHypervisorRegisters]
                {
                    for other_contexts in [OtherContexts::LeftOut, OtherContexts::Measured] {
                        for parameters in [ParameterPages::All, ParameterPages::First] {
                            for shared in [SharedPages::LeftOut, SharedPages::Launched] {
                                for verbatim_tsc in [false, true] {
                                    all.push(Box::leak(Box::new(IgvmLoader {
                                        name: "a loader that is not known",
                                        summary: "made of what known loaders do",
                                        dataless,
                                        order,
                                        state,
                                        other_contexts,
                                        parameters,
                                        shared,
                                        large: LargePages::Split,
                                        verbatim_tsc,
                                        source: "none",
                                    })));
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    });
    &ALL
}

struct Stages<'a> {
    question: &'a Question,
    image: Image,
}

/// What a loader makes of the file before any VMSA of KVM's.
struct Loaded {
    loader: &'static IgvmLoader,
    features: SevFeatures,
    signature: u32,
    pages: LaunchDigest,
    vmsas: Option<[[u8; 48]; 2]>,
}

impl Stages<'_> {
    fn try_loaders(
        &self,
        search: &mut Search<'_>,
        what: &str,
        loaders: &[&'static IgvmLoader],
        features: &[SevFeatures],
        signatures: &[u32],
        most: u32,
    ) -> Option<Launch> {
        let mut hashes = PageHashes::default();
        let mut loaded: Vec<Loaded> = Vec::new();
        for loader in loaders {
            if search.is_cancelled() {
                return None;
            }
            loaded.extend(self.load(loader, features, signatures, &mut hashes));
        }
        search.stage(what, loaded.len(), most, |range| {
            let job = |Loaded { loader, features, signature, pages, vmsas }: &Loaded| {
                let launch = self.launch(loader, *features, *signature);
                Job { launch, pages: *pages, vmsas: *vmsas }
            };
            loaded[range].iter().map(job).collect()
        })
    }

    /// The file with one loader and every choice of features and signatures that shows in the digest.
    fn load(
        &self,
        loader: &'static IgvmLoader,
        features: &[SevFeatures],
        signatures: &[u32],
        hashes: &mut PageHashes,
    ) -> Vec<Loaded> {
        let mut all = Vec::new();
        // The pages are the same whatever KVM puts into its VMSAs.
        let mut pages_digest = None;
        for features in features {
            for signature in if loader.is_direct() { &[0][..] } else { signatures } {
                let launch = self.launch(loader, *features, *signature);
                // A loader that fails on the file did not launch it.
                let Ok(prepared) = launch.prepare(&self.image) else { continue };
                let plan = prepared.plan;
                let verbatim = loader.verbatim_tsc;
                let measure =
                    |pages: &[LaunchPage], hashes: &mut PageHashes| hashes.digest(LaunchDigest::ZERO, pages, verbatim);
                let (pages, vmsas) = match &plan.boot {
                    BootState::Direct { .. } => (measure(&plan.pages, hashes), None),
                    BootState::Registers { boot, others } => {
                        let pages = *pages_digest.get_or_insert_with(|| measure(&plan.pages, hashes));
                        (pages, Some([vmsa_contents(boot, verbatim), vmsa_contents(others, verbatim)]))
                    }
                };
                all.push(Loaded { loader, features: *features, signature: *signature, pages, vmsas });
            }
            if loader.is_direct() && self.question.vmsa.is_none() {
                // The file's VMSA carries its own features.
                break;
            }
        }
        all
    }

    fn launch(&self, loader: &'static IgvmLoader, features: SevFeatures, cpu_signature: u32) -> Launch {
        let uapi = if loader.is_direct() { Uapi::Direct } else { Uapi::Mainline };
        let profile = reset::find("qemu").expect("the registry has it");
        let vmsa = self.question.vmsa.clone().filter(|_| loader.is_direct());
        Launch { loader: Some(loader), features, cpu_signature, vmsa, ..Launch::new(uapi, profile) }
    }
}
