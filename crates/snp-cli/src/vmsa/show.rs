//! `snp vmsa show`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use snp_abi::Vmsa;
use snp_vmsa::fields::{Field, fields};
use zerocopy::IntoBytes;

use super::decode;
use crate::output;

/// Print a VMSA field by field: those that are not zero, unless --all is given.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The VMSA, 4096 bytes.
    file: PathBuf,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,

    /// Print fields that are zero, too.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &ShowArgs) -> Result<ExitCode> {
    let vmsa = super::read(&args.file)?;
    let shown: Vec<Field> = fields().filter(|field| args.all || !field.get(&vmsa).is_zero()).collect();
    if args.json {
        let list: Vec<_> = shown
            .iter()
            .map(|field| {
                json!({
                    "name": field.name(),
                    "offset": field.offset(),
                    "size": field.size(),
                    "value": field.get(&vmsa).to_string(),
                })
            })
            .collect();
        super::print_json(&json!({ "sha384": measured(&vmsa), "fields": list }))?;
    } else {
        output::print(text(&vmsa, &shown))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// SHA-384 of the page as the firmware measures it: TSC_SCALE and TSC_OFFSET zeroed (AMD 56860, SNP_LAUNCH_UPDATE).
fn measured(vmsa: &Vmsa) -> String {
    let page = Vmsa { tsc_scale: 0, tsc_offset: 0, ..*vmsa };
    snp_sha384::sha384(page.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(vmsa: &Vmsa, shown: &[Field]) -> String {
    let mut out = format!("sha384 as measured: {}\n\n", measured(vmsa));
    let (parts, others): (Vec<&Field>, Vec<&Field>) = shown.iter().partition(|field| field.segment().is_some());
    let mut names: Vec<_> = parts.iter().filter_map(|field| field.segment()).collect();
    names.dedup();
    segment_table(&mut out, vmsa, &names);
    for field in others {
        let value = field.get(vmsa).to_string();
        let meaning = decode::meaning(&field.name(), &field.get(vmsa));
        line(&mut out, &format!("{field:<20} {value:<20} {meaning}"));
    }
    out
}

fn segment_table(out: &mut String, vmsa: &Vmsa, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    line(out, &format!("{:<8} {:<9} {:<7} {:<11} {:<19} meaning", "segment", "selector", "attrib", "limit", "base"));
    for name in names {
        let part = |part: &str| {
            let field = fields().find(|field| field.segment() == Some(*name) && field.name().ends_with(part));
            field.map(|field| field.get(vmsa).to_string()).unwrap_or_default()
        };
        let meaning = decode::segment(vmsa, name);
        let (selector, attrib, limit, base) = (part(".selector"), part(".attrib"), part(".limit"), part(".base"));
        line(out, &format!("{name:<8} {selector:<9} {attrib:<7} {limit:<11} {base:<19} {meaning}"));
    }
    out.push('\n');
}

/// Appends a line without trailing spaces.
fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{}", text.trim_end());
}
