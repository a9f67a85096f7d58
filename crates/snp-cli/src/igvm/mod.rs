//! `snp igvm`: look at IGVM files, find what makes them measure differently, build and sign them.

mod build;
mod lint;
mod show;
mod sign;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Subcommand;
use snp_abi::LaunchDigest;
use snp_image::{Delivery, GuestOptions, Igvm, IgvmLaunch, IgvmLoader, ImageError};
use snp_launch::{DigestEngine, LaunchPlan};

use crate::output::{self, tell};
use crate::{guest, input};

/// Show, lint, build and sign IGVM files.
#[derive(Subcommand, Debug)]
pub(crate) enum IgvmCommand {
    Show(show::ShowArgs),
    Lint(lint::LintArgs),
    Build(Box<build::BuildArgs>),
    Sign(sign::SignArgs),
}

pub(crate) fn run(command: &IgvmCommand) -> Result<ExitCode> {
    match command {
        IgvmCommand::Show(args) => show::run(args),
        IgvmCommand::Lint(args) => lint::run(args),
        IgvmCommand::Build(args) => build::run(args),
        IgvmCommand::Sign(args) => sign::run(args),
    }
}

fn read(path: &Path) -> Result<Igvm> {
    parse(input::read(path, "IGVM file", input::IMAGE_LIMIT)?, path)
}

fn parse(file: Bytes, path: &Path) -> Result<Igvm> {
    Igvm::parse(file).with_context(|| format!("IGVM file {}", path.display()))
}

/// What a loader launches: one vCPU, QEMU's default CPU model where KVM measures one.
fn plan(file: &Igvm, loader: &'static IgvmLoader) -> Result<LaunchPlan, ImageError> {
    let delivery = if loader.is_direct() { Delivery::Direct { vmsa: None, gpa: None } } else { Delivery::Registers };
    let cpu_signature = guest::model_signature(guest::DEFAULT_MODEL).expect("it is in the table");
    let options = GuestOptions { cpu_signature, ..GuestOptions::new(delivery) };
    let launch = IgvmLaunch { file: file.clone(), loader, append: String::new(), options };
    Ok(launch.prepare()?.plan)
}

/// Prints the digest of a file that was written; beside the file itself where that went to standard output.
fn tell_digest(written: &Path, digest: LaunchDigest) -> Result<()> {
    if written.as_os_str() == "-" {
        tell!("launch digest {digest}");
        return Ok(());
    }
    output::print(format!("{digest}\n"))
}

/// The digest that a loader gives the file.
fn digest(file: &Igvm, loader: &'static IgvmLoader) -> Result<LaunchDigest, ImageError> {
    let plan = plan(file, loader)?;
    let engine = DigestEngine::new();
    let mut engine = if loader.verbatim_tsc { engine.with_verbatim_vmsas() } else { engine };
    engine.plan(&plan, &mut |_| {});
    Ok(engine.digest())
}
