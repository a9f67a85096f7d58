//! KVM_RUN of guests of plain SEV and SEV-ES: memory that user space sees encrypted, and VMSAs that KVM makes.

use std::sync::Arc;

use iced_x86::code_asm::*;
use snp_abi::kvm::*;
use snp_asp::PlatformConfig;
use snp_softkvm::{Interpreters, Process, RunExit, SoftKvm, UserSpace, Vcpu, Vm, profiles};
use zerocopy::IntoBytes;

const MEMORY: usize = 0x20_0000;
const CODE: u64 = 0x1000;
const TABLES: u64 = 0x8000;
const DATA: u64 = 0x10_0000;
/// The page that page tables map without the C-bit.
const SHARED: u64 = 0x18_0000;
const C_BIT: u64 = 1 << 51;

struct Guest {
    vm: Vm,
    vcpu: Vcpu,
    process: Process,
    memory: u64,
}

impl Guest {
    /// Launched: the first 64 KiB are encrypted.
    fn new(vm_type: u64, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let kvm = SoftKvm::with_engine(PlatformConfig::genoa(), &profiles::MAINLINE, Arc::new(Interpreters));
        let vm = kvm.create_vm(vm_type).unwrap();
        let process = Process::new();
        let memory = process.buffer(&vec![0; MEMORY]);
        let region = kvm_userspace_memory_region2 {
            memory_size: MEMORY as u64,
            userspace_addr: memory,
            ..kvm_userspace_memory_region2::default()
        };
        vm.set_user_memory_region2(&process, &region).unwrap();
        let command = |id, data: &[u8]| {
            let data = process.buffer(data);
            let command = kvm_sev_cmd { id, data, sev_fd: process.sev_fd(), ..kvm_sev_cmd::default() };
            assert_eq!(vm.memory_encrypt_op(&process, process.buffer(command.as_bytes())), Ok(()), "command {id}");
        };
        command(KVM_SEV_INIT2, kvm_sev_init::default().as_bytes());
        let vcpu = vm.create_vcpu(0).unwrap();
        vcpu.set_cpuid2(&kvm.supported_cpuid()).unwrap();
        let mut code = CodeAssembler::new(64).unwrap();
        assemble(&mut code);
        process.write(memory + CODE, &code.assemble(CODE).unwrap()).unwrap();
        for (at, entry) in [
            (TABLES, (TABLES + 0x1000) | C_BIT | 3),
            (TABLES + 0x1000, (TABLES + 0x2000) | C_BIT | 3),
            (TABLES + 0x2000, (TABLES + 0x3000) | C_BIT | 3),
        ] {
            process.write(memory + at, &u64::to_le_bytes(entry)).unwrap();
        }
        for frame in 0..512 {
            let entry = frame << 12 | 3 | if frame << 12 == SHARED { 0 } else { C_BIT };
            process.write(memory + TABLES + 0x3000 + 8 * frame, &u64::to_le_bytes(entry)).unwrap();
        }
        set_registers(&vcpu);
        command(KVM_SEV_LAUNCH_START, kvm_sev_launch_start { policy: 0, ..kvm_sev_launch_start::default() }.as_bytes());
        let update =
            kvm_sev_launch_update_data { uaddr: memory, len: 0x1_0000, ..kvm_sev_launch_update_data::default() };
        command(KVM_SEV_LAUNCH_UPDATE_DATA, update.as_bytes());
        if vm_type == KVM_X86_SEV_ES_VM {
            command(KVM_SEV_LAUNCH_UPDATE_VMSA, &[]);
        }
        command(KVM_SEV_LAUNCH_FINISH, &[]);
        Self { vm, vcpu, process, memory }
    }

    fn run(&self) -> RunExit {
        assert_eq!(self.vcpu.run(&self.process), Ok(()));
        self.vcpu.run_area().exit()
    }

    fn read(&self, gpa: u64) -> [u8; 8] {
        let mut data = [0; 8];
        self.process.read(self.memory + gpa, &mut data).unwrap();
        data
    }
}

fn set_registers(vcpu: &Vcpu) {
    let mut sregs = vcpu.sregs().unwrap();
    let data =
        kvm_segment { r#type: 3, s: 1, present: 1, limit: u32::MAX, g: 1, selector: 0x10, ..kvm_segment::default() };
    sregs.cs = kvm_segment { r#type: 11, l: 1, selector: 8, ..data };
    (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
    (sregs.cr3, sregs.cr4, sregs.cr0, sregs.efer) = (TABLES | C_BIT, 0x20, 0x8000_0011, 0x500);
    vcpu.set_sregs(&sregs).unwrap();
    let regs = kvm_regs { rip: CODE, rsp: 0x7000, rflags: 2, ..kvm_regs::default() };
    vcpu.set_regs(&regs).unwrap();
}

#[test]
fn a_guest_of_plain_sev_runs_in_memory_that_user_space_cannot_read() {
    let guest = Guest::new(KVM_X86_SEV_VM, |code| {
        code.mov(ecx, 0xc001_0131_u32 as i32).unwrap();
        code.rdmsr().unwrap();
        code.mov(rbx, 0x1122_3344_5566_7788_u64).unwrap();
        code.mov(qword_ptr(DATA), rbx).unwrap();
        code.mov(qword_ptr(SHARED), rbx).unwrap();
        code.mov(rdx, qword_ptr(DATA)).unwrap();
        code.out(0x80, al).unwrap();
        code.mov(rdx, qword_ptr(DATA)).unwrap();
        code.hlt().unwrap();
    });
    assert_eq!(guest.run(), RunExit::Io { input: false, size: 1, port: 0x80, count: 1 });
    let regs = guest.vcpu.regs().unwrap();
    assert_eq!((regs.rax, regs.rdx), (1, 0x1122_3344_5566_7788));
    let value = 0x1122_3344_5566_7788_u64.to_le_bytes();
    assert_eq!(guest.read(SHARED), value);
    let encrypted = guest.read(DATA);
    assert_ne!(encrypted, value);
    // KVM_SEV_DBG_DECRYPT sees it, and what user space writes over it is noise to the guest.
    let plain = guest.process.buffer(&[0; 8]);
    let request = kvm_sev_dbg { src_uaddr: guest.memory + DATA, dst_uaddr: plain, len: 8, ..kvm_sev_dbg::default() };
    let data = guest.process.buffer(request.as_bytes());
    let command =
        kvm_sev_cmd { id: KVM_SEV_DBG_DECRYPT, data, sev_fd: guest.process.sev_fd(), ..kvm_sev_cmd::default() };
    assert_eq!(guest.vm.memory_encrypt_op(&guest.process, guest.process.buffer(command.as_bytes())), Ok(()));
    let mut seen = [0; 8];
    guest.process.read(plain, &mut seen).unwrap();
    assert_eq!(seen, value);
    guest.process.write(guest.memory + DATA, &[0; 8]).unwrap();
    assert_eq!(guest.run(), RunExit::Halt);
    let noise: [u8; 8] = std::array::from_fn(|i| encrypted[i] ^ value[i]);
    assert_eq!(guest.vcpu.regs().unwrap().rdx, u64::from_le_bytes(noise), "the pad alone");
}

#[test]
fn a_guest_of_sev_es_starts_from_the_vmsa_that_kvm_made() {
    const TERMINATE: u64 = 0x100;
    let guest = Guest::new(KVM_X86_SEV_ES_VM, |code| {
        code.mov(ecx, 0xc001_0131_u32 as i32).unwrap();
        code.rdmsr().unwrap();
        code.mov(dword_ptr(SHARED), eax).unwrap();
        code.mov(ecx, 0xc001_0130_u32 as i32).unwrap();
        code.mov(eax, TERMINATE as i32).unwrap();
        code.xor(edx, edx).unwrap();
        code.wrmsr().unwrap();
        code.vmgexit().unwrap();
        code.ud2().unwrap();
    });
    let exit = RunExit::SystemEvent { kind: KVM_SYSTEM_EVENT_SEV_TERM, data: vec![TERMINATE] };
    assert_eq!(guest.run(), exit);
    assert_eq!(guest.read(SHARED)[0], 3);
    // It goes on, and has no IDT: a triple fault, which is not turned into an INIT.
    assert_eq!(guest.run(), RunExit::Shutdown);
}
