//! KVM_RUN of guests of plain SEV and SEV-ES: memory that user space sees encrypted, and VMSAs that KVM makes.

mod common;

use std::ops::Deref;

use common::plain::{Plain, begin_at, long_mode};
use iced_x86::code_asm::*;
use snp_abi::kvm::*;
use snp_softkvm::{RunExit, UserSpace, Vcpu};
use zerocopy::IntoBytes;

const MEMORY: usize = 0x20_0000;
const CODE: u64 = 0x1000;
const TABLES: u64 = 0x8000;
const DATA: u64 = 0x10_0000;
/// The page that page tables map without the C-bit.
const SHARED: u64 = 0x18_0000;
const C_BIT: u64 = 1 << 51;

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
    /// Launched: the first 64 KiB are encrypted.
    fn new(vm_type: u64, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        let machine = Plain::new(vm_type, MEMORY);
        let (vm, process) = (&machine.vm, &machine.process);
        let command = |id, data: &[u8]| {
            let data = process.buffer(data);
            let command = kvm_sev_cmd { id, data, sev_fd: process.sev_fd(), ..kvm_sev_cmd::default() };
            assert_eq!(vm.memory_encrypt_op(process, process.buffer(command.as_bytes())), Ok(()), "command {id}");
        };
        command(KVM_SEV_INIT2, kvm_sev_init::default().as_bytes());
        let vcpu = machine.create_vcpu(0);
        machine.assemble(64, CODE, assemble);
        machine.write_words((0..3).map(|level| (TABLES + level * 0x1000, (TABLES + (level + 1) * 0x1000) | C_BIT | 3)));
        machine.write_words((0..512).map(|frame| {
            let private = if frame << 12 == SHARED { 0 } else { C_BIT };
            (TABLES + 0x3000 + 8 * frame, frame << 12 | 3 | private)
        }));
        long_mode(&vcpu, TABLES | C_BIT);
        begin_at(&vcpu, CODE, 0x7000);
        command(KVM_SEV_LAUNCH_START, kvm_sev_launch_start { policy: 0, ..kvm_sev_launch_start::default() }.as_bytes());
        let update = kvm_sev_launch_update_data {
            uaddr: machine.memory,
            len: 0x1_0000,
            ..kvm_sev_launch_update_data::default()
        };
        command(KVM_SEV_LAUNCH_UPDATE_DATA, update.as_bytes());
        if vm_type == KVM_X86_SEV_ES_VM {
            command(KVM_SEV_LAUNCH_UPDATE_VMSA, &[]);
        }
        command(KVM_SEV_LAUNCH_FINISH, &[]);
        Self { machine, vcpu }
    }

    fn run(&self) -> RunExit {
        assert_eq!(self.vcpu.run(&self.process), Ok(()));
        self.vcpu.run_area().exit()
    }
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
    guest.write(DATA, &[0; 8]);
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
    assert_eq!(guest.read(SHARED), [3]);
    // It goes on, and has no IDT: a triple fault, which is not turned into an INIT.
    assert_eq!(guest.run(), RunExit::Shutdown);
}
