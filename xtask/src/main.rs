//! Developer commands of snpkit: `cargo xtask ci` does all that CI does, the other commands are its steps.

mod artifacts;
mod bench;
mod ci;
mod conformance;
mod deny;
mod differential;
mod dist;
mod fuzz;
mod header_check;
mod metadata;
mod process;
mod readme;
mod workspace;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::process::Outcome;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of snpkit")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that CI does, in order; stops at the first failure
    Ci {
        /// Leaves out cargo-deny and fuzzing
        #[arg(long)]
        fast: bool,
        /// How long each fuzz target runs
        #[arg(long, value_name = "N", default_value_t = 60)]
        fuzz_seconds: u64,
    },
    /// Fetches the firmware, headers and tools of testdata/manifest.toml; prints the environment for `cargo test`
    Artifacts,
    /// Compares the layouts and numbers of snp-abi with the real Linux headers, through the C compiler
    HeaderCheck,
    /// Checks licences, duplicate crates and sources with cargo-deny
    Deny,
    /// Runs the fuzz targets, each for the same time
    Fuzz {
        /// The targets; all if none is named
        targets: Vec<String>,
        /// How long each target runs
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
    },
    /// Runs the benchmarks, compares whole processes with other tools, and prints what the project promises
    Bench {
        /// Only the whole processes: two minutes instead of fifteen
        #[arg(long)]
        processes: bool,
    },
    /// Runs unmodified programs under `snp exec`: the kernel's KVM selftests, QEMU 10 and QEMU 11
    Conformance {
        /// Which of them; all if none is named
        suites: Vec<conformance::Suite>,
    },
    /// Runs random instruction sequences on this machine and in the processor model, and compares
    Differential {
        /// How many
        #[arg(long, value_name = "N", default_value_t = differential::SEQUENCES)]
        sequences: u64,
        /// The seed of a run that is to be repeated
        #[arg(long, value_name = "SEED")]
        seed: Option<String>,
    },
    /// Builds `snp`, statically linked, and its library into target/dist, to be copied to where they are used
    Dist,
    /// Runs the commands of README.md
    Readme,
}

fn main() -> Result<()> {
    let outcome = match Arguments::parse().command {
        Command::Ci { fast, fuzz_seconds } => return ci::run(fast, Duration::from_secs(fuzz_seconds)),
        Command::Artifacts => return print_environment(),
        Command::HeaderCheck => header_check::run(&artifacts::fetch()?)?,
        Command::Deny => deny::run()?,
        Command::Fuzz { targets, seconds } => fuzz::run(&targets, Duration::from_secs(seconds))?,
        Command::Bench { processes } => bench::run(processes)?,
        Command::Conformance { suites } => conformance::run(&suites)?,
        Command::Differential { sequences, seed } => differential::run(sequences, seed.as_deref())?,
        Command::Dist => return dist::run(),
        Command::Readme => readme::run()?,
    };
    if let Outcome::Skipped(reason) = outcome {
        println!("skipped: {reason}");
    }
    Ok(())
}

fn print_environment() -> Result<()> {
    for (name, value) in artifacts::fetch()?.environment() {
        println!("export {name}={}", value.display());
    }
    Ok(())
}
