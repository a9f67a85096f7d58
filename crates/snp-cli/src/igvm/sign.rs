//! `snp igvm sign`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use snp_abi::{GuestPolicy, KeyAlgorithm};
use snp_attest::{Identity, sign, verify};
use snp_image::Igvm;
use snp_launch::IdBlockPair;

use crate::{guest, id_block, input};

/// Sign an IGVM file: compute its launch digest and add an ID block for it, in place of any it has.
#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    /// The file.
    file: PathBuf,

    /// Private ID key: P-384 in PEM, SEC1 or PKCS#8.
    #[arg(long, value_name = "FILE")]
    id_key: PathBuf,

    /// Private author key, which signs the ID key.
    #[arg(long, value_name = "FILE")]
    author_key: Option<PathBuf>,

    /// Whose digest is signed (`snp profiles`).
    #[arg(long, default_value = "qemu-direct", value_name = "LOADER")]
    loader: String,

    /// Security version number of the guest.
    #[arg(long, default_value_t = 0, value_name = "N")]
    guest_svn: u32,

    /// FAMILY_ID, 16 bytes.
    #[arg(long, default_value = "00000000000000000000000000000000", value_parser = input::hex_bytes::<16>, hide_default_value = true, value_name = "HEX")]
    family_id: [u8; 16],

    /// IMAGE_ID, 16 bytes.
    #[arg(long, default_value = "00000000000000000000000000000000", value_parser = input::hex_bytes::<16>, hide_default_value = true, value_name = "HEX")]
    image_id: [u8; 16],

    /// Write the signed file here; may be the file itself.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn run(args: &SignArgs) -> Result<ExitCode> {
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
    let identity =
        Identity { digest, policy, family_id: args.family_id, image_id: args.image_id, guest_svn: args.guest_svn };
    let id_key = id_block::signing_key(&args.id_key, "ID key")?;
    let author_key = args.author_key.as_deref().map(|path| id_block::signing_key(path, "author key")).transpose()?;
    let (block, auth) = sign(&identity, &id_key, author_key.as_ref());
    let author_key_enabled = auth.author_key_algo != KeyAlgorithm(0);
    let signed = file.with_id_block(&IdBlockPair { block, auth, author_key_enabled })?;
    check(&signed, loader, digest, policy)?;
    input::write(&args.output, "IGVM file", &signed)?;
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
