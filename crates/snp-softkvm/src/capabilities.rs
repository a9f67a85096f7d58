//! What KVM_CHECK_EXTENSION answers.
//!
//! # Source
//! Linux 7.3, virt/kvm/kvm_main.c (`kvm_vm_ioctl_check_extension_generic`) and arch/x86/kvm/x86.c
//! (`kvm_vm_ioctl_check_extension`), on a host with SEV-SNP.

use snp_abi::kvm::*;

use crate::host::{Host, has_private_memory, is_protected};
use crate::memslot::USER_SLOTS;
use crate::vm::{MAX_VCPU_IDS, MAX_VCPUS};

/// KVM_CLOCK_TSC_STABLE, KVM_CLOCK_REALTIME, KVM_CLOCK_HOST_TSC.
pub(crate) const CLOCK_FLAGS: u32 = 0b1110;
/// Banks of machine-check registers.
pub(crate) const MCE_BANKS: u32 = 32;
/// KVM_MAX_IRQ_ROUTES.
pub(crate) const IRQ_ROUTES: u32 = 4096;
/// KVM_MSR_EXIT_REASON_INVAL, _UNKNOWN and _FILTER.
pub(crate) const MSR_EXIT_REASONS: u64 = 0b111;
/// KVM_X2APIC_API_USE_32BIT_IDS, _DISABLE_BROADCAST_QUIRK and KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST.
pub(crate) const X2APIC_FLAGS: u64 = 0b1011;
/// All KVM_X86_QUIRK_… but IGNORE_GUEST_PAT, which is Intel's.
pub(crate) const QUIRKS: u64 = 0xdff;
/// All KVM_X86_DISABLE_EXITS_….
pub(crate) const DISABLE_EXITS: u64 = 0x1f;
/// KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE and KVM_DIRTY_LOG_INITIALLY_SET.
pub(crate) const DIRTY_LOG_FLAGS: u64 = 0b11;
/// KVM_GUESTDBG_ENABLE, SINGLESTEP, USE_HW_BP, USE_SW_BP, INJECT_BP, INJECT_DB, BLOCKIRQ.
const GUEST_DEBUG: i32 = 0x1f_0003;
/// Size of an XSAVE area that no component past PKRU makes larger than KVM_GET_XSAVE's.
const XSAVE_SIZE: i32 = 4096;
/// Nanoseconds of an APIC bus cycle.
const APIC_BUS_CYCLE: i32 = 1;

/// Capabilities that are there, whatever the VM.
const PLAIN: &[(u32, i32)] = &[
    (KVM_CAP_IRQCHIP, 1),
    (KVM_CAP_HLT, 1),
    (KVM_CAP_USER_MEMORY, 1),
    (KVM_CAP_SET_TSS_ADDR, 1),
    (KVM_CAP_VAPIC, 1),
    (KVM_CAP_EXT_CPUID, 1),
    (KVM_CAP_CLOCKSOURCE, 1),
    (KVM_CAP_NR_VCPUS, MAX_VCPUS as i32),
    (KVM_CAP_NR_MEMSLOTS, USER_SLOTS as i32),
    (KVM_CAP_PIT, 1),
    (KVM_CAP_NOP_IO_DELAY, 1),
    (KVM_CAP_MP_STATE, 1),
    // The page of the vCPU's mapping that holds the ring.
    (KVM_CAP_COALESCED_MMIO, 2),
    (KVM_CAP_SYNC_MMU, 1),
    (KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1),
    (KVM_CAP_USER_NMI, 1),
    (KVM_CAP_SET_GUEST_DEBUG, 1),
    (KVM_CAP_REINJECT_CONTROL, 1),
    (KVM_CAP_IRQ_ROUTING, IRQ_ROUTES as i32),
    (KVM_CAP_IRQ_INJECT_STATUS, 1),
    (KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1),
    (KVM_CAP_MCE, MCE_BANKS as i32),
    (KVM_CAP_IRQFD, 1),
    (KVM_CAP_PIT2, 1),
    (KVM_CAP_SET_BOOT_CPU_ID, 1),
    (KVM_CAP_PIT_STATE2, 1),
    (KVM_CAP_IOEVENTFD, 1),
    (KVM_CAP_SET_IDENTITY_MAP_ADDR, 1),
    (KVM_CAP_ADJUST_CLOCK, CLOCK_FLAGS as i32),
    (KVM_CAP_INTERNAL_ERROR_DATA, 1),
    (KVM_CAP_VCPU_EVENTS, 1),
    (KVM_CAP_DEBUGREGS, 1),
    (KVM_CAP_X86_ROBUST_SINGLESTEP, 1),
    (KVM_CAP_ENABLE_CAP, 1),
    (KVM_CAP_XSAVE, 1),
    (KVM_CAP_ASYNC_PF, 1),
    (KVM_CAP_ASYNC_PF_INT, 1),
    (KVM_CAP_STEAL_TIME, 1),
    (KVM_CAP_XCRS, 1),
    (KVM_CAP_TSC_CONTROL, 1),
    (KVM_CAP_GET_TSC_KHZ, 1),
    (KVM_CAP_TSC_DEADLINE_TIMER, 1),
    (KVM_CAP_KVMCLOCK_CTRL, 1),
    (KVM_CAP_SIGNAL_MSI, 1),
    (KVM_CAP_IRQFD_RESAMPLE, 1),
    (KVM_CAP_IOAPIC_POLARITY_IGNORED, 1),
    (KVM_CAP_ENABLE_CAP_VM, 1),
    (KVM_CAP_IOEVENTFD_NO_LENGTH, 1),
    (KVM_CAP_CHECK_EXTENSION_VM, 1),
    (KVM_CAP_DISABLE_QUIRKS, 1),
    (KVM_CAP_SPLIT_IRQCHIP, 1),
    (KVM_CAP_IOEVENTFD_ANY_LENGTH, 1),
    (KVM_CAP_MAX_VCPU_ID, MAX_VCPU_IDS as i32),
    (KVM_CAP_X2APIC_API, X2APIC_FLAGS as i32),
    (KVM_CAP_IMMEDIATE_EXIT, 1),
    (KVM_CAP_X86_DISABLE_EXITS, DISABLE_EXITS as i32),
    (KVM_CAP_GET_MSR_FEATURES, 1),
    (KVM_CAP_MSR_PLATFORM_INFO, 1),
    (KVM_CAP_COALESCED_PIO, 1),
    (KVM_CAP_EXCEPTION_PAYLOAD, 1),
    (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, DIRTY_LOG_FLAGS as i32),
    (KVM_CAP_HALT_POLL, 1),
    (KVM_CAP_X86_USER_SPACE_MSR, MSR_EXIT_REASONS as i32),
    (KVM_CAP_X86_MSR_FILTER, 1),
    (KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1),
    (KVM_CAP_SET_GUEST_DEBUG2, GUEST_DEBUG),
    (KVM_CAP_VM_COPY_ENC_CONTEXT_FROM, 1),
    (KVM_CAP_SREGS2, 1),
    (KVM_CAP_EXIT_HYPERCALL, 1 << KVM_HC_MAP_GPA_RANGE),
    (KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1),
    (KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, 1),
    (KVM_CAP_XSAVE2, XSAVE_SIZE),
    (KVM_CAP_SYS_ATTRIBUTES, 1),
    (KVM_CAP_DISABLE_QUIRKS2, QUIRKS as i32),
    (KVM_CAP_VM_TSC_CONTROL, 1),
    (KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1),
    (KVM_CAP_USER_MEMORY2, 1),
    (KVM_CAP_MEMORY_FAULT_INFO, 1),
    (KVM_CAP_GUEST_MEMFD, 1),
    // All types up to KVM_X86_SNP_VM.
    (KVM_CAP_X86_APIC_BUS_CYCLES_NS, APIC_BUS_CYCLE),
];

/// The flags that KVM_CREATE_GUEST_MEMFD takes: GUEST_MEMFD_FLAG_MMAP, and GUEST_MEMFD_FLAG_INIT_SHARED where memory need
/// not be private.
pub(crate) fn guest_memfd_flags(vm_type: Option<u64>) -> u64 {
    const MMAP: u64 = 1 << 0;
    const INIT_SHARED: u64 = 1 << 1;
    if vm_type.is_some_and(has_private_memory) { MMAP } else { MMAP | INIT_SHARED }
}

/// KVM_CHECK_EXTENSION, on /dev/kvm or on a VM. What a real KVM has and this model has not answers 0, as on a host without
/// it: Hyper-V and Xen interfaces, nested state, the dirty ring, statistics, the PMU's filter.
pub(crate) fn check(host: &Host, vm_type: Option<u64>, capability: u32) -> i32 {
    let tables = [host.profile.capabilities, PLAIN];
    let listed = tables.iter().flat_map(|table| table.iter()).find(|(known, _)| *known == capability);
    if let Some((_, answer)) = listed {
        return *answer;
    }
    let protected = vm_type.is_some_and(is_protected);
    let private = vm_type.is_none_or(has_private_memory);
    match capability {
        KVM_CAP_MAX_VCPUS => MAX_VCPUS as i32,
        KVM_CAP_VM_TYPES => host.vm_types as i32,
        // KVM cannot emulate the writes of a guest whose state it does not see, nor put it into SMM.
        KVM_CAP_READONLY_MEM | KVM_CAP_X86_SMM => i32::from(!protected),
        KVM_CAP_MULTI_ADDRESS_SPACE => match vm_type {
            Some(vm_type) if has_private_memory(vm_type) => 1,
            _ => 2,
        },
        KVM_CAP_GUEST_MEMFD_FLAGS => guest_memfd_flags(vm_type) as i32,
        KVM_CAP_MEMORY_ATTRIBUTES if private => KVM_MEMORY_ATTRIBUTE_PRIVATE as i32,
        _ => 0,
    }
}
