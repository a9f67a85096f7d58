//! How many instructions a second the interpreter executes: a loop on registers, and one on memory.

use std::hint::black_box;
use std::sync::atomic::AtomicBool;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iced_x86::code_asm::*;
use snp_abi::Segment;
use snp_vcpu::{Exit, FlatMemory, Interpreter, Limits, Processor, Segments, State};

const CODE: u64 = 0x1_0000;
const TABLES: u64 = 0x8_0000;
const INSTRUCTIONS: u64 = 4_000_000;

/// Long mode with the first GiB mapped.
fn machine(assemble: impl FnOnce(&mut CodeAssembler)) -> (State, FlatMemory) {
    let memory = FlatMemory::new().with_zeros(0, 0x20_0000);
    let mut assembler = CodeAssembler::new(64).expect("a bitness");
    assemble(&mut assembler);
    memory.write(CODE, &assembler.assemble(CODE).expect("valid code"));
    memory.write(TABLES, &((TABLES + 0x1000) | 7).to_le_bytes());
    memory.write(TABLES + 0x1000, &((TABLES + 0x2000) | 7).to_le_bytes());
    for entry in 0..512_u64 {
        memory.write(TABLES + 0x2000 + entry * 8, &((entry << 21) | 0x87).to_le_bytes());
    }
    let mut state = State { cr0: 0x8001_0033, cr3: TABLES, cr4: 0x620, efer: 0xd00, rip: CODE, ..State::default() };
    let data = Segment { selector: 0x10, attrib: 0xc93, limit: u32::MAX, base: 0 };
    state.segments.registers = [data; 6];
    state.segments[Segments::CS] = Segment { selector: 8, attrib: 0xa9b, limit: u32::MAX, base: 0 };
    state.gpr[State::RSP] = CODE;
    (state, memory)
}

fn run(processor: &mut Interpreter, state: &mut State, memory: &FlatMemory) {
    let kick = AtomicBool::new(false);
    let limits = Limits { instructions: INSTRUCTIONS, kick: &kick, interrupt_window: false, breakpoints: &[] };
    assert_eq!(black_box(processor.run(state, memory, &limits)), Exit::Limit);
}

/// Eight instructions on registers, as a checksum has them.
fn registers(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.add(rax, rbx)?;
    a.xor(rcx, rax)?;
    a.lea(rdx, rax + rcx * 4 + 7)?;
    a.shr(rdx, 3)?;
    a.imul_2(rbx, rdx)?;
    a.movzx(esi, cl)?;
    a.sub(rdi, 1)?;
    a.jne(again)
}

/// A loop that reads, changes and writes memory, with a call in it.
fn memory_loop(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let (mut again, mut callee) = (a.create_label(), a.create_label());
    a.mov(rbx, 0x10_0000_u64)?;
    a.set_label(&mut again)?;
    a.mov(rax, qword_ptr(rbx + rcx * 8))?;
    a.add(rax, qword_ptr(rbx + rcx * 8 + 8))?;
    a.mov(qword_ptr(rbx + rcx * 8), rax)?;
    a.add(dword_ptr(rbx + 0x8000), 1)?;
    a.push(rax)?;
    a.call(callee)?;
    a.pop(rdx)?;
    a.inc(rcx)?;
    a.and(ecx, 0xfff)?;
    a.jmp(again)?;
    a.set_label(&mut callee)?;
    a.mov(byte_ptr(rbx + rcx + 0x9000), al)?;
    a.ret()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("interpreter");
    group.sample_size(20);
    group.throughput(Throughput::Elements(INSTRUCTIONS));
    for (name, assemble) in [("registers", registers as fn(&mut _) -> _), ("memory", memory_loop)] {
        let (mut state, memory) = machine(|a| assemble(a).expect("valid instructions"));
        let mut processor = Interpreter::new();
        group.bench_function(name, |b| b.iter(|| run(&mut processor, &mut state, &memory)));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
