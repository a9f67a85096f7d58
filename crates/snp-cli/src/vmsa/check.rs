//! `snp vmsa check`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use snp_abi::{Gpa, SevFeatures};
use snp_vmsa::check::{Finding, launch_findings, vmrun_findings};

use crate::launch::ProfileName;
use crate::{input, output};

/// Check whether a launch would take a VMSA and whether a processor would run it.
///
/// `vmrun-refuses` and `launch-refuses` are violations; `suspicious` is what would start but cannot be meant.
/// Exit codes: 0 no violation, 1 violations, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The VMSA, 4096 bytes.
    file: PathBuf,

    /// The uAPI profile under which it shall be launched.
    #[arg(long, value_enum, default_value = "direct-vmsa", value_name = "PROFILE")]
    profile: ProfileName,

    /// Where in guest memory it shall lie.
    #[arg(long, value_parser = input::number, value_name = "GPA")]
    gpa: Option<u64>,

    /// The guest's SEV features, with SNPActive (bit 0). [default: what the VMSA carries]
    #[arg(long, value_parser = input::number, value_name = "VALUE")]
    guest_features: Option<u64>,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let vmsa = super::read(&args.file)?;
    let features = args.guest_features.map_or(vmsa.sev_features, SevFeatures);
    let mut findings = launch_findings(&vmsa, args.gpa.map(Gpa), features, args.profile.launch_rules());
    findings.extend(vmrun_findings(&vmsa));
    // The worst first; rules of one severity stay in their order.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let violations = findings.iter().filter(|finding| finding.severity.is_violation()).count();
    if args.json {
        let list: Vec<_> = findings.iter().map(json_finding).collect();
        super::print_json(&json!({ "ok": violations == 0, "profile": args.profile.name(), "findings": list }))?;
    } else {
        output::print(text(&findings, violations, args.profile))?;
    }
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn json_finding(finding: &Finding) -> serde_json::Value {
    let field = if finding.field.is_empty() { None } else { Some(finding.field) };
    json!({
        "id": finding.id,
        "severity": finding.severity.name(),
        "field": field,
        "source": finding.source,
        "message": finding.message,
    })
}

fn text(findings: &[Finding], violations: usize, profile: ProfileName) -> String {
    let mut out = String::new();
    for finding in findings {
        let _ = writeln!(out, "{finding}");
    }
    let verdict = if violations == 0 { "can be launched" } else { "cannot be launched" };
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let suspicious = findings.len() - violations;
    let _ = writeln!(
        out,
        "{verdict} under {}: {}, {} suspicious",
        profile.name(),
        count(violations, "violation"),
        suspicious
    );
    out
}
