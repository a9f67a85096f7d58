//! `snp igvm build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use snp_abi::{Gpa, GuestPolicy, SevFeatures, Vmsa};
use snp_image::{Delivery, GuestOptions, Igvm, IgvmLoader, IgvmWriter, Ovmf, OvmfLaunch, PageKind};
use snp_launch::{LaunchPage, LaunchPlan};

use crate::files::Files;
use crate::{guest, input};

/// Build a portable IGVM file with its own boot VMSA, from firmware (and a kernel's hashes) or from raw pages.
///
/// Every measured page is written with its data, the VMSA last, so that all loaders that deliver it as a page measure the
/// same, but for Cloud Hypervisor on MSHV, which sorts pages by address. Prints the launch digest.
#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// OVMF firmware with SEV-SNP metadata.
    #[arg(long, required_unless_present = "pages", conflicts_with = "pages", value_name = "FILE")]
    ovmf: Option<PathBuf>,

    /// Kernel whose hash is measured, where the firmware has a place for it. The VMM delivers the kernel itself.
    #[arg(long, requires = "ovmf", conflicts_with = "pages", value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// Initial RAM disk.
    #[arg(long, requires = "kernel", conflicts_with = "pages", value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// Kernel command line.
    #[arg(long, allow_hyphen_values = true, requires = "kernel", conflicts_with = "pages", value_name = "STRING")]
    append: Option<String>,

    /// Raw pages: KIND is normal, unmeasured, secrets or cpuid; secrets and cpuid take no file. May be given more than once;
    /// the order is the order of the file.
    #[arg(long, requires = "vmsa", value_parser = pages, value_name = "GPA:KIND[=FILE]")]
    pages: Vec<Pages>,

    /// The boot processor's VMSA, 4096 bytes. Firmware starts at its reset vector without one.
    #[arg(long, value_name = "FILE")]
    vmsa: Option<PathBuf>,

    /// Where the VMSA lies: a multiple of 4096, like 0x7001000. [default: a free page below the firmware; raw pages want it]
    #[arg(long, value_parser = guest::gpa, value_name = "GPA")]
    vmsa_gpa: Option<Gpa>,

    /// The guest policy.
    #[arg(long, default_value = "0x30000", value_parser = input::number, value_name = "VALUE")]
    policy: u64,

    /// SEV_FEATURES of the VMSA that is made for firmware, with SNPActive (bit 0). A VMSA that is given must have them.
    #[arg(long, conflicts_with = "pages", value_parser = guest::features, value_name = "VALUE")]
    guest_features: Option<SevFeatures>,

    /// Write the file here.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// One `--pages`.
#[derive(Clone, Debug)]
struct Pages {
    gpa: Gpa,
    kind: PageKind,
    file: Option<PathBuf>,
}

fn pages(text: &str) -> Result<Pages, String> {
    let (place, file) = text.split_once('=').map_or((text, None), |(place, file)| (place, Some(PathBuf::from(file))));
    let (at, kind) = place.split_once(':').ok_or("want GPA:KIND[=FILE]")?;
    let (kind, wants_file) = match kind {
        "normal" => (PageKind::Normal, true),
        "unmeasured" => (PageKind::Unmeasured, true),
        "secrets" => (PageKind::Secrets, false),
        "cpuid" => (PageKind::Cpuid, false),
        _ => return Err(format!("{kind:?}: want normal, unmeasured, secrets or cpuid")),
    };
    if wants_file != file.is_some() {
        return Err(format!("{text}: {}", if wants_file { "want =FILE" } else { "takes no file" }));
    }
    Ok(Pages { gpa: guest::gpa(at)?, kind, file })
}

pub(super) fn run(args: &BuildArgs) -> Result<ExitCode> {
    files(args).distinct()?;
    guest::launchable(GuestPolicy(args.policy)).context("--policy")?;
    let vmsa = args.vmsa.as_deref().map(guest::read_vmsa).transpose()?;
    features_agree(args, vmsa.as_deref())?;
    let mut writer = IgvmWriter::new(GuestPolicy(args.policy));
    match &args.ovmf {
        Some(path) => write_plan(&mut writer, &firmware(args, path, vmsa)?)?,
        None => raw(args, &mut writer, vmsa.as_deref().context("--vmsa is missing")?)?,
    }
    let bytes = writer.finish()?;
    // The file is read back before it is kept: what is written is what is measured.
    let file = Igvm::parse(bytes.clone().into()).context("the file that was built")?;
    let digest = super::digest(&file, IgvmLoader::qemu_direct()).context("the file that was built")?;
    input::write(&args.output, "IGVM file", &bytes)?;
    super::tell_digest(&args.output, digest)?;
    Ok(ExitCode::SUCCESS)
}

fn files(args: &BuildArgs) -> Files<'_> {
    let files = Files::default()
        .reads("--ovmf", args.ovmf.as_deref())
        .reads("--kernel", args.kernel.as_deref())
        .reads("--initrd", args.initrd.as_deref())
        .reads("--vmsa", args.vmsa.as_deref());
    let files = args.pages.iter().fold(files, |files, pages| files.reads("--pages", pages.file.as_deref()));
    files.writes("--output", Some(&args.output))
}

/// A VMSA that is given is written as it is: other features would be passed over.
fn features_agree(args: &BuildArgs, vmsa: Option<&Vmsa>) -> Result<()> {
    let (Some(wanted), Some(vmsa), Some(path)) = (args.guest_features, vmsa, &args.vmsa) else { return Ok(()) };
    ensure!(
        vmsa.sev_features == wanted,
        "--guest-features {:#x}: the VMSA {path} carries {:#x} and is written as it is; \
         `snp vmsa set {path} sev_features={:#x}` changes it",
        wanted.0,
        vmsa.sev_features.0,
        wanted.0,
        path = path.display()
    );
    Ok(())
}

fn firmware(args: &BuildArgs, path: &Path, vmsa: Option<Box<Vmsa>>) -> Result<LaunchPlan> {
    let context = || format!("firmware {}", path.display());
    let file = input::read(path, "firmware", snp_image::OVMF_SIZE_LIMIT as u64)?;
    let firmware = Ovmf::parse(file).with_context(context)?;
    let hash = |kernel: &PathBuf| guest::kernel_hashes(kernel, args.initrd.as_deref(), args.append.as_deref());
    let kernel = args.kernel.as_ref().map(hash).transpose()?;
    let delivery = Delivery::Direct { vmsa, gpa: args.vmsa_gpa };
    let options = GuestOptions { features: args.guest_features, ..GuestOptions::new(delivery) };
    Ok(OvmfLaunch { firmware, kernel, options }.prepare().with_context(context)?.plan)
}

/// The plan's pages by address, for a loader that sorts them, and the VMSA after all others.
fn write_plan(writer: &mut IgvmWriter, plan: &LaunchPlan) -> Result<()> {
    let mut pages: Vec<&LaunchPage> = plan.pages.iter().collect();
    pages.sort_by_key(|page| (matches!(page, LaunchPage::Vmsa { .. }), page.gpa()));
    for page in pages {
        let (gpa, len) = (page.gpa(), page.len_bytes());
        match page {
            LaunchPage::Normal { data, .. } => writer.pages(gpa, PageKind::Normal, data.bytes())?,
            LaunchPage::Unmeasured { data, .. } => writer.pages(gpa, PageKind::Unmeasured, data.bytes())?,
            // ZERO pages have no place in the format: normal pages of zeros are what every loader makes of zeros.
            LaunchPage::Zero { .. } => {
                ensure!(len <= 64 << 20, "zero pages at {gpa}: {len:#x} bytes are too many to write out");
                writer.pages(gpa, PageKind::Normal, &vec![0; len as usize])?
            }
            LaunchPage::Secrets { .. } => writer.pages(gpa, PageKind::Secrets, &[])?,
            LaunchPage::Cpuid { .. } => writer.pages(gpa, PageKind::Cpuid, &[])?,
            LaunchPage::Vmsa { vmsa, .. } => writer.vmsa(gpa, vmsa)?,
        };
    }
    Ok(())
}

fn raw(args: &BuildArgs, writer: &mut IgvmWriter, vmsa: &Vmsa) -> Result<()> {
    for pages in &args.pages {
        let contents = pages.file.as_deref().map(|path| input::read(path, "pages", input::IMAGE_LIMIT)).transpose()?;
        writer.pages(pages.gpa, pages.kind, &contents.unwrap_or_default())?;
    }
    let gpa = args.vmsa_gpa.context("--vmsa-gpa is missing: raw pages do not say where the VMSA may lie")?;
    writer.vmsa(gpa, vmsa)?;
    Ok(())
}
