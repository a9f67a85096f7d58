//! `snp report show`: an attestation report by its fields. Nothing is verified.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use snp_abi::{AbiLayout, AttestationReport, GuestPolicy, PlatformInfo, ProductLine, SignerInfo, TcbVersion};
use zerocopy::{FromBytes, IntoBytes};

use crate::deferred::Deferred;
use crate::{input, output};

/// Look at attestation reports.
#[derive(Subcommand, Debug)]
pub(crate) enum ReportCommand {
    /// Show a report by its fields, flags decoded. Its signature is not checked: see `snp verify`.
    Show(Deferred<ShowArgs>),
}

/// Show a report by its fields, flags decoded. Its signature is not checked: see `snp verify`.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Attestation report, 1184 bytes, raw or base64.
    #[arg(value_name = "REPORT")]
    report: PathBuf,

    /// The product line, for reports of version 2, which do not tell it and pack TCB versions by it.
    #[arg(long, value_parser = product_line, value_name = "milan|genoa|turin")]
    product: Option<ProductLine>,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn product_line(text: &str) -> Result<ProductLine, String> {
    let found = ProductLine::ALL.iter().copied().find(|line| line.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("{text}: want milan, genoa or turin"))
}

pub(crate) fn run(command: &ReportCommand) -> Result<ExitCode> {
    let ReportCommand::Show(args) = command;
    let report = read(&args.report)?;
    let line = snp_attest::report::product_line(&report).or(args.product);
    let fields = fields(&report, line);
    let text = if args.json {
        serde_json::to_string_pretty(&Value::Object(fields))? + "\n"
    } else {
        fields.iter().map(|(name, value)| lines(name, value)).collect()
    };
    output::print(text)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a report, raw or base64.
pub(crate) fn read(path: &Path) -> Result<Box<AttestationReport>> {
    let bytes = input::read_exact::<{ AttestationReport::LEN }>(path, "attestation report")?;
    Ok(Box::new(AttestationReport::read_from_bytes(bytes.as_slice()).expect("the length is checked")))
}

/// A field and what it says, one line for each part.
fn lines(name: &str, value: &Value) -> String {
    match value {
        Value::Object(parts) => {
            let words = parts.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
                Value::Array(flags) => {
                    let flags: Vec<_> = flags.iter().filter_map(Value::as_str).collect();
                    format!("{name}: {}", if flags.is_empty() { "none".to_owned() } else { flags.join(" ") })
                }
                value => format!("{name} {}", plain(value)),
            });
            format!("{name:18} {}\n", words.collect::<Vec<_>>().join(", "))
        }
        value => format!("{name:18} {}\n", plain(value)),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every field that the report's version has, by its name in the specification, in lower case.
fn fields(report: &AttestationReport, line: Option<ProductLine>) -> Map<String, Value> {
    let bytes = report.as_bytes();
    let mut fields = Map::new();
    for field in AttestationReport::FIELDS {
        let value = &bytes[field.offset..field.offset + field.size];
        if !AttestationReport::has_field(report.version, field) {
            if value.iter().any(|byte| *byte != 0) {
                fields.insert(field.name.to_owned(), json!({ "not_zero": hex(value) }));
            }
            continue;
        }
        let number = || value.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let shown = match field.name {
            "policy" => policy(report.policy),
            "platform_info" => platform_info(report.platform_info),
            "signer_info" => signer_info(report.signer_info),
            "current_tcb" | "reported_tcb" | "committed_tcb" | "launch_tcb" => tcb(TcbVersion(number()), line),
            "launch_mit_vector" | "current_mit_vector" => json!(format!("{:#x}", number())),
            "vmpl" if report.vmpl == AttestationReport::VMPL_OF_HOST => json!("0xffffffff"),
            "signature" => json!({ "r": big_endian(&report.signature.r), "s": big_endian(&report.signature.s) }),
            _ if field.size <= 4 => json!(number()),
            _ => json!(hex(value)),
        };
        fields.insert(field.name.to_owned(), shown);
    }
    fields.insert("product_line".to_owned(), json!(line.map(ProductLine::name)));
    fields
}

/// A number of a signature, without its padding.
fn big_endian(field: &[u8; 72]) -> String {
    let mut number = field.to_vec();
    number.reverse();
    hex(&number[24..])
}

fn set<'a>(flags: &[(&'a str, u64)], value: u64) -> Vec<&'a str> {
    flags.iter().filter(|(_, bit)| value & bit != 0).map(|(name, _)| *name).collect()
}

fn policy(policy: GuestPolicy) -> Value {
    let (major, minor) = policy.abi();
    json!({
        "value": policy.to_string(),
        "abi": format!("{major}.{minor}"),
        "flags": set(GuestPolicy::FLAGS, policy.0),
    })
}

fn platform_info(info: PlatformInfo) -> Value {
    json!({ "value": format!("{:#x}", info.0), "flags": set(PlatformInfo::FLAGS, info.0) })
}

fn signer_info(info: SignerInfo) -> Value {
    let flags = [("AUTHOR_KEY_EN", SignerInfo::AUTHOR_KEY_EN), ("MASK_CHIP_KEY", SignerInfo::MASK_CHIP_KEY)];
    json!({
        "value": format!("{:#x}", info.0),
        "signing_key": info.signing_key().to_string(),
        "flags": set(&flags.map(|(name, bit)| (name, u64::from(bit))), info.0.into()),
    })
}

/// The parts of a TCB version, if it is known how they are packed.
fn tcb(version: TcbVersion, line: Option<ProductLine>) -> Value {
    let mut value = Map::new();
    value.insert("value".to_owned(), json!(format!("{:#018x}", version.0)));
    for component in line.into_iter().flat_map(|line| line.tcb_components()) {
        let parts = line.map(|line| version.parts(line)).unwrap_or_default();
        value.insert(component.name().to_owned(), json!(parts.get(*component)));
    }
    Value::Object(value)
}
