//! Runs the fuzz targets of `fuzz/`, a workspace of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::metadata;
use crate::process::{self, Outcome};
use crate::workspace;

const VERSION: &str = "0.13.2";
const MANIFEST: &str = "fuzz/Cargo.toml";
/// A finding, too: more memory than this, or one input for longer than ten seconds.
const LIMITS: [&str; 3] = ["-rss_limit_mb=512", "-timeout=10", "-print_final_stats=0"];

/// The names of all targets.
pub(crate) fn targets() -> Result<Vec<String>> {
    Ok(metadata::targets(MANIFEST, "bin")?.into_iter().map(|(_, name)| name).collect())
}

/// Runs targets, each for that time, from the seeds; all if none is named. A target has one thread: as many run at a time as there
/// are cores.
///
/// # Errors
/// A target found something, and what it found is printed; the others are run to their end.
pub(crate) fn run(names: &[String], time: Duration) -> Result<Outcome> {
    let known = targets()?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", known.join(", "));
    }
    // libFuzzer itself is C++.
    process::require("c++", "g++")?;
    let fuzz = process::cargo_tool("cargo-fuzz", VERSION)?;
    seeds()?;
    // All at once, so that the runs find them built and do not wait for each other.
    process::run(&mut cargo_fuzz(&fuzz, "build"))?;
    let names = if names.is_empty() { &known } else { names };
    let next = Mutex::new(names.iter());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut failed = Vec::new();
        loop {
            let Some(name) = next.lock().expect("no worker panics").next() else { return failed };
            if let Err(error) = run_target(&fuzz, name, time) {
                failed.push(format!("{name}: {error:#}"));
            }
        }
    };
    let failed: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(names.len())).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
    });
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(Outcome::Passed)
}

/// Writes the seeds, made by the crates that are fuzzed: in the workspace's own directory, where most of them are built already.
fn seeds() -> Result<()> {
    let mut command = process::cargo();
    command
        .args(["run", "--quiet", "--locked", "--release", "--manifest-path", MANIFEST, "--target-dir"])
        .arg(workspace::target());
    process::run(command.args(["--example", "seeds", "fuzz/seeds"]))
}

/// A command of cargo-fuzz. The crates have no unsafe code to sanitise, and without a sanitizer the stable compiler will do.
fn cargo_fuzz(fuzz: &Path, subcommand: &str) -> Command {
    let mut command = process::command(fuzz);
    command.args([subcommand, "--sanitizer", "none"]).env("RUSTC_BOOTSTRAP", "1");
    command
}

fn run_target(fuzz: &Path, name: &str, time: Duration) -> Result<()> {
    let root = workspace::root().join("fuzz");
    let (corpus, seeds) = (root.join("corpus").join(name), root.join("seeds").join(name));
    // A target whose input is any bytes has no seeds.
    for directory in [&corpus, &seeds] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let mut command = cargo_fuzz(fuzz, "run");
    command.arg(name).arg(&corpus).arg(&seeds).arg("--").args(LIMITS);
    command.arg(format!("-max_total_time={}", time.as_secs()));
    let dictionary = root.join("dictionaries").join(format!("{name}.txt"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // Two targets that print at once would be unreadable.
    let output = command.output().with_context(|| format!("cannot run {}", fuzz.display()))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("{printed}\nfuzz {name}: {}", output.status);
        bail!("ended with {}", output.status);
    }
    let summary = printed.lines().rev().find(|line| line.starts_with("Done "));
    println!("fuzz {name}: {}", summary.context("libFuzzer did not say that it is done")?);
    Ok(())
}
