//! What KVM would build from the registers that carry a VMSA's state.

use snp_abi::kvm::kvm_cpuid_entry2;
use snp_abi::{SevFeatures, Vmsa};
use snp_launch::LaunchError;
use snp_launch::registers::{RegisterState, differing_fields};

use crate::registers::Registers;
use crate::{Vcpu, Vm, vmsa};

/// What the host supports, with the vCPU's APIC ID where processors tell theirs.
pub(super) fn cpuid(vm: &Vm, vcpu: &Vcpu) -> Vec<kvm_cpuid_entry2> {
    let mut table = crate::cpuid::supported(&vm.inner.host.config.cpuid);
    for entry in &mut table {
        match entry.function {
            1 => entry.ebx = entry.ebx & 0x00ff_ffff | (vcpu.apic_id() & 0xff) << 24,
            0xb => entry.edx = vcpu.apic_id(),
            _ => {}
        }
    }
    table
}

/// Refuses a VMSA with state that no register carries: KVM would measure another one, and the digest would silently not be
/// the plan's.
pub(super) fn want_lossless(
    state: &RegisterState,
    vcpu: &Vcpu,
    vmsa: &Vmsa,
    features: SevFeatures,
) -> Result<(), LaunchError> {
    let mut registers = Registers::reset(vcpu.index() == 0, vcpu.vm.host.supported_xcr0());
    registers.set_cpuid(&vcpu.cpuid2(), &crate::cpuid::supported(&vcpu.vm.host.config.cpuid));
    let carried = registers
        .set_system(&state.sregs)
        .map(|()| registers.set_general(&state.regs))
        .and_then(|()| registers.set_xsave(&state.xsave))
        .and_then(|()| registers.set_xcrs(&state.xcrs))
        .map(|()| {
            state.msrs.iter().for_each(|msr| {
                registers.set_msr(msr.index, msr.data);
            })
        })
        .and_then(|()| registers.set_debug(&state.debugregs))
        .and_then(|()| vmsa::build(&registers, features));
    match carried {
        // What KVM refuses is refused by the ioctls that follow, with their names.
        Err(_) => Ok(()),
        Ok(built) if *built == *vmsa => Ok(()),
        Ok(built) => Err(LaunchError::Unmodelled(format!(
            "vCPU {}: KVM's registers cannot carry this state of its VMSA: {}",
            vcpu.index(),
            differing_fields(&built, vmsa).join(", ")
        ))),
    }
}
