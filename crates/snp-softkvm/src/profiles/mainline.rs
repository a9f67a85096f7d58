//! Linux as released.

use snp_abi::Errno;

use crate::{UapiProfile, VmsaPages};

/// Linux 7.3: KVM makes and measures one VMSA for every vCPU.
pub static MAINLINE: UapiProfile = UapiProfile {
    name: "mainline",
    origin: "Linux 7.3",
    capabilities: &[],
    vmsa_pages: VmsaPages::None,
    refused_vmsa: Errno::EIO,
    vcpu_state: None,
};
