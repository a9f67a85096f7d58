//! `snp run`: `snp launch` on the software platform, and then the guest runs.

mod args;
mod devices;
mod disassembly;
mod end;
mod gdb;
mod guest;
mod schedule;
mod trace;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use snp_launch::{LaunchError, NoObserver};
use snp_softkvm::{Engine, SoftPlatform};
use snp_vcpu::{Interpreter, Processor};

use crate::launch::transcript::Transcript;
use crate::launch::{self, BackendName, PreparedLaunch};
use crate::output::{self, tell};
pub(crate) use args::RunArgs;
use devices::Devices;
use end::End;
use guest::Guest;
use schedule::Limits;
use trace::Tracer;

/// The guest did not end well, or its launch was refused.
const NOT_WELL: u8 = 1;

/// The user's signal.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Every vCPU on an interpreter of its own.
#[derive(Debug)]
struct Interpreters;

impl Engine for Interpreters {
    fn processor(&self) -> Option<Box<dyn Processor>> {
        Some(Box::new(Interpreter::new()))
    }
}

/// A run that is over.
#[derive(Serialize)]
struct Report {
    launch_digest: Option<String>,
    image: String,
    profile: &'static str,
    platform: &'static str,
    deterministic: bool,
    seed: String,
    end: End,
    ended_well: bool,
    instructions: u64,
    vcpus: Vec<Vcpu>,
    unanswered_ports: Vec<Port>,
    trace_hash: Option<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Vcpu {
    index: u32,
    instructions: u64,
}

#[derive(Serialize)]
struct Port {
    port: String,
    accesses: u64,
}

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let launch = &args.launch;
    ensure!(launch.backend == BackendName::Soft, "--backend kvm: guests run on the software platform only");
    ensure!(
        !launch.attest.wanted(),
        "--report: a guest that runs asks for its report itself; use `snp launch --report`"
    );
    ensure!(
        launch.html.is_none(),
        "--html: `snp run` writes no page; use `snp launch --html`, whose launch is the same"
    );
    // Traces of several kinds may share a file.
    for target in &args.trace {
        launch::files(launch).writes("--trace", target.file.as_deref()).distinct()?;
    }
    launch::files(launch).distinct()?;
    let mut config = launch.platform.config();
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    let seed = hex(&config.seed);
    let (prepared, platform) = launch::prepare_soft(launch, config)?;
    match execute(args, prepared, &platform, seed) {
        Ok(report) => {
            print(launch.json, &report)?;
            Ok(if report.ended_well { ExitCode::SUCCESS } else { ExitCode::from(NOT_WELL) })
        }
        Err(Failed::Refused(error)) => {
            launch::refused(launch.json, &error)?;
            Ok(ExitCode::from(NOT_WELL))
        }
        Err(Failed::Other(error)) => Err(error),
    }
}

enum Failed {
    Refused(LaunchError),
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn execute(
    args: &RunArgs,
    prepared: PreparedLaunch,
    platform: &SoftPlatform,
    seed: String,
) -> std::result::Result<Report, Failed> {
    let launch = &args.launch;
    let asked = args.deterministic || !args.trace.is_empty() || args.gdb.is_some();
    let deterministic = asked || launch.vcpus == 1 || schedule::has_no_room_for_threads(launch.vcpus);
    let tracer = Arc::new(Tracer::new(&args.trace, deterministic)?);
    // What the guest says goes to standard output, unless that is for a program to read.
    let output: Box<dyn Write + Send> =
        if launch.json { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) };
    let guest = boot(launch.transcript.as_deref(), &prepared, platform, tracer, output)?;
    let digest = guest.machine.launched.digest.map(|digest| digest.to_string());
    if let (false, Some(digest)) = (launch.json, &digest) {
        tell!("launch digest {digest}");
    }
    // A second handler would be refused; there is none in this command.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
    let limits = Limits::new(args.max_insns, args.timeout, &INTERRUPTED);
    let mut end = match args.gdb {
        Some(address) => gdb::serve(&guest, &limits, address)?,
        None if deterministic => schedule::in_turn(&guest, &limits),
        None => schedule::on_threads(&guest, &limits),
    };
    let said = guest.devices.finish();
    guest.tracer.look_at(None);
    if let (End::TripleFault { vcpu, last_instructions, .. }, true, None) = (&mut end, deterministic, args.gdb) {
        *last_instructions = history(&prepared, platform, &guest, *vcpu, &limits)?;
    }
    let instructions = guest.instructions();
    let unanswered = guest.devices.unanswered();
    let hash = guest.tracer.finish()?;
    said.context("the guest's output")?;
    Ok(Report {
        launch_digest: digest,
        image: prepared.image,
        profile: launch::profile_of(launch).name(),
        platform: launch.platform.name(),
        deterministic,
        seed,
        ended_well: end.is_well(),
        end,
        instructions: instructions.iter().sum(),
        vcpus: (0..).zip(instructions).map(|(index, instructions)| Vcpu { index, instructions }).collect(),
        unanswered_ports: unanswered
            .into_iter()
            .map(|(port, accesses)| Port { port: format!("{port:#x}"), accesses })
            .collect(),
        trace_hash: deterministic.then_some(hash),
        warnings: prepared.warnings,
    })
}

/// Launches the guest, with the tracer watching; `transcript` is where the launch is written down.
fn boot(
    transcript: Option<&Path>,
    prepared: &PreparedLaunch,
    platform: &SoftPlatform,
    tracer: Arc<Tracer>,
    output: Box<dyn Write + Send>,
) -> std::result::Result<Guest, Failed> {
    let engine = Arc::new(Interpreters);
    let mut transcript = transcript.map(|path| Transcript::of(&prepared.plan, path)).transpose()?;
    let machine = match &mut transcript {
        Some(transcript) => platform.boot(&prepared.plan, engine, transcript),
        None => platform.boot(&prepared.plan, engine, &mut NoObserver),
    };
    transcript.map(Transcript::keep).transpose()?;
    let machine = match machine {
        Ok(machine) => Arc::new(machine),
        Err(error @ (LaunchError::Refused { .. } | LaunchError::Cpuid { .. })) => return Err(Failed::Refused(error)),
        Err(error) => return Err(error.into()),
    };
    machine.vm.observe(tracer.clone());
    tracer.look_at(Some(machine.clone()));
    Ok(Guest { machine, devices: Devices::new(output), tracer, certificates: OnceLock::new() })
}

/// The last instructions before a run's end, from a second run that is the same: remembering them from the first would cost
/// every run most of its speed.
fn history(
    prepared: &PreparedLaunch,
    platform: &SoftPlatform,
    first: &Guest,
    vcpu: u32,
    limits: &Limits,
) -> std::result::Result<Vec<String>, Failed> {
    let count = first.machine.vcpus[vcpu as usize].instructions();
    let second = boot(None, prepared, platform, Arc::new(Tracer::silent()), Box::new(std::io::sink()))?;
    schedule::again(&second, vcpu, count, trace::HISTORY as u64, limits);
    second.tracer.look_at(None);
    Ok(second.tracer.history())
}

fn print(json: bool, report: &Report) -> Result<()> {
    if json {
        return output::print(serde_json::to_string_pretty(report)? + "\n");
    }
    for warning in &report.warnings {
        tell!("warning: {warning}");
    }
    if !report.unanswered_ports.is_empty() {
        let ports: Vec<&str> = report.unanswered_ports.iter().map(|port| port.port.as_str()).collect();
        tell!("note: the guest used ports behind which there is nothing: {}", ports.join(", "));
    }
    tell!("{}", report.end.text());
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Locks, also after another thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
