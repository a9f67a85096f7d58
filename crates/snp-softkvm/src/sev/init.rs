//! INIT2 and ENABLE_REQ_CERTS.

use snp_abi::kvm::*;
use snp_abi::{Errno, SevFeatures};

use super::plain::Context;
use super::{Call, SevState};
use crate::host::is_snp;
use crate::user::read_struct;

/// The highest GHCB protocol version.
const GHCB_VERSION_MAX: u16 = 2;

/// KVM_SEV_INIT2.
///
/// # Errors
/// EINVAL: already initialised, not an SEV VM, a vCPU exists, flags, features or GHCB version that the VM cannot have. EFAULT.
/// EBUSY: no ASID is left. In Linux's order; nothing changes.
pub(super) fn init2(call: &mut Call<'_>) -> Result<(), Errno> {
    let vm_type = call.vm.vm_type;
    let encrypted = matches!(vm_type, KVM_X86_SEV_VM | KVM_X86_SEV_ES_VM | KVM_X86_SNP_VM);
    if call.state.sev.is_some() || !encrypted {
        return Err(Errno::EINVAL);
    }
    let init: kvm_sev_init = read_struct(call.user, call.command.data)?;
    if !call.state.vcpus.is_empty() || init.flags != 0 {
        return Err(Errno::EINVAL);
    }
    let protected_state = vm_type != KVM_X86_SEV_VM;
    let mut features = if protected_state { call.vm.host.supported_vmsa_features() } else { 0 };
    if !is_snp(vm_type) {
        features &= !SevFeatures::SECURE_TSC;
    }
    if init.vmsa_features & !features != 0 {
        return Err(Errno::EINVAL);
    }
    if init.ghcb_version > GHCB_VERSION_MAX || !protected_state && init.ghcb_version != 0 {
        return Err(Errno::EINVAL);
    }
    let ghcb_version = if protected_state && init.ghcb_version == 0 { 2 } else { init.ghcb_version };
    if is_snp(vm_type) && ghcb_version < 2 {
        return Err(Errno::EINVAL);
    }
    let asid = call.vm.host.allocate_asid(vm_type)?;
    let snp_active = if is_snp(vm_type) { SevFeatures::SNP_ACTIVE } else { 0 };
    call.state.sev = Some(SevState {
        asid,
        features: SevFeatures(init.vmsa_features | snp_active),
        ghcb_version,
        certificates_requested: false,
        launch: None,
        es: protected_state,
        context: (!is_snp(vm_type)).then(|| Context::new(call.vm.host.clone(), asid)),
        mirror: false,
        regions: Vec::new(),
    });
    Ok(())
}

/// KVM_SEV_INIT and KVM_SEV_ES_INIT, on a VM whose type says nothing.
///
/// # Errors
/// EINVAL: another type, initialised already, or with vCPUs. EBUSY: no ASID is left.
pub(super) fn init(call: &mut Call<'_>, es: bool) -> Result<(), Errno> {
    if call.vm.vm_type != KVM_X86_DEFAULT_VM || call.state.sev.is_some() || !call.state.vcpus.is_empty() {
        return Err(Errno::EINVAL);
    }
    let asid = call.vm.host.allocate_asid(if es { KVM_X86_SEV_ES_VM } else { KVM_X86_SEV_VM })?;
    call.state.sev = Some(SevState {
        asid,
        features: SevFeatures::default(),
        // KVM_SEV_ES_INIT never learned a newer one.
        ghcb_version: es.into(),
        certificates_requested: false,
        launch: None,
        es,
        context: Some(Context::new(call.vm.host.clone(), asid)),
        mirror: false,
        regions: Vec::new(),
    });
    Ok(())
}

/// KVM_SEV_SNP_ENABLE_REQ_CERTS.
///
/// # Errors
/// EINVAL: a vCPU exists, or not an SNP guest.
pub(super) fn enable_req_certs(call: &mut Call<'_>) -> Result<(), Errno> {
    if !call.state.vcpus.is_empty() || !call.vm.is_snp() {
        return Err(Errno::EINVAL);
    }
    let sev = call.state.sev.as_mut().ok_or(Errno::EINVAL)?;
    sev.certificates_requested = true;
    Ok(())
}
