//! Unmodified programs on the software platform: do they see what a host with SEV-SNP would show them?

mod qemu;
mod selftests;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::dist::{self, Programs};
use crate::process::Outcome;
use crate::{artifacts, workspace};
use table::Table;

/// What can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// The KVM selftests of Linux, built from Debian's source package.
    Selftests,
    /// QEMU 10, of bookworm-backports.
    Qemu10,
    /// QEMU 11, of trixie-backports.
    Qemu11,
}

/// Runs the suites and prints a table of every test.
///
/// # Errors
/// A test did not do what is expected of it, or a suite could not be provided.
pub(crate) fn run(suites: &[Suite]) -> Result<Outcome> {
    let all = [Suite::Selftests, Suite::Qemu10, Suite::Qemu11];
    let suites = if suites.is_empty() { &all } else { suites };
    let artifacts = artifacts::fetch()?;
    let programs = dist::build()?;
    let mut table = Table::default();
    for suite in suites {
        match suite {
            Suite::Selftests => selftests::run(&programs, &artifacts, &mut table)?,
            Suite::Qemu10 => qemu::run(&qemu::QEMU_10, &programs, &artifacts, &mut table)?,
            Suite::Qemu11 => qemu::run(&qemu::QEMU_11, &programs, &artifacts, &mut table)?,
        }
    }
    table.print();
    match table.surprises() {
        0 => Ok(Outcome::Passed),
        surprises => bail!("{surprises} tests did not do what is expected of them"),
    }
}

/// A launch of QEMU 10 that tells how long its SEV commands took; `None` where it cannot be run.
pub(crate) fn timed_qemu(artifacts: &artifacts::Artifacts) -> Result<Option<std::process::Command>> {
    qemu::timed(&qemu::QEMU_10, &dist::build()?, artifacts)
}

/// Provides a directory of the cache once: `make` fills one beside it, which then takes its place.
fn provide(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = workspace::cache()?.join("conformance");
    let directory = cache.join(name);
    if directory.is_dir() {
        return Ok(directory);
    }
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    println!("providing {name}");
    let scratch = tempfile::tempdir_in(&cache)?;
    let made = scratch.path().join("made");
    std::fs::create_dir(&made)?;
    make(&made)?;
    std::fs::rename(&made, &directory).with_context(|| format!("cannot move {name} to {}", directory.display()))?;
    Ok(directory)
}
