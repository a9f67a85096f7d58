//! Whether the platform can keep a guest's policy.

use snp_abi::{FwStatus, GuestPolicy};

use crate::PlatformConfig;

/// Checks a policy at SNP_LAUNCH_START.
///
/// # Errors
/// INVALID_PARAM: reserved bits, among them those that this firmware version does not know. POLICY_FAILURE: the platform
/// cannot keep the policy.
///
/// # Source
/// AMD 56860, "Guest Policy" and SNP_LAUNCH_START.
pub(crate) fn check_at_start(policy: GuestPolicy, config: &PlatformConfig) -> Result<(), FwStatus> {
    if !policy.has(GuestPolicy::RESERVED_MBO) || policy.0 & !config.policy_bits != 0 {
        return Err(FwStatus::INVALID_PARAM);
    }
    let kept = policy.abi() <= config.api
        && (policy.has(GuestPolicy::SMT) || !config.smt_enabled)
        && (policy.has(GuestPolicy::CXL_ALLOW) || !config.cxl_populated)
        && (!policy.has(GuestPolicy::MEM_AES_256_XTS) || config.mem_aes_256_xts)
        && (!policy.has(GuestPolicy::RAPL_DIS) || config.rapl_disabled)
        && (!policy.has(GuestPolicy::CIPHERTEXT_HIDING_DRAM) || config.ciphertext_hiding_dram);
    if kept { Ok(()) } else { Err(FwStatus::POLICY_FAILURE) }
}

/// Checks a policy at SNP_ACTIVATE, which activates the guest on all sockets.
///
/// # Errors
/// POLICY_FAILURE: the guest may run on one socket only and there are more.
///
/// # Source
/// AMD 56860, "Guest Policy", SINGLE_SOCKET.
pub(crate) fn check_at_activate(policy: GuestPolicy, config: &PlatformConfig) -> Result<(), FwStatus> {
    if policy.has(GuestPolicy::SINGLE_SOCKET) && config.sockets > 1 {
        return Err(FwStatus::POLICY_FAILURE);
    }
    Ok(())
}
