//! The rework of the proposal: a vCPU command names the VMSA page.

use snp_abi::Errno;
use snp_abi::kvm::proposed::{KVM_CAP_SNP_DIRECT_VMSA, KVM_CAP_SNP_VCPU_STATE};

use crate::{UapiProfile, VcpuStateCommand, VmsaPages};

/// Any number of VMSA pages; SNP_SET_VCPU_STATE gives one to a vCPU.
pub static VCPU_STATE: UapiProfile = UapiProfile {
    name: "vcpu-state",
    origin: "the later rework: KVM_SEV_SNP_SET_VCPU_STATE",
    capabilities: &[(KVM_CAP_SNP_VCPU_STATE, 1)],
    vmsa_pages: VmsaPages::Any,
    refused_vmsa: Errno::EINVAL,
    vcpu_state: Some(VcpuStateCommand { enabled_by: None }),
};

/// The variant in which a VM must enable direct VMSAs first.
pub static VCPU_STATE_EXPLICIT: UapiProfile = UapiProfile {
    name: "vcpu-state-explicit",
    origin: "the later rework, with KVM_ENABLE_CAP before SNP_SET_VCPU_STATE",
    capabilities: &[(KVM_CAP_SNP_VCPU_STATE, 1), (KVM_CAP_SNP_DIRECT_VMSA, 1)],
    vmsa_pages: VmsaPages::Any,
    refused_vmsa: Errno::EINVAL,
    vcpu_state: Some(VcpuStateCommand { enabled_by: Some(KVM_CAP_SNP_DIRECT_VMSA) }),
};
