//! `snp id-block`: making, showing and verifying ID blocks.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use snp_abi::{GuestPolicy, IdAuth, IdBlock, KeyAlgorithm, LaunchDigest};
use snp_attest::{Identity, Outcome, SigningKey, Verdict, key_digest, sign, verify};
use zerocopy::{FromBytes, IntoBytes};

use crate::files::Files;
use crate::{guest, input, output};

/// Make, show and verify ID blocks, by which a guest owner binds a launch to an identity ahead of it.
#[derive(Subcommand, Debug)]
pub(crate) enum IdBlockCommand {
    Create(CreateArgs),
    Show(ShowArgs),
    Verify(VerifyArgs),
}

/// Make an ID block for a launch digest and sign it.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The launch digest that the guest must have, 96 hexadecimal digits.
    #[arg(long, value_parser = input::hex_bytes::<48>, value_name = "HEX")]
    digest: [u8; 48],

    /// The policy that the guest must be launched with.
    #[arg(long, default_value = "0x30000", value_parser = input::number, value_name = "VALUE")]
    policy: u64,

    #[command(flatten)]
    identity: IdentityArgs,

    /// Write the ID block (96 bytes) here.
    #[arg(long, value_name = "FILE")]
    id_block: PathBuf,

    /// Write the ID authentication data (4096 bytes) here.
    #[arg(long, value_name = "FILE")]
    id_auth: PathBuf,

    /// How the files are written; QEMU's properties take base64.
    #[arg(long, value_enum, default_value_t = Format::Raw, value_name = "FORMAT")]
    format: Format,
}

/// The identity that a guest gets, and whose it is.
#[derive(Args, Debug)]
pub(crate) struct IdentityArgs {
    /// Private ID key: P-384 in PEM, SEC1 or PKCS#8.
    #[arg(long, value_name = "FILE")]
    id_key: PathBuf,

    /// Private author key, which signs the ID key.
    #[arg(long, value_name = "FILE")]
    author_key: Option<PathBuf>,

    /// Security version number of the guest.
    #[arg(long, default_value_t = 0, value_parser = input::number32, value_name = "N")]
    guest_svn: u32,

    /// FAMILY_ID, 16 bytes.
    #[arg(long, default_value = "00000000000000000000000000000000", value_parser = input::hex_bytes::<16>, hide_default_value = true, value_name = "HEX")]
    family_id: [u8; 16],

    /// IMAGE_ID, 16 bytes.
    #[arg(long, default_value = "00000000000000000000000000000000", value_parser = input::hex_bytes::<16>, hide_default_value = true, value_name = "HEX")]
    image_id: [u8; 16],
}

impl IdentityArgs {
    /// The keys, which no output may lie over.
    pub(crate) fn files(&self) -> Files<'_> {
        Files::default().reads("--id-key", Some(&self.id_key)).reads("--author-key", self.author_key.as_deref())
    }

    /// Makes the ID block of launches with that digest and policy, and signs it.
    pub(crate) fn sign(&self, digest: LaunchDigest, policy: GuestPolicy) -> Result<(IdBlock, Box<IdAuth>)> {
        guest::launchable(policy)?;
        let id_key = signing_key(&self.id_key, "ID key")?;
        let author_key = self.author_key.as_deref().map(|path| signing_key(path, "author key")).transpose()?;
        let Self { family_id, image_id, guest_svn, .. } = *self;
        let identity = Identity { digest, policy, family_id, image_id, guest_svn };
        Ok(sign(&identity, &id_key, author_key.as_ref()))
    }
}

/// Show an ID block, and the keys in its authentication data.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// ID block, 96 bytes, raw or base64.
    #[arg(value_name = "ID_BLOCK")]
    id_block: PathBuf,

    /// ID authentication data, 4096 bytes, raw or base64.
    #[arg(value_name = "ID_AUTH")]
    id_auth: Option<PathBuf>,

    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Verify an ID block as the firmware does at LAUNCH_FINISH.
///
/// Exit codes: 0 the firmware would accept it, 1 it would not, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// ID block, 96 bytes, raw or base64.
    #[arg(value_name = "ID_BLOCK")]
    id_block: PathBuf,

    /// ID authentication data, 4096 bytes, raw or base64.
    #[arg(value_name = "ID_AUTH")]
    id_auth: PathBuf,

    /// The launch digest of the guest.
    #[arg(long, value_parser = input::hex_bytes::<48>, value_name = "HEX")]
    digest: Option<[u8; 48]>,

    /// The policy of the guest.
    #[arg(long, value_parser = input::number, value_name = "VALUE")]
    policy: Option<u64>,

    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Raw,
    Base64,
}

pub(crate) fn run(command: &IdBlockCommand) -> Result<ExitCode> {
    match command {
        IdBlockCommand::Create(args) => create(args),
        IdBlockCommand::Show(args) => show(args),
        IdBlockCommand::Verify(args) => verify_command(args),
    }
}

fn create(args: &CreateArgs) -> Result<ExitCode> {
    let files = args.identity.files().writes("--id-block", Some(&args.id_block));
    files.writes("--id-auth", Some(&args.id_auth)).distinct()?;
    let (block, auth) = args.identity.sign(LaunchDigest(args.digest), GuestPolicy(args.policy))?;
    input::write(&args.id_block, "ID block", &args.format.encode(block.as_bytes()))?;
    input::write(&args.id_auth, "ID authentication data", &args.format.encode(auth.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

impl Format {
    fn encode(self, data: &[u8]) -> Vec<u8> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        match self {
            Self::Raw => data.to_vec(),
            Self::Base64 => (STANDARD.encode(data) + "\n").into_bytes(),
        }
    }
}

fn signing_key(path: &Path, what: &str) -> Result<SigningKey> {
    let data = input::read(path, what, 1 << 16)?;
    let text = String::from_utf8_lossy(&data);
    SigningKey::from_pem(&text).with_context(|| format!("{what} {}", path.display()))
}

/// Reads an ID block and its authentication data.
pub(crate) fn read(block: &Path, auth: &Path) -> Result<(IdBlock, Box<IdAuth>)> {
    Ok((read_block(block)?, read_auth(auth)?))
}

fn read_block(path: &Path) -> Result<IdBlock> {
    let bytes = input::read_exact::<96>(path, "ID block")?;
    Ok(IdBlock::read_from_bytes(bytes.as_slice()).expect("96 bytes"))
}

fn read_auth(path: &Path) -> Result<Box<IdAuth>> {
    let bytes = input::read_exact::<4096>(path, "ID authentication data")?;
    Ok(Box::new(IdAuth::read_from_bytes(bytes.as_slice()).expect("4096 bytes")))
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    let block = read_block(&args.id_block)?;
    let auth = args.id_auth.as_deref().map(read_auth).transpose()?;
    let mut rows = vec![
        ("launch_digest", json!(block.ld.to_string())),
        ("family_id", json!(hex(&block.family_id))),
        ("image_id", json!(hex(&block.image_id))),
        ("version", json!(block.version)),
        ("guest_svn", json!(block.guest_svn)),
        ("policy", json!(block.policy.to_string())),
    ];
    if let Some(auth) = &auth {
        rows.push(("id_key_algo", json!(auth.id_key_algo.0)));
        rows.push(("id_key_digest", json!(hex(&key_digest(&auth.id_key)))));
        rows.push(("author_key_algo", json!(auth.author_key_algo.0)));
        let author = (auth.author_key_algo != KeyAlgorithm(0)).then(|| hex(&key_digest(&auth.author_key)));
        rows.push(("author_key_digest", json!(author)));
    }
    if args.json {
        let rows = rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        output::print(format!("{}\n", Value::Object(rows)))?;
    } else {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let lines = rows.iter().map(|(name, value)| format!("{name:18} {}\n", plain(value)));
        output::print(lines.collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify_command(args: &VerifyArgs) -> Result<ExitCode> {
    let (block, auth) = read(&args.id_block, &args.id_auth)?;
    let verdict = verify(&block, &auth, args.digest.map(LaunchDigest), args.policy.map(GuestPolicy));
    output::print(if args.json { json(&verdict) } else { text(&verdict) })?;
    Ok(if verdict.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn text(verdict: &Verdict) -> String {
    let line = |check: &snp_attest::Check| match &check.outcome {
        Outcome::Passed => format!("ok       {}\n", check.name),
        Outcome::Skipped(reason) => format!("skipped  {}: {reason}\n", check.name),
        Outcome::Failed { status, reason } => format!("FAILED   {}: {reason}; firmware: {status}\n", check.name),
    };
    verdict.checks.iter().map(line).collect()
}

fn json(verdict: &Verdict) -> String {
    let check = |check: &snp_attest::Check| match &check.outcome {
        Outcome::Passed => json!({"check": check.name, "outcome": "passed"}),
        Outcome::Skipped(reason) => json!({"check": check.name, "outcome": "skipped", "reason": reason}),
        Outcome::Failed { status, reason } => json!({
            "check": check.name, "outcome": "failed", "reason": reason,
            "fw_status": status.0, "fw_status_name": status.name(),
        }),
    };
    let checks: Vec<_> = verdict.checks.iter().map(check).collect();
    format!("{}\n", json!({"passed": verdict.passed(), "checks": checks}))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
