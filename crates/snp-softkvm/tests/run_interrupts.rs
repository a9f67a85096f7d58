//! KVM_RUN with local APICs in KVM: timers, messages, INIT and SIPI.

mod common;

use std::ops::Deref;

use common::plain::{Plain, begin_at, long_mode};
use iced_x86::code_asm::*;
use snp_abi::Errno;
use snp_abi::kvm::*;
use snp_softkvm::{Bounds, RunExit, Stop, Vcpu};

const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x1800;
const STARTUP: u64 = 0x3000;
const TABLES: u64 = 0x8000;
const VECTOR: u64 = 0x40;

struct Guest {
    machine: Plain,
    vcpus: Vec<Vcpu>,
}

impl Deref for Guest {
    type Target = Plain;

    fn deref(&self) -> &Plain {
        &self.machine
    }
}

impl Guest {
    /// A guest in long mode with an irqchip, whose handler of [`VECTOR`] writes 7 to port 0x80, and whose other processors
    /// start in real mode with a write to port 0x81.
    fn new(vcpus: u64, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let machine = Plain::new(KVM_X86_DEFAULT_VM, 0x20_0000);
        machine.vm.create_irqchip().unwrap();
        let vcpus = (0..vcpus).map(|id| machine.create_vcpu(id)).collect();
        machine.assemble(64, CODE, assemble);
        // Then EOI by MSR 0x80b.
        machine.assemble(64, HANDLER, |code| {
            code.mov(al, 7).unwrap();
            code.out(0x80, al).unwrap();
            write_msr(code, 0x80b, 0);
            code.iretq().unwrap();
        });
        machine.write(STARTUP, &[0xb0, 9, 0xe6, 0x81, 0xf4]);
        let guest = Self { machine, vcpus };
        guest.tables();
        guest.long_mode();
        guest
    }

    fn tables(&self) {
        self.write_words([
            (TABLES, TABLES + 0x1003),
            (TABLES + 0x1000, TABLES + 0x2003),
            (TABLES + 0x1018, TABLES + 0x3003),
            (TABLES + 0x2000, 0x83),
            (TABLES + 0x3000 + 8 * 503, 0xfee0_0083),
            (TABLES + 0x3000 + 8 * 502, 0xfec0_0083),
            (0x7008, 0x00af_9b00_0000_ffff),
            (0x7010, 0x00cf_9300_0000_ffff),
            (0x6000 + 16 * VECTOR, (HANDLER & 0xffff) | 8 << 16 | 0x8e00 << 32 | (HANDLER >> 16) << 48),
        ]);
    }

    fn long_mode(&self) {
        let vcpu = &self.vcpus[0];
        long_mode(vcpu, TABLES);
        let mut sregs = vcpu.sregs().unwrap();
        sregs.gdt = kvm_dtable { base: 0x7000, limit: 0x17, ..kvm_dtable::default() };
        sregs.idt = kvm_dtable { base: 0x6000, limit: 0xfff, ..kvm_dtable::default() };
        vcpu.set_sregs(&sregs).unwrap();
        begin_at(vcpu, CODE, 0x5000);
    }

    fn run(&self, vcpu: usize) -> RunExit {
        assert_eq!(self.vcpus[vcpu].run(&self.process), Ok(()));
        self.vcpus[vcpu].run_area().exit()
    }

    /// As far as the vCPU gets without waiting.
    fn step(&self, vcpu: usize) -> Result<Stop, Errno> {
        let bounds = Bounds { instructions: 100_000, wait: false, ..Bounds::default() };
        self.vcpus[vcpu].run_within(&self.process, &bounds)
    }
}

const fn out(port: u16) -> RunExit {
    RunExit::Io { input: false, size: 1, port, count: 1 }
}

fn write_msr(code: &mut CodeAssembler, index: u32, value: u64) {
    code.mov(ecx, index as i32).unwrap();
    code.mov(eax, value as u32 as i32).unwrap();
    code.mov(edx, (value >> 32) as i32).unwrap();
    code.wrmsr().unwrap();
}

/// x2APIC mode, switched on by software.
fn enable(code: &mut CodeAssembler) {
    write_msr(code, 0x1b, 0xfee0_0d00);
    write_msr(code, 0x80f, 0x1ff);
}

#[test]
fn a_timer_ends_hlt_and_comes_again() {
    let guest = Guest::new(1, |code| {
        enable(code);
        // Periodic; a second of virtual time apart.
        write_msr(code, 0x832, 1 << 17 | VECTOR);
        write_msr(code, 0x838, 500_000_000);
        let mut again = code.create_label();
        code.set_label(&mut again).unwrap();
        code.sti().unwrap();
        code.hlt().unwrap();
        code.jmp(again).unwrap();
    });
    let time = || guest.vcpus[0].msr(0x10).unwrap();
    assert_eq!(guest.run(0), out(0x80));
    let first = time();
    assert_eq!(guest.run(0), out(0x80));
    let period = time() - first;
    assert!((2_449_000_000..2_451_000_000).contains(&period), "a second at 2.45 GHz, not {period}");
}

#[test]
fn a_processor_is_started_by_init_and_sipi() {
    let guest = Guest::new(2, |code| {
        enable(code);
        write_msr(code, 0x830, 1 << 32 | 0x4500);
        write_msr(code, 0x830, 1 << 32 | 0x4600 | STARTUP >> 12);
        code.hlt().unwrap();
    });
    assert_eq!(guest.vcpus[1].mp_state().mp_state, KVM_MP_STATE_UNINITIALIZED);
    assert_eq!(guest.step(1), Ok(Stop::Waiting));
    assert_eq!(guest.step(0), Ok(Stop::Waiting));
    assert_eq!(guest.vcpus[0].mp_state().mp_state, KVM_MP_STATE_HALTED);
    assert_eq!(guest.step(1), Err(Errno::EAGAIN));
    assert_eq!(guest.run(1), out(0x81));
    let sregs = guest.vcpus[1].sregs().unwrap();
    assert_eq!((sregs.cs.selector, sregs.cs.base, sregs.cr0 & 1), (0x300, STARTUP, 0));
}

#[test]
fn a_message_wakes_a_processor_that_another_thread_runs() {
    let guest = Guest::new(1, |code| {
        enable(code);
        code.sti().unwrap();
        code.hlt().unwrap();
    });
    std::thread::scope(|scope| {
        let run = scope.spawn(|| guest.run(0));
        let msi = kvm_msi { address_lo: 0xfee0_0000, data: VECTOR as u32, ..kvm_msi::default() };
        while !run.is_finished() {
            guest.vm.signal_msi(&msi).unwrap();
            std::thread::yield_now();
        }
        assert_eq!(run.join().unwrap(), out(0x80));
    });
}

#[test]
fn the_register_page_and_the_io_apic_are_in_kvm() {
    let guest = Guest::new(1, |code| {
        // The version register, and the I/O APIC's version.
        code.mov(rbx, 0xfee0_0030_u64).unwrap();
        code.mov(esi, dword_ptr(rbx)).unwrap();
        code.mov(rbx, 0xfec0_0000_u64).unwrap();
        code.mov(dword_ptr(rbx), 1).unwrap();
        code.mov(edi, dword_ptr(rbx + 0x10)).unwrap();
        // Priority 4 keeps the vector back until CR8 is lowered.
        code.mov(rbx, 0xfee0_00f0_u64).unwrap();
        code.mov(dword_ptr(rbx), 0x1ff).unwrap();
        code.mov(eax, 4).unwrap();
        code.mov(cr8, rax).unwrap();
        code.mov(rbx, 0xfee0_0300_u64).unwrap();
        code.mov(dword_ptr(rbx), 0x4_4000 | VECTOR as i32).unwrap();
        code.sti().unwrap();
        code.nop().unwrap();
        code.xor(eax, eax).unwrap();
        code.out(0x82, al).unwrap();
        code.mov(cr8, rax).unwrap();
        let mut again = code.create_label();
        code.set_label(&mut again).unwrap();
        code.jmp(again).unwrap();
    });
    assert_eq!(guest.run(0), out(0x82));
    let regs = guest.vcpus[0].regs().unwrap();
    assert_eq!((regs.rsi, regs.rdi), (0x5_0014, 0x17_0011));
    assert_eq!(guest.run(0), out(0x80));
}
