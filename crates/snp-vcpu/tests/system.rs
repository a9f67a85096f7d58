//! System instructions by tables: what each refuses and with which exception, what it exits with, and that nothing changed.
//!
//! # Source
//! AMD 24594 (APM volume 3), the "Exceptions" table of each instruction; AMD 24593 (volume 2), "Control Registers", "#VC—VMM
//! Communication Exception". Which instructions are intercepted: Linux 7.3, arch/x86/kvm/svm.

mod common;

use common::{CODE, Machine};
use iced_x86::code_asm::*;
use snp_abi::{Segment, SevFeatures};
use snp_vcpu::{Exit, Segments, State};

/// Handlers of the first 32 vectors: HLT, 16 bytes apart.
const HANDLERS: u64 = 0x5000;

/// Where a machine got to.
#[derive(Debug, PartialEq)]
enum End {
    /// Its own HLT.
    Done,
    /// An exception: vector and error code.
    Exception(u8, u64),
    /// An exit, by name.
    Exit(&'static str),
}

use End::{Done, Exception};

/// Runs until the program's HLT, an exception or another exit.
fn end(machine: &mut Machine) -> End {
    for vector in 0..32_u64 {
        let handler = HANDLERS + 16 * vector;
        let low = (handler & 0xffff) | 8 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
        machine.memory.write(0x4000 + 16 * vector, &low.to_le_bytes());
        machine.memory.write(handler, &[0xf4]);
    }
    machine.memory.write(0x3008, &0x00af_9b00_0000_ffff_u64.to_le_bytes());
    machine.memory.write(0x3010, &0x00cf_9300_0000_ffff_u64.to_le_bytes());
    machine.state.gdtr = Segment { selector: 0, attrib: 0, limit: 0x7f, base: 0x3000 };
    machine.state.idtr = Segment { selector: 0, attrib: 0, limit: 0xfff, base: 0x4000 };
    // A TSS with a stack for CPL 0 and no bitmap of ports.
    machine.memory.write(0x2066, &[0x68, 0]);
    machine.state.tr = Segment { selector: 0x20, attrib: 0x8b, limit: 0x67, base: 0x2000 };
    machine.memory.write(0x2004, &0x9000_u64.to_le_bytes());
    let exit = machine.run();
    let rip = machine.state.rip;
    match exit {
        Exit::Halt { .. } if (HANDLERS..HANDLERS + 512).contains(&rip) => {
            let vector = ((rip - HANDLERS) / 16) as u8;
            let error = u64::from_le_bytes(machine.memory.read(machine.state.gpr[State::RSP], 8).try_into().unwrap());
            let has_error = matches!(vector, 8 | 10..=14 | 17 | 29);
            Exception(vector, if has_error { error } else { 0 })
        }
        Exit::Halt { .. } => Done,
        Exit::Cpuid { .. } => End::Exit("cpuid"),
        Exit::ReadMsr { .. } => End::Exit("rdmsr"),
        Exit::WriteMsr { .. } => End::Exit("wrmsr"),
        Exit::Hypercall { .. } => End::Exit("vmmcall"),
        Exit::Instruction { name, .. } => End::Exit(name),
        Exit::Vmgexit => End::Exit("vmgexit"),
        Exit::Unmodelled(_) => End::Exit("unmodelled"),
        other => panic!("{other:?}"),
    }
}

type Assemble = fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>;

fn machine(assemble: Assemble) -> Machine {
    Machine::long(|a| {
        assemble(a).unwrap();
        a.hlt().unwrap();
    })
}

/// The same program at CPL 3, with every page a user page (as they are in these tables).
fn user(assemble: Assemble) -> Machine {
    let mut machine = machine(assemble);
    machine.state.cpl = 3;
    let data = Segment { selector: 0x13, attrib: 0xcf3, limit: u32::MAX, base: 0 };
    machine.state.segments.registers = [data; 6];
    machine.state.segments[Segments::CS] = Segment { selector: 0xb, attrib: 0xafb, limit: u32::MAX, base: 0 };
    machine
}

const GP: End = Exception(13, 0);
const UD: End = Exception(6, 0);

#[test]
fn control_registers_refuse_what_no_processor_has() {
    let table: &[(&str, Assemble, End)] = &[
        ("CR0: PG without PE", |a| write_cr0(a, 0x8000_0010), GP),
        ("CR0: NW without CD", |a| write_cr0(a, 0xa001_0033), GP),
        ("CR0: bit 32", |a| write_cr0(a, 0x1_8001_0033), GP),
        ("CR0: PG cleared in 64-bit mode", |a| write_cr0(a, 0x0001_0033), GP),
        ("CR0: as it is", |a| write_cr0(a, 0x8001_0033), Done),
        ("CR4: PAE cleared in long mode", |a| write_cr4(a, 0x600), GP),
        ("CR4: LA57 toggled in long mode", |a| write_cr4(a, 0x1620), GP),
        ("CR4: a reserved bit", |a| write_cr4(a, 0x8620), GP),
        ("CR4: CET, which the model does not have", |a| write_cr4(a, 0x80_0620), End::Exit("unmodelled")),
        ("CR4: SMEP and FSGSBASE", |a| write_cr4(a, 0x1_0620), Done),
        ("CR3: beyond the physical addresses", |a| write_cr3(a, 1 << 60), GP),
        (
            "CR8: more than four bits",
            |a| {
                a.mov(eax, 0x10)?;
                a.mov(cr8, rax)
            },
            GP,
        ),
        (
            "CR8: four bits",
            |a| {
                a.mov(eax, 0xf)?;
                a.mov(cr8, rax)
            },
            Done,
        ),
        ("CR1", |a| a.db(&[0x0f, 0x20, 0xc8]), UD),
        (
            "DR6: an upper bit",
            |a| {
                a.mov(rax, 1_u64 << 32)?;
                a.mov(dr6, rax)
            },
            GP,
        ),
        (
            "DR4 with CR4.DE",
            |a| {
                a.mov(rax, 0x628_u64)?;
                a.mov(cr4, rax)?;
                a.mov(rax, dr4)
            },
            UD,
        ),
        ("DR4 without it", |a| a.mov(rax, dr4), Done),
    ];
    for (name, assemble, expected) in table {
        let mut machine = machine(*assemble);
        let before = (machine.state.cr0, machine.state.cr3, machine.state.cr8, machine.state.dr6);
        assert_eq!(end(&mut machine), *expected, "{name}");
        if *expected == GP {
            let after = (machine.state.cr0, machine.state.cr3, machine.state.cr8, machine.state.dr6);
            assert_eq!(after, before, "{name}: unchanged");
        }
    }
}

fn write_cr0(a: &mut CodeAssembler, value: u64) -> Result<(), iced_x86::IcedError> {
    a.mov(rax, value)?;
    a.mov(cr0, rax)
}

fn write_cr3(a: &mut CodeAssembler, value: u64) -> Result<(), iced_x86::IcedError> {
    a.mov(rax, value)?;
    a.mov(cr3, rax)
}

fn write_cr4(a: &mut CodeAssembler, value: u64) -> Result<(), iced_x86::IcedError> {
    a.mov(rax, value)?;
    a.mov(cr4, rax)
}

fn write_msr(a: &mut CodeAssembler, index: u32, value: u64) -> Result<(), iced_x86::IcedError> {
    a.mov(ecx, index)?;
    a.mov(eax, value as u32)?;
    a.mov(edx, (value >> 32) as u32)?;
    a.wrmsr()
}

fn read_msr(a: &mut CodeAssembler, index: u32) -> Result<(), iced_x86::IcedError> {
    a.mov(ecx, index)?;
    a.rdmsr()
}

#[test]
fn model_specific_registers_are_the_state_or_the_hypervisors() {
    let table: &[(&str, Assemble, End)] = &[
        ("EFER: a reserved bit", |a| write_msr(a, 0xc000_0080, 0xd00 | 1 << 40), GP),
        ("EFER: LME cleared while paging", |a| write_msr(a, 0xc000_0080, 0xc00), GP),
        ("EFER: SCE", |a| write_msr(a, 0xc000_0080, 0xd01), Done),
        ("PAT: a reserved type", |a| write_msr(a, 0x277, 2), GP),
        ("LSTAR: no canonical address", |a| write_msr(a, 0xc000_0082, 1 << 60), GP),
        ("KERNEL_GS_BASE", |a| write_msr(a, 0xc000_0102, 0x1234), Done),
        ("TSC_AUX: more than 32 bits", |a| write_msr(a, 0xc000_0103, 1 << 32), GP),
        ("APIC_BASE is the hypervisor's", |a| read_msr(a, 0x1b), End::Exit("rdmsr")),
        ("so is every other one", |a| write_msr(a, 0x4b56_4d00, 0), End::Exit("wrmsr")),
        ("SEV_STATUS without SEV", |a| read_msr(a, 0xc001_0131), End::Exit("rdmsr")),
        ("the GHCB MSR without SEV-ES", |a| read_msr(a, 0xc001_0130), End::Exit("rdmsr")),
    ];
    for (name, assemble, expected) in table {
        assert_eq!(end(&mut machine(*assemble)), *expected, "{name}");
    }
}

#[test]
fn user_programs_may_do_none_of_it() {
    let table: &[(&str, Assemble, End)] = &[
        ("HLT", |a| a.hlt(), GP),
        ("CLI", |a| a.cli(), GP),
        ("STI", |a| a.sti(), GP),
        ("MOV to CR3", |a| a.mov(cr3, rax), GP),
        ("MOV from CR0", |a| a.mov(rax, cr0), GP),
        ("MOV from DR7", |a| a.mov(rax, dr7), GP),
        ("LGDT", |a| a.lgdt(ptr(0x3000)), GP),
        ("LTR", |a| a.ltr(ax), GP),
        ("INVLPG", |a| a.invlpg(ptr(0x3000)), GP),
        ("WRMSR", |a| a.wrmsr(), GP),
        ("RDMSR", |a| a.rdmsr(), GP),
        ("SWAPGS", |a| a.swapgs(), GP),
        ("WBINVD", |a| a.wbinvd(), GP),
        ("CLTS", |a| a.clts(), GP),
        ("IN without IOPL and TSS bitmap", |a| a.in_(al, dx), GP),
        ("PVALIDATE without SEV-SNP", |a| a.pvalidate(), UD),
        ("RDTSC", |a| a.rdtsc(), GP),
        ("RDPMC", |a| a.rdpmc(), GP),
        ("VMRUN", |a| a.vmrun(), UD),
    ];
    for (name, assemble, expected) in table {
        let mut machine = user(*assemble);
        // The HLT at the end of a program that does nothing wrong is #GP too: what is told apart is where it was.
        let start = machine.state.rip;
        assert_eq!(end(&mut machine), *expected, "{name}");
        let frame = machine.state.gpr[State::RSP] + if *expected == GP { 8 } else { 0 };
        let rip = u64::from_le_bytes(machine.memory.read(frame, 8).try_into().unwrap());
        let expected_rip = if name == &"RDTSC" { start + 2 } else { start };
        assert_eq!(rip, expected_rip, "{name}");
    }
}

#[test]
fn hypervisors_intercept_and_encrypted_guests_are_told_by_vc() {
    let table: &[(&str, Assemble, End, u64)] = &[
        ("CPUID", |a| a.cpuid(), End::Exit("cpuid"), 0x72),
        ("VMMCALL", |a| a.vmmcall(), End::Exit("vmmcall"), 0x81),
        ("WBINVD", |a| a.wbinvd(), End::Exit("wbinvd"), 0x89),
        ("INVD", |a| a.invd(), End::Exit("invd"), 0x76),
        ("MONITOR", |a| a.monitor(), End::Exit("monitor"), 0x8a),
        ("MWAIT", |a| a.mwait(), End::Exit("mwait"), 0x8b),
        ("RDPMC", |a| a.rdpmc(), End::Exit("rdpmc"), 0x6f),
        ("RDMSR", |a| read_msr(a, 0x1b), End::Exit("rdmsr"), 0x7c),
        ("WRMSR", |a| write_msr(a, 0x1b, 0), End::Exit("wrmsr"), 0x7c),
    ];
    for (name, assemble, exit, code) in table {
        let mut plain = machine(*assemble);
        let rip = plain.state.rip;
        assert_eq!(end(&mut plain), *exit, "{name}");
        assert!(plain.state.rip >= rip, "{name}");
        assert_eq!(vc(*assemble), Some(*code), "{name}");
    }
    let more: &[(&str, Assemble, u64)] = &[
        ("IN", |a| a.in_(al, dx), 0x7b),
        ("OUTS", |a| a.outsb(), 0x7b),
        ("DR7 is read", |a| a.mov(rax, dr7), 0x27),
        ("DR7 is written", |a| a.mov(dr7, rax), 0x37),
        ("a device", |a| a.mov(al, ptr(0x30_0000)), 0x400),
    ];
    for (name, assemble, code) in more {
        assert_eq!(vc(*assemble), Some(*code), "{name}");
    }
}

/// The error code of the first #VC of an SEV-ES guest: its handler is the VMGEXIT.
fn vc(assemble: Assemble) -> Option<u64> {
    let mut machine = machine(assemble);
    (machine.state.sev, machine.state.sev_es) = (true, true);
    // VMGEXIT as the handler of vector 29 in place of HLT.
    let handler = HANDLERS + 16 * 29;
    let gate = (handler & 0xffff) | 8 << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
    machine.memory.write(0x4000 + 16 * 29, &gate.to_le_bytes());
    machine.memory.write(handler, &[0xf3, 0x0f, 0x01, 0xd9]);
    machine.memory.write(0x3008, &0x00af_9b00_0000_ffff_u64.to_le_bytes());
    machine.state.gdtr = Segment { selector: 0, attrib: 0, limit: 0x7f, base: 0x3000 };
    machine.state.idtr = Segment { selector: 0, attrib: 0, limit: 0xfff, base: 0x4000 };
    match machine.run() {
        Exit::Vmgexit => {
            let stack = machine.state.gpr[State::RSP];
            Some(u64::from_le_bytes(machine.memory.read(stack, 8).try_into().unwrap()))
        }
        other => panic!("{other:?} at {:#x}", machine.state.rip),
    }
}

#[test]
fn sev_status_tells_what_the_guest_runs_with() {
    // SNPActive, DebugSwap and Secure TSC: bits 0, 5 and 9 of SEV_FEATURES are bits 2, 7 and 11 of SEV_STATUS.
    for (features, encrypted, expected) in [(0, false, 1), (0, true, 3), (0x20, true, 0x83), (0x221, true, 0x887)] {
        let mut machine = machine(|a| {
            read_msr(a, 0xc001_0131)?;
            a.mov(rbx, rax)?;
            a.db(&[0xf3, 0x0f, 0x01, 0xd9])
        });
        (machine.state.sev, machine.state.sev_es) = (true, encrypted);
        // Without a real RMP every page would have to be the guest's: the memory of these tests does not look.
        machine.state.sev_features = SevFeatures(features);
        machine.run();
        assert_eq!(machine.state.gpr[State::RBX], expected, "{features:#x}");
    }
}

#[test]
fn xcr0_keeps_its_rules() {
    let set = |value: u64| {
        move |a: &mut CodeAssembler| {
            a.mov(eax, value as u32).unwrap();
            a.xor(edx, edx).unwrap();
            a.xor(ecx, ecx).unwrap();
            a.xsetbv().unwrap();
            a.hlt().unwrap();
        }
    };
    for (value, osxsave, expected) in
        [(7, true, Done), (3, true, Done), (5, true, GP), (6, true, GP), (0x17, true, GP), (7, false, UD)]
    {
        let mut machine = Machine::long(set(value));
        machine.state.cr4 |= if osxsave { 1 << 18 } else { 0 };
        assert_eq!(end(&mut machine), expected, "{value:#x}");
        assert_eq!(machine.state.extended.xcr0, if expected == Done { value } else { 1 });
    }
}

#[test]
fn a_debug_exception_follows_each_traced_instruction() {
    let mut machine = machine(|a| {
        a.nop()?;
        a.nop()
    });
    machine.state.rflags |= 1 << 8;
    assert_eq!(end(&mut machine), Exception(1, 0));
    assert_eq!(machine.state.dr6 & 1 << 14, 1 << 14);
    let rip = u64::from_le_bytes(machine.memory.read(machine.state.gpr[State::RSP], 8).try_into().unwrap());
    assert_eq!(rip, CODE + 1);
}

#[test]
fn debug_registers_break_on_code_and_watch_data() {
    let mut code = machine(|a| {
        a.nop()?;
        a.nop()
    });
    code.state.dr[0] = CODE + 1;
    code.state.dr7 = 0x401;
    assert_eq!(end(&mut code), Exception(1, 0));
    assert_eq!(code.state.dr6 & 0xf, 1);
    let mut data = machine(|a| {
        a.mov(byte_ptr(0x6000), 1)?;
        a.mov(byte_ptr(0x6004), 1)?;
        a.nop()
    });
    data.state.dr[2] = 0x6004;
    // DR2: writes of four bytes.
    data.state.dr7 = 0x400 | 1 << 4 | 1 << 24 | 3 << 26;
    assert_eq!(end(&mut data), Exception(1, 0));
    assert_eq!(data.state.dr6 & 0xf, 4);
    assert_eq!(data.memory.read(0x6004, 1), [1], "a watchpoint is met after the write");
}
