//! KVM_RUN of VMs without encryption: exits, their completion, what interrupts them.

mod common;

use std::ops::Deref;

use common::plain::{Plain, begin_at, long_mode};
use iced_x86::code_asm::*;
use snp_abi::Errno;
use snp_abi::kvm::*;
use snp_softkvm::{Bounds, RunExit, Stop, Vcpu};

const CODE: u64 = 0x1000;
/// Bytes of the VM's only slot, at address 0.
const MEMORY: usize = 0x40_0000;

struct Guest {
    machine: Plain,
    vcpu: Vcpu,
}

impl Deref for Guest {
    type Target = Plain;

    fn deref(&self) -> &Plain {
        &self.machine
    }
}

impl Guest {
    /// A VM with memory and code, in real mode.
    fn new(vm_type: u64, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut guest = Self::of(vm_type, 16, assemble);
        guest.real_mode();
        guest
    }

    /// The same in 64-bit mode, with the first 4 MiB mapped where they are.
    fn long(vm_type: u64, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        const TABLES: u64 = 0x8000;
        const LARGE: u64 = 0x80;
        let guest = Self::of(vm_type, 64, assemble);
        let (pdpt, pd) = (TABLES + 0x1000, TABLES + 0x2000);
        guest.write_words([
            (TABLES, pdpt | 3),
            (pdpt, pd | 3),
            (pd, LARGE | 3),
            (pd + 8, 0x20_0000 | LARGE | 3),
            (pd + 16, 0x40_0000 | LARGE | 3),
        ]);
        long_mode(&guest.vcpu, TABLES);
        begin_at(&guest.vcpu, CODE, 0x7000);
        guest
    }

    fn of(vm_type: u64, bits: u32, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let machine = Plain::new(vm_type, MEMORY);
        let vcpu = machine.create_vcpu(0);
        machine.assemble(bits, CODE, assemble);
        Self { machine, vcpu }
    }

    fn real_mode(&mut self) {
        let mut sregs = self.vcpu.sregs().unwrap();
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        self.vcpu.set_sregs(&sregs).unwrap();
        begin_at(&self.vcpu, CODE, 0x7000);
    }

    /// KVM_RUN that returns 0.
    fn run(&self) -> RunExit {
        assert_eq!(self.vcpu.run(&self.process), Ok(()));
        self.vcpu.run_area().exit()
    }

    /// KVM_RUN that fails.
    fn fails(&self) -> (Errno, RunExit) {
        let errno = self.vcpu.run(&self.process).expect_err("KVM_RUN fails");
        (errno, self.vcpu.run_area().exit())
    }

    fn regs(&self) -> kvm_regs {
        self.vcpu.regs().unwrap()
    }
}

fn io(input: bool, size: u8, port: u16, count: u32) -> RunExit {
    RunExit::Io { input, size, port, count }
}

#[test]
fn ports_one_way_and_the_other() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.mov(al, 0x5a).unwrap();
        code.out(0x80, al).unwrap();
        code.mov(dx, 0x3f8).unwrap();
        code.mov(eax, 0x1234_5678).unwrap();
        code.out(dx, eax).unwrap();
        code.in_(al, dx).unwrap();
        code.in_(eax, 0x10).unwrap();
        code.hlt().unwrap();
    });
    let mut data = [0; 4];
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    guest.vcpu.run_area().port_data(&mut data[..1]);
    assert_eq!(data[0], 0x5a);
    assert_eq!(guest.run(), io(false, 4, 0x3f8, 1));
    guest.vcpu.run_area().port_data(&mut data);
    assert_eq!(data, 0x1234_5678_u32.to_le_bytes());
    assert_eq!(guest.run(), io(true, 1, 0x3f8, 1));
    guest.vcpu.run_area().set_port_data(&[0xff]);
    assert_eq!(guest.run(), io(true, 4, 0x10, 1));
    assert_eq!(guest.regs().rax, 0x1234_56ff, "the last IN changed AL alone");
    guest.vcpu.run_area().set_port_data(&0xdead_beef_u32.to_le_bytes());
    assert_eq!(guest.run(), RunExit::Halt);
    assert_eq!(guest.regs().rax, 0xdead_beef);
    let run = guest.vcpu.run_area().read();
    assert_eq!((run.if_flag, run.ready_for_interrupt_injection, run.apic_base), (0, 0, 0xfee0_0900));
}

#[test]
fn strings_are_read_in_batches_and_written_item_by_item() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.mov(dx, 0x80).unwrap();
        code.mov(di, 0x2ffe).unwrap();
        code.mov(cx, 4).unwrap();
        code.rep().insb().unwrap();
        code.mov(si, 0x2ffe).unwrap();
        code.mov(cx, 2).unwrap();
        code.rep().outsw().unwrap();
        code.hlt().unwrap();
    });
    // Two up to the end of RDI's page.
    assert_eq!(guest.run(), io(true, 1, 0x80, 2));
    guest.vcpu.run_area().set_port_data(&[1, 2]);
    assert_eq!(guest.run(), io(true, 1, 0x80, 2));
    guest.vcpu.run_area().set_port_data(&[3, 4]);
    for word in [[1, 2], [3, 4]] {
        assert_eq!(guest.run(), io(false, 2, 0x80, 1));
        let mut data = [0; 2];
        guest.vcpu.run_area().port_data(&mut data);
        assert_eq!(data, word);
    }
    assert_eq!(guest.run(), RunExit::Halt);
    assert_eq!(guest.read(0x2ffe), [1, 2, 3, 4]);
}

#[test]
fn user_space_may_change_the_count_of_a_string() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.mov(dx, 0x80).unwrap();
        code.mov(di, 0x2000).unwrap();
        code.mov(cx, 2).unwrap();
        code.rep().insb().unwrap();
        code.in_(al, 0x81).unwrap();
        code.hlt().unwrap();
    });
    assert_eq!(guest.run(), io(true, 1, 0x80, 2));
    guest.vcpu.run_area().set_port_data(&[0xaa; 2]);
    guest.vcpu.set_regs(&kvm_regs { rcx: 1, ..guest.regs() }).unwrap();
    assert_eq!(guest.run(), io(true, 1, 0x81, 1));
    assert_eq!((guest.regs().rcx, guest.regs().rdi), (0, 0x2001));
    guest.vcpu.set_regs(&kvm_regs { rip: guest.regs().rip + 2, ..guest.regs() }).unwrap();
    guest.vcpu.run_area().set_port_data(&[0x77]);
    assert_eq!(guest.run(), RunExit::Halt);
    assert_ne!(guest.regs().rax as u8, 0x77, "an IN that user space stepped over has no answer");
}

#[test]
fn memory_that_no_slot_has_is_user_spaces() {
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        code.mov(rbx, 0x40_0ffe_u64).unwrap();
        code.mov(dword_ptr(rbx), 0x1122_3344).unwrap();
        code.mov(eax, dword_ptr(0x40_0008)).unwrap();
        code.mov(rcx, qword_ptr(0x40_0010)).unwrap();
        code.hlt().unwrap();
    });
    // A write across pages is two.
    let write = |gpa, data, len| RunExit::Mmio { gpa, data, len, write: true };
    assert_eq!(guest.run(), write(0x40_0ffe, [0x44, 0x33, 0, 0, 0, 0, 0, 0], 2));
    assert_eq!(guest.run(), write(0x40_1000, [0x22, 0x11, 0, 0, 0, 0, 0, 0], 2));
    assert_eq!(guest.run(), RunExit::Mmio { gpa: 0x40_0008, data: [0; 8], len: 4, write: false });
    guest.vcpu.run_area().set_mmio_data(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(guest.run(), RunExit::Mmio { gpa: 0x40_0010, data: [0; 8], len: 8, write: false });
    assert_eq!(guest.regs().rax, 0x0403_0201);
    guest.vcpu.run_area().set_mmio_data(&[8; 8]);
    assert_eq!(guest.run(), RunExit::Halt);
    assert_eq!(guest.regs().rcx, 0x0808_0808_0808_0808);
}

#[test]
fn immediate_exit_only_finishes_what_was_begun() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.in_(al, 0x10).unwrap();
        code.hlt().unwrap();
    });
    let area = guest.vcpu.run_area();
    area.set_immediate_exit(true);
    assert_eq!(guest.vcpu.run(&guest.process), Err(Errno::EINTR));
    assert_eq!(guest.regs().rip, CODE);
    area.set_immediate_exit(false);
    assert_eq!(guest.run(), io(true, 1, 0x10, 1));
    area.set_port_data(&[7]);
    area.set_immediate_exit(true);
    assert_eq!(guest.vcpu.run(&guest.process), Err(Errno::EINTR));
    assert_eq!((guest.regs().rax, guest.regs().rip), (7, CODE + 2));
    area.set_immediate_exit(false);
    assert_eq!(guest.run(), RunExit::Halt);
}

#[test]
fn a_signal_interrupts_a_guest_that_never_ends() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        let mut again = code.create_label();
        code.set_label(&mut again).unwrap();
        code.jmp(again).unwrap();
    });
    std::thread::scope(|scope| {
        let run = scope.spawn(|| guest.fails());
        while !run.is_finished() {
            guest.vcpu.kick();
            std::thread::yield_now();
        }
        assert_eq!(run.join().unwrap(), (Errno::EINTR, RunExit::Interrupted));
    });
}

#[test]
fn a_quantum_ends_and_goes_on() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        (0..100).for_each(|_| code.inc(ax).unwrap());
        code.hlt().unwrap();
    });
    let bounds = Bounds { instructions: 40, wait: false, ..Bounds::default() };
    for done in [40, 80] {
        assert_eq!(guest.vcpu.run_within(&guest.process, &bounds), Ok(Stop::Limit));
        assert_eq!(guest.regs().rax, done);
    }
    assert_eq!(guest.vcpu.run_within(&guest.process, &bounds), Ok(Stop::Exit));
    assert_eq!((guest.vcpu.run_area().exit(), guest.regs().rax), (RunExit::Halt, 100));
}

#[test]
fn a_triple_fault_is_a_shutdown_and_an_init() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| code.ud2().unwrap());
    let mut sregs = guest.vcpu.sregs().unwrap();
    sregs.idt.limit = 0;
    guest.vcpu.set_sregs(&sregs).unwrap();
    assert_eq!(guest.run(), RunExit::Shutdown);
    assert_eq!(guest.regs().rip, 0xfff0);
}

#[test]
fn a_hypercall_leaves_if_it_was_asked_for() {
    let guest = Guest::long(KVM_X86_SW_PROTECTED_VM, |code| {
        for size in [0_u64, 3, 3] {
            code.mov(eax, 12).unwrap();
            code.mov(rbx, 0x20_0000_u64).unwrap();
            code.mov(rcx, size).unwrap();
            code.mov(edx, 0x10).unwrap();
            code.vmmcall().unwrap();
            code.out(0x80, al).unwrap();
        }
        code.hlt().unwrap();
    });
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    assert_eq!(guest.regs().rax as i64, -1000, "ENOSYS: nobody asked for the exit");
    let cap = kvm_enable_cap { cap: KVM_CAP_EXIT_HYPERCALL, args: [1 << 12, 0, 0, 0], ..kvm_enable_cap::default() };
    guest.vm.enable_cap(&cap).unwrap();
    assert_eq!(guest.run(), RunExit::Hypercall { nr: 12, args: [0x20_0000, 3, 0x10, 0, 0, 0], flags: 1 });
    assert_eq!(guest.vcpu.run_area().hypercall_return(), 0);
    guest.vcpu.run_area().set_hypercall_return(5);
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    assert_eq!(guest.regs().rax, 5);
}

#[test]
fn cpuid_and_msrs_are_kvms() {
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        code.mov(eax, 0x4000_0000).unwrap();
        code.cpuid().unwrap();
        code.mov(esi, ebx).unwrap();
        code.mov(ecx, 0x1b).unwrap();
        code.rdmsr().unwrap();
        code.out(0x80, eax).unwrap();
        // No such MSR, and no IDT: a triple fault.
        code.mov(ecx, 0x1234_5678).unwrap();
        code.rdmsr().unwrap();
    });
    let leaf = kvm_cpuid_entry2 { function: 0x4000_0000, ebx: 77, ..kvm_cpuid_entry2::default() };
    guest.vcpu.set_cpuid2(&[leaf]).unwrap();
    assert_eq!(guest.run(), io(false, 4, 0x80, 1));
    assert_eq!((guest.regs().rsi, guest.regs().rax, guest.regs().rdx), (77, 0xfee0_0900, 0));
    assert_eq!(guest.run(), RunExit::Shutdown);
}

#[test]
fn private_by_attributes_is_from_a_guest_memfd_or_nowhere() {
    let guest = Guest::long(KVM_X86_SW_PROTECTED_VM, |code| {
        code.mov(byte_ptr(0x20_0000), 0x55).unwrap();
        code.mov(al, byte_ptr(0x20_0000)).unwrap();
        code.out(0x80, al).unwrap();
        code.mov(al, byte_ptr(0x20_0000)).unwrap();
        code.hlt().unwrap();
    });
    let private = |attributes| kvm_memory_attributes { address: 0x20_0000, size: 0x1000, attributes, flags: 0 };
    guest.vm.set_memory_attributes(&private(8)).unwrap();
    let fault = RunExit::MemoryFault { flags: 8, gpa: 0x20_0000, size: 0x1000 };
    assert_eq!(guest.fails(), (Errno::EFAULT, fault.clone()));
    assert_eq!(guest.fails(), (Errno::EFAULT, fault));

    // The same with a guest_memfd behind it.
    let delete = kvm_userspace_memory_region2::default();
    guest.vm.set_user_memory_region2(&guest.process, &delete).unwrap();
    let args = kvm_create_guest_memfd { size: MEMORY as u64, ..kvm_create_guest_memfd::default() };
    let memfd = guest.vm.create_guest_memfd(&args).unwrap();
    let region = kvm_userspace_memory_region2 {
        flags: KVM_MEM_GUEST_MEMFD,
        memory_size: MEMORY as u64,
        userspace_addr: guest.memory,
        guest_memfd: guest.process.install(memfd.clone()),
        ..kvm_userspace_memory_region2::default()
    };
    guest.vm.set_user_memory_region2(&guest.process, &region).unwrap();
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    assert_eq!((guest.regs().rax, guest.read(0x20_0000)), (0x55, [0]));
    assert_eq!(memfd.with_page(0x200, |page| page.as_bytes()[0]), Some(0x55));
    // Shared again, the guest sees user space's page.
    guest.vm.set_memory_attributes(&private(0)).unwrap();
    guest.write(0x20_0000, &[0x66]);
    assert_eq!(guest.run(), RunExit::Halt);
    assert_eq!(guest.regs().rax, 0x66);
}

#[test]
fn registers_are_exchanged_through_the_run_page() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.out(0x80, al).unwrap();
        code.hlt().unwrap();
    });
    let area = guest.vcpu.run_area();
    area.write_u64(288, 1 << 3);
    assert_eq!(guest.vcpu.run(&guest.process), Err(Errno::EINVAL));
    area.write_u64(288, KVM_SYNC_X86_REGS);
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    let rip = u64::from_le_bytes(std::array::from_fn(|i| area.read().s[128 + i]));
    assert_eq!(rip, guest.regs().rip);
    // RBX is the second.
    area.write_u64(304 + 8, 42);
    area.write_u64(296, KVM_SYNC_X86_REGS);
    assert_eq!(guest.run(), RunExit::Halt);
    assert_eq!((guest.regs().rbx, area.read().kvm_dirty_regs), (42, 0));
}

#[test]
fn an_interrupt_waits_for_its_window() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.nop().unwrap();
        code.sti().unwrap();
        code.nop().unwrap();
        code.nop().unwrap();
        code.hlt().unwrap();
    });
    // Vector 0x20 of the real-mode table: a HLT at 0x3000.
    guest.write(4 * 0x20, &[0x00, 0x30, 0, 0]);
    guest.write(0x3000, &[0xf4]);
    let area = guest.vcpu.run_area();
    area.write_u8(0, 1);
    assert_eq!(guest.run(), RunExit::InterruptWindow);
    assert_eq!(area.read().ready_for_interrupt_injection, 1);
    area.write_u8(0, 0);
    guest.vcpu.interrupt(0x20).unwrap();
    assert_eq!(guest.run(), RunExit::Halt);
    assert_eq!(guest.regs().rip, 0x3001);
}

#[test]
fn single_steps_are_told_one_by_one() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.nop().unwrap();
        code.nop().unwrap();
        code.hlt().unwrap();
    });
    guest.vcpu.set_guest_debug(&kvm_guest_debug { control: 3, ..kvm_guest_debug::default() }).unwrap();
    for done in 1..=2 {
        assert_eq!(guest.run(), RunExit::Debug { exception: 1, pc: CODE + done, dr6: 0xffff_4ff0, dr7: 0x400 });
    }
    assert_eq!(guest.run(), RunExit::Halt);
}

#[test]
fn what_the_guest_adds_to_its_time_is_in_tsc_adjust() {
    const FAR: u64 = 1 << 40;
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        for msr in [0x10, 0x3b] {
            code.mov(ecx, msr).unwrap();
            code.xor(eax, eax).unwrap();
            code.mov(edx, (2 * (FAR >> 32)) as i32).unwrap();
            code.wrmsr().unwrap();
            code.out(0x80, al).unwrap();
        }
    });
    let near = |msr| guest.vcpu.msr(msr).unwrap().wrapping_add(FAR / 2) / FAR;
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    assert_eq!((near(0x10), near(0x3b)), (2, 2));
    // User space moves the one without the other.
    let entry = kvm_msr_entry { index: 0x10, data: 5 * FAR, ..kvm_msr_entry::default() };
    assert_eq!(guest.vcpu.set_msrs(&[entry]), 1);
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    assert_eq!((near(0x10), near(0x3b)), (5, 2));
}

#[test]
fn memory_is_there_before_the_guest_wants_it() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |_| {});
    let range = |gpa, size| kvm_pre_fault_memory { gpa, size, flags: 0, padding: [0; 5] };
    let end = MEMORY as u64;
    for (mut asked, answer, left) in [
        (range(0, 0x3000), Ok(()), range(0x3000, 0)),
        (range(0, 0), Err(Errno::EINVAL), range(0, 0)),
        (range(1, 0x1000), Err(Errno::EINVAL), range(1, 0x1000)),
        (range(0u64.wrapping_sub(0x1000), 0x2000), Err(Errno::EINVAL), range(0u64.wrapping_sub(0x1000), 0x2000)),
        (range(end - 0x1000, 0x2000), Err(Errno::ENOENT), range(end, 0x1000)),
    ] {
        assert_eq!((guest.vcpu.pre_fault_memory(&guest.process, &mut asked), asked), (answer, left));
    }
}

/// What user space says of its debug registers, with KVM_GUESTDBG_ENABLE and USE_HW_BP.
fn breakpoints(first: u64, control: u64) -> kvm_guest_debug {
    kvm_guest_debug { control: 1 | 1 << 17, debugreg: [first, 0, 0, 0, 0, 0, 0, control], ..kvm_guest_debug::default() }
}

#[test]
fn user_spaces_breakpoints_are_not_the_guests() {
    const DATA: u64 = 0x5000;
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        code.mov(rax, 0x1234_u64).unwrap(); // 10 bytes
        code.mov(dr0, rax).unwrap(); // 3 bytes
        code.mov(byte_ptr(DATA), al).unwrap(); // 9 bytes
        code.mov(rbx, dr0).unwrap(); // 3 bytes
        code.hlt().unwrap();
    });
    // On execution, by the first register's L bit; again and again until user space moves on.
    guest.vcpu.set_guest_debug(&breakpoints(CODE + 13, 1)).unwrap();
    for _ in 0..2 {
        assert_eq!(guest.run(), RunExit::Debug { exception: 1, pc: CODE + 13, dr6: 0xffff_0ff1, dr7: 0x401 });
    }
    // On a write of one byte: after it.
    guest.vcpu.set_guest_debug(&breakpoints(DATA, 0x1_0001)).unwrap();
    let written = RunExit::Debug { exception: 1, pc: CODE + 22, dr6: 0xffff_0ff1, dr7: 0x1_0401 };
    assert_eq!(guest.run(), written);
    // DR7.GD: before the guest looks at a debug register, which is its own in the end.
    guest.vcpu.set_guest_debug(&breakpoints(0, 0x2000)).unwrap();
    assert_eq!(guest.run(), RunExit::Debug { exception: 1, pc: CODE + 22, dr6: 0xffff_2ff0, dr7: 0x2400 });
    guest.vcpu.set_guest_debug(&breakpoints(0, 0)).unwrap();
    assert_eq!(guest.run(), RunExit::Halt);
    let debug = guest.vcpu.debugregs().unwrap();
    assert_eq!((guest.regs().rbx, debug.db[0], debug.dr6, debug.dr7), (0x1234, 0x1234, 0xffff_0ff0, 0x400));
}

#[test]
fn int3_is_user_spaces_if_it_wants_it() {
    let guest = Guest::new(KVM_X86_DEFAULT_VM, |code| {
        code.int3().unwrap();
        code.hlt().unwrap();
    });
    let debug = |control| kvm_guest_debug { control, ..kvm_guest_debug::default() };
    guest.vcpu.set_guest_debug(&debug(1 | 1 << 16)).unwrap();
    assert_eq!(guest.run(), RunExit::Debug { exception: 3, pc: CODE, dr6: 0xffff_0ff0, dr7: 0x400 });
    assert_eq!(guest.regs().rip, CODE);
    // Without KVM_GUESTDBG_ENABLE it is the guest's: real mode's vector 3.
    guest.write(4 * 3, &0x3000_u32.to_le_bytes());
    guest.write(0x3000, &[0xf4]);
    guest.vcpu.set_guest_debug(&debug(1 << 16)).unwrap();
    assert_eq!((guest.run(), guest.regs().rip), (RunExit::Halt, 0x3001));
    // KVM_GUESTDBG_INJECT_BP: one at a time.
    guest.vcpu.set_guest_debug(&debug(1 | 1 << 19)).unwrap();
    assert_eq!(guest.vcpu.set_guest_debug(&debug(1 | 1 << 18)), Err(Errno::EBUSY));
    assert_eq!((guest.run(), guest.regs().rip), (RunExit::Halt, 0x3001));
}

#[test]
fn a_foreign_hypercall_is_replaced_by_the_processors_own() {
    const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
    const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        code.mov(eax, 11).unwrap(); // KVM_HC_SCHED_YIELD
        code.vmcall().unwrap();
        code.hlt().unwrap();
    });
    assert_eq!(guest.run(), RunExit::Halt);
    assert_eq!((guest.read(CODE + 5), guest.regs().rax), (VMMCALL, 0));
    // KVM_X86_QUIRK_FIX_HYPERCALL_INSN disabled: #UD, without an IDT.
    let cap = kvm_enable_cap { cap: KVM_CAP_DISABLE_QUIRKS2, args: [1 << 5, 0, 0, 0], ..kvm_enable_cap::default() };
    guest.vm.enable_cap(&cap).unwrap();
    guest.write(CODE + 5, &VMCALL);
    guest.vcpu.set_regs(&kvm_regs { rip: CODE, rsp: 0x7000, rflags: 2, ..kvm_regs::default() }).unwrap();
    assert_eq!((guest.run(), guest.read(CODE + 5)), (RunExit::Shutdown, VMCALL));
}

#[test]
fn what_the_emulator_lacks_is_an_internal_error() {
    const DEVICE: u64 = 0x50_0000;
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        code.mov(rax, DEVICE).unwrap(); // 10 bytes
        code.fld(dword_ptr(rax)).unwrap(); // 2 bytes
        code.hlt().unwrap();
    });
    let cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE;
    guest.vm.enable_cap(&kvm_enable_cap { cap, args: [1, 0, 0, 0], ..kvm_enable_cap::default() }).unwrap();
    let RunExit::InternalError { suberror, data } = guest.run() else { panic!("no internal error") };
    // The flag, then how many bytes there are, and the first of them.
    assert_eq!((suberror, data[0], data[1] & 0xff_ffff), (KVM_INTERNAL_ERROR_EMULATION, 1, 0x00_d90f));
    guest.vcpu.set_regs(&kvm_regs { rip: CODE + 12, ..guest.regs() }).unwrap();
    assert_eq!(guest.run(), RunExit::Halt);
}

#[test]
fn a_device_cannot_hold_the_interrupt_descriptor_table() {
    const DEVICE: u64 = 0x50_0000;
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        code.ud2().unwrap();
    });
    let mut sregs = guest.vcpu.sregs().unwrap();
    sregs.idt = kvm_dtable { base: DEVICE, limit: 0xfff, ..kvm_dtable::default() };
    guest.vcpu.set_sregs(&sregs).unwrap();
    let RunExit::InternalError { suberror, data } = guest.run() else { panic!("no internal error") };
    assert_eq!((suberror, data.len(), data[3]), (KVM_INTERNAL_ERROR_DELIVERY_EV, 5, DEVICE + 16 * 6));
}

#[test]
fn the_guest_reads_platform_info_as_long_as_it_may() {
    let guest = Guest::long(KVM_X86_DEFAULT_VM, |code| {
        for _ in 0..2 {
            code.mov(ecx, 0xce).unwrap();
            code.rdmsr().unwrap();
            code.out(0x80, al).unwrap();
        }
    });
    assert_eq!(guest.run(), io(false, 1, 0x80, 1));
    let cap = kvm_enable_cap { cap: KVM_CAP_MSR_PLATFORM_INFO, ..kvm_enable_cap::default() };
    guest.vm.enable_cap(&cap).unwrap();
    // #GP, without an IDT.
    assert_eq!(guest.run(), RunExit::Shutdown);
}
