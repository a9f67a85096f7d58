//! The KVM uAPI as far as an SEV-SNP launch needs it. Structures and constants keep their C names.
//!
//! # Source
//! Linux 7.3 `include/uapi/linux/kvm.h`, `arch/x86/include/uapi/asm/kvm.h`. The constants of proposals that are not
//! merged are in [`proposed`].

#![allow(non_camel_case_types)]

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// The answer of KVM_GET_API_VERSION.
pub const KVM_API_VERSION: u32 = 12;
/// VM type: not protected.
pub const KVM_X86_DEFAULT_VM: u64 = 0;
/// VM type: software-protected, for tests.
pub const KVM_X86_SW_PROTECTED_VM: u64 = 1;
/// VM type: SEV.
pub const KVM_X86_SEV_VM: u64 = 2;
/// VM type: SEV-ES.
pub const KVM_X86_SEV_ES_VM: u64 = 3;
/// VM type: SEV-SNP.
pub const KVM_X86_SNP_VM: u64 = 4;
/// VM type: Intel TDX.
pub const KVM_X86_TDX_VM: u64 = 5;

/// Legacy initialisation for SEV.
pub const KVM_SEV_INIT: u32 = 0;
/// Legacy initialisation for SEV-ES.
pub const KVM_SEV_ES_INIT: u32 = 1;
/// Initialisation by [`kvm_sev_init`].
pub const KVM_SEV_INIT2: u32 = 22;
/// [`kvm_sev_snp_launch_start`].
pub const KVM_SEV_SNP_LAUNCH_START: u32 = 100;
/// [`kvm_sev_snp_launch_update`].
pub const KVM_SEV_SNP_LAUNCH_UPDATE: u32 = 101;
/// [`kvm_sev_snp_launch_finish`].
pub const KVM_SEV_SNP_LAUNCH_FINISH: u32 = 102;
/// Asks for KVM_EXIT_SNP_REQ_CERTS.
pub const KVM_SEV_SNP_ENABLE_REQ_CERTS: u32 = 103;

/// Capability.
pub const KVM_CAP_USER_MEMORY: u32 = 3;
/// Capability.
pub const KVM_CAP_NR_VCPUS: u32 = 9;
/// Capability.
pub const KVM_CAP_NR_MEMSLOTS: u32 = 10;
/// Capability.
pub const KVM_CAP_MP_STATE: u32 = 14;
/// Capability.
pub const KVM_CAP_MAX_VCPUS: u32 = 66;
/// Capability.
pub const KVM_CAP_ENABLE_CAP_VM: u32 = 98;
/// Capability.
pub const KVM_CAP_CHECK_EXTENSION_VM: u32 = 105;
/// Capability.
pub const KVM_CAP_MAX_VCPU_ID: u32 = 128;
/// Capability.
pub const KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: u32 = 197;
/// Capability.
pub const KVM_CAP_EXIT_HYPERCALL: u32 = 201;
/// Capability.
pub const KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: u32 = 206;
/// Capability.
pub const KVM_CAP_SYS_ATTRIBUTES: u32 = 209;
/// Capability.
pub const KVM_CAP_USER_MEMORY2: u32 = 231;
/// Capability.
pub const KVM_CAP_MEMORY_FAULT_INFO: u32 = 232;
/// Capability.
pub const KVM_CAP_MEMORY_ATTRIBUTES: u32 = 233;
/// Capability.
pub const KVM_CAP_GUEST_MEMFD: u32 = 234;
/// Capability.
pub const KVM_CAP_VM_TYPES: u32 = 235;

/// Memory slot flag: log dirty pages.
pub const KVM_MEM_LOG_DIRTY_PAGES: u32 = 1 << 0;
/// Memory slot flag: read-only.
pub const KVM_MEM_READONLY: u32 = 1 << 1;
/// Memory slot flag: private memory from a guest_memfd.
pub const KVM_MEM_GUEST_MEMFD: u32 = 1 << 2;
/// The range is private to the guest.
pub const KVM_MEMORY_ATTRIBUTE_PRIVATE: u64 = 1 << 3;
/// The hypercall by which a guest changes page states.
pub const KVM_HC_MAP_GPA_RANGE: u64 = 12;
/// Device attribute group of SEV.
pub const KVM_X86_GRP_SEV: u32 = 1;
/// Attribute of group 0: supported XCR0 bits.
pub const KVM_X86_XCOMP_GUEST_SUPP: u64 = 0;
/// Attribute: supported VMSA features.
pub const KVM_X86_SEV_VMSA_FEATURES: u64 = 0;
/// Attribute: supported policy bits.
pub const KVM_X86_SNP_POLICY_BITS: u64 = 1;
/// Attribute: KVM_EXIT_SNP_REQ_CERTS is supported.
pub const KVM_X86_SEV_SNP_REQ_CERTS: u64 = 2;

/// The vCPU is running.
pub const KVM_MP_STATE_RUNNABLE: u32 = 0;
/// The vCPU is waiting for INIT.
pub const KVM_MP_STATE_UNINITIALIZED: u32 = 1;
/// The vCPU is waiting for SIPI.
pub const KVM_MP_STATE_INIT_RECEIVED: u32 = 2;
/// The vCPU is halted.
pub const KVM_MP_STATE_HALTED: u32 = 3;
/// The vCPU is starting after SIPI.
pub const KVM_MP_STATE_SIPI_RECEIVED: u32 = 4;
/// The vCPU is in an AP reset hold.
pub const KVM_MP_STATE_AP_RESET_HOLD: u32 = 9;

/// Bytes of an ID block.
pub const KVM_SEV_SNP_ID_BLOCK_SIZE: usize = 96;
/// Bytes of the ID authentication data.
pub const KVM_SEV_SNP_ID_AUTH_SIZE: usize = 4096;

/// The uAPI of proposals that are not in Linux 7.3. Capability numbers belong to a proposal, not to the ABI: mainline 7.3
/// uses the same numbers for other architectures.
pub mod proposed {
    use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

    use crate::layout::abi_layout;

    /// KVM_CAP_SNP_DIRECT_VMSA of "kvm: svm: Support KVM_SEV_SNP_PAGE_TYPE_VMSA at SNP_LAUNCH_UPDATE" (June 2026).
    pub const KVM_CAP_SNP_DIRECT_VMSA: u32 = 249;
    /// KVM_CAP_SNP_VCPU_STATE of the later rework.
    pub const KVM_CAP_SNP_VCPU_STATE: u32 = 251;
    /// vCPU command of the rework: [`kvm_sev_snp_vcpu_state`], out.
    pub const KVM_SEV_SNP_GET_VCPU_STATE: u32 = 104;
    /// vCPU command of the rework: [`kvm_sev_snp_vcpu_state`], in.
    pub const KVM_SEV_SNP_SET_VCPU_STATE: u32 = 105;
    /// `valid_fields`: `vmsa_gpa` is valid.
    pub const KVM_SEV_SNP_VCPU_STATE_VMSA_VALID: u64 = 1 << 0;
    /// `valid_fields`: `ghcb_gpa` is valid.
    pub const KVM_SEV_SNP_VCPU_STATE_GHCB_VALID: u64 = 1 << 1;

    /// Where a vCPU's VMSA and GHCB are.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    pub struct kvm_sev_snp_vcpu_state {
        /// Which of the addresses are valid.
        pub valid_fields: u64,
        /// GPA of the VMSA.
        pub vmsa_gpa: u64,
        /// GPA of the GHCB.
        pub ghcb_gpa: u64,
        /// Must be zero.
        pub pad: [u64; 5],
    }

    abi_layout!(kvm_sev_snp_vcpu_state, 64, { valid_fields: 0, vmsa_gpa: 8, ghcb_gpa: 16, pad: 24 });

    impl Default for kvm_sev_snp_vcpu_state {
        fn default() -> Self {
            Self::new_zeroed()
        }
    }
}

/// The argument of KVM_MEMORY_ENCRYPT_OP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_cmd {
    /// The command, a `KVM_SEV_…` number.
    pub id: u32,
    /// Ignored.
    pub pad0: u32,
    /// User address of the command's own structure.
    pub data: u64,
    /// Out: the firmware status.
    pub error: u32,
    /// A descriptor of /dev/sev.
    pub sev_fd: u32,
}

abi_layout!(kvm_sev_cmd, 24, {
    id: 0,
    pad0: 4,
    data: 8,
    error: 16,
    sev_fd: 20,
});

impl Default for kvm_sev_cmd {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_INIT2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_init {
    /// SEV_FEATURES of every VMSA, without SNPActive.
    pub vmsa_features: u64,
    /// Must be zero.
    pub flags: u32,
    /// The highest GHCB protocol version; 0 for the default.
    pub ghcb_version: u16,
    /// Ignored.
    pub pad1: u16,
    /// Ignored.
    pub pad2: [u32; 8],
}

abi_layout!(kvm_sev_init, 48, {
    vmsa_features: 0,
    flags: 8,
    ghcb_version: 12,
    pad1: 14,
    pad2: 16,
});

impl Default for kvm_sev_init {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_SNP_LAUNCH_START.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_snp_launch_start {
    /// The guest policy.
    pub policy: u64,
    /// Guest OS-visible workarounds.
    pub gosvw: [u8; 16],
    /// Must be zero.
    pub flags: u16,
    /// Ignored.
    pub pad0: [u8; 6],
    /// Ignored.
    pub pad1: [u64; 4],
}

abi_layout!(kvm_sev_snp_launch_start, 64, {
    policy: 0,
    gosvw: 8,
    flags: 24,
    pad0: 26,
    pad1: 32,
});

impl Default for kvm_sev_snp_launch_start {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_SNP_LAUNCH_UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_snp_launch_update {
    /// In and out: the first guest frame.
    pub gfn_start: u64,
    /// In and out: user address of the source.
    pub uaddr: u64,
    /// In and out: bytes still to do.
    pub len: u64,
    /// The page type.
    pub r#type: u8,
    /// Ignored.
    pub pad0: u8,
    /// Must be zero.
    pub flags: u16,
    /// Ignored.
    pub pad1: u32,
    /// Ignored.
    pub pad2: [u64; 4],
}

abi_layout!(kvm_sev_snp_launch_update, 64, {
    gfn_start: 0,
    uaddr: 8,
    len: 16,
    r#type: 24,
    pad0: 25,
    flags: 26,
    pad1: 28,
    pad2: 32,
});

impl Default for kvm_sev_snp_launch_update {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_SNP_LAUNCH_FINISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_snp_launch_finish {
    /// User address of the ID block.
    pub id_block_uaddr: u64,
    /// User address of the ID authentication data.
    pub id_auth_uaddr: u64,
    /// An ID block is given.
    pub id_block_en: u8,
    /// The author key is given.
    pub auth_key_en: u8,
    /// Reports may not be signed with the VCEK.
    pub vcek_disabled: u8,
    /// HOST_DATA of the attestation report.
    pub host_data: [u8; 32],
    /// Ignored.
    pub pad0: [u8; 3],
    /// Must be zero.
    pub flags: u16,
    /// Ignored.
    pub pad1: [u64; 4],
}

abi_layout!(kvm_sev_snp_launch_finish, 88, {
    id_block_uaddr: 0,
    id_auth_uaddr: 8,
    id_block_en: 16,
    auth_key_en: 17,
    vcek_disabled: 18,
    host_data: 19,
    pad0: 51,
    flags: 54,
    pad1: 56,
});

impl Default for kvm_sev_snp_launch_finish {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SET_USER_MEMORY_REGION2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_userspace_memory_region2 {
    /// Slot number; the address space in the high half.
    pub slot: u32,
    /// `KVM_MEM_…`.
    pub flags: u32,
    /// Where the guest sees it.
    pub guest_phys_addr: u64,
    /// Bytes; 0 deletes the slot.
    pub memory_size: u64,
    /// User address of the shared memory.
    pub userspace_addr: u64,
    /// Offset into the guest_memfd.
    pub guest_memfd_offset: u64,
    /// Descriptor of the guest_memfd.
    pub guest_memfd: u32,
    /// Ignored.
    pub pad1: u32,
    /// Ignored.
    pub pad2: [u64; 14],
}

abi_layout!(kvm_userspace_memory_region2, 160, {
    slot: 0,
    flags: 4,
    guest_phys_addr: 8,
    memory_size: 16,
    userspace_addr: 24,
    guest_memfd_offset: 32,
    guest_memfd: 40,
    pad1: 44,
    pad2: 48,
});

impl Default for kvm_userspace_memory_region2 {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_CREATE_GUEST_MEMFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_create_guest_memfd {
    /// Bytes.
    pub size: u64,
    /// `GUEST_MEMFD_FLAG_…`.
    pub flags: u64,
    /// Ignored.
    pub reserved: [u64; 6],
}

abi_layout!(kvm_create_guest_memfd, 64, {
    size: 0,
    flags: 8,
    reserved: 16,
});

impl Default for kvm_create_guest_memfd {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SET_MEMORY_ATTRIBUTES.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_memory_attributes {
    /// First guest-physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// `KVM_MEMORY_ATTRIBUTE_…`.
    pub attributes: u64,
    /// Must be zero.
    pub flags: u64,
}

abi_layout!(kvm_memory_attributes, 32, {
    address: 0,
    size: 8,
    attributes: 16,
    flags: 24,
});

impl Default for kvm_memory_attributes {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_ENABLE_CAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_enable_cap {
    /// The capability.
    pub cap: u32,
    /// Flags of the capability.
    pub flags: u32,
    /// Arguments of the capability.
    pub args: [u64; 4],
    /// Ignored.
    pub pad: [u8; 64],
}

abi_layout!(kvm_enable_cap, 104, {
    cap: 0,
    flags: 4,
    args: 8,
    pad: 40,
});

impl Default for kvm_enable_cap {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_DEVICE_ATTR and KVM_HAS_DEVICE_ATTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_device_attr {
    /// No flags are defined.
    pub flags: u32,
    /// The group.
    pub group: u32,
    /// The attribute within the group.
    pub attr: u64,
    /// User address of the value.
    pub addr: u64,
}

abi_layout!(kvm_device_attr, 24, {
    flags: 0,
    group: 4,
    attr: 8,
    addr: 16,
});

impl Default for kvm_device_attr {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

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
