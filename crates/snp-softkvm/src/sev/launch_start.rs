//! SNP_LAUNCH_START.

use snp_abi::kvm::kvm_sev_snp_launch_start;
use snp_abi::{Errno, GuestPolicy, SevFeatures};
use snp_asp::LaunchStart;

use super::{Call, Launch, decommission};
use crate::user::read_struct;

/// The host's TSC frequency, which a guest with Secure TSC is given.
const DEFAULT_TSC_KHZ: u32 = 2_450_000;

/// KVM_SEV_SNP_LAUNCH_START.
///
/// # Errors
/// ENOTTY: not an SNP guest, or the guest context could not be created (among others because `sev_fd` is not a descriptor of
/// /dev/sev). EFAULT. EINVAL: a context exists, flags, policy bits that KVM does not take, or the must-be-one bit clear. EIO
/// with `error` set: the firmware refused; the context is decommissioned again.
pub(super) fn launch_start(call: &mut Call<'_>) -> Result<(), Errno> {
    if !call.is_snp() {
        return Err(Errno::ENOTTY);
    }
    let params: kvm_sev_snp_launch_start = read_struct(call.user, call.command.data)?;
    let policy = GuestPolicy(params.policy);
    if call.launch().is_some()
        || params.flags != 0
        || params.policy & !call.vm.host.supported_policy_bits() != 0
        || !policy.has(GuestPolicy::RESERVED_MBO)
    {
        return Err(Errno::EINVAL);
    }
    let secure_tsc = call.features().has(SevFeatures::SECURE_TSC);
    let start = LaunchStart {
        policy,
        migration_agent: None,
        imi: false,
        desired_tsc_khz: if secure_tsc { DEFAULT_TSC_KHZ } else { 0 },
        gosvw: params.gosvw,
    };

    let (host, sev_fd) = (call.vm.host.clone(), call.command.sev_fd);
    let gctx = host.allocate_firmware_frame().map_err(|_| Errno::ENOTTY)?;
    if call.firmware(sev_fd, |firmware| firmware.gctx_create(gctx)).is_err() {
        host.release_firmware_frame(gctx);
        return Err(Errno::ENOTTY);
    }
    let asid = call.state.sev.as_ref().expect("an SNP guest").asid;
    let started = call
        .firmware(sev_fd, |firmware| firmware.launch_start(gctx, &start))
        .and_then(|()| call.firmware(sev_fd, |firmware| firmware.activate(gctx, asid)));
    if let Err(errno) = started {
        decommission(&host, gctx);
        return Err(errno);
    }
    let launch = Launch { gctx, sev_fd, boot_vmsa: None, direct: false, finished: false };
    call.state.sev.as_mut().expect("an SNP guest").launch = Some(launch);
    Ok(())
}
