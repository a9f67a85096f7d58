//! MSRs that are not in a processor's state, as guests read and write them.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c (`kvm_get_msr_common`, `kvm_set_msr_common`) and arch/x86/kvm/svm/svm.c, read for behaviour.

use snp_abi::kvm::KVM_X86_SEV_VM;

use super::Session;
use crate::msrs;

/// How an access to an MSR ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MsrAnswer<T> {
    /// Done.
    Done(T),
    /// #GP.
    Fault,
    /// User space answers, for this KVM_MSR_EXIT_REASON.
    #[allow(dead_code, reason = "KVM_CAP_X86_USER_SPACE_MSR comes with the MSR filter")]
    UserSpace(u32),
}

/// SEV_STATUS of guests without SEV does not exist; that of plain SEV guests says "SEV".
const SEV_STATUS: u32 = 0xc001_0131;
/// Read-only: what a processor can do.
const READ_ONLY: [u32; 4] = [0xfe, 0x179, 0xce, 0x10a];

impl Session<'_> {
    /// RDMSR.
    pub(super) fn read_msr(&mut self, index: u32) -> MsrAnswer<u64> {
        if index == SEV_STATUS && self.vcpu.vm.vm_type == KVM_X86_SEV_VM {
            return MsrAnswer::Done(1);
        }
        let vcpu = self.vcpu.inner.lock();
        match index {
            msrs::APIC_BASE => MsrAnswer::Done(vcpu.registers.system.apic_base),
            _ if msrs::is_kept(index) => {
                MsrAnswer::Done(*vcpu.devices.msrs.get(&index).unwrap_or(&msrs::initial(index)))
            }
            _ => {
                drop(vcpu);
                self.vcpu.vm.host.unmodelled(format!("RDMSR {index:#x} by a guest"));
                MsrAnswer::Fault
            }
        }
    }

    /// WRMSR.
    pub(super) fn write_msr(&mut self, index: u32, value: u64) -> MsrAnswer<()> {
        let mut vcpu = self.vcpu.inner.lock();
        match index {
            msrs::APIC_BASE => vcpu.registers.system.apic_base = value,
            _ if READ_ONLY.contains(&index) => return MsrAnswer::Fault,
            _ if msrs::is_kept(index) => match msrs::writable(index, value) {
                Some(value) => {
                    vcpu.devices.msrs.insert(index, value);
                }
                None => return MsrAnswer::Fault,
            },
            _ => {
                drop(vcpu);
                self.vcpu.vm.host.unmodelled(format!("WRMSR {index:#x} by a guest"));
                return MsrAnswer::Fault;
            }
        }
        MsrAnswer::Done(())
    }
}
