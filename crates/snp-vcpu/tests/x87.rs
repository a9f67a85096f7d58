//! x87 control instructions, and what differs between modes: what sequences on the host do not show.

mod common;

use common::Machine;
use iced_x86::code_asm::*;
use snp_vcpu::{Exit, State};

const AT: u64 = 0x2_0000;

fn halts(machine: &mut Machine) {
    let exit = machine.run();
    assert!(matches!(exit, Exit::Halt { .. }), "{exit:?} at {:#x}", machine.state.rip);
}

fn words(machine: &Machine, at: u64, count: usize) -> Vec<u32> {
    let bytes = machine.memory.read(at, 4 * count);
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// AMD 24593, "x87 Floating-Point State Environment Images", protected mode with 32-bit operands.
#[test]
fn the_environment_has_tags_and_pointers() {
    let mut machine = Machine::long(|a| {
        a.mov(rax, AT).unwrap();
        a.fninit().unwrap();
        a.fld1().unwrap();
        a.fldz().unwrap();
        a.fldpi().unwrap();
        a.fst(dword_ptr(rax + 64)).unwrap();
        a.fnstenv(ptr(rax)).unwrap();
        a.hlt().unwrap();
    });
    halts(&mut machine);
    // Inexact, rounded up (π to 24 bits), TOP = 5; registers 5 valid, 6 zero, 7 valid, the others empty.
    let words = words(&machine, AT, 7);
    assert_eq!(words[..3], [0xffff_037f, 0xffff_2a20, 0xffff_13ff]);
    assert_eq!((words[5], words[3]), (AT as u32 + 64, words[3]));
    // All exceptions are masked afterwards.
    assert_eq!(machine.state.extended.fcw & 0x3f, 0x3f);
}

#[test]
fn saving_and_restoring_gives_the_same_in_both_formats() {
    for wide in [true, false] {
        let mut machine = Machine::long(|a| {
            a.mov(rax, AT).unwrap();
            a.fninit().unwrap();
            a.fldl2e().unwrap();
            a.fldln2().unwrap();
            a.fchs().unwrap();
            for _ in 0..2 {
                if wide {
                    a.fnsave(ptr(rax)).unwrap();
                    a.frstor(ptr(rax)).unwrap();
                } else {
                    // With an operand-size prefix: 94 bytes.
                    a.db(&[0x66, 0xdd, 0x30]).unwrap();
                    a.db(&[0x66, 0xdd, 0x20]).unwrap();
                }
            }
            a.hlt().unwrap();
        });
        halts(&mut machine);
        let extended = &machine.state.extended;
        assert_eq!((extended.fcw, extended.fsw >> 11 & 7, extended.ftw), (0x37f, 6, 0xc0), "{wide}");
        assert_eq!(extended.x87[7], [0xbc, 0xf0, 0x17, 0x5c, 0x29, 0x3b, 0xaa, 0xb8, 0xff, 0x3f]);
        assert_eq!(extended.x87[6], [0xac, 0x79, 0xcf, 0xd1, 0xf7, 0x17, 0x72, 0xb1, 0xfe, 0xbf]);
    }
}

#[test]
fn saving_initialises() {
    let mut machine = Machine::long(|a| {
        a.mov(rax, AT).unwrap();
        a.fld1().unwrap();
        a.mov(word_ptr(rax + 200), 0x27f).unwrap();
        a.fldcw(word_ptr(rax + 200)).unwrap();
        a.fnsave(ptr(rax)).unwrap();
        a.hlt().unwrap();
    });
    halts(&mut machine);
    let extended = &machine.state.extended;
    assert_eq!((extended.fcw, extended.fsw, extended.ftw, extended.fip), (0x37f, 0, 0, 0));
}

/// In real mode the environment has linear addresses.
#[test]
fn real_mode_has_linear_addresses_in_the_environment() {
    let mut machine = Machine::real(|a| {
        a.fninit().unwrap();
        a.fld1().unwrap();
        a.fstp(dword_ptr(0x500)).unwrap();
        a.fnstenv(ptr(0x600)).unwrap();
        a.hlt().unwrap();
    });
    halts(&mut machine);
    let bytes = machine.memory.read(0x600, 14);
    assert_eq!(bytes[..6], [0x7f, 0x03, 0, 0, 0xff, 0xff]);
    // The data pointer: 0x500 in bits 15:0, nothing above.
    assert_eq!(bytes[10..], [0, 5, 0, 0]);
}

#[test]
fn a_pending_exception_is_raised_by_the_next_instruction_that_waits() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rax, AT).unwrap();
        a.fninit().unwrap();
        a.mov(word_ptr(rax), 0x37b).unwrap();
        a.fldcw(word_ptr(rax)).unwrap();
        a.fld1().unwrap();
        a.fldz().unwrap();
        // Division by zero, which is not masked: noted, and not raised yet.
        a.fdivp(st1, st0).unwrap();
        a.fnstsw(ax).unwrap();
        a.wait().unwrap();
        a.hlt().unwrap();
    };
    let mut machine = Machine::long(program);
    // There is no IDT: the exception ends in a triple fault.
    assert_eq!(machine.run(), Exit::Shutdown);
    assert_eq!(machine.state.gpr[State::RAX] & 0xffff, 0xb084);
    let mut machine = Machine::long(program);
    machine.state.cr0 &= !0x20;
    // Without CR0.NE a pin would tell the interrupt controller of a PC/AT.
    let exit = machine.run();
    assert!(matches!(&exit, Exit::Unmodelled(what) if what.contains("CR0.NE")), "{exit:?}");
}

#[test]
fn no_device_is_raised_as_cr0_says() {
    for (bits, waits, raised) in
        [(1 << 2, false, true), (1 << 3, false, true), (1 << 3, true, true), (1 << 2, true, false)]
    {
        let mut machine = Machine::long(|a| {
            if waits {
                a.wait().unwrap()
            } else {
                a.fnop().unwrap()
            };
            a.hlt().unwrap();
        });
        machine.state.cr0 |= bits;
        let exit = machine.run();
        assert_eq!(exit == Exit::Shutdown, raised, "{bits:#x} {waits} {exit:?}");
    }
}

#[test]
fn a_store_that_faults_changes_nothing() {
    let mut machine = Machine::long(|a| {
        a.fninit().unwrap();
        a.fldpi().unwrap();
        a.mov(rax, 0x7fff_0000_0000_u64).unwrap();
        a.fstp(qword_ptr(rax)).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(machine.run(), Exit::Shutdown);
    let extended = &machine.state.extended;
    assert_eq!((extended.fsw, extended.ftw), (7 << 11, 0x80));
}

/// As processors of family 19h do, where `cargo xtask differential` found it.
#[test]
fn a_denormal_in_memory_is_loaded_though_its_exception_is_raised() {
    let mut machine = Machine::long(|a| {
        a.fninit().unwrap();
        a.push(0x37d).unwrap();
        a.fldcw(word_ptr(rsp)).unwrap();
        a.mov(qword_ptr(rsp), 1).unwrap();
        a.fld(qword_ptr(rsp)).unwrap();
        a.fnstsw(ax).unwrap();
        a.hlt().unwrap();
    });
    assert!(matches!(machine.run(), Exit::Halt { .. }));
    // Top 7, DE, and the summary of what is not masked.
    assert_eq!(machine.state.gpr[State::RAX] & 0xffff, 0xb882);
    assert_eq!(machine.state.extended.ftw, 0x80);
    // 2^-1074.
    assert_eq!(machine.state.extended.x87[7], [0, 0, 0, 0, 0, 0, 0, 0x80, 0xcd, 0x3b]);
}
