//! The reset states that plans start from, by name.

use snp_abi::{SevFeatures, Vmsa};
use snp_vmsa::reset::ResetProfile;

pub(crate) use snp_vmsa::reset::BOOT_EIP;

/// QEMU on a current Linux.
pub(crate) fn current_qemu() -> &'static ResetProfile {
    profile("qemu")
}

/// KVM itself.
pub(crate) fn kvm() -> &'static ResetProfile {
    profile("kvm-reset")
}

/// The project's own reset state, for VMSAs that user space supplies.
pub(crate) fn direct(eip: u32, cpu_signature: u32, features: SevFeatures) -> Vmsa {
    profile("direct").vmsa(eip, cpu_signature, features)
}

fn profile(name: &str) -> &'static ResetProfile {
    snp_vmsa::reset::find(name).expect("the registry has it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_exist() {
        let features = SevFeatures(SevFeatures::SNP_ACTIVE);
        assert_eq!(current_qemu().vmsa(0x80_b004, 0x80_0f12, features).cs.base, 0x80_0000);
        assert_eq!(direct(BOOT_EIP, 0, features).rip, 0xfff0);
    }
}
