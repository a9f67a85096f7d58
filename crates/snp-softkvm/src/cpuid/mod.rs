//! CPUID: what guests of the platform may be given (KVM_GET_SUPPORTED_CPUID), and what a vCPU was given.

mod features;
mod table;

pub(crate) use features::Reserved;
pub(crate) use table::{Rules, Runtime, answer};

use snp_abi::CpuidFunction;
use snp_abi::kvm::kvm_cpuid_entry2;

/// KVM_CPUID_FLAG_SIGNIFCANT_INDEX.
pub(crate) const INDEX_MATTERS: u32 = 1;
/// KVM's own leaves: "KVMKVMKVM" and the highest leaf, then the features: CLOCKSOURCE, NOP_IO_DELAY, CLOCKSOURCE2, ASYNC_PF,
/// STEAL_TIME, PV_EOI, PV_UNHALT, PV_TLB_FLUSH, ASYNC_PF_VMEXIT, PV_SEND_IPI, POLL_CONTROL, PV_SCHED_YIELD, ASYNC_PF_INT
/// and CLOCKSOURCE_STABLE.
const SIGNATURE: [u32; 4] = [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d];
const FEATURES: [u32; 4] = [0x0100_7efb, 0, 0, 0];

/// What SVM can do.
const SVM_FEATURES: u32 = 0x8000_000a;

/// The host's functions, then KVM's own.
pub(crate) fn supported(host: &[CpuidFunction]) -> Vec<kvm_cpuid_entry2> {
    let own = [(0x4000_0000, SIGNATURE), (0x4000_0001, FEATURES)];
    let own = own.into_iter().map(|(function, values)| entry(function, 0, values));
    let host = host.iter().map(|leaf| entry(leaf.eax_in, leaf.ecx_in, [leaf.eax, leaf.ebx, offered(leaf), leaf.edx]));
    let host = host.filter(|entry| entry.function != SVM_FEATURES);
    host.chain(own).collect()
}

/// ECX. OSXSAVE and OSPKE are a vCPU's own, as its CR4 says; kvm_amd without nested virtualisation (`nested=0`) does not offer
/// SVM.
fn offered(leaf: &CpuidFunction) -> u32 {
    const OSXSAVE: u32 = 1 << 27;
    const OSPKE: u32 = 1 << 4;
    const SVM: u32 = 1 << 2;
    match (leaf.eax_in, leaf.ecx_in) {
        (1, _) => leaf.ecx & !OSXSAVE,
        (7, 0) => leaf.ecx & !OSPKE,
        (0x8000_0001, _) => leaf.ecx & !SVM,
        _ => leaf.ecx,
    }
}

fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    let flags = match function {
        4 | 7 | 0xb | 0xd | 0x14 | 0x1f | 0x8000_001d | 0x8000_0026 => INDEX_MATTERS,
        _ => 0,
    };
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..kvm_cpuid_entry2::default() }
}
