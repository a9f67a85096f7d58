//! The uAPI of proposals that are not in Linux 7.3. Capability numbers belong to a proposal, not to the ABI: mainline 7.3
//! uses the same numbers for other architectures.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// KVM_CAP_SNP_DIRECT_VMSA of "kvm: svm: Support KVM_SEV_SNP_PAGE_TYPE_VMSA at SNP_LAUNCH_UPDATE" (June 2026).
pub const KVM_CAP_SNP_DIRECT_VMSA: u32 = 249;
/// KVM_CAP_SNP_VCPU_STATE of the later rework.
pub const KVM_CAP_SNP_VCPU_STATE: u32 = 251;
/// vCPU command of the rework: [`kvm_sev_snp_vcpu_state`], out.
pub const KVM_SEV_SNP_GET_VCPU_STATE: u32 = 104;
/// vCPU command of the rework: [`kvm_sev_snp_vcpu_state`], in.
pub const KVM_SEV_SNP_SET_VCPU_STATE: u32 = 105;
/// `valid_fields`: `vmsa_gpa` is valid.
pub const KVM_SEV_SNP_VCPU_STATE_VMSA_VALID: u64 = 1 << 0;
/// `valid_fields`: `ghcb_gpa` is valid.
pub const KVM_SEV_SNP_VCPU_STATE_GHCB_VALID: u64 = 1 << 1;

/// Where a vCPU's VMSA and GHCB are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_snp_vcpu_state {
    /// Which of the addresses are valid.
    pub valid_fields: u64,
    /// GPA of the VMSA.
    pub vmsa_gpa: u64,
    /// GPA of the GHCB.
    pub ghcb_gpa: u64,
    /// Must be zero.
    pub pad: [u64; 5],
}

abi_layout!(kvm_sev_snp_vcpu_state, 64, { valid_fields: 0, vmsa_gpa: 8, ghcb_gpa: 16, pad: 24 });

impl Default for kvm_sev_snp_vcpu_state {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
