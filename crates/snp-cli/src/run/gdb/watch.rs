//! Watchpoints: whether the next instruction accesses memory that is watched.

use gdbstub::target::ext::breakpoints::WatchKind;
use iced_x86::{Instruction, InstructionInfoFactory, InstructionInfoOptions, OpAccess, Register, UsedMemory};
use snp_softkvm::Vcpu;
use snp_vcpu::{Segments, State};

use crate::run::disassembly;
use crate::run::guest::Guest;

/// What is watched.
#[derive(Default)]
pub(super) struct Watchpoints {
    ranges: Vec<(u64, u64, WatchKind)>,
}

impl Watchpoints {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn add(&mut self, address: u64, len: u64, kind: WatchKind) {
        self.ranges.push((address, len, kind));
    }

    pub(super) fn remove(&mut self, address: u64, len: u64, kind: WatchKind) -> bool {
        let at = self.ranges.iter().position(|range| *range == (address, len, kind));
        at.map(|at| self.ranges.remove(at)).is_some()
    }

    /// The watchpoint that the next instruction hits, and its address.
    pub(super) fn hit(&self, guest: &Guest, vcpu: &Vcpu, state: &State) -> Option<(WatchKind, u64)> {
        let instruction = disassembly::next(&guest.machine, vcpu, state)?;
        let accesses = accesses(&instruction, state);
        let hits = |&(start, len, kind): &(u64, u64, WatchKind)| {
            accesses.iter().any(|access| {
                let right = match kind {
                    WatchKind::Write => access.writes,
                    WatchKind::Read => access.reads,
                    WatchKind::ReadWrite => true,
                };
                let meet = access.address.wrapping_sub(start) < len || start.wrapping_sub(access.address) < access.len;
                right && meet
            })
        };
        self.ranges.iter().find(|range| hits(range)).map(|(start, _, kind)| (*kind, *start))
    }
}

/// What an instruction accesses. CMOV and its like count whether they move or not, as on a processor.
fn accesses(instruction: &Instruction, state: &State) -> Vec<MemoryAccess> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info_options(instruction, InstructionInfoOptions::NO_REGISTER_USAGE);
    info.used_memory().iter().filter_map(|memory| MemoryAccess::of(memory, state)).collect()
}

#[derive(Debug)]
struct MemoryAccess {
    address: u64,
    len: u64,
    reads: bool,
    writes: bool,
}

impl MemoryAccess {
    fn of(memory: &UsedMemory, state: &State) -> Option<Self> {
        let (reads, writes) = match memory.access() {
            OpAccess::Read | OpAccess::CondRead => (true, false),
            OpAccess::Write | OpAccess::CondWrite => (false, true),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
            _ => return None,
        };
        let address = memory.virtual_address(0, |register, _, _| Some(value(register, state)))?;
        // The size of XSAVE areas is not in the instruction.
        let len = memory.memory_size().size().max(1) as u64;
        Some(Self { address, len, reads, writes })
    }
}

/// A register of an address: for segment registers the base.
fn value(register: Register, state: &State) -> u64 {
    if register.is_segment_register() {
        let base = match register {
            Register::FS => state.segments[Segments::FS].base,
            Register::GS => state.segments[Segments::GS].base,
            Register::CS => state.segments[Segments::CS].base,
            Register::SS => state.segments[Segments::SS].base,
            Register::DS => state.segments[Segments::DS].base,
            _ => state.segments[Segments::ES].base,
        };
        // In 64-bit mode the bases of all but FS and GS are zero, whatever the registers hold.
        let flat = state.efer & 1 << 10 != 0 && state.segments[Segments::CS].attrib & 1 << 9 != 0;
        return if flat && !matches!(register, Register::FS | Register::GS) { 0 } else { base };
    }
    let value = state.gpr[register.full_register().number()];
    match register.size() {
        8 => value,
        4 => value & 0xffff_ffff,
        2 => value & 0xffff,
        _ => value & 0xff,
    }
}
