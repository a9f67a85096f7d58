//! `snp vmsa new`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use snp_abi::SevFeatures;
use snp_vmsa::{cpu, fields, reset};

use crate::input;

/// The CPU model whose signature goes into RDX for `--from qemu` and its like, as in `snp launch --profile mainline`.
const DEFAULT_MODEL: &str = "EPYC-v4";

/// Make a VMSA from a reset state.
#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// The reset state to start from: `direct` is snpkit's own, the others are those of VMMs and eras.
    #[arg(long, default_value = "direct", value_parser = PossibleValuesParser::new(profile_names()), ignore_case = true, value_name = "PROFILE")]
    from: String,

    /// The address at which the processor starts.
    #[arg(long, default_value = "0xfffffff0", value_parser = input::number32, value_name = "VALUE")]
    eip: u32,

    /// QEMU's name of the CPU model, for its signature in RDX. [default: none for `direct`, else EPYC-v4]
    #[arg(long, conflicts_with = "vcpu_sig", value_name = "MODEL")]
    vcpu_type: Option<String>,

    /// The CPU signature itself (CPUID Fn0000_0001_EAX), decimal, or hexadecimal after 0x.
    #[arg(long, value_parser = input::number32, value_name = "VALUE")]
    vcpu_sig: Option<u32>,

    /// SEV_FEATURES, with SNPActive (bit 0).
    #[arg(long, default_value = "0x1", value_parser = input::number, value_name = "VALUE")]
    guest_features: u64,

    /// Change a field; may be given more than once.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    assignments: Vec<String>,

    /// Write the page here; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

fn profile_names() -> impl Iterator<Item = &'static str> {
    reset::profiles().iter().map(|profile| profile.name)
}

pub(super) fn run(args: &NewArgs) -> Result<ExitCode> {
    let profile = reset::find(&args.from).with_context(|| format!("no reset state {:?}", args.from))?;
    let signature = match (&args.vcpu_type, args.vcpu_sig) {
        (Some(name), _) => model_signature(name)?,
        (None, Some(signature)) => signature,
        (None, None) if profile.name == "direct" => 0,
        (None, None) => model_signature(DEFAULT_MODEL)?,
    };
    let mut vmsa = profile.vmsa(args.eip, signature, SevFeatures(args.guest_features));
    for assignment in &args.assignments {
        fields::assign(&mut vmsa, assignment)?;
    }
    super::write(&args.output, &vmsa)?;
    Ok(ExitCode::SUCCESS)
}

fn model_signature(name: &str) -> Result<u32> {
    cpu::signature(name).with_context(|| {
        let known: Vec<_> = cpu::MODELS.iter().map(|model| model.name).collect();
        format!("no CPU model {name:?}: want one of {}, or --vcpu-sig", known.join(", "))
    })
}
