//! `snp record`: a launch on this machine's own /dev/kvm, written down.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::report::Report;
use super::scratch::Scratch;
use super::{Preloaded, code, find_library};
use crate::output::tell;

/// Options of `snp record`.
#[derive(Args, Debug)]
#[command(
    about = "Run a program on this machine's own /dev/kvm and write its launches down",
    after_help = "Exit code: the program's own; 128 and the number of the signal that ended it; 2 if it could not be run."
)]
pub(crate) struct RecordArgs {
    /// Where the transcript goes: one JSON line per ioctl that shapes a launch (docs/json.md).
    #[arg(long, value_name = "FILE", default_value = "snp-transcript.jsonl")]
    transcript: PathBuf,

    /// The program and its arguments, after `--`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &RecordArgs) -> Result<ExitCode> {
    let library = find_library()?;
    let transcript = Scratch::create(&args.transcript)?;
    let report = Report::create()?;
    let mut program = Preloaded::new(&args.command, &library)?;
    program
        .command
        .env("SNPKIT_RECORD_SHIM", &library)
        .env("SNPKIT_RECORD_REPORT", report.path())
        .env("SNPKIT_RECORD_TRANSCRIPT", transcript.path());
    let status = program.run()?;
    report.print(&program.path, "record", "created no VM")?;
    let lines = transcript.keep()?;
    tell!("snp record: {lines} ioctls in {}", args.transcript.display());
    Ok(ExitCode::from(code(status)))
}
