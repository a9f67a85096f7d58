//! Register structures of a vCPU.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// KVM_GET_REGS and KVM_SET_REGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_regs {
    /// RAX.
    pub rax: u64,
    /// RBX.
    pub rbx: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// RSP.
    pub rsp: u64,
    /// RBP.
    pub rbp: u64,
    /// R8.
    pub r8: u64,
    /// R9.
    pub r9: u64,
    /// R10.
    pub r10: u64,
    /// R11.
    pub r11: u64,
    /// R12.
    pub r12: u64,
    /// R13.
    pub r13: u64,
    /// R14.
    pub r14: u64,
    /// R15.
    pub r15: u64,
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
}

abi_layout!(kvm_regs, 144, {
    rax: 0,
    rbx: 8,
    rcx: 16,
    rdx: 24,
    rsi: 32,
    rdi: 40,
    rsp: 48,
    rbp: 56,
    r8: 64,
    r9: 72,
    r10: 80,
    r11: 88,
    r12: 96,
    r13: 104,
    r14: 112,
    r15: 120,
    rip: 128,
    rflags: 136,
});

impl Default for kvm_regs {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// A segment register of [`kvm_sregs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_segment {
    /// Base.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u32,
    /// Selector.
    pub selector: u16,
    /// Type.
    pub r#type: u8,
    /// P.
    pub present: u8,
    /// DPL.
    pub dpl: u8,
    /// D/B.
    pub db: u8,
    /// S.
    pub s: u8,
    /// L.
    pub l: u8,
    /// G.
    pub g: u8,
    /// AVL.
    pub avl: u8,
    /// Not usable.
    pub unusable: u8,
    /// Ignored.
    pub padding: u8,
}

abi_layout!(kvm_segment, 24, {
    base: 0,
    limit: 8,
    selector: 12,
    r#type: 14,
    present: 15,
    dpl: 16,
    db: 17,
    s: 18,
    l: 19,
    g: 20,
    avl: 21,
    unusable: 22,
    padding: 23,
});

impl Default for kvm_segment {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// A descriptor table register of [`kvm_sregs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_dtable {
    /// Base.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u16,
    /// Ignored.
    pub padding: [u16; 3],
}

abi_layout!(kvm_dtable, 16, {
    base: 0,
    limit: 8,
    padding: 10,
});

impl Default for kvm_dtable {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_SREGS and KVM_SET_SREGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sregs {
    /// CS.
    pub cs: kvm_segment,
    /// DS.
    pub ds: kvm_segment,
    /// ES.
    pub es: kvm_segment,
    /// FS.
    pub fs: kvm_segment,
    /// GS.
    pub gs: kvm_segment,
    /// SS.
    pub ss: kvm_segment,
    /// TR.
    pub tr: kvm_segment,
    /// LDT.
    pub ldt: kvm_segment,
    /// GDTR.
    pub gdt: kvm_dtable,
    /// IDTR.
    pub idt: kvm_dtable,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8.
    pub cr8: u64,
    /// EFER.
    pub efer: u64,
    /// APIC_BASE.
    pub apic_base: u64,
    /// A pending external interrupt.
    pub interrupt_bitmap: [u64; 4],
}

abi_layout!(kvm_sregs, 312, {
    cs: 0,
    ds: 24,
    es: 48,
    fs: 72,
    gs: 96,
    ss: 120,
    tr: 144,
    ldt: 168,
    gdt: 192,
    idt: 208,
    cr0: 224,
    cr2: 232,
    cr3: 240,
    cr4: 248,
    cr8: 256,
    efer: 264,
    apic_base: 272,
    interrupt_bitmap: 280,
});

impl Default for kvm_sregs {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_DEBUGREGS and KVM_SET_DEBUGREGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_debugregs {
    /// DR0 to DR3.
    pub db: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// Must be zero.
    pub flags: u64,
    /// Ignored.
    pub reserved: [u64; 9],
}

abi_layout!(kvm_debugregs, 128, {
    db: 0,
    dr6: 32,
    dr7: 40,
    flags: 48,
    reserved: 56,
});

impl Default for kvm_debugregs {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One extended control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_xcr {
    /// The register's number.
    pub xcr: u32,
    /// Ignored.
    pub reserved: u32,
    /// Its value.
    pub value: u64,
}

abi_layout!(kvm_xcr, 16, {
    xcr: 0,
    reserved: 4,
    value: 8,
});

impl Default for kvm_xcr {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_XCRS and KVM_SET_XCRS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_xcrs {
    /// Used entries.
    pub nr_xcrs: u32,
    /// Must be zero.
    pub flags: u32,
    /// The registers.
    pub xcrs: [kvm_xcr; 16],
    /// Ignored.
    pub padding: [u64; 16],
}

abi_layout!(kvm_xcrs, 392, {
    nr_xcrs: 0,
    flags: 4,
    xcrs: 8,
    padding: 264,
});

impl Default for kvm_xcrs {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_MP_STATE and KVM_SET_MP_STATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_mp_state {
    /// `KVM_MP_STATE_…`.
    pub mp_state: u32,
}

abi_layout!(kvm_mp_state, 4, {
    mp_state: 0,
});

impl Default for kvm_mp_state {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One MSR of KVM_GET_MSRS and KVM_SET_MSRS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_msr_entry {
    /// The MSR's number.
    pub index: u32,
    /// Ignored.
    pub reserved: u32,
    /// Its value.
    pub data: u64,
}

abi_layout!(kvm_msr_entry, 16, {
    index: 0,
    reserved: 4,
    data: 8,
});

impl Default for kvm_msr_entry {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One function of KVM_SET_CPUID2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_cpuid_entry2 {
    /// Leaf.
    pub function: u32,
    /// Subleaf.
    pub index: u32,
    /// Bit 0: the subleaf matters.
    pub flags: u32,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
    /// Ignored.
    pub padding: [u32; 3],
}

abi_layout!(kvm_cpuid_entry2, 40, {
    function: 0,
    index: 4,
    flags: 8,
    eax: 12,
    ebx: 16,
    ecx: 20,
    edx: 24,
    padding: 28,
});

impl Default for kvm_cpuid_entry2 {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_XSAVE and KVM_SET_XSAVE: an XSAVE area in the standard format, 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_xsave {
    /// The area, in 32-bit words.
    pub region: [u32; 1024],
}

abi_layout!(kvm_xsave, 4096, { region: 0 });

impl Default for kvm_xsave {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_FPU and KVM_SET_FPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_fpu {
    /// ST0 to ST7.
    pub fpr: [[u8; 16]; 8],
    /// Control word.
    pub fcw: u16,
    /// Status word.
    pub fsw: u16,
    /// Abridged tag word.
    pub ftwx: u8,
    /// Ignored.
    pub pad1: u8,
    /// Last opcode.
    pub last_opcode: u16,
    /// Last instruction pointer.
    pub last_ip: u64,
    /// Last data pointer.
    pub last_dp: u64,
    /// XMM0 to XMM15.
    pub xmm: [[u8; 16]; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// Ignored.
    pub pad2: u32,
}

abi_layout!(kvm_fpu, 416, {
    fpr: 0,
    fcw: 128,
    fsw: 130,
    ftwx: 132,
    pad1: 133,
    last_opcode: 134,
    last_ip: 136,
    last_dp: 144,
    xmm: 152,
    mxcsr: 408,
    pad2: 412,
});

impl Default for kvm_fpu {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS: what waits to be delivered to the guest. The nested structures of C
/// are spelt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_vcpu_events {
    /// An exception is being delivered.
    pub exception_injected: u8,
    /// Its vector.
    pub exception_nr: u8,
    /// It has an error code.
    pub exception_has_error_code: u8,
    /// It waits to be delivered.
    pub exception_pending: u8,
    /// The error code.
    pub exception_error_code: u32,
    /// An interrupt is being delivered.
    pub interrupt_injected: u8,
    /// Its vector.
    pub interrupt_nr: u8,
    /// It came from an instruction.
    pub interrupt_soft: u8,
    /// Interrupts are held off for one instruction.
    pub interrupt_shadow: u8,
    /// An NMI is being delivered.
    pub nmi_injected: u8,
    /// An NMI waits.
    pub nmi_pending: u8,
    /// NMIs are masked.
    pub nmi_masked: u8,
    /// Ignored.
    pub nmi_pad: u8,
    /// Vector of a start-up IPI.
    pub sipi_vector: u32,
    /// Which fields count.
    pub flags: u32,
    /// In system-management mode.
    pub smi_smm: u8,
    /// An SMI waits.
    pub smi_pending: u8,
    /// The SMI came within an NMI.
    pub smi_smm_inside_nmi: u8,
    /// An INIT waits.
    pub smi_latched_init: u8,
    /// A triple fault waits.
    pub triple_fault_pending: u8,
    /// Ignored.
    pub reserved: [u8; 26],
    /// The exception has a payload.
    pub exception_has_payload: u8,
    /// The payload.
    pub exception_payload: u64,
}

abi_layout!(kvm_vcpu_events, 64, {
    exception_injected: 0,
    exception_nr: 1,
    exception_has_error_code: 2,
    exception_pending: 3,
    exception_error_code: 4,
    interrupt_injected: 8,
    interrupt_nr: 9,
    interrupt_soft: 10,
    interrupt_shadow: 11,
    nmi_injected: 12,
    nmi_pending: 13,
    nmi_masked: 14,
    nmi_pad: 15,
    sipi_vector: 16,
    flags: 20,
    smi_smm: 24,
    smi_pending: 25,
    smi_smm_inside_nmi: 26,
    smi_latched_init: 27,
    triple_fault_pending: 28,
    reserved: 29,
    exception_has_payload: 55,
    exception_payload: 56,
});

impl Default for kvm_vcpu_events {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SET_GUEST_DEBUG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_guest_debug {
    /// `KVM_GUESTDBG_…`.
    pub control: u32,
    /// Ignored.
    pub pad: u32,
    /// DR0 to DR7.
    pub debugreg: [u64; 8],
}

abi_layout!(kvm_guest_debug, 72, {
    control: 0,
    pad: 4,
    debugreg: 8,
});

impl Default for kvm_guest_debug {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_SREGS2 and KVM_SET_SREGS2: [`kvm_sregs`] without the interrupt bitmap and with PDPTRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sregs2 {
    /// CS.
    pub cs: kvm_segment,
    /// DS.
    pub ds: kvm_segment,
    /// ES.
    pub es: kvm_segment,
    /// FS.
    pub fs: kvm_segment,
    /// GS.
    pub gs: kvm_segment,
    /// SS.
    pub ss: kvm_segment,
    /// TR.
    pub tr: kvm_segment,
    /// LDT.
    pub ldt: kvm_segment,
    /// GDTR.
    pub gdt: kvm_dtable,
    /// IDTR.
    pub idt: kvm_dtable,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8.
    pub cr8: u64,
    /// EFER.
    pub efer: u64,
    /// APIC_BASE.
    pub apic_base: u64,
    /// Bit 0: `pdptrs` are valid.
    pub flags: u64,
    /// PDPTRs.
    pub pdptrs: [u64; 4],
}

abi_layout!(kvm_sregs2, 320, {
    cs: 0,
    ds: 24,
    es: 48,
    fs: 72,
    gs: 96,
    ss: 120,
    tr: 144,
    ldt: 168,
    gdt: 192,
    idt: 208,
    cr0: 224,
    cr2: 232,
    cr3: 240,
    cr4: 248,
    cr8: 256,
    efer: 264,
    apic_base: 272,
    flags: 280,
    pdptrs: 288,
});

impl Default for kvm_sregs2 {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
