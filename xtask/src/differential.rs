//! Random instruction sequences on this machine and in the processor model.

use anyhow::Result;

use crate::process::{self, Outcome};

/// How many sequences a run compares if nothing else is said: a million, and some for those that nobody can compare.
pub(crate) const SEQUENCES: u64 = 1_001_000;
/// The seed of CI, where a run must find what the last one found. By hand every run draws another.
pub(crate) const SEED: &str = "0xb";

/// Compares; `seed` is random, and printed, if there is none.
pub(crate) fn run(sequences: u64, seed: Option<&str>) -> Result<Outcome> {
    let mut command = process::cargo();
    command
        .args(["run", "--quiet", "--release", "-p", "snp-differential", "--", "--sequences"])
        .arg(sequences.to_string());
    if let Some(seed) = seed {
        command.args(["--seed", seed]);
    }
    process::run(&mut command)?;
    Ok(Outcome::Passed)
}
