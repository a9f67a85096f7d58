//! `snp vmsa`: making, showing, changing, comparing and checking VMSA pages.

mod check;
mod decode;
mod diff;
mod new;
mod set;
mod show;

pub(crate) use decode::meaning;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use snp_abi::{PAGE_SIZE, Vmsa};
use snp_vmsa::check::vmrun_findings;
use zerocopy::{FromBytes, IntoBytes};

use crate::input;
use crate::output::{self, tell};

/// Make, show, change, compare and check VMSA pages, the state in which a processor starts.
#[derive(Subcommand, Debug)]
pub(crate) enum VmsaCommand {
    New(new::NewArgs),
    Show(show::ShowArgs),
    Set(set::SetArgs),
    Diff(diff::DiffArgs),
    Check(check::CheckArgs),
}

/// Runs one of the commands.
pub(crate) fn run(command: &VmsaCommand) -> Result<ExitCode> {
    match command {
        VmsaCommand::New(args) => new::run(args),
        VmsaCommand::Show(args) => show::run(args),
        VmsaCommand::Set(args) => set::run(args),
        VmsaCommand::Diff(args) => diff::run(args),
        VmsaCommand::Check(args) => check::run(args),
    }
}

/// Reads a VMSA page: exactly 4096 bytes.
fn read(path: &Path) -> Result<Vmsa> {
    let data = input::read(path, "VMSA", 1 << 20)?;
    match Vmsa::read_from_bytes(&data) {
        Ok(vmsa) => Ok(vmsa),
        Err(_) => bail!("VMSA {}: {} bytes, want one page of {PAGE_SIZE}", path.display(), data.len()),
    }
}

/// Writes a VMSA page, and warns if no processor would run it.
fn write(path: &Path, vmsa: &Vmsa) -> Result<()> {
    input::write(path, "VMSA", vmsa.as_bytes())?;
    for finding in vmrun_findings(vmsa).iter().filter(|finding| finding.severity.is_violation()) {
        tell!("warning: {finding}");
    }
    Ok(())
}

/// Prints JSON for programs.
fn print_json(value: &serde_json::Value) -> Result<()> {
    output::print(format!("{value:#}\n"))
}
