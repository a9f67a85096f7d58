//! SNP_GET_VCPU_STATE and SNP_SET_VCPU_STATE, the vCPU commands of the proposal's rework.

use snp_abi::kvm::proposed::{
    KVM_SEV_SNP_VCPU_STATE_GHCB_VALID as GHCB_VALID, KVM_SEV_SNP_VCPU_STATE_VMSA_VALID as VMSA_VALID,
    kvm_sev_snp_vcpu_state,
};
use snp_abi::{Errno, Gpa};
use zerocopy::IntoBytes;

use super::Call;
use crate::VcpuStateCommand;
use crate::user::read_struct;
use crate::vcpu::{VcpuInner, VcpuState};

/// The physical address width of a vCPU whose CPUID does not tell.
const DEFAULT_ADDRESS_BITS: u32 = 36;

/// KVM_SEV_SNP_SET_VCPU_STATE: names the page that is the vCPU's VMSA, and its GHCB. The last SET wins. From the first SET on
/// KVM makes no VMSA for any vCPU of the VM.
///
/// # Errors
/// ENOTTY: not an SNP guest. EINVAL: not between LAUNCH_START and LAUNCH_FINISH, the capability that the profile wants is not
/// enabled, unknown bits or padding, or a VMSA address that is misaligned, 2 MiB-aligned, outside the guest's address space or
/// in no slot. EFAULT: the arguments, or a slot without guest_memfd. Nothing changes.
pub(super) fn set(call: &mut Call<'_>, vcpu: &VcpuInner, profile: VcpuStateCommand) -> Result<(), Errno> {
    want_snp(call)?;
    if call.launch().is_none_or(|launch| launch.finished) || call.state.enabled != profile.enabled_by {
        return Err(Errno::EINVAL);
    }
    let params: kvm_sev_snp_vcpu_state = read_struct(call.user, call.command.data)?;
    if params.pad != [0; 5] || params.valid_fields & !(VMSA_VALID | GHCB_VALID) != 0 {
        return Err(Errno::EINVAL);
    }
    let vmsa_gpa = (params.valid_fields & VMSA_VALID != 0).then_some(Gpa(params.vmsa_gpa));
    let ghcb_gpa = (params.valid_fields & GHCB_VALID != 0).then_some(Gpa(params.ghcb_gpa));
    let mut state = vcpu.lock();
    if let Some(gpa) = vmsa_gpa {
        check_vmsa_gpa(call, &state, gpa)?;
    }
    state.vmsa_gpa = vmsa_gpa;
    state.ghcb_gpa = ghcb_gpa;
    call.launch().expect("checked").direct = true;
    Ok(())
}

/// KVM_SEV_SNP_GET_VCPU_STATE.
///
/// # Errors
/// ENOTTY: not an SNP guest. EFAULT.
pub(super) fn get(call: &mut Call<'_>, vcpu: &VcpuInner) -> Result<(), Errno> {
    want_snp(call)?;
    let state = vcpu.lock();
    let bit = |gpa: Option<Gpa>, bit: u64| if gpa.is_some() { bit } else { 0 };
    let answer = kvm_sev_snp_vcpu_state {
        valid_fields: bit(state.vmsa_gpa, VMSA_VALID) | bit(state.ghcb_gpa, GHCB_VALID),
        vmsa_gpa: state.vmsa_gpa.unwrap_or_default().0,
        ghcb_gpa: state.ghcb_gpa.unwrap_or_default().0,
        pad: [0; 5],
    };
    Ok(call.user.write(call.command.data, answer.as_bytes())?)
}

fn want_snp(call: &Call<'_>) -> Result<(), Errno> {
    if call.is_snp() { Ok(()) } else { Err(Errno::ENOTTY) }
}

/// Whether a page is private is not checked: the guest may still make it so.
fn check_vmsa_gpa(call: &Call<'_>, state: &VcpuState, gpa: Gpa) -> Result<(), Errno> {
    let bits = state
        .registers
        .cpuid
        .iter()
        .find(|function| function.function == 0x8000_0008)
        .map_or(DEFAULT_ADDRESS_BITS, |function| function.eax & 0xff);
    let outside = bits < 64 && gpa.0 >> bits != 0;
    if !gpa.is_page_aligned() || gpa.is_2mib_aligned() || outside {
        return Err(Errno::EINVAL);
    }
    let layout = call.vm.memory.layout();
    let slot = layout.slots.find(gpa.gfn().0).ok_or(Errno::EINVAL)?;
    let memfd = slot.guest_memfd.as_ref().ok_or(Errno::EFAULT)?;
    memfd.0.upgrade().map(drop).ok_or(Errno::EFAULT)
}
