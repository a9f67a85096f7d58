//! The MSRs that KVM keeps for a vCPU beside those that lie in a VMSA.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/msrs.c: `msrs_to_save_base`, `msrs_to_save_pmu`, `emulated_msrs_all`, `msr_based_features_all`,
//! as far as an AMD processor has them. Hyper-V's are left out with their capabilities.

use crate::capabilities::MCE_BANKS;

/// MSRs that KVM_GET_MSR_INDEX_LIST names, in Linux's order. Those that a VMSA holds are among them.
pub(crate) const LISTED: &[u32] = &[
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc000_0081, // STAR
    0xc000_0083, // CSTAR
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0084, // SFMASK
    0xc000_0082, // LSTAR
    0x10,        // TSC
    0x277,       // PAT
    0xc001_0117, // VM_HSAVE_PA
    0xc000_0103, // TSC_AUX
    0x48,        // SPEC_CTRL
    0xda0,       // XSS
    0x1d9,       // DEBUGCTL
    0x1db,       // LASTBRANCHFROMIP
    0x1dc,       // LASTBRANCHTOIP
    0x1dd,       // LASTINTFROMIP
    0x1de,       // LASTINTTOIP
    // K7 event selectors and counters.
    0xc001_0000,
    0xc001_0001,
    0xc001_0002,
    0xc001_0003,
    0xc001_0004,
    0xc001_0005,
    0xc001_0006,
    0xc001_0007,
    // The core's six performance controls, then counters.
    0xc001_0200,
    0xc001_0202,
    0xc001_0204,
    0xc001_0206,
    0xc001_0208,
    0xc001_020a,
    0xc001_0201,
    0xc001_0203,
    0xc001_0205,
    0xc001_0207,
    0xc001_0209,
    0xc001_020b,
    // KVM's own: wall clock and system time, old and new numbers.
    0x12,
    0x11,
    0x4b56_4d01,
    0x4b56_4d00,
    0x4b56_4d02, // asynchronous page faults
    0x4b56_4d03, // steal time
    0x4b56_4d04, // PV EOI
    0x4b56_4d06, // the vector of asynchronous page faults
    0x4b56_4d07, // their acknowledgement
    0x3b,        // TSC_ADJUST
    0x6e0,       // TSC_DEADLINE
    0x10a,       // ARCH_CAPABILITIES
    0x1a0,       // MISC_ENABLE
    0x17a,       // MCG_STATUS
    0x17b,       // MCG_CTL
    0x9e,        // SMBASE
    0x34,        // SMI_COUNT
    0xce,        // PLATFORM_INFO
    0x140,       // MISC_FEATURES_ENABLES
    0xc001_011f, // VIRT_SPEC_CTRL
    0xc000_0104, // TSC_RATIO
    0x8b,        // UCODE_REV
    0xc001_0015, // HWCR
    0x4b56_4d05, // PV poll control
];

/// Feature MSRs, which KVM_GET_MSR_FEATURE_INDEX_LIST names and KVM_GET_MSRS on /dev/kvm reads, with the host's value.
pub(crate) const FEATURES: &[(u32, u64)] = &[
    (0xc001_1029, 0x2),             // DE_CFG: LFENCE serialises
    (0x8b, 0x0100_0065),            // UCODE_REV, as KVM makes it up for AMD
    (0x10a, 0x0400_0000_0c04_c168), // ARCH_CAPABILITIES: what AMD processors are not affected by
    (0xce, 0x8000_0000),            // PLATFORM_INFO: CPUID faulting can be emulated
];

/// The MSRs that lie in the segments of KVM_GET_SREGS.
/// In a VMSA, and KVM's to know all the same.
pub(crate) const XSS: u32 = 0xda0;
pub(crate) const EFER: u32 = 0xc000_0080;
pub(crate) const FS_BASE: u32 = 0xc000_0100;
pub(crate) const GS_BASE: u32 = 0xc000_0101;
pub(crate) const APIC_BASE: u32 = 0x1b;

/// Whether KVM keeps a value for the MSR and lets user space set it.
pub(crate) fn is_kept(index: u32) -> bool {
    const MCE_FIRST: u32 = 0x400;
    const MCE_LAST: u32 = MCE_FIRST + 4 * MCE_BANKS - 1;
    const MCE_CTL2_FIRST: u32 = 0x280;
    const MCE_CTL2_LAST: u32 = MCE_CTL2_FIRST + MCE_BANKS - 1;
    LISTED.contains(&index)
        || FEATURES.iter().any(|(feature, _)| *feature == index)
        || matches!(
            index,
            // MTRRs: variable, fixed, default type.
            0xfe | 0x200..=0x20f | 0x250 | 0x258 | 0x259 | 0x268..=0x26f | 0x2ff
                | 0x179 // MCG_CAP
                | MCE_FIRST..=MCE_LAST
                | MCE_CTL2_FIRST..=MCE_CTL2_LAST
                // x2APIC registers.
                | 0x800..=0x8ff
                | 0xc001_0010 // SYSCFG
                | 0xc001_0114 // VM_CR
                | 0xc001_0058 // MMIO configuration base
                | 0xc001_0064 // P-state 0
        )
}

/// What an MSR holds before anyone sets it.
pub(crate) fn initial(index: u32) -> u64 {
    match index {
        0xfe => 0x508, // MTRRCAP: fixed ranges, write combining, 8 variable ranges
        0x1a0 => 1,    // MISC_ENABLE: fast strings
        0x179 => u64::from(MCE_BANKS),
        0xc000_0104 => 1 << 32, // TSC_RATIO: 1.0
        0x4b56_4d05 => 1,       // PV poll control: on
        index => FEATURES.iter().find(|(feature, _)| *feature == index).map_or(0, |(_, value)| *value),
    }
}

/// What is kept of a value that user space sets; `None` if KVM refuses it.
///
/// # Source
/// Linux 7.3, tools/testing/selftests/kvm/x86/hwcr_msr_test.c.
pub(crate) fn writable(index: u32, value: u64) -> Option<u64> {
    const HWCR: u32 = 0xc001_0015;
    // Known to be set by guests, and without effect.
    const IGNORED: u64 = 1 << 3 | 1 << 6 | 1 << 8;
    // McStatusWrEn, TscFreqSel, and CpuidUserDis, which KVM takes where the host has it; here always.
    const KEPT: u64 = 1 << 18 | 1 << 24 | 1 << 35;
    match index {
        HWCR if value & !(IGNORED | KEPT) != 0 => None,
        HWCR => Some(value & KEPT),
        _ => Some(value),
    }
}
