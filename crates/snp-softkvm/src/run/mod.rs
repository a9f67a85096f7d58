//! KVM_RUN.
//!
//! A vCPU's registers are KVM's between two calls (or in its VMSA), and the processor's during one: [`Session`] is one call.
//! The processor runs until a #VMEXIT; what KVM itself answers goes back to the guest, the rest to user space, which answers
//! when it calls again.
//!
//! # Locks
//! A session holds the vCPU's [`Running`] throughout, as Linux holds the vCPU's mutex. Nobody who holds another lock of this
//! crate waits for it. It takes the VM's lock and the vCPU's state for moments.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c (`kvm_arch_vcpu_ioctl_run`, `vcpu_run`, `vcpu_enter_guest`) and arch/x86/kvm/svm/svm.c, read for
//! behaviour.

mod area;
mod bell;
mod complete;
mod cpuid;
mod debugger;
mod device;
mod emulator;
mod encrypted;
mod entry;
mod event;
mod exits;
mod guest_debug;
mod interrupt;
mod msr;
mod peek;
mod plain;
mod port;
mod pre_fault;
mod vmgexit;

pub(crate) use area::RunPages;
pub use area::{RunArea, RunExit};
pub(crate) use bell::Bell;
pub(crate) use plain::{segment, table};

use std::sync::MutexGuard;

use snp_abi::kvm::*;
use snp_abi::{Asid, Errno};
use snp_vcpu::{Exit, Limits, State};

use crate::ghcb::Ghcb;
use crate::memory::VcpuMemory;
use crate::observer::Observer;
use crate::{UserSpace, Vcpu, lock};
use complete::Completion;
use entry::LoadedVmsa;

/// Makes processors for vCPUs: which engine runs guests.
pub trait Engine: std::fmt::Debug + Send + Sync {
    /// A processor for one vCPU; `None`: there is none, and KVM_RUN says so with ENOSYS, which KVM itself never answers there.
    fn processor(&self) -> Option<Box<dyn snp_vcpu::Processor>>;
}

/// No engine: KVM_RUN is not modelled.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEngine;

impl Engine for NoEngine {
    fn processor(&self) -> Option<Box<dyn snp_vcpu::Processor>> {
        None
    }
}

/// The interpreter of `snp-vcpu`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interpreters;

impl Engine for Interpreters {
    fn processor(&self) -> Option<Box<dyn snp_vcpu::Processor>> {
        Some(Box::new(snp_vcpu::Interpreter::new()))
    }
}

/// How far a vCPU may run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// At most so many instructions.
    pub instructions: u64,
    /// It stops before an instruction at one of these linear addresses, but for the first.
    pub breakpoints: &'a [u64],
    /// It waits where KVM_RUN would; else it says [`Stop::Waiting`].
    pub wait: bool,
}

impl Default for Bounds<'_> {
    /// KVM_RUN's: none.
    fn default() -> Self {
        Self { instructions: u64::MAX, breakpoints: &[], wait: true }
    }
}

/// Why a vCPU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// There is an exit for user space in the vCPU's pages.
    Exit,
    /// [`Bounds::instructions`] were executed.
    Limit,
    /// A breakpoint of [`Bounds::breakpoints`].
    Breakpoint,
    /// It has nothing to do until another vCPU, a timer or user space gives it something.
    Waiting,
    /// The same fault would come again and again: Linux cannot resolve it and does not say so. The guest never gets further.
    Stuck,
}

/// What a vCPU keeps between two calls of KVM_RUN, beside what KVM's ioctls show.
#[derive(Debug, Default)]
pub(crate) struct Running {
    processor: Option<Box<dyn snp_vcpu::Processor>>,
    pub(crate) state: State,
    /// The state was made.
    started: bool,
    /// It was in the guest.
    entered: bool,
    completion: Completion,
    /// What the guest asked by its GHCB and is about to be answered, for who watches.
    request: Option<String>,
    vmsa: Option<LoadedVmsa>,
    /// Faults that came again although there is a page: where, and how often in a row.
    retried: (u64, u32),
    /// Of guests with encrypted state.
    ghcb: Option<Ghcb>,
}

impl Running {
    /// Whether the vCPU was ever in the guest.
    pub(crate) fn has_run(&self) -> bool {
        self.entered
    }
}

/// How it goes on after an exit.
#[derive(Debug)]
enum Flow {
    /// In the guest.
    Resume,
    /// KVM_RUN returns 0, with this exit.
    Exit(RunExit),
    /// KVM_RUN fails, with this exit if there is one.
    Fail(Errno, Option<RunExit>),
    /// [`Vcpu::run_within`] returns.
    Stop(Stop),
}

/// One call of KVM_RUN.
struct Session<'a> {
    vcpu: &'a Vcpu,
    user: &'a dyn UserSpace,
    area: RunArea,
    memory: VcpuMemory<'a>,
    running: MutexGuard<'a, Running>,
    /// The guest's state is encrypted, and this is where.
    protected: bool,
    local_apic: bool,
    bounds: Bounds<'a>,
    /// The processor has the registers; before that they are untouched, whatever happens.
    loaded: bool,
    /// Instructions that may still be executed.
    left: u64,
}

impl Vcpu {
    /// KVM_RUN.
    ///
    /// # Errors
    /// EINTR: a signal, or `immediate_exit`. EAGAIN: the vCPU waited for INIT and SIPI, and something came. EFAULT: memory that
    /// is not there, or (with KVM_EXIT_MEMORY_FAULT) is not private or shared as the guest accessed it. EINVAL: unknown
    /// classes of registers to be exchanged, or an SEV VM before INIT2. ENOSYS: there is no engine.
    pub fn run(&self, user: &dyn UserSpace) -> Result<(), Errno> {
        self.run_within(user, &Bounds::default()).map(drop)
    }

    /// KVM_RUN within bounds: for debuggers, and for a caller that runs all vCPUs of a VM in an order of its own. It may go
    /// on with either afterwards.
    ///
    /// # Errors
    /// As [`Vcpu::run`].
    pub fn run_within(&self, user: &dyn UserSpace, bounds: &Bounds<'_>) -> Result<Stop, Errno> {
        let mut session = Session::new(self, user, *bounds)?;
        let flow = session.run();
        session.end(flow)
    }

    /// A signal for the thread that runs the vCPU: KVM_RUN returns EINTR. May be called from a signal handler.
    pub fn kick(&self) {
        self.inner.bell.signal();
    }

    /// After [`Stop::Waiting`]: sleeps until something happens that the vCPU should see, or some milliseconds have passed.
    pub fn wait_a_while(&self) {
        self.inner.bell.wait_a_while();
    }

    /// The pages that KVM_RUN shares with user space.
    pub fn run_area(&self) -> RunArea {
        self.inner.pages.get()
    }

    /// Has KVM_RUN use these pages, which user space maps.
    pub fn set_run_area(&self, area: RunArea) {
        self.inner.pages.set(area);
    }
}

impl<'a> Session<'a> {
    fn new(vcpu: &'a Vcpu, user: &'a dyn UserSpace, bounds: Bounds<'a>) -> Result<Self, Errno> {
        let mut running = lock(&vcpu.inner.running);
        let host = &vcpu.vm.host;
        if running.processor.is_none() {
            running.processor = host.engine.processor();
        }
        if running.processor.is_none() {
            return Err(host.unmodelled("KVM_RUN without a processor model"));
        }
        let (asid, sev_handle) = vcpu.vm.encryption();
        let (protected, local_apic) = {
            let state = vcpu.inner.lock();
            (state.protected, state.devices.has_local_apic())
        };
        let memory =
            VcpuMemory { vm: &vcpu.vm, user, asid: asid.unwrap_or(Asid(0)), sev_handle, vcpu: vcpu.inner.index };
        let area = vcpu.run_area();
        Ok(Self {
            vcpu,
            user,
            area,
            memory,
            running,
            protected,
            local_apic,
            left: bounds.instructions,
            bounds,
            loaded: false,
        })
    }

    fn observer(&self) -> Option<&'a dyn Observer> {
        self.vcpu.vm.observer()
    }

    fn index(&self) -> u32 {
        self.vcpu.inner.index
    }

    /// From the first check to whatever ends the call.
    fn run(&mut self) -> Flow {
        self.area.clear_flags();
        if let Some(flow) = self.enter() {
            return flow;
        }
        loop {
            match self.step() {
                Flow::Resume => {}
                flow => return flow,
            }
        }
    }

    /// Once into the guest, or asleep.
    fn step(&mut self) -> Flow {
        let bell = &self.vcpu.inner.bell;
        if bell.flag().load(std::sync::atomic::Ordering::Acquire) && bell.answer() {
            return Flow::Fail(Errno::EINTR, Some(RunExit::Interrupted));
        }
        if let Some(flow) = self.take_events() {
            return flow;
        }
        if !self.is_runnable() {
            return self.sleep();
        }
        if self.left == 0 {
            return Flow::Stop(Stop::Limit);
        }
        self.give_ghcb();
        let (window, limit) = self.inject();
        let debug = self.guest_debug();
        self.begin_debugging(&debug);
        let exit = self.guest(window, if debug.single_step() { 1 } else { limit });
        let met = self.end_debugging();
        self.after_guest();
        match self.handle(exit, &met) {
            Flow::Resume if debug.single_step() => self.stepped(&met),
            flow => flow,
        }
    }

    /// Runs the processor until it exits.
    fn guest(&mut self, interrupt_window: bool, limit: u64) -> Exit {
        self.running.entered = true;
        let observer = self.observer().filter(|observer| observer.wants_instructions());
        if let Some(observer) = observer {
            observer.instruction(self.vcpu.inner.index, &self.running.state);
        }
        let limits = Limits {
            instructions: if observer.is_some() { 1 } else { self.left.min(limit) },
            kick: self.vcpu.inner.bell.flag(),
            interrupt_window,
            breakpoints: self.bounds.breakpoints,
        };
        let Running { processor, state, .. } = &mut *self.running;
        let (before, tsc) = (state.instructions, state.tsc);
        let exit = processor.as_mut().expect("checked").run(state, &self.memory, &limits);
        let executed = self.running.state.instructions.saturating_sub(before);
        self.left = self.left.saturating_sub(executed);
        // Time goes on by one for each instruction: what is beyond that the guest wrote.
        let moved = self.running.state.tsc.wrapping_sub(tsc.wrapping_add(executed));
        if moved != 0 {
            self.adjust_tsc(moved);
        }
        if let Some(observer) = self.observer().filter(|_| !matches!(exit, Exit::Limit | Exit::Kicked)) {
            observer.exit(self.vcpu.inner.index, &self.running.state, &exit);
        }
        exit
    }

    /// Waits for something to happen.
    fn sleep(&mut self) -> Flow {
        if !self.bounds.wait {
            return Flow::Stop(Stop::Waiting);
        }
        self.leave_guest();
        self.vcpu.inner.bell.wait();
        if self.vcpu.inner.bell.answer() {
            return Flow::Fail(Errno::EINTR, Some(RunExit::Interrupted));
        }
        Flow::Resume
    }

    /// Writes what user space shall see and says what KVM_RUN returns.
    fn end(mut self, flow: Flow) -> Result<Stop, Errno> {
        if !matches!(flow, Flow::Stop(Stop::Limit | Stop::Breakpoint)) {
            self.leave_guest();
        }
        self.store();
        self.synchronise_memory();
        let exit = match &flow {
            Flow::Exit(exit) | Flow::Fail(_, Some(exit)) => Some(exit),
            _ => None,
        };
        if let Some(exit) = exit {
            self.area.put(exit);
            if let Some(observer) = self.observer() {
                observer.user_exit(self.index(), exit);
            }
        }
        self.summarise();
        match flow {
            Flow::Exit(_) | Flow::Resume => Ok(Stop::Exit),
            Flow::Fail(errno, _) => Err(errno),
            Flow::Stop(stop) => Ok(stop),
        }
    }

    /// KVM_EXIT_INTERNAL_ERROR for what the model does not have, and a note.
    fn unmodelled(&self, what: &str) -> Flow {
        self.vcpu.vm.host.unmodelled(what);
        if let Some(observer) = self.observer() {
            observer.unmodelled(self.index(), what);
        }
        Flow::Exit(RunExit::InternalError { suberror: KVM_INTERNAL_ERROR_EMULATION, data: Vec::new() })
    }
}
