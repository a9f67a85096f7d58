//! `snp explain`: a digest and an image in, the launch that gives the digest out.

mod expect;
mod output;
mod progress;

pub(crate) use expect::parse as expected;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, FromArgMatches};
use snp_abi::LaunchDigest;
use snp_explain::{Answer, Image, Kernel, Launch, Question};
use snp_image::{Igvm, Ovmf};

use crate::files::Files;
use crate::guest::MOST_VCPUS;
use crate::{guest, input, map};

/// Say which launch gives an observed digest, how it differs from the expected one, and what to change.
///
/// Searches VMMs and eras, vCPU counts, CPU signatures, guest features, kernel hashes present or not, variants of the
/// command line, IGVM loaders, page orders and zero pages. A match has been measured again in full.
///
/// Exit codes: 0 explained, 1 no launch that was tried gives the digest (or the search was interrupted), 2 unusable input
/// or options.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The observed launch digest, 96 hexadecimal digits.
    #[arg(long, required_unless_present = "report", conflicts_with = "report", value_parser = input::hex_bytes::<48>, value_name = "HEX")]
    digest: Option<[u8; 48]>,

    /// An attestation report, 1184 bytes, raw or base64, whose MEASUREMENT is explained. Its signature is not checked.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// OVMF firmware that was launched.
    #[arg(long, required_unless_present = "igvm", conflicts_with = "igvm", value_name = "FILE")]
    ovmf: Option<PathBuf>,

    /// IGVM file that was launched.
    #[arg(long, value_name = "FILE")]
    igvm: Option<PathBuf>,

    /// Kernel that may have been booted directly.
    #[arg(long, requires = "ovmf", conflicts_with = "igvm", value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// Initial RAM disk that may have been booted with it.
    #[arg(long, requires = "kernel", conflicts_with = "igvm", value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// Command line, of which variants are tried too.
    #[arg(long, allow_hyphen_values = true, value_name = "STRING")]
    append: Option<String>,

    /// A VMSA that may have been supplied, 4096 bytes.
    #[arg(long, value_name = "FILE")]
    vmsa: Option<PathBuf>,

    /// The launch that was expected, as a list like `vcpus=4,vcpu-type=EPYC-Genoa`. Keys: vcpus, vcpu-type, vcpu-sig, vmm,
    /// era, vmsa-profile, guest-features, profile, vmsa-gpa, loader, kernel-hashes (yes or no). What is left out is as in `snp
    /// measure`, with one vCPU of QEMU's EPYC-v4.
    #[arg(long, value_name = "KEY=VALUE,…")]
    expect: Option<String>,

    /// The most vCPUs that are tried, 1 to 4096.
    #[arg(long, default_value_t = 512, value_parser = input::within::<u32>(1..=MOST_VCPUS.into()), value_name = "N")]
    max_vcpus: u32,

    /// Write one self-contained HTML page here: memory map, digest chain, VMSA by field.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

/// No launch that was tried gives the digest.
const NO_MATCH: u8 = 1;

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    Files::default()
        .reads("--ovmf", args.ovmf.as_deref())
        .reads("--igvm", args.igvm.as_deref())
        .reads("--report", args.report.as_deref())
        .reads("--kernel", args.kernel.as_deref())
        .reads("--initrd", args.initrd.as_deref())
        .reads("--vmsa", args.vmsa.as_deref())
        .writes("--html", args.html.as_deref())
        .distinct()?;
    let question = question(args)?;
    ensure!(
        args.expect.as_deref().is_none_or(|text| !text.trim().is_empty()),
        "--expect: it is empty, want KEY=VALUE,…"
    );
    let expected = args.expect.as_deref().map(|text| expect::parse(text, &question)).transpose()?;
    let observer = progress::Bar::new()?;
    let answer = snp_explain::explain(&question, &observer);
    observer.finish();
    output::print(args.json, args.html.as_deref(), &question, &answer, expected.as_ref())?;
    Ok(match answer {
        Answer::Match { .. } => ExitCode::SUCCESS,
        Answer::NoMatch(_) | Answer::Cancelled(_) => ExitCode::from(NO_MATCH),
    })
}

/// An explanation for another command to tell.
pub(crate) struct Explained {
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) document: serde_json::Value,
}

/// Which launch of an image, described by options of `snp explain`, gives a digest; and how it differs from the expected one,
/// which `--expect` describes and whose digest is known. Where it describes another launch than that, nothing is compared.
pub(crate) fn explained(
    digest: LaunchDigest,
    image: impl Iterator<Item = (&'static str, OsString)>,
    expect: Option<(&str, LaunchDigest)>,
) -> Result<Explained> {
    let command = ExplainArgs::augment_args(clap::Command::new("explain").no_binary_name(true));
    let options = image.chain([("--digest", digest.to_string().into())]);
    let matches = command.try_get_matches_from(options.flat_map(|(name, value)| [OsString::from(name), value]))?;
    let question = question(&ExplainArgs::from_arg_matches(&matches)?)?;
    let observer = progress::Bar::new()?;
    let answer = snp_explain::explain(&question, &observer);
    observer.finish();
    let expected = expect.and_then(|(text, digest)| {
        let launch = expect::parse(text, &question).ok()?;
        // A VMSA that is given is the one that is launched.
        let supplied = question.vmsa.clone().map(|vmsa| Launch {
            features: vmsa.sev_features,
            vmsa: Some(vmsa),
            ..launch.clone()
        });
        let is_it = |launch: &Launch| launch.measure(&question).is_ok_and(|measured| measured == digest);
        [Some(launch), supplied].into_iter().flatten().find(is_it)
    });
    output::explained(&question, &answer, expected.as_ref())
}

fn question(args: &ExplainArgs) -> Result<Question> {
    let digest = match (&args.digest, &args.report) {
        (Some(digest), _) => *digest,
        (None, Some(path)) => report_measurement(path)?,
        (None, None) => unreachable!("clap wants one of them"),
    };
    let image = match (&args.ovmf, &args.igvm) {
        (Some(path), _) => firmware(args, path)?,
        (None, Some(path)) => igvm(args, path)?,
        (None, None) => unreachable!("clap wants one of them"),
    };
    let vmsa = args.vmsa.as_deref().map(guest::read_vmsa).transpose()?;
    Ok(Question { vmsa, most_vcpus: args.max_vcpus, ..Question::new(LaunchDigest(digest), image) })
}

fn firmware(args: &ExplainArgs, path: &Path) -> Result<Image> {
    let mapped = map::map(path, "firmware", snp_image::OVMF_SIZE_LIMIT as u64)?;
    let firmware = Ovmf::parse(mapped.bytes).with_context(|| format!("firmware {}", path.display()))?;
    ensure!(args.append.is_none() || args.kernel.is_some(), "--append belongs to --kernel");
    Ok(Image::Firmware { firmware: Box::new(firmware), kernels: kernels(args)? })
}

fn kernels(args: &ExplainArgs) -> Result<Vec<Kernel>> {
    let Some(kernel) = &args.kernel else { return Ok(Vec::new()) };
    let hashes = guest::kernel_hashes(kernel, args.initrd.as_deref(), None)?;
    let initrd = args.initrd.is_some().then_some(hashes.initrd);
    Ok(snp_explain::kernels(hashes.kernel, initrd, args.append.as_deref().unwrap_or_default()))
}

fn igvm(args: &ExplainArgs, path: &Path) -> Result<Image> {
    let mapped = map::map(path, "IGVM file", input::IMAGE_LIMIT)?;
    let file = Igvm::parse(mapped.bytes).with_context(|| format!("IGVM file {}", path.display()))?;
    Ok(Image::Igvm { file: Box::new(file), append: args.append.clone().unwrap_or_default() })
}

/// MEASUREMENT of an attestation report.
fn report_measurement(path: &Path) -> Result<[u8; 48]> {
    let report = crate::report::read(path)?;
    ensure!(
        report.version.is_known(),
        "attestation report {}: VERSION at offset 0x0 is {}, want 2 to 5",
        path.display(),
        report.version
    );
    Ok(report.measurement.0)
}
