//! Random bytes as guest code, page tables, descriptor tables and registers: the processor model neither panics, nor reaches
//! outside of guest memory, nor runs on beyond its limit of instructions.
#![no_main]

use std::sync::atomic::AtomicBool;

use libfuzzer_sys::fuzz_target;
use snp_abi::{Segment, SevFeatures};
use snp_vcpu::{Exit, FlatMemory, Interpreter, Limits, Processor, Segments, State};

/// Guest memory: 64 KiB from 0 on, so that random addresses meet it and miss it.
const RAM: u64 = 0x1_0000;
const CODE: u64 = 0x8000;
const INSTRUCTIONS: u64 = 2000;

/// Takes numbers from the input; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let len = N.min(self.0.len());
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        bytes
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// A state of one of the modes, or with anything at all in its control registers.
fn state(input: &mut Input<'_>) -> State {
    let mut state = State { rip: CODE, cr3: 0x1000, ..State::default() };
    let mode = input.u8();
    let (code, data) = match mode & 3 {
        0 => (0x9b, 0x93),
        1 => (0xc9b, 0xc93),
        _ => (0xa9b, 0xc93),
    };
    (state.cr0, state.cr4, state.efer) = match mode & 3 {
        0 => (0x10, 0x600, 0),
        1 => (0x33, 0x600, 0),
        _ => (0x8001_0033, 0x4_0620, 0xd01),
    };
    for segment in &mut state.segments.registers {
        *segment = Segment { selector: 0x10, attrib: data, limit: u32::MAX, base: 0 };
    }
    state.segments[Segments::CS] = Segment { selector: 8, attrib: code, limit: u32::MAX, base: 0 };
    state.gdtr = Segment { selector: 0, attrib: 0, limit: 0xff, base: 0x4000 };
    state.idtr = Segment { selector: 0, attrib: 0, limit: 0xfff, base: 0x5000 };
    state.tr = Segment { selector: 0x18, attrib: 0x8b, limit: 0x67, base: 0x4800 };
    state.extended.xcr0 = 7;
    if mode & 4 != 0 {
        state.cpl = 3;
    }
    if mode & 8 != 0 {
        (state.sev, state.sev_es) = (true, true);
        state.sev_features = SevFeatures(SevFeatures::SNP_ACTIVE);
    }
    if mode & 16 != 0 {
        (state.cr0, state.cr4, state.efer) = (input.u64(), input.u64(), input.u64());
        state.rflags = input.u64();
        state.dr7 = input.u64();
    }
    for register in &mut state.gpr {
        let value = input.u64();
        *register = if value & 1 == 0 { value } else { value & (RAM - 1) };
    }
    state
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut state = state(&mut input);
    let memory = FlatMemory::new().with_zeros(0, RAM);
    // Page tables that map the memory as it is; the input may write over them.
    memory.write(0x1000, &0x2007_u64.to_le_bytes());
    memory.write(0x2000, &0x3007_u64.to_le_bytes());
    memory.write(0x3000, &0x87_u64.to_le_bytes());
    if input.u8() & 1 != 0 {
        let tables: [u8; 512] = input.take();
        memory.write(0x1000, &tables[..256]);
        memory.write(0x4000, &tables[256..]);
    }
    memory.write(CODE, &input.0[..input.0.len().min(0x2000)]);
    let kick = AtomicBool::new(false);
    let mut processor = Interpreter::new();
    let mut left = INSTRUCTIONS;
    // A hypervisor that answers everything and moves on.
    for _ in 0..200 {
        let before = state.instructions;
        let limits = Limits { instructions: left, kick: &kick, interrupt_window: false, breakpoints: &[] };
        let exit = processor.run(&mut state, &memory, &limits);
        let executed = state.instructions - before;
        assert!(executed <= left, "{executed} instructions of {left}");
        left -= executed;
        match exit {
            Exit::Halt { next_rip }
            | Exit::Cpuid { next_rip }
            | Exit::ReadMsr { next_rip, .. }
            | Exit::WriteMsr { next_rip, .. }
            | Exit::Hypercall { next_rip }
            | Exit::Instruction { next_rip, .. } => state.rip = next_rip,
            Exit::Port(port) if port.input && !port.string => state.rip = port.next_rip,
            Exit::Port(port) if port.input => state.port_input.extend([0x5a; 4]),
            Exit::Mmio { gpa, len, .. } => state.mmio.push_back((gpa, vec![0x5a; len.into()])),
            Exit::Port(_) | Exit::Vmgexit => {}
            _ => break,
        }
    }
});
