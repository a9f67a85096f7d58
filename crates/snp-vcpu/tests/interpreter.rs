//! The interpreter: control flow, modes, events, exits.

mod common;

use std::sync::atomic::AtomicBool;

use common::{CODE, Machine};
use iced_x86::code_asm::*;
use snp_vcpu::{Exit, Limits, Processor, State};

/// Writes a 64-bit interrupt gate.
fn gate(machine: &Machine, vector: u64, handler: u64) {
    let low = (handler & 0xffff) | 8 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
    machine.memory.write(0x4000 + 16 * vector, &low.to_le_bytes());
    machine.memory.write(0x4008 + 16 * vector, &(handler >> 32).to_le_bytes());
}

/// A GDT with flat code (8) and data (0x10), an IDT of 256 gates at 0x4000.
fn tables(machine: &mut Machine) {
    machine.memory.write(0x3008, &0x00af_9b00_0000_ffff_u64.to_le_bytes());
    machine.memory.write(0x3010, &0x00cf_9300_0000_ffff_u64.to_le_bytes());
    machine.state.gdtr.base = 0x3000;
    machine.state.idtr.base = 0x4000;
    machine.state.idtr.limit = 0xfff;
}

#[test]
fn a_loop_counts_and_halts() {
    let mut machine = Machine::long(|a| {
        let mut again = a.create_label();
        a.mov(rcx, 1000_u64).unwrap();
        a.xor(eax, eax).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(rax, rcx).unwrap();
        a.dec(rcx).unwrap();
        a.jne(again).unwrap();
        a.hlt().unwrap();
    });
    let Exit::Halt { next_rip } = machine.run() else { panic!("a halt") };
    assert_eq!(machine.state.gpr[State::RAX], 500_500);
    assert_eq!(machine.state.instructions, 2 + 3000 + 1);
    assert_eq!(next_rip, machine.state.rip + 1);
}

#[test]
fn limits_are_exact_wherever_a_block_ends() {
    let code = |a: &mut CodeAssembler| {
        let mut again = a.create_label();
        a.set_label(&mut again).unwrap();
        a.inc(rax).unwrap();
        a.inc(rbx).unwrap();
        a.inc(rdx).unwrap();
        a.jmp(again).unwrap();
    };
    for limit in [1, 2, 3, 4, 5, 17] {
        let mut machine = Machine::long(code);
        assert_eq!(machine.run_for(limit), Exit::Limit);
        assert_eq!(machine.state.instructions, limit);
        assert_eq!(machine.state.gpr[State::RAX], limit.div_ceil(4));
    }
}

#[test]
fn code_that_changes_itself_is_decoded_again() {
    let mut machine = Machine::long(|a| {
        let mut patched = a.create_label();
        a.mov(byte_ptr(CODE + 0x100), 0x90).unwrap();
        a.lea(rdi, ptr(patched)).unwrap();
        a.mov(byte_ptr(rdi), 0xf4).unwrap();
        a.set_label(&mut patched).unwrap();
        a.nop().unwrap();
        a.jmp(patched).unwrap();
    });
    assert!(matches!(machine.run_for(100), Exit::Halt { .. }));
}

#[test]
fn a_page_fault_reaches_its_handler_with_everything_unchanged() {
    let mut machine = Machine::long(|a| {
        a.mov(rbx, 0x4000_0000_u64).unwrap();
        a.mov(rax, 7_u64).unwrap();
        a.mov(qword_ptr(rbx), rax).unwrap();
        a.hlt().unwrap();
    });
    tables(&mut machine);
    gate(&machine, 14, 0x5000);
    machine.memory.write(0x5000, &[0xf4]);
    let stack = machine.state.gpr[State::RSP];
    assert!(matches!(machine.run(), Exit::Halt { .. }));
    assert_eq!(machine.state.rip, 0x5000);
    assert_eq!(machine.state.cr2, 0x4000_0000);
    let pushed = machine.state.gpr[State::RSP];
    assert_eq!(pushed, (stack & !15) - 48);
    let word = |at: u64| u64::from_le_bytes(machine.memory.read(at, 8).try_into().unwrap());
    assert_eq!(word(pushed), 2, "a write of a page that is not there");
    assert_eq!(word(pushed + 8), CODE + 20, "the faulting instruction");
    assert_eq!(word(pushed + 32), stack);
}

#[test]
fn no_handler_is_a_triple_fault() {
    let mut machine = Machine::long(|a| a.ud2().unwrap());
    machine.state.idtr.limit = 0;
    assert_eq!(machine.run(), Exit::Shutdown);
}

#[test]
fn from_real_mode_to_long_mode() {
    // Real mode code that loads a GDT, enables PAE, long mode and paging, and jumps far.
    let mut machine = Machine::real(|a| {
        a.lgdt(fword_ptr(0x3100)).unwrap();
        a.mov(eax, 0x20).unwrap();
        a.mov(cr4, eax).unwrap();
        a.mov(eax, common::TABLES as u32).unwrap();
        a.mov(cr3, eax).unwrap();
        a.mov(ecx, 0xc000_0080_u32).unwrap();
        a.rdmsr().unwrap();
        a.bts(eax, 8).unwrap();
        a.wrmsr().unwrap();
        a.mov(eax, cr0).unwrap();
        a.or(eax, 0x8000_0001_u32 as i32).unwrap();
        a.mov(cr0, eax).unwrap();
        // JMP FAR 8:0x5000 with a 32-bit offset.
        a.db(&[0x66, 0xea, 0x00, 0x50, 0x00, 0x00, 0x08, 0x00]).unwrap();
    });
    let long = Machine::long(|a| {
        a.mov(rax, 0x1234_5678_9abc_def0_u64).unwrap();
        a.hlt().unwrap();
    });
    machine.memory.write(common::TABLES, &long.memory.read(common::TABLES, 0x3000));
    machine.memory.write(0x5000, &long.memory.read(CODE, 32));
    machine.memory.write(0x3000 + 8, &0x00af_9b00_0000_ffff_u64.to_le_bytes());
    machine.memory.write(0x3100, &[0x17, 0, 0x00, 0x30, 0, 0]);
    assert!(matches!(machine.run(), Exit::Halt { .. }), "{:?}", machine.state);
    assert_eq!(machine.state.gpr[State::RAX], 0x1234_5678_9abc_def0);
    assert_eq!(machine.state.efer & 0x500, 0x500);
}

#[test]
fn ports_exit_one_item_at_a_time() {
    let mut machine = Machine::long(|a| {
        a.mov(edx, 0x3f8).unwrap();
        a.mov(al, 0x41).unwrap();
        a.out(dx, al).unwrap();
        a.mov(rsi, 0x6000_u64).unwrap();
        a.mov(ecx, 3).unwrap();
        a.rep().outsb().unwrap();
        a.in_(al, dx).unwrap();
        a.mov(rdi, 0x7000_u64).unwrap();
        a.mov(ecx, 5).unwrap();
        a.rep().insb().unwrap();
        a.hlt().unwrap();
    });
    machine.memory.write(0x6000, b"xyz");
    let mut written = Vec::new();
    loop {
        match machine.run() {
            Exit::Port(port) if !port.input => written.push(port.data as u8),
            Exit::Port(port) if !port.string => {
                machine.state.gpr[State::RAX] = 0x55;
                machine.state.rip = port.next_rip;
            }
            Exit::Port(port) => {
                assert!(port.count >= 1);
                machine.state.port_input.extend(b"abc".iter().take(port.count as usize));
            }
            Exit::Halt { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(written, b"Axyz");
    assert_eq!(machine.memory.read(0x7000, 6), b"abcab\0");
    assert_eq!(machine.state.gpr[State::RCX], 0);
}

#[test]
fn devices_are_asked_for_and_answered() {
    const DEVICE: u64 = 0x30_0000;
    let mut machine = Machine::long(|a| {
        a.mov(rbx, DEVICE).unwrap();
        a.mov(eax, dword_ptr(rbx)).unwrap();
        a.add(eax, 1).unwrap();
        a.mov(dword_ptr(rbx + 4), eax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(machine.run(), Exit::Mmio { gpa: DEVICE, len: 4, data: None });
    machine.state.mmio.push_back((DEVICE, vec![9, 0, 0, 0]));
    let Exit::Mmio { gpa, len: 4, data: Some(data) } = machine.run() else { panic!("a write") };
    assert_eq!((gpa, &data[..4]), (DEVICE + 4, &[10, 0, 0, 0][..]));
    machine.state.mmio.push_back((DEVICE + 4, Vec::new()));
    assert!(matches!(machine.run(), Exit::Halt { .. }));
    assert!(machine.state.mmio.is_empty());
}

#[test]
fn an_interrupt_waits_for_the_instruction_after_sti() {
    let mut machine = Machine::long(|a| {
        a.sti().unwrap();
        a.inc(rax).unwrap();
        a.inc(rax).unwrap();
        a.hlt().unwrap();
    });
    let kick = AtomicBool::new(false);
    let limits = Limits { instructions: 100, kick: &kick, interrupt_window: true, breakpoints: &[] };
    let exit = machine.processor.run(&mut machine.state, &machine.memory, &limits);
    assert_eq!(exit, Exit::InterruptWindow);
    assert_eq!(machine.state.gpr[State::RAX], 1);
    tables(&mut machine);
    gate(&machine, 0x40, 0x5000);
    machine.memory.write(0x5000, &[0x48, 0xff, 0xc3, 0x48, 0xcf]);
    machine.state.event_inj = 1 << 31 | 0x40;
    assert!(matches!(machine.run(), Exit::Halt { .. }));
    assert_eq!(machine.state.gpr[State::RAX], 2);
    assert_eq!(machine.state.gpr[State::RBX], 1, "the handler ran and returned");
}

#[test]
fn breakpoints_and_kicks_stop_it() {
    let mut machine = Machine::long(|a| {
        a.nop().unwrap();
        a.nop().unwrap();
        a.jmp(CODE).unwrap();
    });
    let kick = AtomicBool::new(false);
    let limits = Limits { instructions: 100, kick: &kick, interrupt_window: false, breakpoints: &[CODE + 1] };
    for round in 0..3 {
        let exit = machine.processor.run(&mut machine.state, &machine.memory, &limits);
        assert_eq!((exit, machine.state.rip), (Exit::Breakpoint, CODE + 1), "round {round}");
    }
    kick.store(true, std::sync::atomic::Ordering::Relaxed);
    let limits = Limits { breakpoints: &[], ..limits };
    assert_eq!(machine.processor.run(&mut machine.state, &machine.memory, &limits), Exit::Kicked);
}

#[test]
fn an_instruction_across_two_pages_runs() {
    let mut machine = Machine::long(|a| a.jmp(CODE + 0xffd).unwrap());
    let mut code = CodeAssembler::new(64).unwrap();
    code.mov(rax, 0x1122_3344_5566_7788_u64).unwrap();
    code.hlt().unwrap();
    machine.memory.write(CODE + 0xffd, &code.assemble(CODE + 0xffd).unwrap());
    assert!(matches!(machine.run(), Exit::Halt { .. }));
    assert_eq!(machine.state.gpr[State::RAX], 0x1122_3344_5566_7788);
}

#[test]
fn strings_move_fill_and_find() {
    let mut machine = Machine::long(|a| {
        a.mov(rdi, 0x6ff0_u64).unwrap();
        a.mov(ecx, 0x2000 / 8).unwrap();
        a.mov(rax, 0x0101_0101_0101_0101_u64).unwrap();
        a.rep().stosq().unwrap();
        a.mov(byte_ptr(0x7123), 9).unwrap();
        a.mov(rdi, 0x6ff0_u64).unwrap();
        a.mov(rcx, -1_i64 as u64).unwrap();
        a.mov(al, 9).unwrap();
        a.repne().scasb().unwrap();
        a.mov(rbx, rdi).unwrap();
        a.mov(rsi, 0x7120_u64).unwrap();
        a.mov(rdi, 0x1_8ffe_u64).unwrap();
        a.mov(ecx, 8).unwrap();
        a.rep().movsb().unwrap();
        a.hlt().unwrap();
    });
    assert!(matches!(machine.run(), Exit::Halt { .. }));
    assert_eq!(machine.state.gpr[State::RBX], 0x7124);
    assert_eq!(machine.memory.read(0x1_8ffd, 10), [0, 1, 1, 1, 9, 1, 1, 1, 1, 0]);
}

/// F3h makes a PAUSE of 90h, but not of the XCHG that REX.B makes of it.
#[test]
fn a_pause_with_rex_b_exchanges() {
    for (bytes, exchanges) in [(&[0xf3, 0x90][..], false), (&[0xf3, 0x41, 0x90], true), (&[0xf3, 0x49, 0x90], true)] {
        let mut machine = Machine::long(|a| {
            a.mov(rax, 1_u64).unwrap();
            a.mov(r8, 2_u64).unwrap();
            a.db(bytes).unwrap();
            a.hlt().unwrap();
        });
        assert!(matches!(machine.run(), Exit::Halt { .. }));
        let wanted = if exchanges { [2, 1] } else { [1, 2] };
        assert_eq!([machine.state.gpr[State::RAX], machine.state.gpr[8]], wanted, "{bytes:x?}");
    }
}

/// An offset that is not canonical raises #GP even if its sum with the base of FS is: the same by both ways to the operand.
#[test]
fn offsets_in_fs_are_canonical() {
    for (base, offset, faults) in [
        (0x1000_u64.wrapping_neg(), 0x8000_0000_0000_u64, true),
        (0xffff_8000_0000_0000, 0x8000_0000_5000, true),
        (0xffff_9000_0000_0000, 0x7000_0000_5000, false),
        (0x1_0000_0000, 0xffff_ffff_0000_5000, false),
    ] {
        for fast in [true, false] {
            let mut machine = Machine::long(|a| {
                a.mov(rbx, offset).unwrap();
                if fast { a.mov(rax, qword_ptr(rbx).fs()) } else { a.bsf(rax, qword_ptr(rbx).fs()) }.unwrap();
                a.hlt().unwrap();
            });
            machine.state.segments[snp_vcpu::Segments::FS].base = base;
            let exit = machine.run();
            assert_eq!(matches!(exit, Exit::Shutdown), faults, "{base:x} {offset:x} {exit:?}");
        }
    }
}
