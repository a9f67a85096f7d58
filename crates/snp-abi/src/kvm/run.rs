//! What KVM_RUN and user space share: the first page of a vCPU's mapping.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// The first page of a vCPU's mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_run {
    /// In: exit as soon as an interrupt would be taken.
    pub request_interrupt_window: u8,
    /// In: do not run the guest, only complete what the last exit asked for.
    pub immediate_exit: u8,
    /// Ignored.
    pub padding1: [u8; 6],
    /// Out: `KVM_EXIT_…`.
    pub exit_reason: u32,
    /// Out: KVM_INTERRUPT would be delivered at once.
    pub ready_for_interrupt_injection: u8,
    /// Out: RFLAGS.IF.
    pub if_flag: u8,
    /// Out: `KVM_RUN_X86_…`.
    pub flags: u16,
    /// In (without a local APIC in the kernel) and out: CR8.
    pub cr8: u64,
    /// Out: the APIC base MSR.
    pub apic_base: u64,
    /// The structure of the exit: a union in C, whose size this field has.
    pub padding: [u8; 256],
    /// In: the classes of registers that every exit stores in `s`.
    pub kvm_valid_regs: u64,
    /// In: the classes of registers in `s` that user space changed.
    pub kvm_dirty_regs: u64,
    /// Registers of both directions: `kvm_sync_regs` at its start (`regs`, `sregs`, `events`).
    pub s: [u8; 2048],
}

abi_layout!(kvm_run, 2352, {
    request_interrupt_window: 0,
    immediate_exit: 1,
    padding1: 2,
    exit_reason: 8,
    ready_for_interrupt_injection: 12,
    if_flag: 13,
    flags: 14,
    cr8: 16,
    apic_base: 24,
    padding: 32,
    kvm_valid_regs: 288,
    kvm_dirty_regs: 296,
    s: 304,
});

impl Default for kvm_run {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

macro_rules! numbers {
    ($($name:ident = $value:literal, $doc:literal;)+) => {
        $(#[doc = $doc] pub const $name: u32 = $value;)+
    };
}

numbers! {
    KVM_EXIT_UNKNOWN = 0, "The hardware exited for a reason that KVM does not know.";
    KVM_EXIT_IO = 2, "A port was accessed.";
    KVM_EXIT_HYPERCALL = 3, "A hypercall for user space.";
    KVM_EXIT_DEBUG = 4, "A breakpoint or single step of KVM_SET_GUEST_DEBUG.";
    KVM_EXIT_HLT = 5, "HLT, without a local APIC in the kernel.";
    KVM_EXIT_MMIO = 6, "Memory was accessed that no slot has.";
    KVM_EXIT_IRQ_WINDOW_OPEN = 7, "An interrupt would be taken now.";
    KVM_EXIT_SHUTDOWN = 8, "A triple fault.";
    KVM_EXIT_FAIL_ENTRY = 9, "VMRUN refused the guest's state.";
    KVM_EXIT_INTR = 10, "A signal.";
    KVM_EXIT_SET_TPR = 11, "CR8 was written, without a local APIC in the kernel.";
    KVM_EXIT_INTERNAL_ERROR = 17, "KVM could not go on.";
    KVM_EXIT_SYSTEM_EVENT = 24, "The guest asks for something that concerns the whole VM.";
    KVM_EXIT_IOAPIC_EOI = 26, "The end of an interrupt whose I/O APIC is in user space.";
    KVM_EXIT_X86_RDMSR = 29, "RDMSR for user space.";
    KVM_EXIT_X86_WRMSR = 30, "WRMSR for user space.";
    KVM_EXIT_AP_RESET_HOLD = 32, "The guest waits for INIT and SIPI.";
    KVM_EXIT_SNP_REQ_CERTS = 43, "The guest asks for certificates along with its report.";
    KVM_EXIT_MEMORY_FAULT = 39, "A page is private and was accessed as shared, or the other way round.";

    KVM_EXIT_IO_IN = 0, "IN or INS.";
    KVM_EXIT_IO_OUT = 1, "OUT or OUTS.";

    KVM_SYSTEM_EVENT_SHUTDOWN = 1, "The guest switches itself off.";
    KVM_SYSTEM_EVENT_RESET = 2, "The guest resets itself.";
    KVM_SYSTEM_EVENT_SEV_TERM = 6, "The guest asks to be ended, by the GHCB protocol.";

    KVM_INTERNAL_ERROR_EMULATION = 1, "An instruction that KVM cannot emulate.";
    KVM_INTERNAL_ERROR_SIMUL_EX = 2, "Exceptions that cannot be delivered.";
    KVM_INTERNAL_ERROR_DELIVERY_EV = 3, "An exit while an event was being delivered.";
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4, "An exit that KVM did not ask for.";
}

/// KVM_EXIT_MEMORY_FAULT: the access was private.
pub const KVM_MEMORY_EXIT_FLAG_PRIVATE: u64 = 1 << 3;
/// KVM_EXIT_HYPERCALL: by a processor in 64-bit mode.
pub const KVM_EXIT_HYPERCALL_LONG_MODE: u64 = 1 << 0;
/// `kvm_sync_regs.regs`.
pub const KVM_SYNC_X86_REGS: u64 = 1 << 0;
/// `kvm_sync_regs.sregs`.
pub const KVM_SYNC_X86_SREGS: u64 = 1 << 1;
/// `kvm_sync_regs.events`.
pub const KVM_SYNC_X86_EVENTS: u64 = 1 << 2;
