//! Everything that CI does, in order.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::artifacts::{self, Artifacts};
use crate::process::{self, Outcome};
use crate::{bench, conformance, deny, differential, fuzz, header_check, readme, workspace};

/// Runs the steps and stops at the first failure.
pub(crate) fn run(fast: bool, fuzz_time: Duration) -> Result<()> {
    let mut steps = Steps::default();
    let result = all(&mut steps, fast, fuzz_time);
    steps.summary();
    result
}

fn all(steps: &mut Steps, fast: bool, fuzz_time: Duration) -> Result<()> {
    let mut found = None;
    steps.step("format", || format(&["Cargo.toml", "fuzz/Cargo.toml"]))?;
    steps.step("clippy", || cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // Before the tests: with the artefacts at hand, `cargo test` compares with the live oracles too.
    steps.step("artifacts", || {
        let (artifacts, outcome) = artifacts::fetch()?.complete()?;
        found = Some(artifacts);
        Ok(outcome)
    })?;
    let artifacts = found.expect("the step passed");
    steps.step("headless Chromium", chromium)?;
    steps.step("tests and live oracles", || test(&artifacts))?;
    steps.step("documentation", documentation)?;
    steps.step("header check", || header_check::run(&artifacts))?;
    steps.step("benchmarks compile", bench::compile)?;
    steps.step("processor model against this machine", || {
        differential::run(differential::SEQUENCES, Some(differential::SEED))
    })?;
    steps.step("README commands", readme::run)?;
    steps.step("conformance of unmodified programs", || conformance::run(&[]))?;
    if fast {
        steps.skip("cargo deny", "--fast");
        steps.skip("fuzzing", "--fast");
        return Ok(());
    }
    steps.step("cargo deny", deny::run)?;
    let fuzzing = format!("fuzzing of {} targets, {} s each", fuzz::targets()?.len(), fuzz_time.as_secs());
    steps.step(&fuzzing, || fuzz::run(&[], fuzz_time))
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    process::run(process::cargo().args(arguments))?;
    Ok(Outcome::Passed)
}

/// The browser that looks at our pages; without it their test says that it was skipped.
fn chromium() -> Result<Outcome> {
    const SHELL: &str = "chromium-headless-shell";
    if process::exists("chromium") {
        return Ok(Outcome::Passed);
    }
    match process::require(SHELL, "chromium-headless-shell fonts-dejavu-core") {
        Err(error) if !workspace::in_ci() => Ok(Outcome::Skipped(format!("{error:#}"))),
        result => result.map(|()| Outcome::Passed),
    }
}

fn format(manifests: &[&str]) -> Result<Outcome> {
    for manifest in manifests {
        cargo(&["fmt", "--all", "--check", "--manifest-path", manifest])?;
    }
    Ok(Outcome::Passed)
}

fn test(artifacts: &Artifacts) -> Result<Outcome> {
    let mut command = process::cargo();
    command.args(["test", "--workspace"]).envs(artifacts.environment());
    if workspace::in_ci() {
        // The step before this one provided the browser: a test that does not find it has failed.
        command.env("SNPKIT_REQUIRE_CHROMIUM", "1");
    }
    process::run(&mut command)?;
    Ok(Outcome::Passed)
}

fn documentation() -> Result<Outcome> {
    let mut command = process::cargo();
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut command)?;
    Ok(Outcome::Passed)
}

/// What was done so far.
#[derive(Default)]
struct Steps {
    passed: u32,
    failed: u32,
    skipped: u32,
    lines: Vec<String>,
}

impl Steps {
    fn step(&mut self, name: &str, body: impl FnOnce() -> Result<Outcome>) -> Result<()> {
        println!("\n=== {name}");
        let start = Instant::now();
        let result = body();
        let seconds = start.elapsed().as_secs_f64();
        let (count, word) = match &result {
            Ok(Outcome::Passed) => (&mut self.passed, "passed".to_owned()),
            Ok(Outcome::Skipped(reason)) => (&mut self.skipped, format!("skipped: {reason}")),
            Err(error) => (&mut self.failed, format!("FAILED: {error:#}")),
        };
        *count += 1;
        // One line each, whatever the error says.
        let line = format!("{seconds:7.1} s  {name}: {}", word.lines().next().unwrap_or_default());
        println!("=== {name}: {word} after {seconds:.1} s");
        self.lines.push(line);
        match result {
            Ok(_) => Ok(()),
            Err(error) => bail!("{name}: {error:#}"),
        }
    }

    fn skip(&mut self, name: &str, reason: &str) {
        println!("\n=== {name}: skipped: {reason}");
        self.skipped += 1;
        self.lines.push(format!("{:9}  {name}: skipped: {reason}", ""));
    }

    /// One line per step, and the closing line that programs read: it counts steps and stands alone.
    fn summary(&self) {
        println!();
        for line in &self.lines {
            println!("{line}");
        }
        println!("\n{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;
    use crate::process::Outcome;

    #[test]
    fn steps_are_counted_by_how_they_ended() {
        let mut steps = Steps::default();
        steps.step("a", || Ok(Outcome::Passed)).unwrap();
        steps.step("b", || Ok(Outcome::Skipped("no network".to_owned()))).unwrap();
        steps.skip("c", "--fast");
        let error = steps.step("d", || anyhow::bail!("broken")).unwrap_err();
        assert_eq!(error.to_string(), "d: broken");
        assert_eq!((steps.passed, steps.failed, steps.skipped), (1, 1, 2));
    }
}
