//! What is varied, and over which values.

use std::collections::BTreeSet;

use snp_abi::SevFeatures;
use snp_vmsa::cpu;
use snp_vmsa::reset::{self, ResetProfile, ResetRdx, profiles};

/// SEV_FEATURES of launches that are common.
pub(crate) fn common_features() -> Vec<SevFeatures> {
    let active = SevFeatures::SNP_ACTIVE;
    let more = [
        0,
        SevFeatures::DEBUG_SWAP,
        SevFeatures::SECURE_TSC,
        SevFeatures::DEBUG_SWAP | SevFeatures::SECURE_TSC,
        SevFeatures::RESTRICTED_INJECTION,
        SevFeatures::ALTERNATE_INJECTION,
        SevFeatures::VTOM | SevFeatures::RESTRICTED_INJECTION,
    ];
    more.map(|more| SevFeatures(active | more)).to_vec()
}

/// Every combination of the features that a host may set for a guest.
pub(crate) fn all_features() -> Vec<SevFeatures> {
    const BITS: [u64; 9] = [
        SevFeatures::RESTRICTED_INJECTION,
        SevFeatures::ALTERNATE_INJECTION,
        SevFeatures::DEBUG_SWAP,
        SevFeatures::PREVENT_HOST_IBS,
        SevFeatures::BTB_ISOLATION,
        SevFeatures::SECURE_TSC,
        SevFeatures::VMSA_REG_PROT,
        SevFeatures::SMT_PROTECTION,
        SevFeatures::SECURE_AVIC,
    ];
    (0_u32..1 << BITS.len())
        .map(|set| {
            let chosen = BITS.iter().enumerate().filter(|(index, _)| set >> index & 1 == 1);
            SevFeatures(chosen.fold(SevFeatures::SNP_ACTIVE, |all, (_, bit)| all | bit))
        })
        .collect()
}

/// The signatures of QEMU's models, the newest first.
pub(crate) fn model_signatures() -> Vec<u32> {
    let distinct: BTreeSet<u32> = cpu::MODELS.iter().map(|model| model.signature).collect();
    distinct.into_iter().rev().collect()
}

/// The signatures of every model and stepping of the families that have SEV-SNP, and of Zen 1.
pub(crate) fn all_signatures() -> Vec<u32> {
    let families = [0x19_u16, 0x1a, 0x17];
    let of_family = |family| {
        (0..=u8::MAX)
            .flat_map(move |model| (0..16).map(move |stepping| cpu::signature_from_fms(family, model, stepping)))
    };
    families.into_iter().flat_map(of_family).collect()
}

/// The signatures that are worth trying with a profile: one is enough where it does not show.
pub(crate) fn signatures_for(profile: &ResetProfile, signatures: &[u32]) -> Vec<u32> {
    match profile.rdx {
        ResetRdx::Signature => signatures.to_vec(),
        ResetRdx::Fixed(_) => vec![0],
    }
}

/// The profiles of VMMs that start processors from firmware's reset vector, without those that equal another.
pub(crate) fn firmware_profiles() -> Vec<&'static ResetProfile> {
    let mut found: Vec<&ResetProfile> = Vec::new();
    for profile in profiles() {
        let same = |other: &&ResetProfile| {
            let state = |profile: &ResetProfile| profile.vmsa(0xffff_fff0, 1, SevFeatures(1));
            let others = |profile: &ResetProfile| profile.vmsa(0x80_b004, 1, SevFeatures(1));
            state(profile) == state(other)
                && others(profile) == others(other)
                && (profile.cpuid, profile.sec_mem) == (other.cpuid, other.sec_mem)
        };
        if !found.iter().any(same) {
            found.push(profile);
        }
    }
    found
}

/// The profiles whose boot VMSA user space may supply: our own first, and of the others those that differ from it.
pub(crate) fn direct_profiles() -> Vec<&'static ResetProfile> {
    let direct = reset::find("direct").expect("the registry has it");
    let boot = |profile: &ResetProfile| profile.vmsa(reset::BOOT_EIP, 1, SevFeatures(1));
    let others = firmware_profiles().into_iter().filter(|profile| boot(profile) != boot(direct));
    std::iter::once(direct).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_has_what_it_says() {
        assert_eq!(model_signatures().len(), 5);
        assert_eq!(all_signatures().len(), 3 * 256 * 16);
        assert_eq!(all_features().len(), 512);
        assert!(common_features().contains(&SevFeatures(0x21)));
        let names: Vec<_> = firmware_profiles().iter().map(|profile| profile.name).collect();
        assert!(
            names.starts_with(&["qemu", "qemu-pre-6.10", "ec2", "ec2-pre-2026", "gce", "krun", "krun-registers"]),
            "{names:?}"
        );
        assert!(!names.contains(&"direct") && !names.contains(&"qemu-debug-swap"), "{names:?}");
    }
}
