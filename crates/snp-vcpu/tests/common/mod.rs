//! A small machine for tests: memory, one processor, and code at an address.
#![allow(dead_code, unreachable_pub)]

use std::sync::atomic::AtomicBool;

use iced_x86::code_asm::CodeAssembler;
use snp_abi::Segment;
use snp_vcpu::{Exit, FlatMemory, Interpreter, Limits, Processor, Segments, State};

/// Where code is put, and its stack ends.
pub const CODE: u64 = 0x1_0000;
/// Where page tables are, in long mode: they map the first GiB as it is, by pages of 2 MiB.
pub const TABLES: u64 = 0x8_0000;
/// RAM from 0 to here.
pub const RAM: u64 = 0x20_0000;

pub struct Machine {
    pub memory: FlatMemory,
    pub state: State,
    pub processor: Interpreter,
}

impl Machine {
    /// Long mode at CPL 0 with the first GiB mapped, code at [`CODE`], stack below it.
    pub fn long(assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let machine = Self::with_code(64, assemble);
        let memory = &machine.memory;
        memory.write(TABLES, &((TABLES + 0x1000) | 7).to_le_bytes());
        memory.write(TABLES + 0x1000, &((TABLES + 0x2000) | 7).to_le_bytes());
        for entry in 0..512_u64 {
            memory.write(TABLES + 0x2000 + entry * 8, &((entry << 21) | 0x87).to_le_bytes());
        }
        let mut machine = machine;
        let state = &mut machine.state;
        state.cr0 = 0x8001_0033;
        state.cr3 = TABLES;
        state.cr4 = 0x620;
        state.efer = 0xd00;
        let data = Segment { selector: 0x10, attrib: 0xc93, limit: u32::MAX, base: 0 };
        state.segments.registers = [data; 6];
        state.segments[Segments::CS] = Segment { selector: 8, attrib: 0xa9b, limit: u32::MAX, base: 0 };
        state.rip = CODE;
        machine
    }

    /// Real mode, code at [`CODE`] with CS 0x1000.
    pub fn real(assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut machine = Self::with_code(16, assemble);
        let state = &mut machine.state;
        for segment in &mut state.segments.registers {
            *segment = Segment { selector: 0, attrib: 0x93, limit: 0xffff, base: 0 };
        }
        state.segments[Segments::CS] =
            Segment { selector: (CODE >> 4) as u16, attrib: 0x9b, limit: 0xffff, base: CODE };
        state.rip = 0;
        state.gpr[State::RSP] = 0x8000;
        machine
    }

    /// Flat protected mode without paging.
    pub fn protected(assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut machine = Self::with_code(32, assemble);
        let state = &mut machine.state;
        state.cr0 = 0x33;
        let data = Segment { selector: 0x10, attrib: 0xc93, limit: u32::MAX, base: 0 };
        state.segments.registers = [data; 6];
        state.segments[Segments::CS] = Segment { selector: 8, attrib: 0xc9b, limit: u32::MAX, base: 0 };
        state.rip = CODE;
        machine
    }

    fn with_code(bits: u32, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let memory = FlatMemory::new().with_zeros(0, RAM);
        let mut assembler = CodeAssembler::new(bits).expect("a bitness");
        assemble(&mut assembler);
        let address = if bits == 16 { 0 } else { CODE };
        memory.write(CODE, &assembler.assemble(address).expect("valid code"));
        let mut state = State { cr0: 0x10, ..State::default() };
        state.gpr[State::RSP] = CODE;
        Self { memory, state, processor: Interpreter::new() }
    }

    /// Runs until the processor stops.
    pub fn run(&mut self) -> Exit {
        self.run_for(1_000_000)
    }

    pub fn run_for(&mut self, instructions: u64) -> Exit {
        let kick = AtomicBool::new(false);
        let limits = Limits { instructions, kick: &kick, interrupt_window: false, breakpoints: &[] };
        self.processor.run(&mut self.state, &self.memory, &limits)
    }
}
