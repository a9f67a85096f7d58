//! MSRs that are not in a processor's state, as guests read and write them.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c (`kvm_get_msr_common`, `kvm_set_msr_common`) and arch/x86/kvm/svm/svm.c, read for behaviour.

use snp_abi::kvm::KVM_X86_SEV_VM;

use super::Session;
use crate::ghcb::MsrAnswer;
use crate::msrs;

/// SEV_STATUS of guests without SEV does not exist; that of plain SEV guests says "SEV".
const SEV_STATUS: u32 = 0xc001_0131;
const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3b;
const PLATFORM_INFO: u32 = 0xce;
/// MSRs of the local APIC.
const TSC_DEADLINE: u32 = 0x6e0;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;
/// Read-only: what a processor can do.
const READ_ONLY: [u32; 4] = [0xfe, 0x179, PLATFORM_INFO, 0x10a];

/// KVM_MSR_EXIT_REASON_INVAL, _UNKNOWN and _FILTER.
const INVALID: u32 = 1;
const UNKNOWN: u32 = 2;
const FILTERED: u32 = 4;

impl Session<'_> {
    /// RDMSR.
    pub(super) fn read_msr(&mut self, index: u32) -> MsrAnswer<u64> {
        let answer = if self.may_access(index, false) { self.read_kept_msr(index) } else { Err(FILTERED) };
        self.answer(answer)
    }

    /// WRMSR.
    pub(super) fn write_msr(&mut self, index: u32, value: u64) -> MsrAnswer<()> {
        let answer = if self.may_access(index, true) { self.write_kept_msr(index, value) } else { Err(FILTERED) };
        self.answer(answer)
    }

    fn may_access(&self, index: u32, write: bool) -> bool {
        self.vcpu.vm.lock().devices.msr_filter.allows(index, write)
    }

    /// A refusal is user space's to answer, if it wants to, else it is #GP.
    fn answer<T>(&self, answer: Result<T, u32>) -> MsrAnswer<T> {
        match answer {
            Ok(value) => MsrAnswer::Done(value),
            Err(reason) if self.vcpu.vm.lock().devices.user_space_msr & u64::from(reason) != 0 => {
                MsrAnswer::UserSpace(reason)
            }
            Err(_) => MsrAnswer::Fault,
        }
    }

    /// # Errors
    /// Why not: KVM_MSR_EXIT_REASON_….
    fn read_kept_msr(&mut self, index: u32) -> Result<u64, u32> {
        if index == SEV_STATUS && self.vcpu.vm.vm_type == KVM_X86_SEV_VM {
            return Ok(1);
        }
        if index == PLATFORM_INFO && !self.vcpu.vm.lock().devices.reads_platform_info {
            return Err(INVALID);
        }
        let tsc = self.running.state.tsc;
        let of_apic = self.apic(|apic| match index {
            msrs::APIC_BASE => Some(Ok(apic.base())),
            TSC_DEADLINE => Some(Ok(apic.tsc_deadline())),
            X2APIC_FIRST..=X2APIC_LAST => Some(apic.read_msr(index, tsc).ok_or(INVALID)),
            _ => None,
        });
        if let Some(answer) = of_apic.flatten() {
            return answer;
        }
        if pv_feature(index).is_some_and(|bit| !self.has_pv_feature(bit)) {
            return Err(UNKNOWN);
        }
        let vcpu = self.vcpu.inner.lock();
        match index {
            TSC => Ok(tsc),
            msrs::APIC_BASE => Ok(vcpu.registers.system.apic_base),
            X2APIC_FIRST..=X2APIC_LAST => Err(INVALID),
            _ if msrs::is_kept(index) => Ok(*vcpu.devices.msrs.get(&index).unwrap_or(&msrs::initial(index))),
            _ => {
                drop(vcpu);
                self.vcpu.vm.host.unmodelled(format!("RDMSR {index:#x} by a guest"));
                Err(UNKNOWN)
            }
        }
    }

    /// # Errors
    /// Why not: KVM_MSR_EXIT_REASON_….
    fn write_kept_msr(&mut self, index: u32, value: u64) -> Result<(), u32> {
        let tsc = self.running.state.tsc;
        if let Some(answer) = self.write_apic_msr(index, value) {
            return answer;
        }
        if index == TSC {
            // As an instruction of the guest's would; what that means for TSC_ADJUST is seen afterwards.
            self.running.state.tsc = value;
            self.adjust_tsc(value.wrapping_sub(tsc));
            return Ok(());
        }
        if pv_feature(index).is_some_and(|bit| !self.has_pv_feature(bit)) {
            return Err(UNKNOWN);
        }
        let mut vcpu = self.vcpu.inner.lock();
        match index {
            TSC_ADJUST => {
                let old = vcpu.devices.msrs.insert(TSC_ADJUST, value).unwrap_or(0);
                self.running.state.tsc = tsc.wrapping_add(value.wrapping_sub(old));
            }
            msrs::APIC_BASE => vcpu.registers.system.apic_base = value,
            X2APIC_FIRST..=X2APIC_LAST => return Err(INVALID),
            _ if READ_ONLY.contains(&index) => return Err(INVALID),
            _ if msrs::is_kept(index) => {
                let value = msrs::writable(index, value).ok_or(INVALID)?;
                vcpu.devices.msrs.insert(index, value);
                drop(vcpu);
                self.note_paravirtual(index, value);
            }
            _ => {
                drop(vcpu);
                self.vcpu.vm.host.unmodelled(format!("WRMSR {index:#x} by a guest"));
                return Err(UNKNOWN);
            }
        }
        Ok(())
    }

    /// The guest moved its TSC: TSC_ADJUST tells by how much.
    pub(super) fn adjust_tsc(&mut self, by: u64) {
        let mut vcpu = self.vcpu.inner.lock();
        let adjust = vcpu.devices.msrs.entry(TSC_ADJUST).or_insert(0);
        *adjust = adjust.wrapping_add(by);
    }

    /// KVM's own MSRs name memory that KVM would write: the model does not.
    fn note_paravirtual(&self, index: u32, value: u64) {
        const ENABLED: u64 = 1;
        let what = match index {
            0x12 | 0x4b56_4d01 | 0x11 | 0x4b56_4d00 => "the clock of KVM's guests",
            0x4b56_4d02 => "asynchronous page faults",
            0x4b56_4d03 => "steal time",
            0x4b56_4d04 => "end of interrupt by memory",
            _ => return,
        };
        if value & ENABLED != 0 {
            self.vcpu.vm.host.unmodelled(format!("{what} (WRMSR {index:#x} by a guest)"));
        }
    }

    /// An MSR that is the local APIC's.
    fn write_apic_msr(&mut self, index: u32, value: u64) -> Option<Result<(), u32>> {
        let tsc = self.running.state.tsc;
        match index {
            msrs::APIC_BASE => {
                let reserved = !0 << self.physical_address_bits();
                if !self.apic(|apic| apic.set_base(value, reserved, false))? {
                    return Some(Err(INVALID));
                }
                self.vcpu.inner.lock().registers.system.apic_base = value;
                Some(Ok(()))
            }
            TSC_DEADLINE => self.apic(|apic| apic.set_tsc_deadline(value)).map(Ok),
            X2APIC_FIRST..=X2APIC_LAST => {
                let effect = self.apic(|apic| apic.write_msr(index, value, tsc))?;
                Some(effect.map(|effect| self.carry_out(effect)).ok_or(INVALID))
            }
            _ => None,
        }
    }
}

/// The bit of KVM's feature leaf that brings an MSR of KVM's own.
fn pv_feature(index: u32) -> Option<u32> {
    Some(match index {
        0x11 | 0x12 => 0,
        0x4b56_4d00 | 0x4b56_4d01 => 3,
        0x4b56_4d02 => 4,
        0x4b56_4d03 => 5,
        0x4b56_4d04 => 6,
        0x4b56_4d05 => 12,
        0x4b56_4d06 | 0x4b56_4d07 => 14,
        _ => return None,
    })
}
