//! The GHCB MSR protocol: requests without a page.

use snp_abi::ghcb::info;
use snp_abi::ghcb::psc;
use snp_abi::kvm::KVM_HC_MAP_GPA_RANGE;

use super::psc::map_flags;
use super::{Config, Ghcb, Hold, Machine, Outcome, Pending, UserExit};

/// The oldest protocol version that KVM speaks.
const VERSION_MIN: u64 = 1;
/// GHCBData of 52 bits: "no preference", and the mask of an address.
const GPA_NONE: u64 = (1 << 52) - 1;
/// KVM's mark of a page-state change that failed.
const PSC_ERROR: u64 = 1 << 63;

const DATA: u32 = 12;

/// SEV information: the newest and the oldest version, and the C-bit.
pub(super) fn sev_information(config: &Config) -> u64 {
    u64::from(config.version) << 48 | VERSION_MIN << 32 | u64::from(config.c_bit) << 24 | info::SEV_INFO_RESPONSE
}

pub(super) fn page_state_response(done: bool) -> u64 {
    if done { info::PSC_RESPONSE } else { PSC_ERROR | info::PSC_RESPONSE }
}

/// The response to AP reset hold: not zero when a SIPI came.
pub(super) fn reset_hold_response(result: u64) -> u64 {
    result << DATA | info::AP_RESET_HOLD_RESPONSE
}

impl Ghcb {
    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_handle_vmgexit_msr_protocol`; AMD 56421 (GHCB), "GHCB MSR Protocol".
    pub(super) fn msr_protocol(&mut self, msr: &mut u64, machine: &mut dyn Machine) -> Outcome {
        match *msr & info::MASK {
            info::SEV_INFO_REQUEST => *msr = sev_information(&self.config),
            info::CPUID_REQUEST => {
                let function = (*msr >> 32) as u32;
                let register = (*msr >> 30 & 0b11) as usize;
                let value = machine.cpuid(function, 0)[register];
                // The rest of the request stays.
                *msr = u64::from(value) << 32 | *msr & 0xffff_f000 | info::CPUID_RESPONSE;
            }
            info::AP_RESET_HOLD_REQUEST => {
                self.hold = Hold::Msr;
                *msr = reset_hold_response(0);
                if !machine.reset_hold() {
                    return Outcome::Exit(UserExit::ApResetHold);
                }
            }
            info::HV_FEATURES_REQUEST => *msr = self.config.features() << DATA | info::HV_FEATURES_RESPONSE,
            info::PREFERRED_GPA_REQUEST if self.config.snp => {
                *msr = GPA_NONE << DATA | info::PREFERRED_GPA_RESPONSE;
            }
            info::REGISTER_GPA_REQUEST if self.config.snp => {
                // KVM takes any address: one without memory shows at the next exit.
                self.registered = *msr & !info::MASK;
                *msr = self.registered | info::REGISTER_GPA_RESPONSE;
            }
            info::PSC_REQUEST if self.config.snp => return self.page_state_change(msr, machine),
            info::PREFERRED_GPA_REQUEST
            | info::REGISTER_GPA_REQUEST
            | info::PSC_REQUEST
            | info::TERMINATION_REQUEST => return Outcome::Exit(UserExit::SevTermination { msr: *msr }),
            _ => {}
        }
        Outcome::Resume
    }

    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `snp_begin_psc_msr`.
    fn page_state_change(&mut self, msr: &mut u64, machine: &mut dyn Machine) -> Outcome {
        let gpa = *msr & 0x000f_ffff_ffff_f000;
        let operation = (*msr >> 52 & 0xf) as u8;
        if !matches!(operation, psc::PRIVATE | psc::SHARED) || !machine.map_gpa_range_exits() {
            *msr = page_state_response(false);
            return Outcome::Resume;
        }
        self.pending = Pending::PscMsr;
        let args = [gpa, 1, map_flags(operation, false), 0, 0, 0];
        Outcome::Exit(UserExit::Hypercall { nr: KVM_HC_MAP_GPA_RANGE, args, flags: None })
    }
}
