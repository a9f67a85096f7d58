//! The search over launches of firmware.

use snp_abi::{LaunchDigest, SevFeatures, Vmsa};
use snp_image::Ovmf;
use snp_launch::LaunchPage;
use snp_vmsa::reset::{self, CpuidOrder, ResetProfile, SecMem};

use crate::chain::{PageHashes, extend, reset_contents, vmsa_contents};
use crate::search::{Job, Search};
use crate::{Kernel, Launch, Question, Uapi, space};

/// vCPUs that the wide stages try: what guests commonly have. The first stages try all up to the limit.
const COMMON_COUNTS: u32 = 64;

/// The digest after the image's pages, for one way to measure them.
struct Pages {
    kernel: Option<Kernel>,
    cpuid: CpuidOrder,
    sec_mem: SecMem,
    digest: LaunchDigest,
    /// Where a boot VMSA goes that user space supplies.
    direct_gpa: Option<snp_abi::Gpa>,
    others_eip: u32,
}

pub(crate) fn search(
    question: &Question,
    firmware: &Ovmf,
    kernels: &[Kernel],
    search: &mut Search<'_>,
) -> Option<Launch> {
    let pages = all_pages(question, firmware, kernels);
    let own = |profile: &ResetProfile, pages: &Pages| (profile.cpuid, profile.sec_mem) == (pages.cpuid, pages.sec_mem);
    let known = question.cpu_signature.map_or_else(space::model_signatures, |signature| vec![signature]);
    let most = question.most_vcpus;
    let counts = most.min(COMMON_COUNTS);
    // The wide stages take the kernel as it was given, and none.
    let plain = |pages: &Pages| pages.kernel.is_none() || pages.kernel.as_ref() == kernels.first();
    let stages = Stages { question, pages: &pages };
    stages
        .direct(search, &known)
        .or_else(|| {
            let what = format!("every VMM and era, QEMU's CPU models, common guest features, 1 to {most} vCPUs");
            stages.legacy(search, &what, &known, &space::common_features(), most, own)
        })
        .or_else(|| {
            let what = format!("metadata pages in other orders and types, 1 to {most} vCPUs");
            let swapped = |profile: &ResetProfile, pages: &Pages| plain(pages) && !own(profile, pages);
            stages.legacy(search, &what, &known, &space::common_features()[..2], most, swapped)
        })
        .or_else(|| {
            let what = format!("every combination of nine guest features, 1 to {counts} vCPUs");
            let plain = |profile: &ResetProfile, pages: &Pages| plain(pages) && own(profile, pages);
            stages.legacy(search, &what, &known, &space::all_features(), counts, plain)
        })
        .or_else(|| {
            // A signature that is known needs no search.
            if question.cpu_signature.is_some() {
                return None;
            }
            let what = format!("every model and stepping of CPU families 17h, 19h and 1Ah, 1 to {counts} vCPUs");
            let signature = |profile: &ResetProfile, pages: &Pages| {
                profile.rdx == reset::ResetRdx::Signature && plain(pages) && own(profile, pages)
            };
            stages.legacy(search, &what, &space::all_signatures(), &space::common_features()[..2], counts, signature)
        })
}

/// The pages with every kernel, order and type; the flash is hashed once.
fn all_pages(question: &Question, firmware: &Ovmf, kernels: &[Kernel]) -> Vec<Pages> {
    let mut hashes = PageHashes::default();
    let mut all = Vec::new();
    let others_eip = firmware.reset_eip().ok().flatten().unwrap_or(reset::BOOT_EIP);
    let qemu = reset::find("qemu").expect("the registry has it");
    for kernel in std::iter::once(None).chain(kernels.iter().cloned().map(Some)) {
        for (cpuid, sec_mem) in [
            (CpuidOrder::InOrder, SecMem::Zero),
            (CpuidOrder::Last, SecMem::Zero),
            (CpuidOrder::InOrder, SecMem::Unmeasured),
            (CpuidOrder::Last, SecMem::Unmeasured),
        ] {
            let launch = Launch { cpuid, sec_mem, kernel: kernel.clone(), ..Launch::new(Uapi::Direct, qemu) };
            // Firmware without a place for hashes cannot have been launched with a kernel's.
            let Ok(prepared) = launch.prepare(&question.image) else { continue };
            let (vmsa, loaded) = prepared.plan.pages.split_last().expect("a plan has pages");
            let digest = hashes.digest(LaunchDigest::ZERO, loaded, false);
            let direct_gpa = matches!(vmsa, LaunchPage::Vmsa { .. }).then(|| vmsa.gpa());
            all.push(Pages { kernel: kernel.clone(), cpuid, sec_mem, digest, direct_gpa, others_eip });
        }
    }
    all
}

struct Stages<'a> {
    question: &'a Question,
    pages: &'a [Pages],
}

impl Stages<'_> {
    /// A boot VMSA that user space supplied: the given one, or any profile's.
    fn direct(&self, search: &mut Search<'_>, signatures: &[u32]) -> Option<Launch> {
        let mut launches = Vec::new();
        let unset: Vec<u32> = std::iter::once(0).chain(signatures.iter().copied()).collect();
        for profile in space::direct_profiles() {
            for signature in space::signatures_for(profile, &unset) {
                for features in space::common_features() {
                    launches.push((profile, signature, features));
                }
            }
        }
        let given = self.question.vmsa.as_ref();
        let (ways, pages) = (launches.len() + usize::from(given.is_some()), self.pages);
        let what = "a boot VMSA supplied by user space: of any VMM's state, or the one given";
        let job = |index: usize| {
            let (pages, way) = (&pages[index % pages.len()], index / pages.len());
            let vmsa_gpa = pages.direct_gpa?;
            let launch = match (given, launches.get(way)) {
                (Some(vmsa), None) => {
                    let direct = reset::find("direct").expect("the registry has it");
                    Launch {
                        vmsa: Some(vmsa.clone()),
                        features: vmsa.sev_features,
                        ..Launch::new(Uapi::Direct, direct)
                    }
                }
                (_, Some((profile, cpu_signature, features))) => {
                    let (cpu_signature, features) = (*cpu_signature, *features);
                    Launch { cpu_signature, features, ..Launch::new(Uapi::Direct, profile) }
                }
                (None, None) => return None,
            };
            let made = || Box::new(launch.profile.vmsa(reset::BOOT_EIP, launch.cpu_signature, launch.features));
            let contents = vmsa_contents(&launch.vmsa.clone().unwrap_or_else(made), false);
            let digest = extend(pages.digest, snp_abi::PageType::VMSA, vmsa_gpa, contents);
            Some(Job { launch: with_pages(launch, pages), pages: digest, vmsas: None })
        };
        search.stage(what, ways * pages.len(), 1, |range| range.filter_map(job).collect())
    }

    /// VMSAs that KVM makes from a VMM's registers.
    fn legacy(
        &self,
        search: &mut Search<'_>,
        what: &str,
        signatures: &[u32],
        features: &[SevFeatures],
        most: u32,
        goes_with: impl Fn(&ResetProfile, &Pages) -> bool,
    ) -> Option<Launch> {
        let mut ways: Vec<Way<'_>> = Vec::new();
        for profile in space::firmware_profiles() {
            for pages in self.pages.iter().filter(|pages| goes_with(profile, pages)) {
                for features in features {
                    for signature in space::signatures_for(profile, signatures) {
                        ways.push((profile, pages, *features, signature));
                    }
                }
            }
        }
        search.stage(what, ways.len(), most, |range| {
            let ways = &ways[range];
            let states: Vec<Vmsa> = ways
                .iter()
                .flat_map(|(profile, pages, features, signature)| {
                    [reset::BOOT_EIP, pages.others_eip].map(|eip| profile.vmsa(eip, *signature, *features))
                })
                .collect();
            let contents = reset_contents(&states);
            let job = |((profile, pages, features, signature), vmsas): (&Way<'_>, &[[u8; 48]])| {
                let launch = Launch::new(Uapi::Mainline, profile);
                let launch = Launch { cpu_signature: *signature, features: *features, ..launch };
                Job { launch: with_pages(launch, pages), pages: pages.digest, vmsas: Some([vmsas[0], vmsas[1]]) }
            };
            ways.iter().zip(contents.chunks_exact(2)).map(job).collect()
        })
    }
}

/// One state of all processors, on top of pages.
type Way<'a> = (&'static ResetProfile, &'a Pages, SevFeatures, u32);

fn with_pages(launch: Launch, pages: &Pages) -> Launch {
    Launch { cpuid: pages.cpuid, sec_mem: pages.sec_mem, kernel: pages.kernel.clone(), ..launch }
}
