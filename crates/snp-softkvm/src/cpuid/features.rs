//! What a vCPU may set in CR4 and EFER: what its CPUID offers and KVM supports.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/cpuid.c (`kvm_vcpu_after_set_cpuid`), regs.h (`__cr4_reserved_bits`), msrs.c (`__kvm_valid_efer`);
//! AMD 24594 (APM volume 3), "Obtaining Processor Information Via the CPUID Instruction", for the bits.

use snp_abi::kvm::kvm_cpuid_entry2;

use super::table::find;

/// A register of a function: 1 is EBX, 2 ECX, 3 EDX.
type Place = (u32, u32, usize, u32);

/// Bits of CR4 that need a feature: one of those named.
const CR4: &[(u64, &[Place])] = &[
    (1 << 11, &[(7, 0, 2, 2)]),                // UMIP
    (1 << 12, &[(7, 0, 2, 16)]),               // LA57
    (1 << 13, &[(1, 0, 2, 5)]),                // VMXE
    (1 << 16, &[(7, 0, 1, 0)]),                // FSGSBASE
    (1 << 17, &[(1, 0, 2, 17)]),               // PCIDE
    (1 << 18, &[(1, 0, 2, 26)]),               // OSXSAVE: XSAVE
    (1 << 20, &[(7, 0, 1, 7)]),                // SMEP
    (1 << 21, &[(7, 0, 1, 20)]),               // SMAP
    (1 << 22, &[(7, 0, 2, 3)]),                // PKE: PKU
    (1 << 23, &[(7, 0, 2, 7), (7, 0, 3, 20)]), // CET: SHSTK or IBT
    (1 << 28, &[(7, 1, 0, 26)]),               // LAM_SUP: LAM
];

/// Bits that KVM never lets a guest have: SMXE, user interrupts, FRED, and what no processor has.
const CR4_NEVER: u64 = !0x10f7_3fff;

const EFER: &[(u64, &[Place])] = &[
    (1 << 8 | 1 << 10, &[(0x8000_0001, 0, 3, 29)]), // LME, LMA: LM
    (1 << 11, &[(0x8000_0001, 0, 3, 20)]),          // NX
    (1 << 12, &[(0x8000_0001, 0, 2, 2)]),           // SVME: SVM
    (1 << 14, &[(0x8000_0001, 0, 3, 25)]),          // FFXSR: FXSR_OPT
    (1 << 21, &[(0x8000_0021, 0, 0, 8)]),           // AUTOIBRS
];

/// Bits that must be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
}

impl Reserved {
    /// Of a vCPU with that CPUID, on a host that supports this. A vCPU that was given none has no features.
    pub(crate) fn of(given: &[kvm_cpuid_entry2], supported: &[kvm_cpuid_entry2]) -> Self {
        let has = |table: &[kvm_cpuid_entry2], (function, index, register, bit): Place| {
            find(table, function, index)
                .is_some_and(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx][register] >> bit & 1 != 0)
        };
        let lacks = |bits: &[(u64, &[Place])]| {
            let lacking = bits
                .iter()
                .filter(|(_, places)| !places.iter().any(|place| has(given, *place) && has(supported, *place)));
            lacking.fold(0, |all, (bits, _)| all | bits)
        };
        Self { cr4: CR4_NEVER | lacks(CR4), efer: lacks(EFER) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_needs_its_feature_in_the_host_and_in_the_guest() {
        let leaf = |function, ecx, edx| kvm_cpuid_entry2 { function, ecx, edx, ..kvm_cpuid_entry2::default() };
        let host = [leaf(1, 1 << 26, 0), leaf(0x8000_0001, 0, 1 << 29 | 1 << 20)];
        let guest = [leaf(1, 1 << 26 | 1 << 17, 0), leaf(0x8000_0001, 1 << 2, 1 << 29)];
        let reserved = Reserved::of(&guest, &host);
        // XSAVE in both, PCID in the guest alone; long mode in both, NX in the host alone, SVM in the guest alone.
        assert_eq!(reserved.cr4 >> 17 & 3, 1);
        assert_eq!(reserved.efer, 1 << 11 | 1 << 12 | 1 << 14 | 1 << 21);
        assert_eq!(Reserved::of(&[], &host).efer >> 8 & 5, 5);
    }
}
