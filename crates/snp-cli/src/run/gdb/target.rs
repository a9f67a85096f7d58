//! The guest as gdbstub's target.

use std::collections::{BTreeMap, BTreeSet};

use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;
use snp_softkvm::{Vcpu, VcpuVmsa};
use snp_vcpu::{Segments, State};

use super::registers;
use super::watch::Watchpoints;
use crate::run::end::End;
use crate::run::guest::{Guest, Step};
use crate::run::schedule::{Limits, Piece, Turn};

/// After how many pieces of turns the debugger is asked whether it wants something.
const PATIENCE: u32 = 64;

/// A guest under a debugger.
pub(super) struct Debugged<'a> {
    pub(super) guest: &'a Guest,
    pub(super) limits: &'a Limits,
    pub(super) turn: Turn,
    /// How the guest ended.
    pub(super) end: Option<End>,
    breakpoints: BTreeSet<u64>,
    watchpoints: Watchpoints,
    /// vCPUs that shall be stepped.
    steps: BTreeSet<u32>,
    /// vCPUs that shall go on, by name.
    goes_on: BTreeSet<u32>,
    /// Only those shall.
    locked: bool,
    /// Where vCPUs stopped at a breakpoint, by the number of their instructions: they do not stop there again.
    stopped: BTreeMap<u32, u64>,
}

/// Why the guest does not run any more.
pub(super) enum Happened {
    /// The debugger sent something.
    Asked,
    /// Something that the debugger wants to know.
    Stopped(MultiThreadStopReason<u64>),
}

/// Threads are counted from one.
fn tid(vcpu: u32) -> Tid {
    Tid::new(vcpu as usize + 1).expect("not zero")
}

impl<'a> Debugged<'a> {
    pub(super) fn new(guest: &'a Guest, limits: &'a Limits) -> Self {
        Self {
            guest,
            limits,
            turn: Turn::default(),
            end: None,
            breakpoints: BTreeSet::new(),
            watchpoints: Watchpoints::default(),
            steps: BTreeSet::new(),
            goes_on: BTreeSet::new(),
            locked: false,
            stopped: BTreeMap::new(),
        }
    }

    /// Runs the guest until it stops or `asked` says so.
    pub(super) fn run(&mut self, mut asked: impl FnMut() -> bool) -> Happened {
        if let Some(index) = self.steps.pop_first() {
            return Happened::Stopped(self.step(index));
        }
        let breakpoints: Vec<u64> = self.breakpoints.iter().copied().collect();
        for piece in 1_u32.. {
            if piece % PATIENCE == 0 && asked() {
                return Happened::Asked;
            }
            if let Some(end) = self.limits.reached(self.turn.executed) {
                return Happened::Stopped(self.over(end));
            }
            if let Some(reason) = self.piece(&breakpoints) {
                return Happened::Stopped(reason);
            }
        }
        Happened::Asked
    }

    /// A piece of a turn; why it stopped, if the debugger wants to know.
    fn piece(&mut self, breakpoints: &[u64]) -> Option<MultiThreadStopReason<u64>> {
        let vcpu = self.turn.vcpu(self.guest).clone();
        if self.locked && !self.goes_on.contains(&vcpu.index()) {
            self.turn.next(self.guest);
            return None;
        }
        if self.is_at_breakpoint(&vcpu) {
            return Some(self.stopped_at(&vcpu));
        }
        let (most, watched) = match self.watchpoints.is_empty() {
            true => (u64::MAX, None),
            false => (1, self.state(&vcpu).and_then(|state| self.watchpoints.hit(self.guest, &vcpu, &state))),
        };
        match self.turn.run(self.guest, most, breakpoints) {
            Piece::End(end) => Some(self.over(end)),
            Piece::Breakpoint => Some(self.stopped_at(&vcpu)),
            Piece::Ran => {
                watched.map(|(kind, addr)| MultiThreadStopReason::Watch { tid: tid(vcpu.index()), kind, addr })
            }
        }
    }

    /// One instruction of one vCPU.
    fn step(&mut self, index: u32) -> MultiThreadStopReason<u64> {
        let vcpu = self.guest.machine.vcpus[index as usize].clone();
        let before = vcpu.instructions();
        let bounds = snp_softkvm::Bounds { instructions: 1, breakpoints: &[], wait: false };
        loop {
            if let Some(end) = self.limits.reached(self.turn.executed) {
                return self.over(end);
            }
            match self.guest.step(&vcpu, &bounds) {
                Step::End(end) => return self.over(end),
                // An exit came first.
                Step::Answered if vcpu.instructions() == before => {}
                _ => break,
            }
        }
        self.turn.executed += vcpu.instructions().saturating_sub(before);
        MultiThreadStopReason::SignalWithThread { tid: tid(index), signal: Signal::SIGTRAP }
    }

    fn over(&mut self, end: End) -> MultiThreadStopReason<u64> {
        let code = u8::from(!end.is_well());
        self.end = Some(end);
        MultiThreadStopReason::Exited(code)
    }

    /// The debugger's user wants to have a look.
    pub(super) fn interrupted(&self) -> MultiThreadStopReason<u64> {
        let tid = tid(self.turn.vcpu(self.guest).index());
        MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGINT }
    }

    /// Whether a vCPU stands at a breakpoint at which it has not stopped yet. The processor itself only stops at those that it
    /// comes to.
    fn is_at_breakpoint(&self, vcpu: &Vcpu) -> bool {
        !self.breakpoints.is_empty()
            && self.stopped.get(&vcpu.index()) != Some(&vcpu.instructions())
            && self.state(vcpu).is_some_and(|state| self.breakpoints.contains(&linear_rip(&state)))
    }

    fn stopped_at(&mut self, vcpu: &Vcpu) -> MultiThreadStopReason<u64> {
        self.stopped.insert(vcpu.index(), vcpu.instructions());
        MultiThreadStopReason::SwBreak(tid(vcpu.index()))
    }

    /// A vCPU's state; `None`: it has no VMSA.
    fn state(&self, vcpu: &Vcpu) -> Option<State> {
        vcpu.with_state(&self.guest.machine.process, |state| state.clone()).ok().flatten()
    }

    fn vcpu(&self, tid: Tid) -> Result<&'a Vcpu, TargetError<&'static str>> {
        self.guest.machine.vcpus.get(tid.get() - 1).ok_or(TargetError::NonFatal)
    }
}

fn linear_rip(state: &State) -> u64 {
    state.segments[Segments::CS].base.wrapping_add(state.rip)
}

impl Target for Debugged<'_> {
    type Arch = X86_64_SSE;
    type Error = &'static str;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Debugged<'_> {
    fn read_registers(&mut self, registers: &mut X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        // A processor that has no VMSA yet shows zeros.
        *registers = self.state(self.vcpu(tid)?).map_or_else(X86_64CoreRegs::default, |state| registers::of(&state));
        Ok(())
    }

    fn write_registers(&mut self, registers: &X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let written =
            self.vcpu(tid)?.with_state(&self.guest.machine.process, |state| registers::store(registers, state));
        written.ok().flatten().ok_or(TargetError::NonFatal)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let vcpu = self.vcpu(tid)?;
        let state = self.state(vcpu).ok_or(TargetError::NonFatal)?;
        match vcpu.peek(&self.guest.machine.process, &state, start, data) {
            0 if !data.is_empty() => Err(TargetError::NonFatal),
            len => Ok(len),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let vcpu = self.vcpu(tid)?;
        let state = self.state(vcpu).ok_or(TargetError::NonFatal)?;
        let len = vcpu.poke(&self.guest.machine.process, &state, start, data);
        if len == data.len() { Ok(()) } else { Err(TargetError::NonFatal) }
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), &'static str> {
        self.guest.machine.vcpus.iter().for_each(|vcpu| is_active(tid(vcpu.index())));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Debugged<'_> {
    fn thread_extra_info(&self, tid: Tid, buffer: &mut [u8]) -> Result<usize, &'static str> {
        let Ok(vcpu) = self.vcpu(tid) else { return Ok(0) };
        let vmsa = match vcpu.vmsa() {
            VcpuVmsa::None => ", no VMSA",
            VcpuVmsa::Kvm | VcpuVmsa::User(_) => "",
        };
        let text = format!("vCPU {}, APIC ID {:#x}{vmsa}", vcpu.index(), vcpu.apic_id());
        let len = text.len().min(buffer.len());
        buffer[..len].copy_from_slice(&text.as_bytes()[..len]);
        Ok(len)
    }
}

impl MultiThreadResume for Debugged<'_> {
    fn resume(&mut self) -> Result<(), &'static str> {
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), &'static str> {
        self.steps.clear();
        self.goes_on.clear();
        self.locked = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<(), &'static str> {
        if let Ok(vcpu) = self.vcpu(tid) {
            self.goes_on.insert(vcpu.index());
        }
        Ok(())
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSchedulerLocking for Debugged<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), &'static str> {
        self.locked = true;
        Ok(())
    }
}

impl MultiThreadSingleStep for Debugged<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<(), &'static str> {
        if let Ok(vcpu) = self.vcpu(tid) {
            self.steps.insert(vcpu.index());
        }
        Ok(())
    }
}

impl Breakpoints for Debugged<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

/// Breakpoints are the processor model's: no byte of the guest's memory changes.
impl SwBreakpoint for Debugged<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.breakpoints.insert(address);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.remove(&address))
    }
}

impl HwBreakpoint for Debugged<'_> {
    fn add_hw_breakpoint(&mut self, address: u64, kind: usize) -> TargetResult<bool, Self> {
        self.add_sw_breakpoint(address, kind)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, kind: usize) -> TargetResult<bool, Self> {
        self.remove_sw_breakpoint(address, kind)
    }
}

impl HwWatchpoint for Debugged<'_> {
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.watchpoints.add(address, len, kind);
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.watchpoints.remove(address, len, kind))
    }
}
