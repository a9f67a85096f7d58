//! SEV-SNP launch digests: of firmware, of firmware below an SVSM, of IGVM files.

use anyhow::{Context, Result, ensure};
use snp_abi::{LaunchDigest, SevFeatures, Vmsa};
use snp_image::{
    Delivery, GuestOptions, Igvm, IgvmLaunch, IgvmLoader, ImageWarning, Ovmf, OvmfLaunch, Prepared, SvsmLaunch,
};
use snp_launch::{BootState, DigestEngine, LaunchPage, LaunchPlan, counts_from};
use snp_vmsa::reset::ResetProfile;

use super::args::{MeasureArgs, Mode};
use super::{Measured, counts, firmware, kernel, ovmf_path, signature, vmm};
use crate::launch::ProfileName;
use crate::map::Mapped;
use crate::{guest, input, map};

/// Pages after which the memory behind a mapped file is let go: 32 MiB.
const RELEASE_EVERY: u64 = 8192;

/// The digest after the firmware's own pages, which `--snp-ovmf-hash` takes.
pub(super) fn ovmf_hash(args: &MeasureArgs) -> Result<Measured> {
    let firmware = firmware(ovmf_path(args)?, "firmware", Ovmf::parse_without_snp)?;
    let data = snp_launch::PageBytes::new(firmware.flash().clone())?;
    let digest = DigestEngine::new().page(&LaunchPage::Normal { gpa: firmware.gpa(), data });
    Ok(Measured::new(Some("any"), vec![(None, digest.0.to_vec())]))
}

pub(super) fn measure(args: &MeasureArgs) -> Result<Measured> {
    if let Some(path) = &args.image.igvm {
        let mapped = map::map(path, "IGVM file", input::IMAGE_LIMIT)?;
        return igvm(args, &mapped).with_context(|| format!("IGVM file {}", path.display()));
    }
    let vmm = vmm(args)?;
    let profile = args.profile.unwrap_or(ProfileName::Mainline);
    let path = ovmf_path(args)?;
    let firmware = firmware(path, "firmware", Ovmf::parse)?;
    let options = options(args, vmm, profile != ProfileName::Mainline)?;
    let context = || format!("firmware {}", path.display());
    let prepared = match args.mode {
        Mode::SnpSvsm => svsm(args, firmware, options)?,
        _ => OvmfLaunch { firmware, kernel: kernel(args)?, options }.prepare().with_context(context)?,
    };
    let digests = digests(args, &prepared.plan, DigestEngine::new(), &mut || ())?;
    let vmsa_profile = match profile {
        ProfileName::Mainline => Some(vmm.name),
        _ if args.vmsa.is_some() => None,
        // Whatever the VMM, whose order of pages is another matter.
        _ => Some("direct"),
    };
    let mut measured = finished(vmsa_profile, profile, None, prepared, digests);
    measured.warnings.extend(without_effect(processor(args), vmsa_profile));
    Ok(measured)
}

fn svsm(args: &MeasureArgs, firmware: Ovmf, options: GuestOptions) -> Result<Prepared> {
    let path = args.svsm.as_deref().context("--svsm is missing")?;
    let svsm = super::firmware(path, "SVSM", Ovmf::parse)?;
    let vars_size = match (&args.vars_file, args.vars_size) {
        (Some(path), _) => std::fs::metadata(path).with_context(|| format!("OVMF_VARS {}", path.display()))?.len(),
        (None, size) => size.unwrap_or_default(),
    };
    let prepared = SvsmLaunch { firmware, vars_size, svsm, options }.prepare();
    prepared.with_context(|| format!("SVSM {}", path.display()))
}

fn igvm(args: &MeasureArgs, mapped: &Mapped) -> Result<Measured> {
    let loader = loader(args)?;
    let direct = loader.is_direct();
    let profile = match (args.profile, direct) {
        (Some(profile), _) => profile,
        (None, true) => ProfileName::DirectVmsa,
        (None, false) => ProfileName::Mainline,
    };
    ensure!(
        (profile == ProfileName::Mainline) != direct,
        "--profile and --loader {}: the loader delivers the boot processor's VMSA {}",
        loader.name,
        if direct { "as a page: want direct-vmsa or vcpu-state" } else { "through registers: want mainline" }
    );
    let vmm = vmm(args)?;
    let options = options(args, vmm, direct)?;
    let file = Igvm::parse(mapped.bytes.clone())?;
    let append = args.append.clone().unwrap_or_default();
    let prepared = IgvmLaunch { file, loader, append, options }.prepare()?;
    let engine = DigestEngine::new();
    let engine = if loader.verbatim_tsc { engine.with_verbatim_vmsas() } else { engine };
    let digests = digests(args, &prepared.plan, engine, &mut || mapped.release())?;
    let vmsa_profile = (!direct).then_some(vmm.name);
    let mut measured = finished(vmsa_profile, profile, Some(loader.name), prepared, digests);
    let vmm = [
        ("--vmm-type", args.vmm_type.is_some()),
        ("--era", args.era.is_some()),
        ("--vmsa-profile", args.vmsa_profile.is_some()),
    ];
    measured.warnings.extend(without_effect(processor(args).into_iter().chain(vmm), vmsa_profile));
    Ok(measured)
}

/// The options that choose a CPU model, and whether they are there.
fn processor(args: &MeasureArgs) -> [(&'static str, bool); 3] {
    [
        ("--vcpu-type", args.vcpu_type.is_some()),
        ("--vcpu-sig", args.vcpu_sig.is_some()),
        ("--vcpu-family", args.vcpu_family.is_some()),
    ]
}

/// Scripts give them to every launch, so that they are no mistake; but they say nothing about a VMSA that was supplied.
fn without_effect(
    options: impl IntoIterator<Item = (&'static str, bool)>,
    vmsa_profile: Option<&'static str>,
) -> Vec<String> {
    let supplied = vmsa_profile.is_none();
    let given = options.into_iter().filter(|(_, given)| supplied && *given);
    given.map(|(option, _)| format!("{option} has no effect: the VMSA is supplied, and measured as it is")).collect()
}

fn loader(args: &MeasureArgs) -> Result<&'static IgvmLoader> {
    let default = match args.profile {
        Some(ProfileName::Mainline) => "qemu-replay",
        _ => "qemu-direct",
    };
    guest::loader(args.image.loader.as_deref().unwrap_or(default))
}

fn options(args: &MeasureArgs, vmm: &'static ResetProfile, direct: bool) -> Result<GuestOptions> {
    ensure!(
        direct || (args.vmsa.is_none() && args.vmsa_gpa.is_none()),
        "--vmsa and --vmsa-gpa are for the direct profiles"
    );
    let vmsa = args.vmsa.as_deref().map(guest::read_vmsa).transpose()?;
    let delivery = if direct { Delivery::Direct { vmsa, gpa: args.vmsa_gpa } } else { Delivery::Registers };
    // KVM measures a VMSA for every vCPU, and only then the number matters.
    let vcpus = match (&args.vcpus, direct) {
        (None, true) => 1,
        _ => counts(args)?.iter().copied().max().unwrap_or(1),
    };
    Ok(GuestOptions {
        vcpus,
        cpu_signature: signature(args, vmm, direct)?,
        features: args.guest_features.map(features).transpose()?,
        ..GuestOptions::of_vmm(vmm, delivery)
    })
}

/// Only guests with SEV-SNP have features that are measured, and they have SNPActive.
fn features(value: u64) -> Result<SevFeatures> {
    guest::checked_features(value).map_err(|reason| anyhow::anyhow!("--guest-features: {reason}"))
}

/// The digests for all counts, in one pass over the pages.
fn digests(
    args: &MeasureArgs,
    plan: &LaunchPlan,
    engine: DigestEngine,
    release: &mut dyn FnMut(),
) -> Result<Vec<(Option<u32>, Vec<u8>)>> {
    let pages = pages_digest(args, plan, engine, release)?;
    let Some(counts) = &args.vcpus else { return Ok(vec![(None, pages.0.to_vec())]) };
    let digests = counts_from(pages, &plan.boot, &counts.0);
    Ok(counts.0.iter().zip(digests).map(|(count, digest)| (Some(*count), digest.0.to_vec())).collect())
}

fn pages_digest(
    args: &MeasureArgs,
    plan: &LaunchPlan,
    mut engine: DigestEngine,
    release: &mut dyn FnMut(),
) -> Result<LaunchDigest> {
    let mut pages = plan.pages.as_slice();
    if let Some(hash) = args.snp_ovmf_hash {
        // The plan starts with the firmware, as one operation.
        engine = DigestEngine::resume(LaunchDigest(hash));
        pages = pages.get(1..).context("the plan has no firmware")?;
    }
    let mut count = 0_u64;
    for page in pages {
        engine.page_steps(page, &mut |_| {
            count += 1;
            if count.is_multiple_of(RELEASE_EVERY) {
                release();
            }
        });
    }
    Ok(engine.digest())
}

fn finished(
    vmsa_profile: Option<&'static str>,
    profile: ProfileName,
    loader: Option<&'static str>,
    prepared: Prepared,
    digests: Vec<(Option<u32>, Vec<u8>)>,
) -> Measured {
    // Whoever names a loader knows what it does.
    let told = |warning: &&ImageWarning| loader.is_none() || !matches!(warning, ImageWarning::DatalessPages { .. });
    let warnings = prepared.warnings.iter().filter(told).map(ToString::to_string).collect();
    let vmsas = vmsas(&prepared.plan);
    let vcpus = digests.first().and_then(|(count, _)| *count).unwrap_or(prepared.plan.vcpus);
    let plan = Some(Box::new(LaunchPlan { vcpus, ..prepared.plan }));
    Measured { plan, profile: Some(profile.name()), loader, vmsas, warnings, ..Measured::new(vmsa_profile, digests) }
}

fn vmsas(plan: &LaunchPlan) -> Option<[Box<Vmsa>; 2]> {
    match &plan.boot {
        BootState::Registers { boot, others } => Some([boot.clone(), others.clone()]),
        BootState::Direct { vmsa_gpa } => plan.pages.iter().find_map(|page| match page {
            LaunchPage::Vmsa { gpa, vmsa } if gpa == vmsa_gpa => Some([vmsa.clone(), vmsa.clone()]),
            _ => None,
        }),
    }
}
