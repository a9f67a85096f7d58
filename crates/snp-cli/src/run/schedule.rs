//! Who runs when: all vCPUs in turn on this thread, or each on its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use snp_softkvm::{Bounds, Vcpu};

use super::end::End;
use super::guest::{Guest, Step};
use super::lock;

/// How many instructions a vCPU runs before the next has its turn. Part of what makes runs equal: another number is another
/// order.
pub(super) const QUANTUM: u64 = 10_000;

/// How many instructions a vCPU on its own thread runs before it looks at the limits.
const SLICE: u64 = 1_000_000;

/// When a run is ended from outside.
#[derive(Debug)]
pub(super) struct Limits {
    max_insns: Option<u64>,
    deadline: Option<(Instant, u64)>,
    interrupted: &'static AtomicBool,
}

impl Limits {
    /// From now on.
    pub(super) fn new(max_insns: Option<u64>, timeout: Option<u64>, interrupted: &'static AtomicBool) -> Self {
        let deadline =
            timeout.and_then(|seconds| Some((Instant::now().checked_add(Duration::from_secs(seconds))?, seconds)));
        Self { max_insns, deadline, interrupted }
    }

    /// Instructions that may still be executed.
    fn left(&self, executed: u64) -> u64 {
        self.max_insns.map_or(u64::MAX, |max| max.saturating_sub(executed))
    }

    /// Whether it is time.
    pub(super) fn reached(&self, executed: u64) -> Option<End> {
        if self.left(executed) == 0 {
            return Some(End::MaxInsns { instructions: executed });
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Some(End::Interrupted);
        }
        let (deadline, seconds) = self.deadline?;
        (Instant::now() >= deadline).then_some(End::Timeout { seconds })
    }
}

/// The order of a deterministic run: where it stands, so that it can be left and taken up.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    /// Whose turn it is.
    vcpu: usize,
    /// How much of its turn is over.
    used: u64,
    /// How many vCPUs in a row had nothing to do.
    idle: usize,
    /// Instructions of all vCPUs.
    pub(super) executed: u64,
}

/// What came of a piece of a turn.
#[derive(Debug)]
pub(super) enum Piece {
    /// Go on.
    Ran,
    /// The vCPU that has its turn reached a breakpoint.
    Breakpoint,
    /// The guest is over.
    End(End),
}

impl Turn {
    /// The vCPU whose turn it is.
    pub(super) fn vcpu<'a>(&self, guest: &'a Guest) -> &'a Vcpu {
        &guest.machine.vcpus[self.vcpu]
    }

    /// Runs the vCPU whose turn it is, at most `most` instructions and not past its turn.
    pub(super) fn run(&mut self, guest: &Guest, most: u64, breakpoints: &[u64]) -> Piece {
        let vcpu = self.vcpu(guest);
        let before = vcpu.instructions();
        let instructions = (QUANTUM - self.used).min(most);
        let step = guest.step(vcpu, &Bounds { instructions, breakpoints, wait: false });
        let executed = vcpu.instructions().saturating_sub(before);
        self.executed += executed;
        // An exit costs a turn something even if no instruction was executed, so that every turn ends.
        self.used += executed.max(1);
        let waits = matches!(step, Step::Waiting);
        if waits || self.used >= QUANTUM {
            self.next(guest);
        }
        self.idle = if waits && executed == 0 { self.idle + 1 } else { 0 };
        match step {
            Step::End(end) => Piece::End(end),
            Step::Breakpoint => Piece::Breakpoint,
            _ if self.idle > guest.machine.vcpus.len() => Piece::End(End::NothingRuns),
            _ => Piece::Ran,
        }
    }

    /// Passes the turn on.
    pub(super) fn next(&mut self, guest: &Guest) {
        self.vcpu = (self.vcpu + 1) % guest.machine.vcpus.len();
        self.used = 0;
    }
}

/// All vCPUs in turn.
pub(super) fn in_turn(guest: &Guest, limits: &Limits) -> End {
    let mut turn = Turn::default();
    loop {
        if let Some(end) = limits.reached(turn.executed) {
            return end;
        }
        if let Piece::End(end) = turn.run(guest, limits.left(turn.executed), &[]) {
            return end;
        }
    }
}

/// The same order once more, up to the end of a run that ended in vCPU `index` after `count` of its instructions: the last
/// ones are remembered by the tracer.
pub(super) fn again(guest: &Guest, index: u32, count: u64, history: u64, limits: &Limits) {
    let mut turn = Turn::default();
    loop {
        let vcpu = turn.vcpu(guest);
        let mut most = u64::MAX;
        if vcpu.index() == index {
            most = count.saturating_sub(history).saturating_sub(vcpu.instructions());
            if most == 0 {
                guest.tracer.remember_instructions();
                most = u64::MAX;
            }
        }
        let reached = limits.reached(0).is_some();
        if reached || matches!(turn.run(guest, most, &[]), Piece::End(_)) {
            return;
        }
    }
}

/// Whether threads would wait for one another's cores more than they run: a vCPU that spins until another has done something
/// keeps its core until the system takes it away.
pub(super) fn has_no_room_for_threads(vcpus: u32) -> bool {
    const PER_CORE: usize = 8;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vcpus as usize > PER_CORE * cores
}

/// Every vCPU on a thread of its own.
pub(super) fn on_threads(guest: &Guest, limits: &Limits) -> End {
    let over = Mutex::new(None);
    let executed = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    let end = |end: End| {
        lock(&over).get_or_insert(end);
        ended.store(true, Ordering::Release);
        guest.machine.vcpus.iter().for_each(Vcpu::kick);
    };
    std::thread::scope(|scope| {
        for vcpu in &guest.machine.vcpus {
            let (executed, ended, end) = (&executed, &ended, &end);
            scope.spawn(move || {
                while !ended.load(Ordering::Acquire) {
                    let before = vcpu.instructions();
                    let instructions = SLICE.min(limits.left(executed.load(Ordering::Relaxed)));
                    let step = guest.step(vcpu, &Bounds { instructions, breakpoints: &[], wait: true });
                    executed.fetch_add(vcpu.instructions().saturating_sub(before), Ordering::Relaxed);
                    if let Step::End(reason) = step {
                        end(reason);
                    }
                }
            });
        }
        // This thread looks at the limits.
        while !ended.load(Ordering::Acquire) {
            if let Some(reason) = limits.reached(executed.load(Ordering::Relaxed)) {
                end(reason);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let end = lock(&over).take();
    end.unwrap_or(End::NothingRuns)
}
