//! `snp igvm sign`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use snp_abi::{GuestPolicy, KeyAlgorithm};
use snp_attest::verify;
use snp_image::Igvm;
use snp_launch::IdBlockPair;

use crate::id_block::IdentityArgs;
use crate::output::tell;
use crate::{guest, input};

/// Sign an IGVM file: compute its launch digest and add an ID block for it, in place of any it has.
#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    /// The file.
    file: PathBuf,

    #[command(flatten)]
    identity: IdentityArgs,

    /// Whose digest is signed (`snp profiles`). Where KVM makes the VMSAs (qemu-replay, cloud-hypervisor-kvm), it is that of a
    /// launch with 1 vCPU of the CPU model EPYC-v4.
    #[arg(long, default_value = "qemu-direct", value_name = "LOADER")]
    loader: String,

    /// Write the signed file here; may be the file itself.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn run(args: &SignArgs) -> Result<ExitCode> {
    args.identity.files().writes("--output", Some(&args.output)).distinct()?;
    let file = super::read(&args.file)?;
    let context = || format!("IGVM file {}", args.file.display());
    let loader = guest::loader(&args.loader)?;
    let digest = super::digest(&file, loader).with_context(context)?;
    let policy = file.policy().with_context(|| {
        format!(
            "{}: no guest policy, which the ID block must repeat; build it with `snp igvm build --policy`",
            context()
        )
    })?;
    let (block, auth) = args.identity.sign(digest, policy)?;
    let author_key_enabled = auth.author_key_algo != KeyAlgorithm(0);
    let signed = file.with_id_block(&IdBlockPair { block, auth, author_key_enabled })?;
    check(&signed, loader, digest, policy)?;
    input::write(&args.output, "IGVM file", &signed)?;
    if !loader.is_direct() {
        tell!(
            "warning: --loader {}: KVM makes and measures the VMSAs; the ID block is for a launch with 1 vCPU of the CPU model \
             {}, and all others fail with BAD_MEASUREMENT",
            loader.name,
            guest::DEFAULT_MODEL
        );
    }
    super::tell_digest(&args.output, digest)?;
    Ok(ExitCode::SUCCESS)
}

/// The signed file is read back: its digest must not have changed, and its ID block must be good.
fn check(
    signed: &[u8],
    loader: &'static snp_image::IgvmLoader,
    digest: snp_abi::LaunchDigest,
    policy: GuestPolicy,
) -> Result<()> {
    let file = Igvm::parse(signed.to_vec().into()).context("the signed file")?;
    ensure!(
        super::digest(&file, loader)? == digest,
        "signing changed the launch digest: this is a bug, nothing was written"
    );
    let pair = file.id_block().context("the signed file has no ID block: this is a bug, nothing was written")?;
    let verdict = verify(&pair.block, &pair.auth, Some(digest), Some(policy));
    ensure!(verdict.passed(), "the ID block of the signed file is not good: {verdict:?}");
    Ok(())
}
