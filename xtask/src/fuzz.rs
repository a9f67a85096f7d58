//! Runs the fuzz targets of `fuzz/`, a workspace of its own.

use std::fs;
use std::path::Path;
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

/// Runs targets, each for that time, from the seeds; all if none is named.
pub(crate) fn run(names: &[String], time: Duration) -> Result<Outcome> {
    let known = targets()?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", known.join(", "));
    }
    // libFuzzer itself is C++.
    process::require("c++", "g++")?;
    let fuzz = process::cargo_tool("cargo-fuzz", VERSION)?;
    seeds()?;
    for name in if names.is_empty() { &known } else { names } {
        run_target(&fuzz, name, time)?;
    }
    Ok(Outcome::Passed)
}

/// Writes the seeds, made by the crates that are fuzzed.
fn seeds() -> Result<()> {
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--release", "--manifest-path", MANIFEST, "--example", "seeds", "fuzz/seeds"]);
    process::run(&mut command)
}

fn run_target(fuzz: &Path, name: &str, time: Duration) -> Result<()> {
    let root = workspace::root().join("fuzz");
    let (corpus, seeds) = (root.join("corpus").join(name), root.join("seeds").join(name));
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let mut command = process::command(fuzz);
    // The crates have no unsafe code to sanitise, and without a sanitizer the stable compiler will do.
    command.args(["run", "--sanitizer", "none", name]).arg(&corpus).arg(&seeds).arg("--").args(LIMITS);
    command.arg(format!("-max_total_time={}", time.as_secs()));
    let dictionary = root.join("dictionaries").join(format!("{name}.txt"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    process::run(command.env("RUSTC_BOOTSTRAP", "1"))
}
