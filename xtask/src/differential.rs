//! Random instruction sequences on this machine and in the processor model.

use anyhow::Result;

use crate::process::{self, Outcome};

/// How many sequences a run compares if nothing else is said.
pub(crate) const SEQUENCES: u64 = 1_000_000;

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
