//! Whole processes against those of other tools, in one run on one machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Row;
use crate::artifacts::Artifacts;
use crate::{conformance, dist, process};

/// The rate at which igvmmeasure measures, bytes per second: no crate of it can be installed, the figure is its users'.
const IGVMMEASURE_RATE: f64 = 245e6;

/// Runs of a process that takes long, of which the fastest counts: what disturbs a run only makes it slower.
const RUNS: u32 = 15;

/// Runs of processes that take milliseconds. Short ones, and those that want two cores at once, are disturbed most: their fastest
/// run takes many to be seen on a machine that is shared.
const SHORT_RUNS: u32 = 100;

/// Firmware of 4 MiB.
const FIRMWARE: &str = "trixie/OVMF.fd";

pub(super) fn rows(artifacts: &Artifacts) -> Result<Vec<Row>> {
    let snp = dist::build()?.snp;
    let mut rows = Vec::new();
    match artifacts.path(FIRMWARE) {
        Some(firmware) => firmware_rows(artifacts, &snp, &firmware, &mut rows)?,
        None => rows.push(Row::not_measured("4 MiB of firmware against other tools", "no firmware")),
    }
    rows.extend(igvm(&snp)?);
    rows.push(shim(artifacts, &snp)?);
    Ok(rows)
}

/// The time that QEMU 10's launch spends in SEV commands under the shim, in those of `snp launch` of the same pages without
/// its start-up.
fn shim(artifacts: &Artifacts, snp: &Path) -> Result<Row> {
    const PROMISE: &str = "SEV commands of QEMU's launch under snp exec / snp launch without its start-up, 4 MiB";
    const AT_MOST: f64 = 1.5;
    let Some(firmware) = artifacts.path(FIRMWARE) else { return Ok(Row::not_measured(PROMISE, "no firmware")) };
    let Some(mut qemu) = conformance::timed_qemu(artifacts)? else {
        return Ok(Row::not_measured(PROMISE, "chroot needs root"));
    };
    let mut best = f64::MAX;
    for _ in 0..RUNS {
        let output = qemu.output().context("cannot run QEMU")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = text.lines().find_map(|line| line.strip_prefix("snp exec: ")?.split_once(" ms in SEV commands"));
        let told = told.with_context(|| format!("QEMU did not launch: {text}"))?.0;
        best = best.min(told.parse::<f64>()? / 1e3);
    }
    let mut launch = Command::new(snp);
    launch.args(["launch", "--profile", "mainline", "--vcpu-type", "EPYC-v4", "--ovmf"]).arg(firmware);
    let start_up = fastest(Command::new(snp).arg("--version"))?.0;
    let ours = fastest(&mut launch)?.0.saturating_sub(start_up);
    Ok(Row::at_most(PROMISE, best / ours.as_secs_f64(), AT_MOST))
}

fn firmware_rows(artifacts: &Artifacts, snp: &Path, firmware: &Path, rows: &mut Vec<Row>) -> Result<()> {
    for vcpus in ["1", "64"] {
        let arguments = ["--vcpu-type", "EPYC-v4", "--vcpus", vcpus, "--ovmf"];
        let command = |tool: &Path, before: &[&str]| {
            let mut command = Command::new(tool);
            command.args(before).args(arguments).arg(firmware);
            command
        };
        let mut commands = vec![command(snp, &["measure"])];
        let mut peers = Vec::new();
        let against = |tool: &str| format!("4 MiB of firmware, {vcpus} vCPUs: time of {tool} / ours, whole process");
        match artifacts.measure() {
            Some(tool) => {
                commands.push(command(tool, &["--mode", "snp"]));
                peers.push(("sev-snp-measure", 20.0));
            }
            None => rows.push(Row::not_measured(against("sev-snp-measure"), "no tool")),
        }
        match artifacts.snpguest() {
            Some(tool) => {
                commands.push(command(tool, &["generate", "measurement", "--output-format", "hex"]));
                peers.push(("snpguest", 4.0));
            }
            None => rows.push(Row::not_measured(against("snpguest"), "no tool")),
        }
        let runs = fastest_in_turn(&mut commands, SHORT_RUNS)?;
        let (ours, theirs) = runs.split_first().context("nothing was run")?;
        for ((tool, promised), run) in peers.into_iter().zip(theirs) {
            ensure!(run.1.trim_start_matches("0x") == ours.1, "{tool}: another digest: {}", run.1);
            rows.push(Row::at_least(against(tool), ratio(run.0, ours.0), promised));
        }
    }
    Ok(())
}

/// 256 MiB of pages that all differ, as an IGVM file.
fn igvm(snp: &Path) -> Result<Vec<Row>> {
    const LEN: usize = 256 << 20;
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    let mut state = 1_u64;
    let words = (0..LEN / 8).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    });
    fs::write(at("pages"), words.collect::<Vec<u8>>())?;
    let run = |command: &mut Command| process::capture(command.current_dir(directory.path()));
    run(Command::new(snp).args(["vmsa", "new", "-o", "vmsa"]))?;
    let pages =
        ["--pages", "0x10000000:normal=pages", "--vmsa", "vmsa", "--vmsa-gpa", "0x20001000", "-o", "large.igvm"];
    run(Command::new(snp).args(["igvm", "build"]).args(pages))?;
    let file = at("large.igvm");
    let len = fs::metadata(&file)?.len();
    let mut measure = Command::new(snp);
    measure.args(["measure", "--igvm"]).arg(&file);
    let (time, _) = fastest(&mut measure)?;
    let rate = LEN as f64 / time.as_secs_f64();
    let peak = peak_memory(&mut measure)?;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    Ok(vec![
        Row::at_least("256 MiB of IGVM: our rate / igvmmeasure's 245 MB/s", rate / IGVMMEASURE_RATE, 4.0),
        Row {
            promise: "256 MiB of IGVM: peak memory".into(),
            measured: mib(peak),
            promised: format!("below {}", mib(len)),
            kept: peak < len,
        },
    ])
}

/// The shortest time of several runs, and what the process prints.
fn fastest(command: &mut Command) -> Result<(Duration, String)> {
    let mut runs = fastest_in_turn(std::slice::from_mut(command), RUNS)?;
    runs.pop().context("nothing was run")
}

/// As [`fastest`] for several commands that are compared: they take turns, so that none has the machine's good moments to itself.
fn fastest_in_turn(commands: &mut [Command], runs: u32) -> Result<Vec<(Duration, String)>> {
    for command in commands.iter_mut() {
        // Cargo's own for what it runs: every library would be looked for in the toolchain's directories first.
        command.env_remove("LD_LIBRARY_PATH");
    }
    let mut best = vec![(Duration::MAX, String::new()); commands.len()];
    for _ in 0..runs {
        for (command, best) in commands.iter_mut().zip(&mut best) {
            let start = Instant::now();
            let printed = process::capture(command)?;
            *best = (best.0.min(start.elapsed()), printed.trim().to_owned());
        }
    }
    Ok(best)
}

fn ratio(theirs: Duration, ours: Duration) -> f64 {
    theirs.as_secs_f64() / ours.as_secs_f64()
}

/// The most resident memory that a process had, as Linux tells it while the process lives.
fn peak_memory(command: &mut Command) -> Result<u64> {
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let status: PathBuf = format!("/proc/{}/status", child.id()).into();
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        if let Some(kib) = fs::read_to_string(&status).ok().and_then(|text| field(&text, "VmHWM:")) {
            peak = peak.max(kib << 10);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if peak == 0 {
        bail!("no peak memory was seen");
    }
    Ok(peak)
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Bytes per second of `openssl speed -evp sha384 -bytes 4096`, one core; `None` without openssl.
pub(super) fn openssl() -> Result<Option<f64>> {
    if !process::exists("openssl") {
        return Ok(None);
    }
    let mut command = process::command("openssl");
    let printed =
        process::capture(command.args(["speed", "-mr", "-seconds", "2", "-bytes", "4096", "-evp", "sha384"]))?;
    // +F:22:SHA384:471213670.40
    let rate = printed.lines().find_map(|line| line.strip_prefix("+F:")?.rsplit(':').next()?.parse().ok());
    rate.context("openssl speed printed no rate").map(Some)
}
