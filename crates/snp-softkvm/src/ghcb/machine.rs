//! What VMGEXIT handling needs of the VM and the vCPU around it.

use snp_abi::Errno;

use crate::Fault;

/// The VM and the vCPU around a [`Ghcb`](super::Ghcb).
pub(crate) trait Machine {
    /// Reads guest memory as KVM itself does: by the memory slots, from user space's memory.
    ///
    /// # Errors
    /// [`Fault`]: nothing is there.
    fn read(&mut self, gpa: u64, buffer: &mut [u8]) -> Result<(), Fault>;

    /// Writes guest memory likewise.
    ///
    /// # Errors
    /// [`Fault`]: nothing is there, or it may not be written.
    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), Fault>;

    /// Whether KVM could map the guest page for itself, writable.
    fn is_writable(&mut self, gpa: u64) -> bool;

    /// IN of one item from a device in KVM; whether there is one.
    fn port_in(&mut self, port: u16, data: &mut [u8]) -> bool;

    /// OUT of one item to a device in KVM; whether there is one. An ioeventfd is one.
    fn port_out(&mut self, port: u16, data: &[u8]) -> bool;

    /// Reads 1 to 8 bytes of a device in KVM, the local APIC among them; whether there is one.
    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool;

    /// Writes 1 to 8 bytes of a device in KVM likewise.
    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> bool;

    /// CPUID as the vCPU has it: EAX, EBX, ECX, EDX.
    fn cpuid(&mut self, function: u32, index: u32) -> [u32; 4];

    /// The guest tells its XCR0, on which CPUID depends. Values that the vCPU cannot have are ignored.
    fn set_xcr0(&mut self, xcr0: u64);

    /// RDMSR.
    fn read_msr(&mut self, index: u32) -> MsrAnswer<u64>;

    /// WRMSR.
    fn write_msr(&mut self, index: u32, value: u64) -> MsrAnswer<()>;

    /// RDPMC; `None`: there is no such counter.
    fn read_counter(&mut self, index: u32) -> Option<u64>;

    /// Injects an exception, which the guest takes when it runs again.
    fn inject(&mut self, vector: u8, error_code: Option<u32>);

    /// The guest has handled an NMI: the next may be injected.
    fn nmi_complete(&mut self);

    /// The processor waits for INIT and SIPI in KVM's own local APIC; `false`: KVM has none, and user space must wait.
    fn reset_hold(&mut self) -> bool;

    /// Whether user space wants KVM_HC_MAP_GPA_RANGE (KVM_CAP_EXIT_HYPERCALL).
    fn map_gpa_range_exits(&self) -> bool;

    /// A paravirtual hypercall that needs a CPUID feature: its return value, or `None` if the guest does not have it.
    fn paravirtual(&mut self, nr: u64, args: [u64; 4]) -> Option<u64>;

    /// The address of the AP jump table, which belongs to the VM.
    fn jump_table(&mut self) -> u64;

    /// Sets it.
    fn set_jump_table(&mut self, gpa: u64);

    /// Whether the guest's processors have such physical addresses.
    fn is_legal_gpa(&self, gpa: u64) -> bool;

    /// SNP_GUEST_REQUEST: the firmware's status, whose message is in `response`, which holds zeros before.
    ///
    /// # Errors
    /// What KVM_RUN fails with: the command did not reach the firmware.
    fn guest_request(&mut self, request: &[u8; 4096], response: &mut [u8; 4096]) -> Result<u32, Errno>;

    /// Whether there is a vCPU of that APIC ID.
    fn has_vcpu(&self, apic_id: u32) -> bool;

    /// AP creation: the vCPU, which is there, gets another VMSA.
    fn change_vmsa(&mut self, apic_id: u32, change: VmsaChange);

    /// The APIC IDs of all vCPUs, in the order of their creation.
    fn apic_ids(&self) -> Vec<u32>;
}

/// What becomes of a vCPU's VMSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VmsaChange {
    /// Its address, or none.
    pub(crate) gpa: Option<u64>,
    /// The vCPU goes on with it at its next INIT; else at once, as if an INIT had come.
    pub(crate) on_init: bool,
}

/// How an access to an MSR ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MsrAnswer<T> {
    /// Done.
    Done(T),
    /// Refused: #GP.
    Fault,
    /// User space is asked (KVM_CAP_X86_USER_SPACE_MSR), for this KVM_MSR_EXIT_REASON.
    UserSpace(u32),
}
