//! Reset states against pages that another tool made.

use sha2::{Digest, Sha384};
use snp_abi::SevFeatures;
use snp_vmsa::reset::{BOOT_EIP, ResetProfile, ResetRdx, find, find_in_era, profiles};
use zerocopy::IntoBytes;

fn page_hash(profile: &ResetProfile, eip: u32) -> String {
    let vmsa = profile.vmsa(eip, 0x00a0_0f11, SevFeatures(0x21));
    Sha384::digest(vmsa.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-384 of the pages that sev-snp-measure 0.0.13 builds: `VMSA.build_save_area(eip, 0x21, 0x00a00f11, vmm)`.
#[test]
fn pages_are_those_of_sev_snp_measure() {
    for (name, eip, expected) in [
        (
            "qemu",
            BOOT_EIP,
            "c09a66985cec1bc375ace3f0bc319ca50136de70ee7ba4a42b4b3f7df6e05a7b7e9856cdee5f8e27704ba0ac03603938",
        ),
        (
            "qemu",
            0x80_b004,
            "7fd904e110cb7253355e38ec66408a2184c31b8048ecebbe67b9a3c68fe7fb4040acdd7ffce6ed6e96ad42f418f67fe0",
        ),
        (
            "ec2",
            BOOT_EIP,
            "e0897e8839a89263c86c623a0a739839fbf54dd00526df52c2a854fd36e6557c8260f21c8030441e5e3e79d5e8da7c5f",
        ),
        (
            "ec2",
            0x80_b004,
            "bb757c6aec783f41492857eaa32b3d931e2faa80976bee4a4ee6b2f4f3d50744d1b02b4bf30d191d504cc686d30f642f",
        ),
        (
            "gce",
            BOOT_EIP,
            "2ac3e2eb183da064d16da7d4847eb61d536624530f60c996435309368358cd64c3e1b32b24d61269914a78b8370ca256",
        ),
        (
            "gce",
            0x80_b004,
            "81dc79b7f59a6814d3812aaf3cd07a7df861c863b4b9e1cdf3709b5c4b209c90c5f6442a284ebfb5ef3978a20f70e9ac",
        ),
    ] {
        assert_eq!(page_hash(find(name).unwrap(), eip), expected, "{name} at {eip:#x}");
    }
}

#[test]
fn eras_differ_only_in_their_columns() {
    let state = |name| find(name).unwrap().vmsa(BOOT_EIP, 0x80_0f12, SevFeatures(1));
    let mut old_kvm = state("qemu");
    (old_kvm.mxcsr, old_kvm.x87_fcw) = (0, 0);
    assert_eq!(old_kvm, state("qemu-pre-6.10"));
    let mut old_ec2 = state("ec2");
    old_ec2.rdx = 0;
    assert_eq!(old_ec2, state("ec2-pre-2026"));
    assert_eq!(state("direct"), state("qemu"));
    let mut registers = state("krun");
    (registers.rsp, registers.rbp, registers.rsi) = (0x8ff0, 0x8ff0, 0x7000);
    assert_eq!(registers, state("krun-registers"));
    let mut meant = state("coconut-svsm");
    meant.x87_fcw = 0x37f;
    assert_eq!(meant, state("coconut-svsm-fcw"));
}

#[test]
fn eras_pick_one_row_of_a_family() {
    let name = |family: &str, era: &str| find_in_era(family, &era.parse().unwrap()).map(|profile| profile.name);
    assert_eq!(name("QEMU", "2026-11-23"), Some("qemu"));
    assert_eq!(name("qemu", "6.9.12"), Some("qemu-pre-6.10"));
    assert_eq!(name("qemu", "6.10"), Some("qemu"));
    assert_eq!(name("ec2", "2025-12-31"), Some("ec2-pre-2026"));
    assert_eq!(name("ec2", "2026-01-01"), Some("ec2"));
    // EC2's rows are told apart by dates, and 6.1 ran on both sides.
    assert_eq!(name("ec2", "6.1"), None);
    assert_eq!(name("gce", "6.1"), Some("gce"));
    assert_eq!(name("xen", "6.1"), None);
}

#[test]
fn names_are_unique_and_lower_case() {
    for (i, profile) in profiles().iter().enumerate() {
        assert_eq!(profile.name, profile.name.to_lowercase());
        assert!(profiles()[..i].iter().all(|other| other.name != profile.name), "{}", profile.name);
        assert_eq!(find(&profile.name.to_uppercase()), Some(profile));
    }
    assert_eq!(find("xen"), None);
    assert!(matches!(find("qemu").unwrap().rdx, ResetRdx::Signature));
}
