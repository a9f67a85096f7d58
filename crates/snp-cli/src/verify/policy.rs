//! What is asked of a report: the options of `snp verify` that make its policy.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use snp_abi::LaunchDigest;
use snp_attest::policy::{MinTcb, Policy};
use snp_attest::{SigningKey, key_digest, public_from_pem};
use snp_policy::{GUEST_POLICY, PLATFORM};

use crate::input;

/// The policy.
#[derive(Args, Debug)]
#[command(next_help_heading = "What is asked of the report")]
pub(super) struct PolicyOptions {
    /// A policy file in YAML or JSON (docs/json.md). Options on the command line go before it.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The launch digest, or one of several: given again, any of them will do. Instead of it an image can be named.
    #[arg(long, value_parser = digest, value_name = "HEX", conflicts_with_all = ["ovmf", "igvm"])]
    measurement: Vec<LaunchDigest>,

    /// The lowest TCB: a list like `bootloader=4,snp=20,microcode=209`.
    #[arg(long, value_parser = min_tcb, value_name = "PART=LEVEL,…")]
    min_tcb: Option<MinTcb>,

    /// The VMPL that asked for the report, 0 to 3.
    #[arg(long, value_parser = input::within::<u32>(0..=3), value_name = "N")]
    vmpl: Option<u32>,

    /// Flags that the guest's policy may not have: debug, migrate, smt, cxl and others by their names.
    #[arg(long, value_delimiter = ',', value_name = "FLAG,…")]
    policy_forbid: Vec<String>,

    /// Flags that the guest's policy must have, like single-socket.
    #[arg(long, value_delimiter = ',', value_name = "FLAG,…")]
    policy_require: Vec<String>,

    /// Flags that PLATFORM_INFO may not have, like smt.
    #[arg(long, value_delimiter = ',', value_name = "FLAG,…")]
    platform_forbid: Vec<String>,

    /// Flags that PLATFORM_INFO must have: alias-check (since BadRAM), ecc, ciphertext-hiding and others by their names.
    #[arg(long, value_delimiter = ',', value_name = "FLAG,…")]
    platform_require: Vec<String>,

    /// Bits that both mitigation vectors must have, by the numbers of AMD's bulletins. Reports tell them since version 5.
    #[arg(long, value_parser = input::number, value_name = "VALUE")]
    mitigations: Option<u64>,

    /// Believe a guest whose policy lets the host debug it.
    #[arg(long)]
    allow_debug: bool,

    /// Believe a report of an unknown version.
    #[arg(long)]
    allow_unknown_version: bool,

    /// HOST_DATA, 32 bytes.
    #[arg(long, value_parser = input::hex_bytes::<32>, value_name = "HEX")]
    host_data: Option<[u8; 32]>,

    /// REPORT_DATA, up to 64 bytes; what is missing at the end is zero.
    #[arg(long, value_parser = report_data, value_name = "HEX")]
    report_data: Option<[u8; 64]>,

    /// The ID key: its digest, or a PEM file with the public or private key.
    #[arg(long, value_name = "HEX|FILE")]
    id_key: Option<String>,

    /// The author key: its digest, or a PEM file with the public or private key.
    #[arg(long, value_name = "HEX|FILE")]
    author_key: Option<String>,

    /// FAMILY_ID, 16 bytes.
    #[arg(long, value_parser = input::hex_bytes::<16>, value_name = "HEX")]
    family_id: Option<[u8; 16]>,

    /// IMAGE_ID, 16 bytes.
    #[arg(long, value_parser = input::hex_bytes::<16>, value_name = "HEX")]
    image_id: Option<[u8; 16]>,

    /// The lowest GUEST_SVN.
    #[arg(long, value_parser = input::number32, value_name = "N")]
    min_svn: Option<u32>,

    /// CHIP_ID, 64 bytes.
    #[arg(long, value_parser = input::hex_bytes::<64>, value_name = "HEX")]
    chip_id: Option<[u8; 64]>,

    /// The cloud provider whose VLEK signed the report, by the cspID of its certificate.
    #[arg(long, value_parser = provider, value_name = "NAME")]
    provider: Option<String>,
}

fn digest(text: &str) -> Result<LaunchDigest, String> {
    input::hex_bytes::<48>(text).map(LaunchDigest)
}

fn min_tcb(text: &str) -> Result<MinTcb, String> {
    snp_policy::min_tcb(text).map_err(|error| error.to_string())
}

fn provider(text: &str) -> Result<String, String> {
    snp_policy::provider(text.to_owned()).map_err(|error| error.to_string())
}

fn report_data(text: &str) -> Result<[u8; 64], String> {
    snp_policy::report_data(text).map_err(|error| error.to_string())
}

impl PolicyOptions {
    /// The policy of the file, and over it that of the command line.
    pub(super) fn resolve(&self, predicted: &[LaunchDigest]) -> Result<Policy> {
        let mut policy = match &self.policy {
            None => Policy::default(),
            Some(path) => {
                let data = input::read(path, "policy", snp_policy::LONGEST as u64)?;
                let text = std::str::from_utf8(&data).with_context(|| format!("policy {}", path.display()))?;
                snp_policy::parse(text).with_context(|| format!("policy {}", path.display()))?
            }
        };
        // One or the other: both would leave open whether either digest will do.
        for known in [self.measurement.as_slice(), predicted] {
            if !known.is_empty() {
                policy.measurements = known.to_vec();
            }
        }
        if let Some(bounds) = &self.min_tcb {
            for (part, least) in bounds.bounds() {
                *policy.min_tcb.slot(part) = Some(least);
            }
        }
        policy.guest_policy.forbid |= GUEST_POLICY.bits("--policy-forbid", &self.policy_forbid)?;
        policy.guest_policy.require |= GUEST_POLICY.bits("--policy-require", &self.policy_require)?;
        policy.platform.forbid |= PLATFORM.bits("--platform-forbid", &self.platform_forbid)?;
        policy.platform.require |= PLATFORM.bits("--platform-require", &self.platform_require)?;
        policy.mitigations |= self.mitigations.unwrap_or_default();
        policy.allow_debug |= self.allow_debug;
        policy.allow_unknown_version |= self.allow_unknown_version;
        policy.vmpl = self.vmpl.or(policy.vmpl);
        policy.host_data = self.host_data.or(policy.host_data);
        policy.report_data = self.report_data.or(policy.report_data);
        policy.family_id = self.family_id.or(policy.family_id);
        policy.image_id = self.image_id.or(policy.image_id);
        policy.min_svn = self.min_svn.or(policy.min_svn);
        policy.chip_id = self.chip_id.or(policy.chip_id);
        policy.provider = self.provider.clone().or(policy.provider);
        let id_key = self.id_key.as_deref().map(|text| key("--id-key", text)).transpose()?;
        let author_key = self.author_key.as_deref().map(|text| key("--author-key", text)).transpose()?;
        policy.id_key_digest = id_key.or(policy.id_key_digest);
        policy.author_key_digest = author_key.or(policy.author_key_digest);
        Ok(policy)
    }
}

/// The digest of a key, given as such or as the key's file.
fn key(option: &str, text: &str) -> Result<[u8; 48]> {
    if let Ok(digest) = input::hex_bytes::<48>(text) {
        return Ok(digest);
    }
    let path = Path::new(text);
    if !path.exists() {
        bail!("{option} {text}: neither the 96 hexadecimal digits of a digest nor a file");
    }
    let data = input::read(path, option, 1 << 16)?;
    let pem = String::from_utf8_lossy(&data);
    let public = match public_from_pem(&pem) {
        Ok(public) => public,
        Err(_) => SigningKey::from_pem(&pem).with_context(|| format!("{option} {text}"))?.public(),
    };
    Ok(key_digest(&public))
}
