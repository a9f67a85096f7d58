//! `snp vmsa diff`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use snp_vmsa::diff::{Difference, differences};
use snp_vmsa::fields::Value;

use crate::output;

/// Compare two VMSAs field by field.
///
/// Exit codes: 0 equal, 1 different, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The first VMSA.
    left: PathBuf,

    /// The second VMSA.
    right: PathBuf,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DiffArgs) -> Result<ExitCode> {
    let (left, right) = (super::read(&args.left)?, super::read(&args.right)?);
    let found = differences(&left, &right);
    if args.json {
        let list: Vec<_> = found
            .iter()
            .map(|difference| {
                json!({
                    "name": difference.field.name(),
                    "offset": difference.field.offset(),
                    "left": difference.left.to_string(),
                    "right": difference.right.to_string(),
                })
            })
            .collect();
        super::print_json(&json!({ "differences": list }))?;
    } else {
        output::print(text(&found))?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn text(found: &[Difference]) -> String {
    let mut out = String::new();
    for Difference { field, left, right } in found {
        let (left, right) = match (left, right) {
            (Value::Bytes(left), Value::Bytes(right)) => excerpts(left, right),
            _ => (left.to_string(), right.to_string()),
        };
        let _ = writeln!(out, "{field:<20} {left:<20} {right}");
    }
    out
}

/// Where two byte fields first differ, and up to eight bytes from there on.
fn excerpts(left: &[u8], right: &[u8]) -> (String, String) {
    const SHOWN: usize = 8;
    let at = left.iter().zip(right).position(|(left, right)| left != right).unwrap_or_default();
    let excerpt = |bytes: &[u8]| {
        let digits: String = bytes.iter().skip(at).take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
        format!("+{at:#x}: {digits}")
    };
    (excerpt(left), excerpt(right))
}
