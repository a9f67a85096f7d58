//! The first proposal for a user-supplied VMSA.

use snp_abi::Errno;
use snp_abi::kvm::proposed::KVM_CAP_SNP_DIRECT_VMSA;

use crate::{UapiProfile, VmsaPages};

/// One VMSA page at LAUNCH_UPDATE, for the boot processor.
pub static DIRECT_VMSA: UapiProfile = UapiProfile {
    name: "direct-vmsa",
    origin: "\"kvm: svm: Support KVM_SEV_SNP_PAGE_TYPE_VMSA at SNP_LAUNCH_UPDATE\", June 2026",
    capabilities: &[(KVM_CAP_SNP_DIRECT_VMSA, 1)],
    vmsa_pages: VmsaPages::BootProcessor,
    refused_vmsa: Errno::EIO,
    vcpu_state: None,
};
