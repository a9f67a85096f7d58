//! What remains of a file's VMSA when it goes through a vCPU's registers.
//!
//! Without direct delivery, a VMM can only replay the state that an IGVM file asks for into registers; KVM then makes a
//! VMSA of its own from them and measures that.

use snp_abi::{Segment, SevFeatures, Vmsa};

use crate::ImageWarning;

const CR0_ET: u64 = 1 << 4;
const CR0_NW_CD: u64 = 0b11 << 29;
const CR4_MCE: u64 = 1 << 6;
const EFER_SVME: u64 = 1 << 12;
const RFLAGS_FIXED: u64 = 1 << 1;
const DR7_FIXED: u64 = 1 << 10;

/// Attribute bits that a segment register has.
const ATTRIBUTES: u16 = 0x0fff;

/// The VMSA that KVM makes after QEMU replayed `file` into the registers of a vCPU.
///
/// # Source
/// QEMU, target/i386/sev.c: which fields of the VMSA reach the CPU state (since 10.1). Linux 7.3, arch/x86/kvm/svm: the
/// VMSA starts as a copy of the VMCB, in which EFER.SVME is set, CR4.MCE follows the host, CR0.CD and CR0.NW are cleared
/// (KVM_X86_QUIRK_CD_NW_CLEARED), DR7 is its reset value and CPL is SS's DPL. QEMU sets CR0.ET itself.
///
/// Not verified against hardware: DR6 is taken as the file has it.
pub(crate) fn through_registers(file: &Vmsa, features: SevFeatures) -> Vmsa {
    let ss = segment(&file.ss);
    Vmsa {
        es: segment(&file.es),
        cs: segment(&file.cs),
        ss,
        ds: segment(&file.ds),
        fs: segment(&file.fs),
        gs: segment(&file.gs),
        gdtr: table(&file.gdtr),
        ldtr: segment(&file.ldtr),
        idtr: table(&file.idtr),
        tr: segment(&file.tr),
        cpl: (ss.attrib >> 5 & 3) as u8,
        efer: file.efer | EFER_SVME,
        cr4: file.cr4 | CR4_MCE,
        cr3: file.cr3,
        cr0: (file.cr0 | CR0_ET) & !CR0_NW_CD,
        dr7: DR7_FIXED,
        dr6: file.dr6,
        rflags: file.rflags | RFLAGS_FIXED,
        rip: file.rip,
        rsp: file.rsp,
        rax: file.rax,
        g_pat: file.g_pat,
        rcx: file.rcx,
        rdx: file.rdx,
        rbx: file.rbx,
        rbp: file.rbp,
        rsi: file.rsi,
        rdi: file.rdi,
        r8: file.r8,
        r9: file.r9,
        r10: file.r10,
        r11: file.r11,
        r12: file.r12,
        r13: file.r13,
        r14: file.r14,
        r15: file.r15,
        sev_features: features,
        xcr0: file.xcr0,
        mxcsr: file.mxcsr,
        x87_fcw: file.x87_fcw,
        ..Vmsa::default()
    }
}

/// The VMSA that KVM makes after Cloud Hypervisor replayed `file` into the registers of a vCPU that was in `reset`.
///
/// # Source
/// cloud-hypervisor, hypervisor/src/kvm/mod.rs, `setup_sev_snp_regs` (August 2026): segments, tables, CR0, CR3, CR4, EFER
/// and the general registers, no MSR and no x87 or SSE state. Linux 7.3 as for [`through_registers`]. Not verified by a run.
pub(crate) fn through_cloud_hypervisor(file: &Vmsa, reset: &Vmsa) -> Vmsa {
    let all = through_registers(file, reset.sev_features);
    Vmsa {
        // KVM_SET_SREGS takes CR0 as it is: QEMU alone sets ET.
        cr0: file.cr0 & !CR0_NW_CD,
        dr6: reset.dr6,
        g_pat: reset.g_pat,
        xcr0: reset.xcr0,
        mxcsr: reset.mxcsr,
        x87_fcw: reset.x87_fcw,
        ..all
    }
}

/// A warning for every field that the file sets and that does not arrive. Bits that KVM adds on its own are no loss.
pub(crate) fn losses(file: &Vmsa, replayed: &Vmsa) -> Vec<ImageWarning> {
    lost_fields(file, replayed).into_iter().map(|field| ImageWarning::LostInRegisters { field }).collect()
}

/// Every field that the file sets and that does not arrive.
pub(crate) fn lost_fields(file: &Vmsa, replayed: &Vmsa) -> Vec<&'static str> {
    let mut rest = *file;
    // What KVM adds or owns.
    rest.efer |= EFER_SVME;
    rest.cr4 |= CR4_MCE;
    rest.cr0 |= CR0_ET;
    rest.rflags |= RFLAGS_FIXED;
    rest.sev_features = replayed.sev_features;
    for field in [&mut rest.gdtr, &mut rest.idtr] {
        // The attributes of a descriptor table mean nothing.
        field.attrib = 0;
    }
    rest.dr7 |= DR7_FIXED;
    snp_abi_fields(&rest, replayed)
}

/// The fields in which two VMSAs differ.
fn snp_abi_fields(file: &Vmsa, replayed: &Vmsa) -> Vec<&'static str> {
    use snp_abi::AbiLayout;
    use zerocopy::IntoBytes;
    let (file, replayed) = (file.as_bytes(), replayed.as_bytes());
    let differs = |offset: usize, size: usize| file.get(offset..offset + size) != replayed.get(offset..offset + size);
    let fields = Vmsa::FIELDS.iter().filter(|field| differs(field.offset, field.size));
    fields.map(|field| field.name).collect()
}

/// A segment register: the upper attribute bits have no place in one.
fn segment(segment: &Segment) -> Segment {
    Segment { attrib: segment.attrib & ATTRIBUTES, ..*segment }
}

/// A descriptor table register: base and 16-bit limit.
fn table(table: &Segment) -> Segment {
    Segment { selector: 0, attrib: 0, limit: table.limit & 0xffff, base: table.base }
}
