//! `snp verify`: a report and its certificates in, a verdict out.

mod args;
mod launch;
mod output;
mod policy;

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use snp_attest::UnixTime;
use snp_attest::certificate::Crl;
use snp_attest::chain::Trust;
use snp_attest::error::Failure;
use snp_attest::report::verify;
use zerocopy::IntoBytes;

pub(crate) use args::VerifyArgs;

use crate::output::tell;
use crate::{certs, input, report};

/// A check does not hold.
const NO: u8 = 1;

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let report = report::read(&args.report)?;
    let found = args.certs.as_deref().map(certs::read).transpose()?.unwrap_or_default();
    let crls = args.crl.iter().map(|path| {
        let data = input::read(path, "revocation list", 8 << 20)?;
        Crl::from_file(&data).with_context(|| format!("revocation list {}", path.display()))
    });
    let crls = found.crls.into_iter().map(Ok).chain(crls).collect::<Result<_>>()?;
    let now = match args.at {
        Some(time) => time,
        None => now()?,
    };
    let predicted = args.launch.predict()?;
    let policy = args.policy.resolve(&predicted)?;
    let trust = Trust { test_roots: args.trust_test_roots, now: Some(now), crls };
    let verdict = verify(report.as_bytes(), &found.certificates, &trust, &policy);
    let other_launch = verdict.checks.failures().any(|failure| matches!(failure, Failure::Measurement { .. }));
    let explained =
        if other_launch && !args.no_explain { args.launch.explain(report.measurement, &predicted) } else { None };
    // The verdict is what was asked for, whether or not it can be explained.
    let explained = explained.transpose().unwrap_or_else(|error| {
        tell!("warning: the measurement cannot be explained: {error:#}");
        None
    });
    output::print(args, &report, &verdict, explained.as_ref())?;
    Ok(if verdict.passed() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn now() -> Result<UnixTime> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.context("this machine's clock is before 1970: give the time with --at")?;
    Ok(UnixTime(since.as_secs()))
}
