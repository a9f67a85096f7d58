//! A VM whose memory is one slot at address 0, for guests that begin with registers which user space sets.

use std::sync::Arc;

use iced_x86::code_asm::CodeAssembler;
use snp_abi::kvm::*;
use snp_asp::PlatformConfig;
use snp_softkvm::{Interpreters, Process, SoftKvm, UserSpace, Vcpu, Vm, profiles};

/// The VM and its memory.
pub(crate) struct Plain {
    kvm: SoftKvm,
    pub(crate) vm: Vm,
    pub(crate) process: Process,
    /// Where the memory is in the process.
    pub(crate) memory: u64,
}

impl Plain {
    pub(crate) fn new(vm_type: u64, len: usize) -> Self {
        let kvm = SoftKvm::with_engine(PlatformConfig::genoa(), &profiles::MAINLINE, Arc::new(Interpreters));
        let vm = kvm.create_vm(vm_type).unwrap();
        let process = Process::new();
        let memory = process.buffer(&vec![0; len]);
        let region = kvm_userspace_memory_region2 {
            memory_size: len as u64,
            userspace_addr: memory,
            ..kvm_userspace_memory_region2::default()
        };
        vm.set_user_memory_region2(&process, &region).unwrap();
        Self { kvm, vm, process, memory }
    }

    /// A vCPU with the CPUID that KVM supports.
    pub(crate) fn create_vcpu(&self, id: u64) -> Vcpu {
        let vcpu = self.vm.create_vcpu(id).unwrap();
        vcpu.set_cpuid2(&self.kvm.supported_cpuid()).unwrap();
        vcpu
    }

    /// Assembles code for 16, 32 or 64 bits to where it runs.
    pub(crate) fn assemble(&self, bits: u32, gpa: u64, code: impl FnOnce(&mut CodeAssembler)) {
        let mut assembler = CodeAssembler::new(bits).unwrap();
        code(&mut assembler);
        self.write(gpa, &assembler.assemble(gpa).unwrap());
    }

    pub(crate) fn write(&self, gpa: u64, data: &[u8]) {
        self.process.write(self.memory + gpa, data).unwrap();
    }

    /// Entries of tables.
    pub(crate) fn write_words(&self, words: impl IntoIterator<Item = (u64, u64)>) {
        words.into_iter().for_each(|(at, word)| self.write(at, &word.to_le_bytes()));
    }

    pub(crate) fn read<const LEN: usize>(&self, gpa: u64) -> [u8; LEN] {
        let mut data = [0; LEN];
        self.process.read(self.memory + gpa, &mut data).unwrap();
        data
    }
}

/// A flat 64-bit kernel with these page tables.
pub(crate) fn long_mode(vcpu: &Vcpu, cr3: u64) {
    let mut sregs = vcpu.sregs().unwrap();
    let data =
        kvm_segment { r#type: 3, s: 1, present: 1, limit: u32::MAX, g: 1, selector: 0x10, ..kvm_segment::default() };
    sregs.cs = kvm_segment { r#type: 11, l: 1, selector: 8, ..data };
    (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
    (sregs.cr3, sregs.cr4, sregs.cr0, sregs.efer) = (cr3, 0x20, 0x8000_0011, 0x500);
    vcpu.set_sregs(&sregs).unwrap();
}

/// Where it begins, with interrupts off.
pub(crate) fn begin_at(vcpu: &Vcpu, rip: u64, rsp: u64) {
    vcpu.set_regs(&kvm_regs { rip, rsp, rflags: 2, ..kvm_regs::default() }).unwrap();
}
