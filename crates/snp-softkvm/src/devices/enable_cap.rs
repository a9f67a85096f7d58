//! KVM_ENABLE_CAP of what a launch does not turn on.

use snp_abi::Errno;
use snp_abi::kvm::*;

use crate::capabilities::{DIRTY_LOG_FLAGS, DISABLE_EXITS, MSR_EXIT_REASONS, QUIRKS, X2APIC_FLAGS};
use crate::vm::VmState;

/// Enables a capability, or says why not.
///
/// # Errors
/// EINVAL: an argument that the capability does not take, or one that cannot be enabled. Others by capability.
pub(crate) fn enable(state: &mut VmState, cap: &kvm_enable_cap) -> Result<(), Errno> {
    let argument = cap.args[0];
    let within = |valid: u64| if argument & !valid == 0 { Ok(()) } else { Err(Errno::EINVAL) };
    match cap.cap {
        KVM_CAP_SPLIT_IRQCHIP => state.devices.split_irqchip(argument, state.vcpus.len()),
        KVM_CAP_EXCEPTION_PAYLOAD => {
            state.devices.exception_payload = argument != 0;
            Ok(())
        }
        KVM_CAP_X86_TRIPLE_FAULT_EVENT => {
            state.devices.triple_fault_event = argument != 0;
            Ok(())
        }
        // How long a host waits before it sleeps: of no effect here.
        KVM_CAP_HALT_POLL => Ok(()),
        KVM_CAP_MSR_PLATFORM_INFO => {
            state.devices.reads_platform_info = argument != 0;
            Ok(())
        }
        KVM_CAP_DISABLE_QUIRKS | KVM_CAP_DISABLE_QUIRKS2 => {
            // The older one takes what it does not know.
            if cap.cap == KVM_CAP_DISABLE_QUIRKS2 {
                within(QUIRKS)?;
            }
            state.devices.disabled_quirks |= argument & QUIRKS;
            Ok(())
        }
        KVM_CAP_X2APIC_API => {
            const USE_32BIT_IDS: u64 = 1;
            within(X2APIC_FLAGS)?;
            state.devices.long_apic_ids |= argument & USE_32BIT_IDS != 0;
            Ok(())
        }
        KVM_CAP_X86_USER_SPACE_MSR => {
            within(MSR_EXIT_REASONS)?;
            state.devices.user_space_msr = argument;
            Ok(())
        }
        KVM_CAP_EXIT_ON_EMULATION_FAILURE => {
            within(1)?;
            state.devices.exit_on_emulation_failure = argument != 0;
            Ok(())
        }
        KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 => within(DIRTY_LOG_FLAGS),
        KVM_CAP_X86_DISABLE_EXITS => {
            // Linux checks the argument first, then whether it comes too late.
            within(DISABLE_EXITS)?;
            if !state.vcpus.is_empty() {
                return Err(Errno::EINVAL);
            }
            state.devices.disabled_exits |= argument;
            Ok(())
        }
        KVM_CAP_X86_APIC_BUS_CYCLES_NS => {
            // The longest timer must not overflow.
            let longest = u64::from(u32::MAX) * 128;
            if argument == 0 || longest.checked_mul(argument).is_none() {
                Err(Errno::EINVAL)
            } else if !state.devices.has_local_apics() {
                Err(Errno::ENXIO)
            } else if state.vcpus.is_empty() {
                Ok(())
            } else {
                Err(Errno::EINVAL)
            }
        }
        _ => Err(Errno::EINVAL),
    }
}
