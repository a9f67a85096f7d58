//! From options and files to a launch plan.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use snp_abi::{CPUID_FUNCTION_LIMIT, CpuidPage, KeyAlgorithm, PAGE_SIZE, Vmsa};
use snp_asp::PlatformConfig;
use snp_image::{Delivery, GuestOptions, Igvm, IgvmLaunch, IgvmLoader, KernelHashes, Ovmf, OvmfLaunch, Prepared};
use snp_launch::{IdBlockPair, LaunchPlan};
use snp_vmsa::check::{launch_findings, vmrun_findings};
use zerocopy::FromBytes;

use super::args::{LaunchArgs, ProfileName};
use crate::{example, guest, id_block, input};

/// A plan, and what is said about it.
pub(crate) struct PreparedLaunch {
    pub(crate) plan: LaunchPlan,
    pub(crate) image: String,
    pub(crate) warnings: Vec<String>,
}

/// The plan of a launch on a KVM of that profile; `cpuid` is the guest's CPUID page, which is not measured.
pub(super) fn prepare(args: &LaunchArgs, profile: ProfileName, cpuid: Box<CpuidPage>) -> Result<PreparedLaunch> {
    let supplied = args.vmsa.as_deref().map(|path| read_vmsa(path, profile)).transpose()?;
    let options = options(args, profile, cpuid, supplied.as_ref().map(|(vmsa, _)| vmsa.clone()))?;
    let source = &args.image.source;
    let (image, prepared) = if let Some(path) = &source.ovmf {
        (path.display().to_string(), ovmf(args, path, options)?)
    } else if let Some(path) = &source.igvm {
        let file = input::read(path, "IGVM file", input::IMAGE_LIMIT)?;
        let prepared = igvm(file, options).with_context(|| format!("IGVM file {}", path.display()))?;
        (path.display().to_string(), prepared)
    } else {
        let guest = example::find(source.example.as_deref().unwrap_or_default())?;
        let prepared = igvm(example::igvm(&guest)?.into(), options)?;
        (format!("example {}: {}", guest.name, guest.summary), prepared)
    };
    let mut warnings: Vec<String> = prepared.warnings.iter().map(ToString::to_string).collect();
    warnings.extend(supplied.into_iter().flat_map(|(_, warnings)| warnings));
    Ok(PreparedLaunch { plan: prepared.plan, image, warnings })
}

fn ovmf(args: &LaunchArgs, path: &Path, options: GuestOptions) -> Result<Prepared> {
    let file = input::read(path, "firmware", snp_image::OVMF_SIZE_LIMIT as u64)?;
    let kernel = args.image.kernel.as_deref().map(|kernel| kernel_hashes(args, kernel)).transpose()?;
    let prepared =
        Ovmf::parse(file).map_err(Into::into).and_then(|firmware| OvmfLaunch { firmware, kernel, options }.prepare());
    prepared.with_context(|| format!("firmware {}", path.display()))
}

fn kernel_hashes(args: &LaunchArgs, kernel: &Path) -> Result<KernelHashes> {
    guest::kernel_hashes(kernel, args.image.initrd.as_deref(), args.image.append.as_deref())
}

fn igvm(file: bytes::Bytes, options: GuestOptions) -> Result<Prepared> {
    let file = Igvm::parse(file)?;
    let direct = matches!(options.delivery, Delivery::Direct { .. });
    let loader = if direct { IgvmLoader::qemu_direct() } else { IgvmLoader::qemu_replay() };
    Ok(IgvmLaunch { file, loader, append: String::new(), options }.prepare()?)
}

fn options(
    args: &LaunchArgs,
    profile: ProfileName,
    cpuid: Box<CpuidPage>,
    vmsa: Option<Box<Vmsa>>,
) -> Result<GuestOptions> {
    let direct = profile != ProfileName::Mainline;
    ensure!(
        direct || args.vmsa_gpa.is_none(),
        "--vmsa-gpa: under mainline KVM measures every VMSA at 0xfffffffff000; the direct profiles take a GPA"
    );
    let delivery = if direct { Delivery::Direct { vmsa, gpa: args.vmsa_gpa } } else { Delivery::Registers };
    Ok(GuestOptions {
        vcpus: args.vcpus,
        cpu_signature: signature(args, direct)?,
        features: args.guest_features,
        policy: args.policy,
        host_data: args.host_data.unwrap_or_default(),
        id_block: read_id_block(args)?,
        cpuid,
        ..GuestOptions::new(delivery)
    })
}

/// RDX at reset: in the direct profiles the digest is the image's alone unless a processor is asked for.
fn signature(args: &LaunchArgs, direct: bool) -> Result<u32> {
    let model = match (&args.vcpu_type, args.vcpu_sig) {
        (_, Some(signature)) => return Ok(signature),
        (Some(model), None) => model,
        (None, None) if direct => return Ok(0),
        (None, None) => guest::DEFAULT_MODEL,
    };
    guest::model_signature(model)
}

/// What QEMU would put into the firmware's CPUID page, were the guest's processor the host's own. It is not measured.
pub(super) fn cpuid_page(config: &PlatformConfig) -> Box<CpuidPage> {
    let mut page = Box::<CpuidPage>::default();
    let functions = &config.cpuid[..config.cpuid.len().min(CPUID_FUNCTION_LIMIT)];
    page.functions[..functions.len()].copy_from_slice(functions);
    page.count = functions.len() as u32;
    page
}

fn read_id_block(args: &LaunchArgs) -> Result<Option<IdBlockPair>> {
    let (Some(block), Some(auth)) = (&args.id_block, &args.id_auth) else { return Ok(None) };
    let (block, auth) = id_block::read(block, auth)?;
    let author_key_enabled = auth.author_key_algo != KeyAlgorithm(0);
    Ok(Some(IdBlockPair { block, auth, author_key_enabled }))
}

/// Reads a VMSA. One from which no processor could start is refused here, before the launch.
fn read_vmsa(path: &Path, profile: ProfileName) -> Result<(Box<Vmsa>, Vec<String>)> {
    ensure!(
        profile != ProfileName::Mainline,
        "--vmsa: mainline Linux takes no VMSA from user space and makes its own; use --profile direct-vmsa or vcpu-state"
    );
    let file = input::read(path, "VMSA", PAGE_SIZE as u64)?;
    let vmsa = Vmsa::read_from_bytes(&file)
        .map_err(|_| anyhow::anyhow!("VMSA {}: {} bytes, want {PAGE_SIZE}", path.display(), file.len()))?;
    let findings = vmrun_findings(&vmsa);
    if let Some(finding) = findings.iter().find(|finding| finding.severity.is_violation()) {
        bail!("VMSA {}: no processor could start from it: {finding}; see `snp vmsa check`", path.display());
    }
    // What only KVM's launch rules refuse is the platform's to refuse: that is what it is for.
    let launch = launch_findings(&vmsa, None, vmsa.sev_features, profile.launch_rules());
    let quiet = findings.iter().chain(&launch).filter(|finding| !finding.severity.is_violation());
    Ok((Box::new(vmsa), quiet.map(ToString::to_string).collect()))
}
