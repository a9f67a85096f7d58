//! The `snp` command: launch, measure and check SEV-SNP guests.

// `println!` and its kin panic when the pipe is closed or the disk is full: see `output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod attestation;
mod certs;
mod deferred;
mod diff;
mod example;
mod exec;
mod explain;
mod files;
mod guest;
mod html;
mod id_block;
mod igvm;
mod input;
mod kds;
mod launch;
mod map;
mod measure;
mod output;
mod profiles;
mod replay;
mod report;
mod run;
mod verify;
mod vmsa;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use deferred::Deferred;

/// Launch AMD SEV-SNP guests on any machine, and make what a launch needs.
#[derive(Parser, Debug)]
#[command(name = "snp", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Launch a guest on the software platform and print its launch digest.
    Launch(Deferred<launch::LaunchArgs>),
    /// Launch a guest on the software platform and run it.
    Run(Deferred<run::RunArgs>),
    /// Run an unmodified program (QEMU, a selftest) with the software platform for its /dev/kvm and /dev/sev.
    Exec(Deferred<exec::ExecArgs>),
    /// Run a program on this machine's own /dev/kvm and write its launches down.
    Record(Deferred<exec::RecordArgs>),
    /// Perform a transcript again on the software platform and say where its answers depart.
    Replay(Deferred<replay::ReplayArgs>),
    /// Predict the launch digest of a guest.
    Measure(Deferred<measure::MeasureArgs>),
    /// Say which launch gives an observed digest, how it differs from the expected one, and what to change.
    Explain(Deferred<explain::ExplainArgs>),
    /// Compare two launches: the first page where their digests part, then every difference, VMSAs by field.
    Diff(Deferred<diff::DiffArgs>),
    /// List the VMSA profiles (VMM and era) and the IGVM loaders that measure and explain know.
    Profiles(Deferred<profiles::ProfilesArgs>),
    /// Verify an attestation report against AMD's roots and what you ask of it.
    Verify(Deferred<verify::VerifyArgs>),
    /// Look at attestation reports.
    #[command(subcommand)]
    Report(Deferred<report::ReportCommand>),
    /// Certificates of the software platform's TEST endorsement.
    #[command(subcommand)]
    Certs(Deferred<certs::CertsCommand>),
    /// A key distribution service for the software platform.
    #[command(subcommand)]
    Kds(Deferred<kds::KdsCommand>),
    /// Make, show, change, compare and check VMSA pages, the state in which a processor starts.
    #[command(subcommand)]
    Vmsa(Deferred<vmsa::VmsaCommand>),
    /// Make, show and verify ID blocks, by which a guest owner binds a launch to an identity ahead of it.
    #[command(subcommand)]
    IdBlock(Deferred<id_block::IdBlockCommand>),
    /// Show, lint, build and sign IGVM files.
    #[command(subcommand)]
    Igvm(Deferred<igvm::IgvmCommand>),
    /// Write one of snpkit's own example guests as an IGVM file, with its own boot VMSA.
    Example(Deferred<example::ExampleArgs>),
}

/// Unusable input or options, as clap's own errors.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Launch(args) => launch::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Exec(args) => exec::run(&args),
        Command::Record(args) => exec::record(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Measure(args) => measure::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Profiles(args) => profiles::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Report(command) => report::run(&command),
        Command::Certs(command) => certs::run(&command),
        Command::Kds(command) => kds::run(&command),
        Command::IdBlock(command) => id_block::run(&command),
        Command::Igvm(command) => igvm::run(&command),
        Command::Vmsa(command) => vmsa::run(&command),
        Command::Example(args) => example::run(&args),
    };
    result.unwrap_or_else(|error| {
        output::tell!("error: {error:#}");
        ExitCode::from(UNUSABLE)
    })
}
