//! The reset states that plans start from, by name.

use snp_abi::{SevFeatures, Vmsa};
pub(crate) use snp_vmsa::reset::BOOT_EIP;

/// What KVM makes of QEMU's reset registers.
pub(crate) fn qemu(eip: u32, cpu_signature: u32, features: SevFeatures) -> Vmsa {
    profile("qemu", eip, cpu_signature, features)
}

/// The project's own reset state, for VMSAs that user space supplies.
pub(crate) fn direct(eip: u32, cpu_signature: u32, features: SevFeatures) -> Vmsa {
    profile("direct", eip, cpu_signature, features)
}

fn profile(name: &str, eip: u32, cpu_signature: u32, features: SevFeatures) -> Vmsa {
    snp_vmsa::reset::find(name).expect("the profile is one of the table").vmsa(eip, cpu_signature, features)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_exist() {
        let features = SevFeatures(SevFeatures::SNP_ACTIVE);
        assert_eq!(qemu(0x80_b004, 0x80_0f12, features).cs.base, 0x80_0000);
        assert_eq!(direct(BOOT_EIP, 0, features).rip, 0xfff0);
    }
}
