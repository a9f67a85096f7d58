//! The interpreter: blocks of decoded instructions, executed one by one.
//!
//! An instruction either completes, or has not begun: handlers check and read everything before they change anything.
//! Interrupts, kicks and limits are looked at between blocks, exceptions at every instruction.

mod access;
mod alignment;
mod arithmetic;
mod code;
mod control;
mod cpu;
mod data;
mod debug;
mod decoded;
mod descriptors;
mod events;
mod execute;
mod fast;
mod flags;
mod msr;
mod operands;
mod paging;
mod ports;
mod segments;
mod snp;
mod strings;
mod system;
mod tlb;

use std::sync::atomic::Ordering;

use iced_x86::FlowControl;

use code::{CodeCache, Found};
use cpu::{Cpu, Fault};
use decoded::Decoded;
use tlb::Tlb;

use crate::{Exception, Exit, GuestMemory, Limits, Processor, State, Trap};

/// DR6.BS: a single step.
const DR6_BS: u64 = 1 << 14;

/// An interpreter of x86-64, for one virtual processor. It keeps translations and decoded code between runs.
#[derive(Debug)]
pub struct Interpreter {
    tlb: Tlb,
    code: CodeCache,
    /// What translations depend on, as the last run left it.
    seen: Option<Seen>,
}

/// What the translations of a run depend on: if a hypervisor changes it between runs, they are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    memory: usize,
    control: [u64; 4],
    pkru: u32,
    dr7: u64,
    vmpl: u8,
    virtual_tom: u64,
    encrypted: bool,
}

impl Seen {
    fn of(state: &State, memory: &dyn GuestMemory) -> Self {
        Self {
            memory: std::ptr::from_ref(memory).cast::<()>() as usize,
            control: [state.cr0, state.cr3, state.cr4, state.efer],
            pkru: state.extended.pkru,
            dr7: state.dr7,
            vmpl: state.vmpl.0,
            virtual_tom: state.virtual_tom,
            encrypted: state.sev,
        }
    }
}

impl Interpreter {
    /// One that knows nothing yet.
    pub fn new() -> Self {
        Self { tlb: Tlb::new(), code: CodeCache::new(), seen: None }
    }
}

impl Default for Interpreter {
    fn default() -> Self {
        Self::new()
    }
}

impl Processor for Interpreter {
    fn run(&mut self, state: &mut State, memory: &dyn GuestMemory, limits: &Limits<'_>) -> Exit {
        if self.seen != Some(Seen::of(state, memory)) {
            self.tlb.flush();
        }
        let mut cpu = Cpu::new(state, memory, &mut self.tlb);
        let mut run = Run { code: &mut self.code, limits, left: limits.instructions, first: true };
        let exit = run.until_exit(&mut cpu);
        self.seen = Some(Seen::of(state, memory));
        exit
    }
}

/// One call of [`Processor::run`].
struct Run<'r> {
    code: &'r mut CodeCache,
    limits: &'r Limits<'r>,
    /// Instructions that may still be begun.
    left: u64,
    /// Nothing was executed yet: a breakpoint here was told of before.
    first: bool,
}

impl Run<'_> {
    fn until_exit(&mut self, cpu: &mut Cpu<'_>) -> Exit {
        loop {
            if let Some(exit) = self.between_blocks(cpu) {
                return exit;
            }
            let Err(fault) = self.block(cpu) else { continue };
            match self.resolve(cpu, fault) {
                Ok(()) => {}
                Err(exit) => return exit,
            }
        }
    }

    /// What may happen between two blocks.
    #[inline(always)]
    fn between_blocks(&mut self, cpu: &mut Cpu<'_>) -> Option<Exit> {
        let generation = cpu.memory.generation().load(Ordering::Acquire);
        if generation != cpu.tlb.generation {
            cpu.tlb.generation = generation;
            cpu.tlb.flush();
        }
        if cpu.state.event_inj != 0
            && let Err(fault) = cpu.deliver_injected()
        {
            return Some(self.resolve(cpu, fault).err().unwrap_or(Exit::Kicked));
        }
        if self.left == 0 {
            return Some(Exit::Limit);
        }
        if self.limits.kick.load(Ordering::Relaxed) {
            return Some(Exit::Kicked);
        }
        if self.limits.interrupt_window && cpu.state.takes_interrupts() {
            return Some(Exit::InterruptWindow);
        }
        None
    }

    /// What a fault of an instruction, or on the way to it, comes to: the handler's first instruction, or an exit.
    #[expect(clippy::boxed_local, reason = "faults are boxed where they are made")]
    fn resolve(&mut self, cpu: &mut Cpu<'_>, fault: Fault) -> Result<(), Exit> {
        let delivered = match *fault {
            Trap::Exception(exception) => {
                cpu.forget_answers();
                if cpu.state.is_intercepted(exception.vector) {
                    return Err(Exit::Exception(exception));
                }
                cpu.raise(&exception)
            }
            other => Err(Box::new(other)),
        };
        match delivered {
            Ok(()) => Ok(()),
            Err(fault) => Err(match *fault {
                Trap::Exit(exit) => *exit,
                Trap::Unmodelled(what) => Exit::Unmodelled(format!("{what}, at {:#x}", cpu.state.rip)),
                Trap::Exception(exception) => unreachable!("{exception:?} was delivered"),
            }),
        }
    }

    /// Executes the block at RIP, or the first instruction of it where each must be looked at.
    fn block(&mut self, cpu: &mut Cpu<'_>) -> Result<(), Fault> {
        if cpu.steps() || !self.limits.breakpoints.is_empty() {
            return self.step(cpu);
        }
        cpu.end_block = false;
        let one = cpu.state.interrupt_shadow;
        cpu.state.interrupt_shadow = false;
        let (id, mut crossing) = match self.code.find(cpu)? {
            Found::Block(id) => (id, None),
            Found::Crossing(decoded) => (0, Some(decoded)),
        };
        let block = match &mut crossing {
            Some(decoded) => std::slice::from_ref(&**decoded),
            None => self.code.block(id),
        };
        let budget = if one { 1 } else { self.left.min(block.len() as u64) as usize };
        let before = cpu.state.instructions;
        let done = cpu.execute_all(&block[..budget]);
        self.left -= (cpu.state.instructions - before).min(self.left);
        self.first = false;
        done
    }

    /// Executes one instruction, with everything that debugging looks at.
    #[cold]
    fn step(&mut self, cpu: &mut Cpu<'_>) -> Result<(), Fault> {
        let address = cpu.fetch_address();
        if !std::mem::take(&mut self.first) && self.limits.breakpoints.contains(&address) {
            return Err(Exit::Breakpoint.into());
        }
        let resumed = cpu.state.rflags & flags::RF != 0;
        let hits = if resumed { 0 } else { cpu.code_breakpoints(address) };
        if hits != 0 {
            cpu.state.dr6 = cpu.state.dr6 & !0xf | hits;
            return Err(Exception::DEBUG.into());
        }
        cpu.state.rflags &= !flags::RF;
        cpu.end_block = false;
        cpu.state.interrupt_shadow = false;
        let single = cpu.state.rflags & flags::TF != 0;
        let crossing;
        let decoded = match self.code.find(cpu)? {
            Found::Block(id) => &self.code.block(id)[..1],
            Found::Crossing(decoded) => {
                crossing = decoded;
                std::slice::from_ref(&*crossing)
            }
        };
        self.left -= 1;
        if cpu.checks_alignment() {
            cpu.check_alignment(&decoded[0].instruction)?;
        }
        // A software interrupt clears TF before the trap, and the trap is not made up for.
        let single = single && decoded[0].instruction.flow_control() != FlowControl::Interrupt;
        cpu.execute_all(decoded)?;
        let hits = std::mem::take(&mut cpu.debug_hits) | if single { DR6_BS } else { 0 };
        if hits != 0 && !(single && cpu.state.interrupt_shadow) {
            cpu.state.dr6 |= hits;
            return Err(Exception::DEBUG.into());
        }
        Ok(())
    }
}

impl Cpu<'_> {
    /// Each instruction must be looked at: it is stepped through, resumed, checked for alignment, or breakpoints are set.
    #[inline(always)]
    fn steps(&self) -> bool {
        const LOOKED_AT: u64 = flags::TF | flags::RF | flags::AC;
        let flags = self.state.rflags;
        self.has_breakpoints() || flags & LOOKED_AT != 0 && (flags & LOOKED_AT != flags::AC || self.checks_alignment())
    }

    /// Executes instructions that follow one another, until one of them goes elsewhere.
    ///
    /// RIP and the counters are kept up only for instructions that look at them; for the others it is made up for when they
    /// fault and at the end.
    #[inline(always)]
    fn execute_all(&mut self, block: &[Decoded]) -> Result<(), Fault> {
        let mask = self.mode.ip_mask();
        let mut counted = 0;
        for (index, decoded) in block.iter().enumerate() {
            if decoded.plain {
                let done = (decoded.run)(self, decoded);
                if done.is_ok() && !self.end_block {
                    continue;
                }
                self.count(index + 1 - counted);
                counted = index + 1;
                self.state.rip = decoded.instruction.ip();
                done?;
                self.state.rip = decoded.instruction.next_ip() & mask;
            } else {
                self.count(index + 1 - counted);
                counted = index + 1;
                self.state.rip = decoded.instruction.ip();
                self.next_rip = decoded.instruction.next_ip() & mask;
                (decoded.run)(self, decoded)?;
                self.state.rip = self.next_rip;
                if !self.end_block {
                    continue;
                }
            }
            break;
        }
        if !self.end_block
            && let Some(last) = block.last().filter(|last| last.plain)
        {
            self.count(block.len() - counted);
            self.state.rip = last.instruction.next_ip() & mask;
        }
        if self.mmio_used != 0 || !self.state.mmio.is_empty() {
            self.forget_answers();
        }
        Ok(())
    }

    /// So many instructions were begun.
    #[inline(always)]
    fn count(&mut self, instructions: usize) {
        self.state.instructions = self.state.instructions.wrapping_add(instructions as u64);
        self.state.tsc = self.state.tsc.wrapping_add(instructions as u64);
    }

    /// The instruction is done with what the hypervisor answered.
    fn forget_answers(&mut self) {
        self.state.mmio.clear();
        self.mmio_used = 0;
    }

    /// The linear address of the next instruction.
    #[inline(always)]
    fn fetch_address(&self) -> u64 {
        if self.mode.bits == 64 {
            self.state.rip
        } else {
            self.state.segments[crate::Segments::CS].base.wrapping_add(self.state.rip) & 0xffff_ffff
        }
    }
}
