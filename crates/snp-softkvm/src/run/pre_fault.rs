//! KVM_PRE_FAULT_MEMORY.

use snp_abi::kvm::{KVM_X86_SNP_VM, KVM_X86_SW_PROTECTED_VM, kvm_pre_fault_memory};
use snp_abi::{Asid, Errno, PAGE_SIZE};
use snp_vcpu::{Access, AccessKind};

use crate::memory::{Refusal, VcpuMemory};
use crate::{UserSpace, Vcpu};

const PAGE: u64 = PAGE_SIZE as u64;

impl Vcpu {
    /// KVM_PRE_FAULT_MEMORY: maps a range as the guest would, private or shared by its attributes. `range` says afterwards what
    /// is left.
    ///
    /// # Errors
    /// EINVAL: flags, or a range that is empty, misaligned or wraps. EOPNOTSUPP: the launch of an SNP guest is not finished.
    /// ENOENT: no slot. EFAULT: no memory.
    ///
    /// # Source
    /// Linux 7.3, virt/kvm/kvm_main.c (`kvm_vcpu_pre_fault_memory`), arch/x86/kvm/mmu/mmu.c (`kvm_arch_vcpu_pre_fault_memory`).
    pub fn pre_fault_memory(&self, user: &dyn UserSpace, range: &mut kvm_pre_fault_memory) -> Result<(), Errno> {
        let aligned = range.gpa.is_multiple_of(PAGE) && range.size.is_multiple_of(PAGE);
        if range.flags != 0 || range.padding != [0; 5] || !aligned || range.gpa.checked_add(range.size).is_none() {
            return Err(Errno::EINVAL);
        }
        if range.size == 0 {
            return Err(Errno::EINVAL);
        }
        if self.vm.vm_type == KVM_X86_SNP_VM && !self.vm().launch_finished() {
            return Err(Errno::EOPNOTSUPP);
        }
        let (asid, sev_handle) = self.vm.encryption();
        let (asid, vcpu) = (asid.unwrap_or(Asid(0)), self.inner.index);
        let memory = VcpuMemory { vm: &self.vm, user, asid, sev_handle, vcpu };
        while range.size != 0 {
            let private = self.vm.memory.layout().private.contains(range.gpa / PAGE);
            let private = private && matches!(self.vm.vm_type, KVM_X86_SNP_VM | KVM_X86_SW_PROTECTED_VM);
            let kind = AccessKind::Read;
            let access = Access { gpa: range.gpa, kind, private, user: false, table: false, vmpl: None };
            match memory.find(&access) {
                // What the RMP says is between the guest and the processor.
                Ok(_) | Err(Refusal::Rmp(_)) => {}
                Err(Refusal::Device) => return Err(Errno::ENOENT),
                Err(Refusal::Attributes { .. } | Refusal::Unmapped) => return Err(Errno::EFAULT),
            }
            range.gpa += PAGE;
            range.size -= PAGE;
        }
        Ok(())
    }
}
