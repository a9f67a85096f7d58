//! The options of `snp verify`.

use std::path::PathBuf;

use clap::Args;
use snp_attest::UnixTime;

use super::launch::LaunchOptions;
use super::policy::PolicyOptions;

/// Verify an attestation report: its chain to a root that is built in, its signature, and what you ask of it.
///
/// Nothing is fetched. Lists every check that was made and every one that was not. A guest that can be debugged and a report
/// of an unknown version fail unless they are allowed. A verdict under TEST roots says that the software platform made the
/// report, or anybody who has its published keys; it says nothing about hardware.
///
/// Exit codes: 0 every check that was made holds, 1 one does not, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Attestation report, 1184 bytes, raw or base64.
    #[arg(value_name = "REPORT")]
    pub(super) report: PathBuf,

    /// The report's certificates: a directory with vcek or vlek (and ark, ask, asvk, cert_chain, crl) as .pem, .der or .crt; a
    /// file with certificates; or the certificate table of an extended guest request. AMD's roots are built in.
    #[arg(long, value_name = "DIR|FILE")]
    pub(super) certs: Option<PathBuf>,

    /// Trust the TEST roots of the software platform, too. Anybody can make reports under them.
    #[arg(long)]
    pub(super) trust_test_roots: bool,

    /// A certificate revocation list of the chain's ARK, ASK or ASVK.
    #[arg(long, value_name = "FILE")]
    pub(super) crl: Vec<PathBuf>,

    /// The time at which certificates must be valid: `2026-01-31` or `2026-01-31T12:00:00Z`. [default: now]
    #[arg(long, value_parser = time, value_name = "TIME")]
    pub(super) at: Option<UnixTime>,

    /// Do not search for the launch that gives another measurement than the predicted one.
    #[arg(long)]
    pub(super) no_explain: bool,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) policy: PolicyOptions,

    #[command(flatten)]
    pub(super) launch: LaunchOptions,
}

fn time(text: &str) -> Result<UnixTime, String> {
    UnixTime::parse(text).ok_or_else(|| format!("{text}: want a time like 2026-01-31 or 2026-01-31T12:00:00Z"))
}
