//! How a verdict is told.

use anyhow::Result;
use serde_json::{Value, json};
use snp_abi::{AttestationReport, ProductLine};
use snp_attest::report::Verdict;
use snp_attest::verdict::{Check, Outcome};

use super::args::VerifyArgs;
use crate::explain::Explained;
use crate::output;

/// What is said whenever TEST roots are trusted.
fn test_roots(verdict: &Verdict) -> &'static str {
    let root = matches!(verdict.checks.outcome("root"), Some(Outcome::Passed(_)));
    match (verdict.test_root, root) {
        (true, _) => {
            "TEST roots are trusted: the software platform made this report, or anybody who has its published keys. It proves \
             nothing about hardware."
        }
        (false, true) => "TEST roots were trusted, too; this chain ends in AMD's root.",
        (false, false) => "TEST roots were trusted, too. A report under them proves nothing about hardware.",
    }
}

pub(super) fn print(
    args: &VerifyArgs,
    report: &AttestationReport,
    verdict: &Verdict,
    explained: Option<&Explained>,
) -> Result<()> {
    let text = if args.json {
        serde_json::to_string_pretty(&document(args, report, verdict, explained))? + "\n"
    } else {
        text(args, report, verdict, explained)
    };
    output::print(text)
}

fn text(args: &VerifyArgs, report: &AttestationReport, verdict: &Verdict, explained: Option<&Explained>) -> String {
    let mut out = format!(
        "report version {}, {}, measurement {}\n\n",
        report.version,
        line_words(verdict.product_line),
        report.measurement
    );
    for Check { name, outcome } in &verdict.checks.0 {
        out += &match outcome {
            Outcome::Passed(found) => format!("ok       {name}: {found}\n"),
            Outcome::Skipped(reason) => format!("skipped  {name}: {reason}\n"),
            Outcome::Failed(failure) => format!("FAILED   {name}: {failure}\n"),
        };
    }
    if let Some(explained) = explained {
        out += &format!("\nThe measurement, explained:\n{}", explained.text);
    }
    if args.trust_test_roots {
        out += &format!("\n{}\n", test_roots(verdict));
    }
    let skipped = verdict.checks.0.iter().filter(|check| matches!(check.outcome, Outcome::Skipped(_))).count();
    let failed = verdict.checks.failures().count();
    let word = match (verdict.passed(), verdict.test_root) {
        (true, true) => "verified under a TEST root",
        (true, false) => "verified",
        (false, _) => "NOT verified",
    };
    out + &format!("\n{word}: {failed} checks failed, {skipped} were not made\n")
}

fn document(args: &VerifyArgs, report: &AttestationReport, verdict: &Verdict, explained: Option<&Explained>) -> Value {
    let check = |Check { name, outcome }: &Check| match outcome {
        Outcome::Passed(found) => json!({ "check": name, "outcome": "passed", "found": found }),
        Outcome::Skipped(reason) => json!({ "check": name, "outcome": "skipped", "reason": reason }),
        Outcome::Failed(failure) => json!({
            "check": name, "outcome": "failed", "code": failure.code(), "reason": failure.to_string(),
        }),
    };
    json!({
        "verified": verdict.passed(),
        "test_roots_trusted": args.trust_test_roots,
        "test_root": verdict.test_root,
        "report_version": report.version.0,
        "product_line": verdict.product_line.map(snp_abi::ProductLine::name),
        "measurement": report.measurement.to_string(),
        "checks": verdict.checks.0.iter().map(check).collect::<Vec<_>>(),
        "explain": explained.map(|explained| &explained.document),
    })
}

/// How TCB versions are packed, where a report does not tell.
fn line_words(line: Option<ProductLine>) -> &'static str {
    line.map_or("not known", ProductLine::name)
}
