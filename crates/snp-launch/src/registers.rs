//! A VMSA's state as the register structures that KVM takes: the inverse of what KVM does at LAUNCH_FINISH.

use snp_abi::kvm::*;
use snp_abi::{AbiLayout, Vmsa};
use zerocopy::IntoBytes;

/// The register structures that carry a VMSA's state into KVM, for back ends that set registers.
#[derive(Clone, Debug)]
pub struct RegisterState {
    /// KVM_SET_REGS.
    pub regs: kvm_regs,
    /// KVM_SET_SREGS.
    pub sregs: kvm_sregs,
    /// KVM_SET_XSAVE.
    pub xsave: kvm_xsave,
    /// KVM_SET_XCRS.
    pub xcrs: kvm_xcrs,
    /// KVM_SET_MSRS.
    pub msrs: [kvm_msr_entry; 10],
    /// KVM_SET_DEBUGREGS.
    pub debugregs: kvm_debugregs,
}

/// The MSRs that lie in a VMSA.
const MSRS: [u32; 10] = [
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0102, // KERNEL_GS_BASE
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xda0,       // XSS
    0x277,       // PAT
];

impl RegisterState {
    /// The registers from which KVM builds `vmsa`.
    pub fn of(vmsa: &Vmsa) -> Self {
        Self {
            regs: general(vmsa),
            sregs: system(vmsa),
            xsave: xsave(vmsa),
            xcrs: xcrs(vmsa),
            msrs: msrs(vmsa),
            debugregs: kvm_debugregs { dr6: vmsa.dr6, dr7: vmsa.dr7, ..kvm_debugregs::default() },
        }
    }
}

/// Names of the fields in which two VMSAs differ.
pub fn differing_fields(a: &Vmsa, b: &Vmsa) -> Vec<&'static str> {
    let differs = |field: &&snp_abi::FieldLayout| {
        let range = field.offset..field.offset + field.size;
        a.as_bytes()[range.clone()] != b.as_bytes()[range]
    };
    <Vmsa as AbiLayout>::FIELDS.iter().filter(differs).map(|field| field.name).collect()
}

fn general(vmsa: &Vmsa) -> kvm_regs {
    kvm_regs {
        rax: vmsa.rax,
        rbx: vmsa.rbx,
        rcx: vmsa.rcx,
        rdx: vmsa.rdx,
        rsi: vmsa.rsi,
        rdi: vmsa.rdi,
        rsp: vmsa.rsp,
        rbp: vmsa.rbp,
        r8: vmsa.r8,
        r9: vmsa.r9,
        r10: vmsa.r10,
        r11: vmsa.r11,
        r12: vmsa.r12,
        r13: vmsa.r13,
        r14: vmsa.r14,
        r15: vmsa.r15,
        rip: vmsa.rip,
        rflags: vmsa.rflags,
    }
}

fn system(vmsa: &Vmsa) -> kvm_sregs {
    let segment = |segment: &snp_abi::Segment| {
        let bit = |at: u32| (segment.attrib >> at & 1) as u8;
        kvm_segment {
            base: segment.base,
            limit: segment.limit,
            selector: segment.selector,
            r#type: (segment.attrib & 0xf) as u8,
            present: bit(7),
            dpl: (segment.attrib >> 5 & 3) as u8,
            db: bit(10),
            s: bit(4),
            l: bit(9),
            g: bit(11),
            avl: bit(8),
            unusable: 0,
            padding: 0,
        }
    };
    let table = |segment: &snp_abi::Segment| kvm_dtable {
        base: segment.base,
        limit: segment.limit as u16,
        ..kvm_dtable::default()
    };
    kvm_sregs {
        cs: segment(&vmsa.cs),
        ds: segment(&vmsa.ds),
        es: segment(&vmsa.es),
        fs: segment(&vmsa.fs),
        gs: segment(&vmsa.gs),
        ss: segment(&vmsa.ss),
        tr: segment(&vmsa.tr),
        ldt: segment(&vmsa.ldtr),
        gdt: table(&vmsa.gdtr),
        idt: table(&vmsa.idtr),
        cr0: vmsa.cr0,
        cr2: vmsa.cr2,
        cr3: vmsa.cr3,
        // KVM adds SVME and MCE itself.
        cr4: vmsa.cr4 & !0x40,
        efer: vmsa.efer & !0x1000,
        apic_base: 0xfee0_0900,
        ..kvm_sregs::default()
    }
}

fn xcrs(vmsa: &Vmsa) -> kvm_xcrs {
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
    xcrs.xcrs[0].value = vmsa.xcr0;
    xcrs
}

fn msrs(vmsa: &Vmsa) -> [kvm_msr_entry; 10] {
    let values = [
        vmsa.star,
        vmsa.lstar,
        vmsa.cstar,
        vmsa.sfmask,
        vmsa.kernel_gs_base,
        vmsa.sysenter_cs,
        vmsa.sysenter_esp,
        vmsa.sysenter_eip,
        vmsa.xss,
        vmsa.g_pat,
    ];
    let mut numbers = MSRS.into_iter();
    values.map(|data| kvm_msr_entry { index: numbers.next().expect("ten numbers"), reserved: 0, data })
}

/// An XSAVE area with x87 and SSE state, AVX and PKRU where they are not zero.
fn xsave(vmsa: &Vmsa) -> kvm_xsave {
    let mut area = kvm_xsave::default();
    let bytes = area.as_mut_bytes();
    let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
    put(0, &vmsa.x87_fcw.to_le_bytes());
    put(2, &vmsa.x87_fsw.to_le_bytes());
    put(4, &vmsa.x87_ftw.to_le_bytes());
    put(6, &vmsa.x87_fop.to_le_bytes());
    put(8, &vmsa.x87_rip.to_le_bytes());
    put(16, &vmsa.x87_dp.to_le_bytes());
    put(24, &vmsa.mxcsr.to_le_bytes());
    for register in 0..8 {
        put(32 + 16 * register, &vmsa.fpreg_x87[8 * register..][..8]);
        put(40 + 16 * register, &vmsa.fpreg_x87[64 + 2 * register..][..2]);
    }
    put(160, &vmsa.fpreg_xmm);
    put(576, &vmsa.fpreg_ymm);
    put(0xa80, &vmsa.pkru.to_le_bytes());
    let ymm = if vmsa.fpreg_ymm == [0; 256] { 0 } else { 1 << 2 };
    let pkru = if vmsa.pkru == 0 { 0 } else { 1 << 9 };
    put(512, &(0b11_u64 | ymm | pkru).to_le_bytes());
    area
}
