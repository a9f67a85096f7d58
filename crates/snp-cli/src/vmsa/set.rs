//! `snp vmsa set`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use snp_vmsa::fields;

/// Change fields of a VMSA. Nothing is written unless every change is possible.
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// The VMSA, changed in place unless --output is given.
    file: PathBuf,

    /// Changes, for instance rip=0xfff0 or cs.attrib=0x9b. Fields as `snp vmsa show --all` names them; numbers decimal, or
    /// hexadecimal after 0x; byte fields as hexadecimal digits, or 0.
    #[arg(required = true, value_name = "FIELD=VALUE")]
    assignments: Vec<String>,

    /// Write the changed page here instead; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &SetArgs) -> Result<ExitCode> {
    let mut vmsa = super::read(&args.file)?;
    for assignment in &args.assignments {
        fields::assign(&mut vmsa, assignment)?;
    }
    super::write(args.output.as_ref().unwrap_or(&args.file), &vmsa)?;
    Ok(ExitCode::SUCCESS)
}
