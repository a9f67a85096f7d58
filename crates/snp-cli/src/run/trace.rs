//! What is written down of a run, and its hash.
//!
//! Lines are described in docs/trace.md; they are stable. In a deterministic run the hash covers all lines of the kinds exits,
//! ghcb and rmp, written or not, and those of insns if they are traced.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use snp_abi::RmpEntry;
use snp_softkvm::{Machine, Observer, RmpCause, RmpChange, RunExit};
use snp_vcpu::{Exit, State};
use snp_vmsa::check::Finding;

use super::args::{TraceKind, TraceTarget};
use super::{disassembly, lock};
use crate::output;

/// How many instructions before a triple fault are told.
pub(super) const HISTORY: usize = 16;

/// Watches a guest.
pub(super) struct Tracer {
    /// Instructions are looked at one by one.
    stepping: AtomicBool,
    /// Whether lines are made at all.
    hashing: bool,
    written: Mutex<Written>,
    notes: Mutex<Notes>,
    /// The guest, while it runs: for the text of instructions.
    machine: Mutex<Option<Arc<Machine>>>,
}

/// Where lines go.
struct Written {
    hash: Sha256,
    sinks: BTreeMap<TraceKind, Sink>,
    failed: Option<std::io::Error>,
}

type Sink = Arc<Mutex<Box<dyn Write + Send>>>;

/// What is remembered for the end.
#[derive(Debug, Default)]
struct Notes {
    unmodelled: Option<String>,
    findings: Vec<String>,
    requests: BTreeMap<u32, String>,
    history: VecDeque<String>,
}

impl Tracer {
    /// `hashing`: the order of lines means something.
    pub(super) fn new(targets: &[TraceTarget], hashing: bool) -> Result<Self> {
        let mut files: BTreeMap<_, Sink> = BTreeMap::new();
        let mut sinks = BTreeMap::new();
        for target in targets {
            let sink = match &target.file {
                None => sink(std::io::stderr()),
                Some(path) => match files.get(path) {
                    Some(sink) => sink.clone(),
                    None => {
                        let file = File::create(path).with_context(|| format!("trace {}", path.display()))?;
                        files.entry(path).or_insert(sink(BufWriter::new(file))).clone()
                    }
                },
            };
            sinks.insert(target.kind, sink);
        }
        Ok(Self {
            stepping: AtomicBool::new(sinks.contains_key(&TraceKind::Insns)),
            hashing: hashing || !sinks.is_empty(),
            written: Mutex::new(Written { hash: Sha256::new(), sinks, failed: None }),
            notes: Mutex::default(),
            machine: Mutex::default(),
        })
    }

    /// One that writes nothing.
    pub(super) fn silent() -> Self {
        Self::new(&[], false).expect("no file is made")
    }

    /// Gives it the guest to look at, or takes it away.
    pub(super) fn look_at(&self, machine: Option<Arc<Machine>>) {
        *lock(&self.machine) = machine;
    }

    /// From now on instructions are remembered.
    pub(super) fn remember_instructions(&self) {
        self.stepping.store(true, Ordering::Relaxed);
    }

    /// The last instructions that were remembered.
    pub(super) fn history(&self) -> Vec<String> {
        lock(&self.notes).history.iter().cloned().collect()
    }

    pub(super) fn findings(&self) -> Vec<String> {
        lock(&self.notes).findings.clone()
    }

    pub(super) fn unmodelled_so_far(&self) -> Option<String> {
        lock(&self.notes).unmodelled.clone()
    }

    pub(super) fn last_request(&self, vcpu: u32) -> Option<String> {
        lock(&self.notes).requests.get(&vcpu).cloned()
    }

    /// Ends the trace: the hash, in hexadecimal.
    ///
    /// # Errors
    /// The first that a file gave.
    pub(super) fn finish(&self) -> Result<String> {
        let mut written = lock(&self.written);
        for (kind, sink) in &written.sinks {
            output::unless_closed(lock(sink).flush()).with_context(|| format!("trace of {}", kind.name()))?;
        }
        match written.failed.take() {
            Some(error) => Err(error).context("trace"),
            None => Ok(written.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    fn line(&self, kind: TraceKind, line: &str) {
        if !self.hashing {
            return;
        }
        let mut written = lock(&self.written);
        written.hash.update(line);
        written.hash.update("\n");
        let Some(sink) = written.sinks.get(&kind).cloned() else { return };
        if let Err(error) = output::unless_closed(writeln!(lock(&sink), "{line}")) {
            // The first failure is the cause; the run itself goes on.
            written.failed.get_or_insert(error);
        }
    }
}

fn sink(output: impl Write + Send + 'static) -> Sink {
    Arc::new(Mutex::new(Box::new(output)))
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Observer for Tracer {
    fn wants_instructions(&self) -> bool {
        self.stepping.load(Ordering::Relaxed)
    }

    fn instruction(&self, vcpu: u32, state: &State) {
        let machine = lock(&self.machine).clone();
        let text = machine.and_then(|machine| {
            let vcpu = machine.vcpus.get(vcpu as usize)?;
            Some(disassembly::text(disassembly::next(&machine, vcpu, state).as_ref()))
        });
        let text = text.unwrap_or_else(|| "?".into());
        let mut notes = lock(&self.notes);
        if notes.history.len() == HISTORY {
            notes.history.pop_front();
        }
        notes.history.push_back(format!("{:#x}  {text}", state.rip));
        drop(notes);
        self.line(TraceKind::Insns, &format!("insns vcpu={vcpu} n={} rip={:#x} {text}", state.instructions, state.rip));
    }

    fn exit(&self, vcpu: u32, state: &State, exit: &Exit) {
        if self.hashing && !matches!(exit, Exit::Breakpoint | Exit::InterruptWindow) {
            let head = format!("exits vcpu={vcpu} n={} rip={:#x}", state.instructions, state.rip);
            self.line(TraceKind::Exits, &format!("{head} {}", guest_exit(state, exit)));
        }
    }

    fn user_exit(&self, vcpu: u32, exit: &RunExit) {
        if self.hashing {
            self.line(TraceKind::Exits, &format!("exits vcpu={vcpu} user {}", user_exit(exit)));
        }
    }

    fn ghcb(&self, vcpu: u32, request: &str, answer: &str) {
        lock(&self.notes).requests.insert(vcpu, request.to_owned());
        self.line(TraceKind::Ghcb, &format!("ghcb vcpu={vcpu} {request} -> {answer}"));
    }

    fn rmp(&self, change: &RmpChange) {
        if self.hashing {
            self.line(TraceKind::Rmp, &rmp(change));
        }
    }

    fn entry_refused(&self, vcpu: u32, findings: &[Finding]) {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        self.line(TraceKind::Exits, &format!("exits vcpu={vcpu} refused {}", findings.join("; ")));
        lock(&self.notes).findings = findings;
    }

    fn unmodelled(&self, vcpu: u32, what: &str) {
        self.line(TraceKind::Exits, &format!("exits vcpu={vcpu} unmodelled {what}"));
        lock(&self.notes).unmodelled = Some(what.to_owned());
    }
}

/// A #VMEXIT.
fn guest_exit(state: &State, exit: &Exit) -> String {
    match exit {
        Exit::Vmgexit => format!("vmgexit msr={:#x}", state.ghcb),
        Exit::Port(access) => {
            let direction = if access.input { "in" } else { "out" };
            let data = if access.input { String::new() } else { format!(" data={:#x}", access.data) };
            format!("{direction} port={:#x} size={} count={}{data}", access.port, access.size, access.count)
        }
        Exit::NestedFault(fault) => {
            let mut text = format!("npf gpa={:#x} {:?}", fault.gpa, fault.kind).to_lowercase();
            let flags =
                [(fault.private, " private"), (fault.table, " table"), (fault.rmp, " rmp"), (fault.vmpl, " vmpl")];
            flags.iter().filter(|(set, _)| *set).for_each(|(_, name)| text.push_str(name));
            text
        }
        Exit::Mmio { gpa, len, data } => {
            let direction = if data.is_some() { "write" } else { "read" };
            format!("mmio gpa={gpa:#x} {direction} len={len}")
        }
        Exit::ReadMsr { index, .. } => format!("rdmsr {index:#x}"),
        Exit::WriteMsr { index, value, .. } => format!("wrmsr {index:#x} value={value:#x}"),
        Exit::Instruction { name, .. } => format!("intercepted {name}"),
        Exit::Halt { .. } => "hlt".into(),
        Exit::Cpuid { .. } => "cpuid".into(),
        Exit::Hypercall { .. } => "hypercall".into(),
        Exit::Exception(exception) => format!("exception {}", exception.vector),
        Exit::Shutdown => "shutdown".into(),
        Exit::Unmodelled(what) => format!("unmodelled {what}"),
        Exit::Limit | Exit::Kicked | Exit::InterruptWindow | Exit::Breakpoint => "none".into(),
    }
}

/// An exit to user space.
fn user_exit(exit: &RunExit) -> String {
    match exit {
        RunExit::Io { input, size, port, count } => {
            format!("io {} port={port:#x} size={size} count={count}", if *input { "in" } else { "out" })
        }
        RunExit::Mmio { gpa, len, write, .. } => {
            format!("mmio gpa={gpa:#x} {} len={len}", if *write { "write" } else { "read" })
        }
        RunExit::Hypercall { nr, args, .. } => {
            format!("hypercall nr={nr} args={:#x},{:#x},{:#x}", args[0], args[1], args[2])
        }
        RunExit::MemoryFault { flags, gpa, size } => {
            format!("memory-fault gpa={gpa:#x} size={size:#x} flags={flags:#x}")
        }
        RunExit::SystemEvent { kind, data } => {
            let mut text = format!("system-event type={kind}");
            data.iter().for_each(|value| {
                let _ = write!(text, " {value:#x}");
            });
            text
        }
        RunExit::InternalError { suberror, .. } => format!("internal-error suberror={suberror}"),
        RunExit::FailEntry { hardware_entry_failure_reason, .. } => {
            format!("fail-entry reason={hardware_entry_failure_reason:#x}")
        }
        RunExit::Msr { write, index, data, .. } => {
            format!("{} {index:#x} data={data:#x}", if *write { "wrmsr" } else { "rdmsr" })
        }
        RunExit::Halt => "hlt".into(),
        RunExit::Shutdown => "shutdown".into(),
        RunExit::Interrupted => "intr".into(),
        RunExit::ApResetHold => "ap-reset-hold".into(),
        other => format!("reason={}", other.reason()),
    }
}

/// A change of an RMP entry.
fn rmp(change: &RmpChange) -> String {
    let cause = match change.cause {
        RmpCause::Fault => "assigned".into(),
        RmpCause::Pvalidate { validate } => format!("pvalidate validate={}", u8::from(validate)),
        RmpCause::Rmpadjust(adjust) => format!(
            "rmpadjust target={} permissions={:#x} vmsa={}",
            adjust.target.0,
            adjust.permissions.0,
            u8::from(adjust.vmsa)
        ),
    };
    let answer = change.answer.map(|answer| format!(" answer={answer:?}")).unwrap_or_default();
    format!(
        "rmp vcpu={} gpa={:#x} {cause} {} -> {}{answer}",
        change.vcpu,
        change.gpa.0,
        entry(&change.before),
        entry(&change.after)
    )
}

/// An RMP entry: its state, V if it is a VMSA, and the rights of VMPL0 to VMPL3.
fn entry(entry: &RmpEntry) -> String {
    let [a, b, c, d] = entry.permissions.map(|permissions| permissions.0);
    let vmsa = if entry.vmsa { "+vmsa" } else { "" };
    format!("{:?}{vmsa}[{a:x},{b:x},{c:x},{d:x}]", entry.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_their_files_and_into_the_hash() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let target = |kind| TraceTarget { kind, file: Some(path.clone()) };
        let tracer = Tracer::new(&[target(TraceKind::Ghcb), target(TraceKind::Exits)], true).unwrap();
        tracer.ghcb(0, "a", "b");
        tracer.user_exit(1, &RunExit::Shutdown);
        let hash = tracer.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ghcb vcpu=0 a -> b\nexits vcpu=1 user shutdown\n");
        let silent = Tracer::new(&[], true).unwrap();
        silent.ghcb(0, "a", "b");
        silent.user_exit(1, &RunExit::Shutdown);
        assert_eq!(silent.finish().unwrap(), hash, "what is written does not matter");
        silent.ghcb(0, "a", "b");
        assert_ne!(silent.finish().unwrap(), hash);
    }
}
