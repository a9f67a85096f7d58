//! The kernel's KVM selftests.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::table::{Row, Table, Verdict};
use super::{Programs, provide};
use crate::artifacts::{Artifacts, debian};
use crate::{process, workspace};

/// The package, and where in it the source is.
const SUITE: &str = "trixie-backports";
const PACKAGE: &str = "linux-source-7.3";
/// What of the source the selftests are built from.
const PARTS: &[&str] =
    &["tools", "include", "arch/x86", "scripts", "drivers/dma", "drivers/net/ethernet/intel/igb", "Makefile", "Kbuild"];
/// A test that hangs is one that fails. None takes more than 20 s of a quiet machine; a busy one has its patience.
const SECONDS: &str = "180";
/// KSFT_SKIP, and what timeout(1) answers.
const SKIPPED: i32 = 4;
const TIMED_OUT: i32 = 124;

/// conformance/selftests.toml.
#[derive(Debug, Deserialize)]
struct Expectations {
    test: Vec<Expectation>,
}

#[derive(Debug, Deserialize)]
struct Expectation {
    name: String,
    expect: Verdict,
    #[serde(default)]
    reason: String,
    /// Of `snp exec`.
    #[serde(default)]
    options: Vec<String>,
    /// It is not run, for the reason given: its result depends on how fast the machine is.
    #[serde(default)]
    slow: bool,
    /// What a test has to say that is not expected to pass.
    #[serde(default)]
    says: String,
}

pub(super) fn run(programs: &Programs, artifacts: &Artifacts, table: &mut Table) -> Result<()> {
    let expectations = expectations()?;
    let headers = artifacts.path("trixie-backports/usr/include").context("the Linux headers of trixie-backports")?;
    let tests = provide(PACKAGE, |made| build(made, &headers))?;
    for expectation in expectations.test {
        let path = tests.join(&expectation.name);
        ensure!(path.is_file(), "{} was not built", expectation.name);
        if expectation.slow {
            let Expectation { name, expect, reason, .. } = expectation;
            table.push(Row { name, expected: expect, found: Verdict::Skip, reason });
            continue;
        }
        let output = process::command("timeout")
            .arg(SECONDS)
            .arg(&programs.snp)
            .arg("exec")
            .args(&expectation.options)
            .arg("--")
            .arg(&path)
            .current_dir(&tests)
            .output()
            .with_context(|| format!("cannot run {}", expectation.name))?;
        let found = verdict(output.status.code());
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = if found == expectation.expect { expectation.reason } else { said(&output) };
        let name = [&[expectation.name], expectation.options.as_slice()].concat().join(" ");
        ensure!(text.contains(&expectation.says), "{name} does not say {:?}: {text}", expectation.says);
        table.push(Row { name, expected: expectation.expect, found, reason });
    }
    Ok(())
}

fn expectations() -> Result<Expectations> {
    let path = workspace::root().join("conformance/selftests.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let expectations: Expectations = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
    for test in &expectations.test {
        ensure!(test.expect == Verdict::Pass || !test.reason.is_empty(), "{}: say why it does not pass", test.name);
    }
    Ok(expectations)
}

fn verdict(code: Option<i32>) -> Verdict {
    match code {
        Some(0) => Verdict::Pass,
        Some(SKIPPED) => Verdict::Skip,
        _ => Verdict::Fail,
    }
}

/// The last thing that a test said, for a result that nobody expects.
fn said(output: &Output) -> String {
    if output.status.code() == Some(TIMED_OUT) {
        return format!("ran for {SECONDS} s");
    }
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("snp exec:"));
    format!("{}: {}", output.status, last.unwrap_or("said nothing").trim())
}

/// Unpacks what is needed of the source and builds all tests; one that does not compile is missing then.
fn build(made: &Path, headers: &Path) -> Result<()> {
    for (program, package) in [("make", "make"), ("cc", "gcc libc6-dev"), ("xz", "xz-utils"), ("timeout", "coreutils")]
    {
        process::require(program, package)?;
    }
    let scratch = tempfile::tempdir_in(made.parent().context("a directory of the cache")?)?;
    let package = debian::download(SUITE, PACKAGE, scratch.path())?;
    unpack(&package, scratch.path())?;
    let source = scratch.path().join(PACKAGE);
    let headers = [headers.to_owned(), headers.join("x86_64-linux-gnu")];
    let include = headers.map(|path| format!("-isystem {}", path.display())).join(" ");
    let mut make = process::command("make");
    make.args(["-s", "-k", "-j2", "ARCH=x86_64"])
        .arg(format!("KHDR_INCLUDES={include}"))
        .arg(format!("OUTPUT={}", made.display()))
        .current_dir(source.join("tools/testing/selftests/kvm"));
    // Tests for what this machine's C library or compiler lacks do not build; those that are expected to run must.
    let _ = make.output().context("cannot run make")?;
    Ok(())
}

fn unpack(package: &Path, into: &Path) -> Result<()> {
    process::capture(process::command("dpkg-deb").arg("-x").arg(package).arg(into.join("package")))?;
    let archive: PathBuf = into.join("package/usr/src").join(PACKAGE).with_extension("3.tar.xz");
    let parts = PARTS.iter().map(|part| format!("{PACKAGE}/{part}"));
    process::capture(process::command("tar").arg("-xJf").arg(&archive).arg("-C").arg(into).args(parts))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_kselftests() {
        assert_eq!(verdict(Some(0)), Verdict::Pass);
        assert_eq!(verdict(Some(4)), Verdict::Skip);
        for code in [Some(1), Some(254), Some(139), None] {
            assert_eq!(verdict(code), Verdict::Fail);
        }
    }

    #[test]
    fn every_expectation_that_is_no_pass_has_its_reason() {
        let expectations = expectations().unwrap();
        let passes = |name: &str| {
            let test = expectations.test.iter().find(|test| test.name == name);
            test.is_some_and(|test| test.expect == Verdict::Pass)
        };
        for name in ["x86/sev_init2_tests", "x86/sev_migrate_tests", "x86/sev_dbg_test", "vm_types_test"] {
            assert!(passes(name), "{name}");
        }
    }
}
