//! CPUID, as KVM answers it from the table of KVM_SET_CPUID2.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/cpuid.c: `kvm_cpuid`, `kvm_update_cpuid_runtime`.

use snp_abi::kvm::kvm_cpuid_entry2;

use super::Session;

/// KVM_CPUID_FLAG_SIGNIFCANT_INDEX.
const INDEX_MATTERS: u32 = 1;
/// CR4.OSXSAVE and CR4.PKE.
const OSXSAVE: u64 = 1 << 18;
const PKE: u64 = 1 << 22;
/// The APIC base MSR's enable bit.
const APIC_ENABLED: u64 = 1 << 11;
/// MISC_ENABLE.MWAIT, and the MSR.
const MWAIT: u64 = 1 << 18;
const MISC_ENABLE: u32 = 0x1a0;

impl Session<'_> {
    /// EAX, EBX, ECX, EDX.
    pub(super) fn cpuid(&self, function: u32, index: u32) -> [u32; 4] {
        let vcpu = self.vcpu.inner.lock();
        let table = &vcpu.registers.cpuid;
        if let Some(entry) = find(table, function, index) {
            let state = &self.running.state;
            let mut answer = [entry.eax, entry.ebx, entry.ecx, entry.edx];
            let xcr0 = state.extended.xcr0;
            match (function, index) {
                (1, _) => {
                    set(&mut answer[2], 27, state.cr4 & OSXSAVE != 0);
                    set(&mut answer[3], 9, vcpu.registers.system.apic_base & APIC_ENABLED != 0);
                    if let Some(misc) = vcpu.devices.msrs.get(&MISC_ENABLE) {
                        set(&mut answer[2], 3, misc & MWAIT != 0);
                    }
                }
                (7, 0) => set(&mut answer[2], 4, state.cr4 & PKE != 0),
                (0xd, 0) => answer[1] = area(xcr0, false),
                (0xd, 1) if answer[0] & 0b1010 != 0 => answer[1] = area(xcr0 | state.xss, true),
                _ => {}
            }
            return answer;
        }
        // Levels past the last one still tell who asks.
        if matches!(function, 0xb | 0x1f)
            && let Some(first) = find(table, function, 1)
        {
            return [0, 0, index & 0xff, first.edx];
        }
        out_of_range(table, function, index)
    }
}

/// An AMD processor answers zeros. KVM takes a table without a vendor for Intel's, whose highest basic leaf answers.
fn out_of_range(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    const AMD: [u32; 3] = [0x6874_7541, 0x444d_4163, 0x6974_6e65];
    const HYGON: [u32; 3] = [0x6f67_7948, 0x656e_6975, 0x6e65_476e];
    let Some(first) = find(table, 0, 0) else { return [0; 4] };
    let vendor = [first.ebx, first.ecx, first.edx];
    if vendor == AMD || vendor == HYGON {
        return [0; 4];
    }
    let class = match function {
        0x4000_0000..=0x4fff_ffff => find(table, function & 0xffff_ff00, 0),
        0x8000_0000.. => find(table, function & 0x8000_0000, 0),
        _ => Some(first),
    };
    // A leaf within its class that is not there is zero.
    if class.is_some_and(|class| function <= class.eax) {
        return [0; 4];
    }
    find(table, first.eax, index).map_or([0; 4], |entry| [entry.eax, entry.ebx, entry.ecx, entry.edx])
}

fn find(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
    table.iter().find(|entry| entry.function == function && (entry.flags & INDEX_MATTERS == 0 || entry.index == index))
}

fn set(word: &mut u32, bit: u32, on: bool) {
    *word = *word & !(1 << bit) | u32::from(on) << bit;
}

/// Bytes of an XSAVE area with these components. Offsets and sizes of the standard form.
fn area(components: u64, compacted: bool) -> u32 {
    /// Legacy region and header.
    const HEADER: u32 = 576;
    const COMPONENTS: [(u32, u32, u32); 7] =
        [(2, 576, 256), (5, 1088, 64), (6, 1152, 512), (7, 1664, 1024), (9, 2688, 8), (11, 0, 16), (12, 0, 24)];
    COMPONENTS
        .iter()
        .filter(|(bit, ..)| components >> bit & 1 != 0)
        .fold(HEADER, |end, &(_, at, size)| if compacted { end + size } else { end.max(at + size) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32, flags: u32, eax: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, index, flags, eax, ..kvm_cpuid_entry2::default() }
    }

    #[test]
    fn leaves_are_found_by_index_where_it_matters() {
        let table = [entry(4, 0, INDEX_MATTERS, 1), entry(4, 1, INDEX_MATTERS, 2), entry(1, 0, 0, 3)];
        assert_eq!(find(&table, 4, 1).unwrap().eax, 2);
        assert!(find(&table, 4, 2).is_none());
        assert_eq!(find(&table, 1, 77).unwrap().eax, 3);
    }

    #[test]
    fn what_is_not_there_is_zero_on_amd_and_the_last_basic_leaf_on_intel() {
        let amd =
            kvm_cpuid_entry2 { eax: 2, ebx: 0x6874_7541, ecx: 0x444d_4163, edx: 0x6974_6e65, ..entry(0, 0, 0, 0) };
        let intel = kvm_cpuid_entry2 { ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69, ..amd };
        let last = entry(2, 0, 0, 99);
        assert_eq!(out_of_range(&[amd, last], 7, 0), [0; 4]);
        assert_eq!(out_of_range(&[intel, last], 7, 0)[0], 99);
        assert_eq!(out_of_range(&[intel, last], 1, 0), [0; 4]);
        assert_eq!(out_of_range(&[], 7, 0), [0; 4]);
    }

    #[test]
    fn sizes_of_xsave_areas() {
        assert_eq!([area(1, false), area(3, false), area(7, false)], [576, 576, 832]);
        assert_eq!([area(0x207, false), area(0x207, true)], [2696, 840]);
    }
}
