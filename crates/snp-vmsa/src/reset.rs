//! Reset states: what each VMM, in each era, puts into the VMSA of a processor that comes out of reset.
//!
//! All share the architecture's reset state and differ in what the table's columns say. A new VMM or era is one more row.

use snp_abi::{Segment, SevFeatures, Vmsa};

/// What RDX holds at reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetRdx {
    /// The processor's signature, as the architecture has it.
    Signature,
    /// The same for every processor.
    Fixed(u64),
}

/// The reset state of one VMM in one era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetProfile {
    /// The name by which it is asked for, lower case.
    pub name: &'static str,
    /// The VMM.
    pub vmm: &'static str,
    /// When it applies.
    pub era: &'static str,
    /// Attributes of CS.
    pub cs_attrib: u16,
    /// Attributes of CS for a processor that starts at [`BOOT_EIP`].
    pub boot_cs_attrib: u16,
    /// Attributes of SS.
    pub ss_attrib: u16,
    /// Attributes of TR.
    pub tr_attrib: u16,
    /// RDX.
    pub rdx: ResetRdx,
    /// MXCSR.
    pub mxcsr: u32,
    /// The x87 control word.
    pub fcw: u16,
    /// G_PAT.
    pub g_pat: u64,
    /// Where the row comes from.
    pub source: &'static str,
}

/// Where the boot processor starts: the architecture's reset vector, 16 bytes below 4 GiB.
pub const BOOT_EIP: u32 = 0xffff_fff0;

/// PAT at reset: WB, WT, UC-, UC, twice.
const PAT: u64 = 0x0007_0406_0007_0406;

/// QEMU on a current Linux, the row that the others are told from.
const QEMU: ResetProfile = ResetProfile {
    name: "qemu",
    vmm: "QEMU on KVM",
    era: "Linux 6.10 and later",
    cs_attrib: 0x9b,
    boot_cs_attrib: 0x9b,
    ss_attrib: 0x93,
    tr_attrib: 0x8b,
    rdx: ResetRdx::Signature,
    mxcsr: 0x1f80,
    fcw: 0x37f,
    g_pat: PAT,
    source: "sev-snp-measure 0.0.13 vmsa.py, VMMType.QEMU; virtee/sev vmsa.rs",
};

/// Amazon EC2 as it is now.
const EC2: ResetProfile = ResetProfile {
    name: "ec2",
    vmm: "Amazon EC2",
    era: "2026 and later",
    boot_cs_attrib: 0x9a,
    ss_attrib: 0x92,
    tr_attrib: 0x83,
    rdx: ResetRdx::Fixed(0x600),
    mxcsr: 0,
    fcw: 0,
    source: "sev-snp-measure 0.0.13 vmsa.py, VMMType.ec2",
    ..QEMU
};

/// Every known reset state.
///
/// `direct` is this project's own: what the direct uAPI profiles give the boot processor when the user supplies no VMSA.
/// It equals `qemu`, the state in which KVM itself starts a processor, so that firmware finds what it expects whoever made
/// its VMSA. In particular it has EFER.SVME, without which VMRUN refuses any VMSA, and CR4.MCE, which KVM sets. It is a row
/// of its own because `qemu` follows what QEMU does, while a digest made with `direct` must never change.
pub const PROFILES: &[ResetProfile] = &[
    QEMU,
    ResetProfile {
        name: "qemu-pre-6.10",
        era: "before Linux 6.10, whose KVM_SEV_INIT2 put the x87 and SSE state into the VMSA",
        mxcsr: 0,
        fcw: 0,
        source: "sev-snp-measure pull requests 48 and 49 (MXCSR and FCW were 0 before KVM_SEV_INIT2)",
        ..QEMU
    },
    EC2,
    ResetProfile {
        name: "ec2-pre-2026",
        era: "before 2026 (aws/uefi issue 19)",
        rdx: ResetRdx::Fixed(0),
        source: "virtee/sev vmsa.rs, VMMType::EC2; sev-snp-measure issue 60",
        ..EC2
    },
    ResetProfile {
        name: "gce",
        vmm: "Google Compute Engine",
        era: "any",
        rdx: ResetRdx::Fixed(0x600),
        mxcsr: 0,
        fcw: 0,
        g_pat: 0x0007_0106,
        source: "sev-snp-measure 0.0.13 vmsa.py, VMMType.gce",
        ..QEMU
    },
    ResetProfile {
        name: "direct",
        vmm: "snpkit, for VMSAs supplied by user space",
        era: "any",
        source: "this project; AMD 24593 (APM volume 2), Processor Initialization State; EFER.SVME and CR4.MCE as KVM",
        ..QEMU
    },
];

/// The profile called `name` (upper and lower case alike).
pub fn find(name: &str) -> Option<&'static ResetProfile> {
    PROFILES.iter().find(|profile| profile.name.eq_ignore_ascii_case(name))
}

impl ResetProfile {
    /// The VMSA of a processor that starts at `eip`.
    ///
    /// `eip`: 32-bit linear address; its upper half becomes CS.base, its lower half RIP. `cpu_signature`: as
    /// [`cpu::signature`](crate::cpu::signature) gives it; unused where the VMM puts something else into RDX. `features`:
    /// with SNPActive.
    ///
    /// # Source
    /// The row's own `source`. What the rows share is compared byte for byte with the pages that sev-snp-measure builds; that
    /// it is the state of AMD 24593 (APM volume 2), "Processor Initialization State", was not checked against the document.
    pub fn vmsa(&self, eip: u32, cpu_signature: u32, features: SevFeatures) -> Vmsa {
        let cs_attrib = if eip == BOOT_EIP { self.boot_cs_attrib } else { self.cs_attrib };
        let data = real_mode_segment(0x93);
        Vmsa {
            es: data,
            cs: Segment { selector: 0xf000, base: u64::from(eip & 0xffff_0000), ..real_mode_segment(cs_attrib) },
            ss: real_mode_segment(self.ss_attrib),
            ds: data,
            fs: data,
            gs: data,
            gdtr: real_mode_segment(0),
            ldtr: real_mode_segment(0x82),
            idtr: real_mode_segment(0),
            tr: real_mode_segment(self.tr_attrib),
            efer: 0x1000,
            cr4: 0x40,
            cr0: 0x10,
            dr7: 0x400,
            dr6: 0xffff_0ff0,
            rflags: 0x2,
            rip: u64::from(eip & 0xffff),
            g_pat: self.g_pat,
            rdx: match self.rdx {
                ResetRdx::Signature => cpu_signature.into(),
                ResetRdx::Fixed(value) => value,
            },
            sev_features: features,
            xcr0: 1,
            mxcsr: self.mxcsr,
            x87_fcw: self.fcw,
            ..Vmsa::default()
        }
    }
}

/// A segment as reset leaves it: at 0, 64 KiB long.
fn real_mode_segment(attrib: u16) -> Segment {
    Segment { selector: 0, attrib, limit: 0xffff, base: 0 }
}
