//! The requests of a vCPU's descriptor.

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::system::{CPUID_HEADER, CPUID_LIMIT};
use super::wire::{self, List};
use super::{Answer, unknown};
use crate::{UserSpace, Vcpu};

/// What KVM knows here and this model does not.
const UNMODELLED: &[u32] = &[
    KVM_GET_NESTED_STATE,
    KVM_GET_ONE_REG,
    KVM_GET_REG_LIST,
    KVM_GET_STATS_FD,
    KVM_GET_SUPPORTED_HV_CPUID,
    KVM_SET_CPUID,
    KVM_SET_NESTED_STATE,
    KVM_SET_ONE_REG,
    KVM_SMI,
    KVM_TRANSLATE,
    KVM_X86_SET_MCE,
    KVM_XEN_VCPU_GET_ATTR,
    KVM_XEN_VCPU_SET_ATTR,
];

pub(super) fn ioctl(vcpu: &Vcpu, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_RUN if argument == 0 => vcpu.run(user)?,
        KVM_RUN => return Err(Errno::EINVAL),
        KVM_GET_REGS => wire::write(user, argument, &vcpu.regs()?)?,
        KVM_SET_REGS => vcpu.set_regs(&wire::read(user, argument)?)?,
        KVM_GET_SREGS => wire::write(user, argument, &vcpu.sregs()?)?,
        KVM_SET_SREGS => vcpu.set_sregs(&wire::read(user, argument)?)?,
        KVM_GET_SREGS2 => wire::write(user, argument, &vcpu.sregs2()?)?,
        KVM_SET_SREGS2 => vcpu.set_sregs2(&wire::read(user, argument)?)?,
        KVM_GET_DEBUGREGS => wire::write(user, argument, &vcpu.debugregs()?)?,
        KVM_SET_DEBUGREGS => vcpu.set_debugregs(&wire::read(user, argument)?)?,
        KVM_GET_FPU => wire::write(user, argument, &vcpu.fpu()?)?,
        KVM_SET_FPU => vcpu.set_fpu(&wire::read(user, argument)?)?,
        KVM_GET_XSAVE | KVM_GET_XSAVE2 => wire::write(user, argument, &vcpu.xsave()?)?,
        KVM_SET_XSAVE => vcpu.set_xsave(&wire::read(user, argument)?)?,
        KVM_GET_XCRS => wire::write(user, argument, &vcpu.xcrs()?)?,
        KVM_SET_XCRS => vcpu.set_xcrs(&wire::read(user, argument)?)?,
        KVM_GET_MSRS => return wire::get_msrs(user, argument, |index| vcpu.msr(index)),
        KVM_SET_MSRS => {
            let (_, entries) = wire::msr_list(user, argument)?;
            return Ok(Answer::Value(vcpu.set_msrs(&entries) as i32));
        }
        KVM_SET_CPUID2 => set_cpuid2(vcpu, user, argument)?,
        KVM_GET_CPUID2 => get_cpuid2(vcpu, user, argument)?,
        KVM_GET_MP_STATE => wire::write(user, argument, &vcpu.mp_state())?,
        KVM_SET_MP_STATE => vcpu.set_mp_state(&wire::read(user, argument)?)?,
        KVM_SET_GUEST_DEBUG => vcpu.set_guest_debug(&wire::read(user, argument)?)?,
        KVM_MEMORY_ENCRYPT_OP => vcpu.memory_encrypt_op(user, argument)?,
        _ => return device_ioctl(vcpu, user, request, argument),
    }
    Ok(Answer::DONE)
}

/// Those of the local APIC, the clocks and what waits for the guest.
fn device_ioctl(vcpu: &Vcpu, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_GET_LAPIC => wire::write(user, argument, &vcpu.lapic()?)?,
        KVM_SET_LAPIC => {
            vcpu.want_local_apic()?;
            vcpu.set_lapic(&wire::read(user, argument)?)?;
        }
        KVM_SET_VAPIC_ADDR => {
            vcpu.want_local_apic()?;
            wire::read::<u64>(user, argument)?;
        }
        KVM_TPR_ACCESS_REPORTING => {
            let control: kvm_tpr_access_ctl = wire::read(user, argument)?;
            if control.flags != 0 {
                return Err(Errno::EINVAL);
            }
            wire::write(user, argument, &control)?;
        }
        KVM_GET_VCPU_EVENTS => wire::write(user, argument, &vcpu.events())?,
        KVM_SET_VCPU_EVENTS => vcpu.set_events(&wire::read(user, argument)?)?,
        KVM_INTERRUPT => vcpu.interrupt(wire::read(user, argument)?)?,
        KVM_NMI => vcpu.nmi(),
        KVM_GET_TSC_KHZ => return Ok(Answer::Value(vcpu.tsc_khz() as i32)),
        KVM_SET_TSC_KHZ => vcpu.set_tsc_khz(argument as u32),
        KVM_X86_SETUP_MCE => vcpu.setup_mce(wire::read(user, argument)?)?,
        // The guest has not registered a clock that could be told of the pause.
        KVM_KVMCLOCK_CTRL => return Err(Errno::EINVAL),
        KVM_PRE_FAULT_MEMORY => pre_fault_memory(vcpu, user, argument)?,
        KVM_SET_SIGNAL_MASK => set_signal_mask(vcpu, user, argument)?,
        KVM_ENABLE_CAP => {
            let cap: kvm_enable_cap = wire::read(user, argument)?;
            if cap.flags != 0 || cap.cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID {
                return Err(Errno::EINVAL);
            }
            vcpu.enforce_pv_features(cap.args[0] != 0);
        }
        KVM_GET_DEVICE_ATTR | KVM_SET_DEVICE_ATTR | KVM_HAS_DEVICE_ATTR => {
            wire::read::<kvm_device_attr>(user, argument)?;
            return Err(Errno::ENXIO);
        }
        _ => return Err(unknown(&vcpu.vm.host, UNMODELLED, request, Errno::EINVAL)),
    }
    Ok(Answer::DONE)
}

fn set_cpuid2(vcpu: &Vcpu, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    let list = List::at(user, argument, CPUID_HEADER)?;
    if list.count > CPUID_LIMIT {
        return Err(Errno::E2BIG);
    }
    vcpu.set_cpuid2(&list.read::<kvm_cpuid_entry2>(user)?)
}

/// What is left to do goes back to user space, also after a failure.
fn pre_fault_memory(vcpu: &Vcpu, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    let mut range: kvm_pre_fault_memory = wire::read(user, argument)?;
    let answer = vcpu.pre_fault_memory(user, &mut range);
    wire::write(user, argument, &range)?;
    answer
}

/// E2BIG does not tell the right count: callers try ever larger ones.
fn get_cpuid2(vcpu: &Vcpu, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    let list = List::at(user, argument, CPUID_HEADER)?;
    let functions = vcpu.cpuid2();
    if (list.count as usize) < functions.len() {
        return Err(Errno::E2BIG);
    }
    list.write(user, &functions)?;
    list.write_count(user, functions.len())
}

fn set_signal_mask(vcpu: &Vcpu, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    /// Bytes of the kernel's signal set.
    const SET: u32 = 8;
    if argument == 0 {
        vcpu.set_signal_mask(None);
        return Ok(());
    }
    if wire::read::<u32>(user, argument)? != SET {
        return Err(Errno::EINVAL);
    }
    let mask = argument.checked_add(4).ok_or(Errno::EFAULT)?;
    vcpu.set_signal_mask(Some(wire::read(user, mask)?));
    Ok(())
}
