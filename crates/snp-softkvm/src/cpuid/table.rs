//! A vCPU's CPUID: what KVM_SET_CPUID2 gave, and what KVM keeps up to date in it.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/cpuid.c: `kvm_cpuid`, `kvm_update_cpuid_runtime`, `kvm_apply_cpuid_pv_features_quirk`.

use snp_abi::kvm::kvm_cpuid_entry2;

use super::{INDEX_MATTERS, SIGNATURE};
use crate::devices::VcpuDevices;
use crate::registers::Registers;

/// CR4.OSXSAVE and CR4.PKE.
const OSXSAVE: u64 = 1 << 18;
const PKE: u64 = 1 << 22;
/// The APIC base MSR's enable bit.
const APIC_ENABLED: u64 = 1 << 11;
/// MISC_ENABLE, and its bit for MONITOR and MWAIT.
const MISC_ENABLE: u32 = 0x1a0;
const MWAIT: u64 = 1 << 18;
/// KVM_FEATURE_PV_UNHALT.
const PV_UNHALT: u32 = 7;
/// Where hypervisors' leaves may begin, and how far apart.
const HYPERVISORS: std::ops::Range<u32> = 0x4000_0000..0x4001_0000;
const APART: usize = 0x100;

/// What a VM's capabilities say of its CPUID.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// HLT does not exit (KVM_X86_DISABLE_EXITS_HLT): nobody can wake a processor that halts.
    pub(crate) halts_in_guest: bool,
    /// MISC_ENABLE decides whether there is MWAIT: KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT is disabled.
    pub(crate) mwait_by_msr: bool,
}

/// What CPUID follows while the vCPU runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runtime {
    pub(crate) cr4: u64,
    pub(crate) xcr0: u64,
    pub(crate) xss: u64,
    pub(crate) apic_base: u64,
    pub(crate) misc_enable: u64,
    pub(crate) rules: Rules,
}

impl Runtime {
    /// As the registers are that KVM has.
    pub(crate) fn of(registers: &Registers, devices: &VcpuDevices, rules: Rules) -> Self {
        Self {
            cr4: registers.system.cr4,
            xcr0: registers.xcr0,
            xss: registers.msr(crate::msrs::XSS).unwrap_or_default(),
            apic_base: registers.system.apic_base,
            misc_enable: devices.msrs.get(&MISC_ENABLE).copied().unwrap_or(crate::msrs::initial(MISC_ENABLE)),
            rules,
        }
    }

    /// A function of `table` as it is now.
    fn update(&self, table: &[kvm_cpuid_entry2], entry: &kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
        let mut new = *entry;
        match (entry.function, entry.index) {
            (1, _) => {
                set(&mut new.ecx, 27, self.cr4 & OSXSAVE != 0);
                set(&mut new.edx, 9, self.apic_base & APIC_ENABLED != 0);
                if self.rules.mwait_by_msr {
                    set(&mut new.ecx, 3, self.misc_enable & MWAIT != 0);
                }
            }
            (7, 0) => set(&mut new.ecx, 4, self.cr4 & PKE != 0),
            (0xd, 0) => new.ebx = area(self.xcr0, false),
            // With XSAVEC or XSAVES.
            (0xd, 1) if new.eax & 0b1010 != 0 => new.ebx = area(self.xcr0 | self.xss, true),
            (function, _) if self.rules.halts_in_guest && features(table) == Some(function) => {
                set(&mut new.eax, PV_UNHALT, false);
            }
            _ => {}
        }
        new
    }

    /// The whole table as it is now.
    pub(crate) fn updated(&self, table: &[kvm_cpuid_entry2]) -> Vec<kvm_cpuid_entry2> {
        table.iter().map(|entry| self.update(table, entry)).collect()
    }
}

/// What CPUID answers: EAX, EBX, ECX, EDX.
pub(crate) fn answer(table: &[kvm_cpuid_entry2], function: u32, index: u32, runtime: &Runtime) -> [u32; 4] {
    if let Some(entry) = find(table, function, index) {
        let kvm_cpuid_entry2 { eax, ebx, ecx, edx, .. } = runtime.update(table, entry);
        return [eax, ebx, ecx, edx];
    }
    // Levels past the last one still tell who asks.
    if matches!(function, 0xb | 0x1f)
        && let Some(first) = find(table, function, 1)
    {
        return [0, 0, index & 0xff, first.edx];
    }
    out_of_range(table, function, index)
}

/// Where KVM's features are: after the first leaf that has its signature.
fn features(table: &[kvm_cpuid_entry2]) -> Option<u32> {
    let signed = |base: &u32| {
        let [_, ebx, ecx, edx] = SIGNATURE;
        find(table, *base, 0).is_some_and(|leaf| [leaf.ebx, leaf.ecx, leaf.edx] == [ebx, ecx, edx])
    };
    HYPERVISORS.step_by(APART).find(signed).map(|base| base | 1)
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

pub(super) fn find(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
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
    fn what_the_processor_tells_of_itself_follows_its_registers() {
        let table = [entry(1, 0, 0, 0), entry(7, 0, INDEX_MATTERS, 0), entry(0xd, 0, INDEX_MATTERS, 7)];
        let on = Runtime { cr4: OSXSAVE | PKE, xcr0: 7, apic_base: APIC_ENABLED, ..Runtime::default() };
        assert_eq!(answer(&table, 1, 0, &on), [0, 0, 1 << 27, 1 << 9]);
        assert_eq!(answer(&table, 7, 0, &on), [0, 0, 1 << 4, 0]);
        assert_eq!(answer(&table, 0xd, 0, &on)[1], 832);
        let off = on.updated(&table);
        let off = Runtime::default().updated(&off);
        assert_eq!((off[0].ecx, off[0].edx, off[1].ecx, off[2].ebx), (0, 0, 0, 576));
    }

    #[test]
    fn mwait_follows_its_msr_only_without_the_quirk() {
        let table = [kvm_cpuid_entry2 { ecx: 1 << 3, ..entry(1, 0, 0, 0) }];
        assert_eq!(answer(&table, 1, 0, &Runtime::default())[2], 1 << 3);
        let rules = Rules { mwait_by_msr: true, ..Rules::default() };
        assert_eq!(answer(&table, 1, 0, &Runtime { rules, ..Runtime::default() })[2], 0);
    }

    #[test]
    fn nobody_wakes_who_halts_in_the_guest() {
        let [eax, ebx, ecx, edx] = SIGNATURE;
        let signature = kvm_cpuid_entry2 { eax, ebx, ecx, edx, ..entry(0x4000_0100, 0, 0, 0) };
        let table = [signature, entry(0x4000_0101, 0, 0, 0xff)];
        let runtime =
            |halts_in_guest| Runtime { rules: Rules { halts_in_guest, ..Rules::default() }, ..Runtime::default() };
        assert_eq!(runtime(false).updated(&table)[1].eax, 0xff);
        assert_eq!(runtime(true).updated(&table)[1].eax, 0x7f);
        // Another hypervisor's leaf.
        let foreign = [kvm_cpuid_entry2 { ebx: 1, ..signature }, table[1]];
        assert_eq!(runtime(true).updated(&foreign)[1].eax, 0xff);
    }

    #[test]
    fn sizes_of_xsave_areas() {
        assert_eq!([area(1, false), area(3, false), area(7, false)], [576, 576, 832]);
        assert_eq!([area(0x207, false), area(0x207, true)], [2696, 840]);
    }
}
