//! `snp measure`: files in, launch digests out, nothing launched.

mod args;
mod output;
mod snp;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, FromArgMatches};
use snp_abi::{LaunchDigest, Vmsa};
use snp_image::{KernelHashes, Ovmf, OvmfError, sev_digest, sev_es_digests};
use snp_launch::LaunchPlan;
use snp_vmsa::cpu;
use snp_vmsa::reset::{self, ResetProfile};
use zerocopy::IntoBytes;

pub(crate) use args::MeasureArgs;
use args::Mode;

use crate::files::Files;
use crate::{guest, html, input, map};

/// What was measured.
struct Measured {
    /// The row of the registry that the measured VMSA is of; `any` where none is measured, nothing where it was supplied.
    vmsa_profile: Option<&'static str>,
    profile: Option<&'static str>,
    loader: Option<&'static str>,
    /// (vCPUs, digest); no count where it does not matter.
    digests: Vec<(Option<u32>, Vec<u8>)>,
    /// The VMSAs that are measured: of the boot processor, and of each of the others.
    vmsas: Option<[Box<Vmsa>; 2]>,
    warnings: Vec<String>,
    /// The plan with the first number of vCPUs asked for.
    plan: Option<Box<LaunchPlan>>,
}

pub(crate) fn run(args: &MeasureArgs) -> Result<ExitCode> {
    check(args)?;
    files(args).distinct()?;
    let measured = match args.mode {
        Mode::Sev | Mode::Seves => legacy(args)?,
        Mode::SnpOvmfHash => snp::ovmf_hash(args)?,
        Mode::Snp | Mode::SnpSvsm => snp::measure(args)?,
    };
    if let Some(path) = &args.html {
        html::write(path, &output::page(args, &measured)?)?;
    }
    if args.dump_vmsa {
        dump(args, &measured)?;
    }
    output::print(args, &measured)?;
    Ok(ExitCode::SUCCESS)
}

fn files(args: &MeasureArgs) -> Files<'_> {
    Files::default()
        .reads("--ovmf", args.image.ovmf.as_deref())
        .reads("--igvm", args.image.igvm.as_deref())
        .reads("--kernel", args.kernel.as_deref())
        .reads("--initrd", args.initrd.as_deref())
        .reads("--svsm", args.svsm.as_deref())
        .reads("--vars-file", args.vars_file.as_deref())
        .reads("--vmsa", args.vmsa.as_deref())
        .writes("--html", args.html.as_deref())
}

/// The launch digests of a launch that is described by options of `snp measure`.
pub(crate) fn predict(options: impl Iterator<Item = (&'static str, OsString)>) -> Result<Vec<LaunchDigest>> {
    let command = MeasureArgs::augment_args(clap::Command::new("measure").no_binary_name(true));
    let options = options.flat_map(|(name, value)| [OsString::from(name), value]);
    let matches = command.try_get_matches_from(options)?;
    let args = MeasureArgs::from_arg_matches(&matches)?;
    check(&args)?;
    let measured = snp::measure(&args)?;
    let digest = |(_, digest): (Option<u32>, Vec<u8>)| {
        LaunchDigest(digest.try_into().expect("a digest of SEV-SNP has 48 bytes"))
    };
    Ok(measured.digests.into_iter().map(digest).collect())
}

/// Options that do not go together, in the words of the tool whose options they are.
fn check(args: &MeasureArgs) -> Result<()> {
    let kernel = args.kernel.is_some();
    ensure!(kernel || args.append.is_none() || args.image.igvm.is_some(), "--kernel is required when using --append");
    let snp = matches!(args.mode, Mode::Snp);
    ensure!(snp || args.snp_ovmf_hash.is_none(), "--snp-ovmf-hash works with mode snp only");
    ensure!(snp || args.image.igvm.is_none(), "--igvm works with mode snp only");
    ensure!(snp || args.profile.is_none(), "--profile works with mode snp only");
    let svsm = args.mode == Mode::SnpSvsm;
    ensure!(svsm == args.svsm.is_some(), "mode snp:svsm and --svsm belong together");
    if svsm {
        ensure!(
            args.vars_size.is_some() || args.vars_file.is_some(),
            "mode snp:svsm requires --vars-size or --vars-file"
        );
        ensure!(!kernel, "mode snp:svsm measures no kernel");
        let qemu = args.vmm_type.as_deref().is_none_or(|vmm| vmm.eq_ignore_ascii_case("qemu"));
        ensure!(qemu, "mode snp:svsm is known for QEMU only");
    }
    let dumps = !matches!(args.mode, Mode::Sev | Mode::SnpOvmfHash);
    ensure!(dumps || !args.dump_vmsa, "--dump-vmsa: this mode measures no VMSA");
    Ok(())
}

/// The counts asked for; every mode but SEV wants them.
fn counts(args: &MeasureArgs) -> Result<&[u32]> {
    let counts = args.vcpus.as_ref().context("--vcpus N is missing: the digest depends on it in this mode")?;
    Ok(&counts.0)
}

/// The VMM's row of the registry.
fn vmm(args: &MeasureArgs) -> Result<&'static ResetProfile> {
    let row = args.vmsa_profile.as_deref().or((args.mode == Mode::SnpSvsm).then_some("coconut-svsm"));
    guest::vmm(row, args.vmm_type.as_deref(), args.era.as_ref())
}

/// The signature that processors have in RDX; 0 for a VMM that does not show it.
fn signature(args: &MeasureArgs, vmm: &ResetProfile, direct: bool) -> Result<u32> {
    if let Some(family) = args.vcpu_family {
        let (model, stepping) = (args.vcpu_model.unwrap_or_default(), args.vcpu_stepping.unwrap_or_default());
        return Ok(cpu::signature_from_fms(family, model, stepping));
    }
    match (args.vcpu_sig, &args.vcpu_type) {
        (Some(signature), _) => Ok(signature),
        (None, Some(model)) => guest::model_signature(model),
        (None, None) if direct || matches!(vmm.rdx, reset::ResetRdx::Fixed(_)) => Ok(0),
        (None, None) => bail!(
            "--vcpu-type, --vcpu-sig or --vcpu-family is missing: {} has the signature in a measured register",
            vmm.vmm
        ),
    }
}

fn kernel(args: &MeasureArgs) -> Result<Option<KernelHashes>> {
    let hash = |kernel: &Path| guest::kernel_hashes(kernel, args.initrd.as_deref(), args.append.as_deref());
    args.kernel.as_deref().map(hash).transpose()
}

/// The firmware, read with `parse`.
fn firmware(path: &Path, what: &str, parse: fn(bytes::Bytes) -> Result<Ovmf, OvmfError>) -> Result<Ovmf> {
    let mapped = map::map(path, what, snp_image::OVMF_SIZE_LIMIT as u64)?;
    parse(mapped.bytes).with_context(|| format!("{what} {}", path.display()))
}

fn ovmf_path(args: &MeasureArgs) -> Result<&Path> {
    args.image.ovmf.as_deref().context("--ovmf is missing")
}

/// SEV and SEV-ES.
fn legacy(args: &MeasureArgs) -> Result<Measured> {
    let path = ovmf_path(args)?;
    let firmware = firmware(path, "firmware", Ovmf::parse_without_snp)?;
    let kernel = kernel(args)?;
    let context = || format!("firmware {}", path.display());
    if args.mode == Mode::Sev {
        let digest = sev_digest(&firmware, kernel.as_ref()).with_context(context)?.to_vec();
        return Ok(Measured::new(Some("any"), vec![(None, digest)]));
    }
    let vmm = vmm(args)?;
    let counts = counts(args)?;
    let most = counts.iter().copied().max().unwrap_or(1);
    let es =
        sev_es_digests(&firmware, kernel.as_ref(), vmm, signature(args, vmm, false)?, most).with_context(context)?;
    let digests = counts.iter().map(|count| (Some(*count), es.digests[*count as usize - 1].to_vec())).collect();
    Ok(Measured { vmsas: Some([es.boot, es.others]), ..Measured::new(Some(vmm.name), digests) })
}

impl Measured {
    fn new(vmsa_profile: Option<&'static str>, digests: Vec<(Option<u32>, Vec<u8>)>) -> Self {
        Self { vmsa_profile, profile: None, loader: None, digests, vmsas: None, warnings: Vec::new(), plan: None }
    }
}

/// One file for every VMSA that is measured, by sev-snp-measure's names.
fn dump(args: &MeasureArgs, measured: &Measured) -> Result<()> {
    let [boot, others] = measured.vmsas.as_ref().context("--dump-vmsa: no VMSA is measured")?;
    let direct = measured.profile.is_some_and(|profile| profile != "mainline");
    let most = if direct { 1 } else { args.vcpus.iter().flat_map(|counts| &counts.0).copied().max().unwrap_or(1) };
    for index in 0..most {
        let vmsa = if index == 0 { boot } else { others };
        input::write(Path::new(&format!("vmsa{index}.bin")), "VMSA", vmsa.as_bytes())?;
    }
    Ok(())
}
