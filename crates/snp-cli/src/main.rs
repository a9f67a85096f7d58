//! The `snp` command: launch, measure and check SEV-SNP guests.

mod diff;
mod example;
mod explain;
mod guest;
mod html;
mod id_block;
mod igvm;
mod input;
mod launch;
mod map;
mod measure;
mod profiles;
mod vmsa;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Launch AMD SEV-SNP guests on any machine, and make what a launch needs.
#[derive(Parser, Debug)]
#[command(name = "snp", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Launch(Box<launch::LaunchArgs>),
    Measure(Box<measure::MeasureArgs>),
    Explain(Box<explain::ExplainArgs>),
    Diff(diff::DiffArgs),
    Profiles(profiles::ProfilesArgs),
    #[command(subcommand)]
    Vmsa(vmsa::VmsaCommand),
    #[command(subcommand)]
    IdBlock(id_block::IdBlockCommand),
    #[command(subcommand)]
    Igvm(igvm::IgvmCommand),
    Example(example::ExampleArgs),
}

/// Unusable input or options, as clap's own errors.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Launch(args) => launch::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Profiles(args) => profiles::run(&args),
        Command::IdBlock(command) => id_block::run(command),
        Command::Igvm(command) => igvm::run(&command),
        Command::Vmsa(command) => vmsa::run(&command),
        Command::Example(args) => example::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(UNUSABLE)
    })
}
