//! The VM save area of an SEV-ES or SEV-SNP vCPU.

use core::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{Gpa, Vmpl, layout::abi_layout};

/// Where KVM measures the VMSAs that it builds itself: all address bits below 52, minus the page offset, of `u64::MAX`.
///
/// # Source
/// Linux 7.3 `arch/x86/kvm/svm/svm.h`, INITIAL_VMSA_GPA.
pub const LEGACY_VMSA_GPA: Gpa = Gpa(0xffff_ffff_f000);

/// One segment register of a [`Vmsa`].
///
/// # Source
/// AMD 24593 (APM volume 2), "VMCB State Save Area".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// Type, S, DPL and P in bits 7:0; AVL, L, D/B and G in bits 11:8.
    pub attrib: u16,
    /// The limit, in bytes.
    pub limit: u32,
    /// The base address.
    pub base: u64,
}

abi_layout!(Segment, 16, { selector: 0, attrib: 2, limit: 4, base: 8 });

/// SEV_FEATURES: the SEV features that a VMSA turns on. KVM calls them VMSA features.
///
/// # Source
/// AMD 24593 (APM volume 2), "SEV_FEATURES".
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SevFeatures(pub u64);

impl SevFeatures {
    /// SEV-SNP is active.
    pub const SNP_ACTIVE: u64 = 1 << 0;
    /// Virtual top of memory.
    pub const VTOM: u64 = 1 << 1;
    /// #VC is reflected to the guest's VMPL0.
    pub const REFLECT_VC: u64 = 1 << 2;
    /// Restricted injection.
    pub const RESTRICTED_INJECTION: u64 = 1 << 3;
    /// Alternate injection.
    pub const ALTERNATE_INJECTION: u64 = 1 << 4;
    /// Debug registers are swapped (DebugSwap).
    pub const DEBUG_SWAP: u64 = 1 << 5;
    /// Host IBS is prevented.
    pub const PREVENT_HOST_IBS: u64 = 1 << 6;
    /// BTB isolation.
    pub const BTB_ISOLATION: u64 = 1 << 7;
    /// VMPL SSS.
    pub const VMPL_SSS: u64 = 1 << 8;
    /// Secure TSC.
    pub const SECURE_TSC: u64 = 1 << 9;
    /// VMGEXIT parameter.
    pub const VMGEXIT_PARAMETER: u64 = 1 << 10;
    /// IBS virtualisation.
    pub const IBS_VIRTUALIZATION: u64 = 1 << 12;
    /// VMSA register protection.
    pub const VMSA_REG_PROT: u64 = 1 << 14;
    /// SMT protection.
    pub const SMT_PROTECTION: u64 = 1 << 15;
    /// Secure AVIC.
    pub const SECURE_AVIC: u64 = 1 << 16;

    /// Whether all bits of `mask` are set.
    pub const fn has(self, mask: u64) -> bool {
        self.0 & mask == mask
    }
}

impl fmt::Debug for SevFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The VM save area: the whole state of a virtual processor, one page.
///
/// # Source
/// AMD 24593 (APM volume 2), "VMSA Layout, State Save Area for SEV-ES and SEV-SNP". Names as in Linux 7.3
/// `struct sev_es_save_area` where it has the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Vmsa {
    /// ES.
    pub es: Segment,
    /// CS.
    pub cs: Segment,
    /// SS.
    pub ss: Segment,
    /// DS.
    pub ds: Segment,
    /// FS.
    pub fs: Segment,
    /// GS.
    pub gs: Segment,
    /// GDTR.
    pub gdtr: Segment,
    /// LDTR.
    pub ldtr: Segment,
    /// IDTR.
    pub idtr: Segment,
    /// TR.
    pub tr: Segment,
    /// PL0_SSP.
    pub pl0_ssp: u64,
    /// PL1_SSP.
    pub pl1_ssp: u64,
    /// PL2_SSP.
    pub pl2_ssp: u64,
    /// PL3_SSP.
    pub pl3_ssp: u64,
    /// U_CET.
    pub u_cet: u64,
    /// Reserved, zero.
    pub reserved_0xc8: [u8; 0x2],
    /// VMPL.
    pub vmpl: Vmpl,
    /// CPL.
    pub cpl: u8,
    /// Reserved, zero.
    pub reserved_0xcc: [u8; 0x4],
    /// EFER.
    pub efer: u64,
    /// Reserved, zero.
    pub reserved_0xd8: [u8; 0x68],
    /// XSS.
    pub xss: u64,
    /// CR4.
    pub cr4: u64,
    /// CR3.
    pub cr3: u64,
    /// CR0.
    pub cr0: u64,
    /// DR7.
    pub dr7: u64,
    /// DR6.
    pub dr6: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    /// DR0.
    pub dr0: u64,
    /// DR1.
    pub dr1: u64,
    /// DR2.
    pub dr2: u64,
    /// DR3.
    pub dr3: u64,
    /// DR0_ADDR_MASK.
    pub dr0_addr_mask: u64,
    /// DR1_ADDR_MASK.
    pub dr1_addr_mask: u64,
    /// DR2_ADDR_MASK.
    pub dr2_addr_mask: u64,
    /// DR3_ADDR_MASK.
    pub dr3_addr_mask: u64,
    /// Reserved, zero.
    pub reserved_0x1c0: [u8; 0x18],
    /// RSP.
    pub rsp: u64,
    /// S_CET.
    pub s_cet: u64,
    /// SSP.
    pub ssp: u64,
    /// ISST_ADDR.
    pub isst_addr: u64,
    /// RAX.
    pub rax: u64,
    /// STAR.
    pub star: u64,
    /// LSTAR.
    pub lstar: u64,
    /// CSTAR.
    pub cstar: u64,
    /// SFMASK.
    pub sfmask: u64,
    /// KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// SYSENTER_CS.
    pub sysenter_cs: u64,
    /// SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// CR2.
    pub cr2: u64,
    /// Reserved, zero.
    pub reserved_0x248: [u8; 0x20],
    /// G_PAT.
    pub g_pat: u64,
    /// DBGCTL.
    pub dbgctl: u64,
    /// BR_FROM.
    pub br_from: u64,
    /// BR_TO.
    pub br_to: u64,
    /// LAST_EXCP_FROM.
    pub last_excp_from: u64,
    /// LAST_EXCP_TO.
    pub last_excp_to: u64,
    /// Reserved, zero.
    pub reserved_0x298: [u8; 0x50],
    /// PKRU.
    pub pkru: u32,
    /// TSC_AUX.
    pub tsc_aux: u32,
    /// GUEST_TSC_SCALE, 8.32 fixed point; measured as zero.
    pub tsc_scale: u64,
    /// GUEST_TSC_OFFSET; measured as zero.
    pub tsc_offset: u64,
    /// REG_PROT_NONCE, written by the processor when registers are protected.
    pub reg_prot_nonce: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RBX.
    pub rbx: u64,
    /// Reserved, zero.
    pub reserved_0x320: [u8; 0x8],
    /// RBP.
    pub rbp: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
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
    /// Reserved, zero.
    pub reserved_0x380: [u8; 0x10],
    /// GUEST_EXITINFO1.
    pub guest_exit_info_1: u64,
    /// GUEST_EXITINFO2.
    pub guest_exit_info_2: u64,
    /// GUEST_EXITINTINFO.
    pub guest_exit_int_info: u64,
    /// GUEST_NRIP.
    pub guest_nrip: u64,
    /// SEV_FEATURES.
    pub sev_features: SevFeatures,
    /// VINTR_CTRL.
    pub vintr_ctrl: u64,
    /// GUEST_EXIT_CODE.
    pub guest_exit_code: u64,
    /// VIRTUAL_TOM.
    pub virtual_tom: u64,
    /// TLB_ID.
    pub tlb_id: u64,
    /// PCPU_ID.
    pub pcpu_id: u64,
    /// EVENTINJ.
    pub event_inj: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Reserved, zero.
    pub reserved_0x3f0: [u8; 0x10],
    /// X87_DP: data pointer.
    pub x87_dp: u64,
    /// MXCSR.
    pub mxcsr: u32,
    /// X87_FTW: abridged tag word.
    pub x87_ftw: u16,
    /// X87_FSW: status word.
    pub x87_fsw: u16,
    /// X87_FCW: control word.
    pub x87_fcw: u16,
    /// X87_FOP: last opcode.
    pub x87_fop: u16,
    /// X87_DS.
    pub x87_ds: u16,
    /// X87_CS.
    pub x87_cs: u16,
    /// X87_RIP: instruction pointer.
    pub x87_rip: u64,
    /// FPREG_X87: the eight x87 registers, mantissas first, then exponents.
    pub fpreg_x87: [u8; 80],
    /// FPREG_XMM: the low halves of YMM0 to YMM15.
    pub fpreg_xmm: [u8; 256],
    /// FPREG_YMM: the high halves of YMM0 to YMM15.
    pub fpreg_ymm: [u8; 256],
    /// The rest of the page; measured, not used by the processor.
    pub unused_0x670: [u8; 0x990],
}

abi_layout!(Vmsa, 4096, {
    es: 0x0,
    cs: 0x10,
    ss: 0x20,
    ds: 0x30,
    fs: 0x40,
    gs: 0x50,
    gdtr: 0x60,
    ldtr: 0x70,
    idtr: 0x80,
    tr: 0x90,
    pl0_ssp: 0xa0,
    pl1_ssp: 0xa8,
    pl2_ssp: 0xb0,
    pl3_ssp: 0xb8,
    u_cet: 0xc0,
    reserved_0xc8: 0xc8,
    vmpl: 0xca,
    cpl: 0xcb,
    reserved_0xcc: 0xcc,
    efer: 0xd0,
    reserved_0xd8: 0xd8,
    xss: 0x140,
    cr4: 0x148,
    cr3: 0x150,
    cr0: 0x158,
    dr7: 0x160,
    dr6: 0x168,
    rflags: 0x170,
    rip: 0x178,
    dr0: 0x180,
    dr1: 0x188,
    dr2: 0x190,
    dr3: 0x198,
    dr0_addr_mask: 0x1a0,
    dr1_addr_mask: 0x1a8,
    dr2_addr_mask: 0x1b0,
    dr3_addr_mask: 0x1b8,
    reserved_0x1c0: 0x1c0,
    rsp: 0x1d8,
    s_cet: 0x1e0,
    ssp: 0x1e8,
    isst_addr: 0x1f0,
    rax: 0x1f8,
    star: 0x200,
    lstar: 0x208,
    cstar: 0x210,
    sfmask: 0x218,
    kernel_gs_base: 0x220,
    sysenter_cs: 0x228,
    sysenter_esp: 0x230,
    sysenter_eip: 0x238,
    cr2: 0x240,
    reserved_0x248: 0x248,
    g_pat: 0x268,
    dbgctl: 0x270,
    br_from: 0x278,
    br_to: 0x280,
    last_excp_from: 0x288,
    last_excp_to: 0x290,
    reserved_0x298: 0x298,
    pkru: 0x2e8,
    tsc_aux: 0x2ec,
    tsc_scale: 0x2f0,
    tsc_offset: 0x2f8,
    reg_prot_nonce: 0x300,
    rcx: 0x308,
    rdx: 0x310,
    rbx: 0x318,
    reserved_0x320: 0x320,
    rbp: 0x328,
    rsi: 0x330,
    rdi: 0x338,
    r8: 0x340,
    r9: 0x348,
    r10: 0x350,
    r11: 0x358,
    r12: 0x360,
    r13: 0x368,
    r14: 0x370,
    r15: 0x378,
    reserved_0x380: 0x380,
    guest_exit_info_1: 0x390,
    guest_exit_info_2: 0x398,
    guest_exit_int_info: 0x3a0,
    guest_nrip: 0x3a8,
    sev_features: 0x3b0,
    vintr_ctrl: 0x3b8,
    guest_exit_code: 0x3c0,
    virtual_tom: 0x3c8,
    tlb_id: 0x3d0,
    pcpu_id: 0x3d8,
    event_inj: 0x3e0,
    xcr0: 0x3e8,
    reserved_0x3f0: 0x3f0,
    x87_dp: 0x400,
    mxcsr: 0x408,
    x87_ftw: 0x40c,
    x87_fsw: 0x40e,
    x87_fcw: 0x410,
    x87_fop: 0x412,
    x87_ds: 0x414,
    x87_cs: 0x416,
    x87_rip: 0x418,
    fpreg_x87: 0x420,
    fpreg_xmm: 0x470,
    fpreg_ymm: 0x570,
    unused_0x670: 0x670,
});

impl Default for Vmsa {
    /// All zero: not a state that a processor could start from.
    fn default() -> Self {
        Self::new_zeroed()
    }
}
