//! The VMSA that KVM builds from a vCPU's registers when user space supplies none.

use snp_abi::{Errno, SevFeatures, Vmsa};

use crate::registers::{DR7_FIXED, Registers};
use crate::run::{segment, table};

/// EFER.SVME, without which no guest runs.
const SVME: u64 = 0x1000;
/// CR4.MCE, which KVM takes over from the host.
const MCE: u64 = 0x40;
/// CR0.CD and CR0.NW, which a default quirk of KVM clears.
const CD_NW: u64 = 0x6000_0000;

/// Builds the VMSA of a vCPU.
///
/// # Errors
/// EINVAL: the vCPU is being debugged, or has debug controls set.
///
/// # Source
/// Linux 7.3, arch/x86/kvm/svm/sev.c, the synchronisation of the VMSA before LAUNCH_FINISH; since Linux 6.10 with x87, SSE
/// and AVX state.
pub(crate) fn build(registers: &Registers, features: SevFeatures) -> Result<Box<Vmsa>, Errno> {
    if registers.guest_debug.is_on() || registers.debug.dr7 & !DR7_FIXED != 0 {
        return Err(Errno::EINVAL);
    }
    let (general, system) = (&registers.general, &registers.system);
    let [star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, xss] = registers.msrs;
    let mut vmsa = Box::new(Vmsa {
        es: segment(&system.es),
        cs: segment(&system.cs),
        ss: segment(&system.ss),
        ds: segment(&system.ds),
        fs: segment(&system.fs),
        gs: segment(&system.gs),
        gdtr: table(&system.gdt),
        ldtr: segment(&system.ldt),
        idtr: table(&system.idt),
        tr: segment(&system.tr),
        cpl: system.ss.dpl & 3,
        efer: system.efer | SVME,
        cr4: system.cr4 | MCE,
        cr3: system.cr3,
        cr0: system.cr0 & !CD_NW,
        dr7: registers.debug.dr7,
        dr6: registers.debug.dr6,
        rflags: general.rflags,
        rip: general.rip,
        rsp: general.rsp,
        rax: general.rax,
        rbx: general.rbx,
        rcx: general.rcx,
        rdx: general.rdx,
        rsi: general.rsi,
        rdi: general.rdi,
        rbp: general.rbp,
        r8: general.r8,
        r9: general.r9,
        r10: general.r10,
        r11: general.r11,
        r12: general.r12,
        r13: general.r13,
        r14: general.r14,
        r15: general.r15,
        star,
        lstar,
        cstar,
        sfmask,
        kernel_gs_base,
        sysenter_cs,
        sysenter_esp,
        sysenter_eip,
        xss,
        g_pat: registers.pat,
        pkru: registers.fpu.pkru,
        xcr0: registers.xcr0,
        sev_features: features,
        ..Vmsa::default()
    });
    copy_fpu(registers, &mut vmsa);
    Ok(vmsa)
}

/// The x87 area of a VMSA holds the eight mantissas first and then the eight exponents; an XSAVE area holds them together,
/// 16 bytes for each register.
fn copy_fpu(registers: &Registers, vmsa: &mut Vmsa) {
    let legacy = &registers.fpu.legacy;
    let half = |at: usize| u16::from_le_bytes([legacy[at], legacy[at + 1]]);
    let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| legacy[at + i]));
    vmsa.x87_fcw = half(0);
    vmsa.x87_fsw = half(2);
    vmsa.x87_ftw = half(4);
    vmsa.x87_fop = half(6);
    vmsa.x87_rip = quad(8);
    vmsa.x87_dp = quad(16);
    vmsa.mxcsr = quad(24) as u32;
    for register in 0..8 {
        let from = 32 + 16 * register;
        vmsa.fpreg_x87[8 * register..][..8].copy_from_slice(&legacy[from..from + 8]);
        vmsa.fpreg_x87[64 + 2 * register..][..2].copy_from_slice(&legacy[from + 8..from + 10]);
    }
    vmsa.fpreg_xmm.copy_from_slice(&legacy[160..416]);
    vmsa.fpreg_ymm = registers.fpu.ymm.unwrap_or([0; 256]);
}
