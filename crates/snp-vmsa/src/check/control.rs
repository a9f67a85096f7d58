//! Control registers, EFER, debug registers, RFLAGS.

use snp_abi::Vmsa;

use super::Severity::{Suspicious, VmrunRefuses};
use super::{CONSISTENCY, Mode, Rule, bit, reserved, when};

/// EFER: SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE, MCOMMIT, INTWB, UAIE, AIBRSE; bits 7:1 read as zero.
const EFER_DEFINED: u64 = 0x36_fd01;
const EFER_RAZ: u64 = 0xfe;
/// CR0: PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_DEFINED: u64 = 0xe005_003f;
/// CR4: VME to UMIP (0 to 11), LA57, FSGSBASE to OSXSAVE (16 to 18), SMEP to CET (20 to 23).
const CR4_DEFINED: u64 = 0x00f7_1fff;
/// CR3: physical addresses end at bit 51.
const CR3_DEFINED: u64 = (1 << 52) - 1;
/// RFLAGS: CF, bit 1, PF, AF, ZF, SF, TF, IF, DF, OF, IOPL, NT, RF, VM, AC, VIF, VIP, ID.
const RFLAGS_DEFINED: u64 = 0x003f_7fd7;
/// DBGCTL: LBR, BTF, the four pin controls, FREEZE_LBRS_ON_PMI and FREEZE_PERFMON_ON_PMI.
const DBGCTL_DEFINED: u64 = 0x183f;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "efer-svme",
        severity: VmrunRefuses,
        field: "efer",
        source: CONSISTENCY,
        test: |vmsa| {
            when(vmsa.efer & bit::EFER_SVME == 0, || {
                format!("EFER is {:#x}: SVME (0x1000) must be set, also in a guest that never uses SVM", vmsa.efer)
            })
        },
    },
    Rule {
        id: "efer-reserved",
        severity: VmrunRefuses,
        field: "efer",
        source: CONSISTENCY,
        test: |vmsa| reserved("EFER", vmsa.efer, EFER_DEFINED | EFER_RAZ),
    },
    Rule {
        id: "efer-raz",
        severity: Suspicious,
        field: "efer",
        source: "APM 2, Extended Feature Enable Register (bits 7:1 read as zero)",
        test: |vmsa| {
            let raz = vmsa.efer & EFER_RAZ;
            when(raz != 0, || format!("EFER is {:#x}: bits {raz:#x} read as zero", vmsa.efer))
        },
    },
    Rule {
        id: "efer-lma",
        severity: Suspicious,
        field: "efer",
        source: "APM 2, Extended Feature Enable Register (LMA is LME and CR0.PG)",
        test: |vmsa| {
            let active = long_paging(vmsa);
            when((vmsa.efer & bit::EFER_LMA != 0) != active, || {
                let (is, should) = if active { ("clear", "set") } else { ("set", "clear") };
                format!("EFER.LMA is {is}, but LME and CR0.PG together want it {should}")
            })
        },
    },
    Rule {
        id: "cr0-cd-nw",
        severity: VmrunRefuses,
        field: "cr0",
        source: CONSISTENCY,
        test: |vmsa| {
            when(vmsa.cr0 & (bit::CR0_CD | bit::CR0_NW) == bit::CR0_NW, || {
                format!("CR0 is {:#x}: NW is set while CD is clear", vmsa.cr0)
            })
        },
    },
    Rule {
        id: "cr0-high",
        severity: VmrunRefuses,
        field: "cr0",
        source: CONSISTENCY,
        test: |vmsa| when(vmsa.cr0 >> 32 != 0, || format!("CR0 is {:#x}: bits 63:32 must be zero", vmsa.cr0)),
    },
    Rule {
        id: "cr0-reserved",
        severity: Suspicious,
        field: "cr0",
        source: "APM 2, CR0 Register",
        test: |vmsa| reserved("CR0", vmsa.cr0 & 0xffff_ffff, CR0_DEFINED),
    },
    Rule {
        id: "cr0-pg-pe",
        severity: Suspicious,
        field: "cr0",
        source: "APM 2, Paged Real Mode",
        test: |vmsa| {
            when(vmsa.cr0 & (bit::CR0_PG | bit::CR0_PE) == bit::CR0_PG && vmsa.efer & bit::EFER_LME == 0, || {
                format!("CR0 is {:#x}: PG without PE starts in paged real mode, which only VMRUN can enter", vmsa.cr0)
            })
        },
    },
    Rule {
        id: "cr3-reserved",
        severity: VmrunRefuses,
        field: "cr3",
        source: CONSISTENCY,
        test: |vmsa| reserved("CR3", vmsa.cr3, CR3_DEFINED),
    },
    Rule {
        id: "cr4-reserved",
        severity: VmrunRefuses,
        field: "cr4",
        source: CONSISTENCY,
        test: |vmsa| reserved("CR4", vmsa.cr4, CR4_DEFINED),
    },
    Rule {
        id: "cr4-pcide",
        severity: Suspicious,
        field: "cr4",
        source: "APM 2, CR4 Register (PCIDE can be set in long mode only)",
        test: |vmsa| {
            when(vmsa.cr4 & bit::CR4_PCIDE != 0 && !long_paging(vmsa), || "CR4.PCIDE is set outside long mode".into())
        },
    },
    Rule {
        id: "long-pae",
        severity: VmrunRefuses,
        field: "cr4",
        source: CONSISTENCY,
        test: |vmsa| {
            when(long_paging(vmsa) && vmsa.cr4 & bit::CR4_PAE == 0, || {
                "EFER.LME and CR0.PG are set while CR4.PAE is clear".into()
            })
        },
    },
    Rule {
        id: "long-pe",
        severity: VmrunRefuses,
        field: "cr0",
        source: CONSISTENCY,
        test: |vmsa| {
            when(long_paging(vmsa) && vmsa.cr0 & bit::CR0_PE == 0, || {
                "EFER.LME and CR0.PG are set while CR0.PE is clear".into()
            })
        },
    },
    Rule {
        id: "cet-wp",
        severity: VmrunRefuses,
        field: "cr0",
        source: CONSISTENCY,
        test: |vmsa| {
            when(vmsa.cr4 & bit::CR4_CET != 0 && vmsa.cr0 & bit::CR0_WP == 0, || {
                "CR4.CET is set while CR0.WP is clear".into()
            })
        },
    },
    Rule {
        id: "dr6-high",
        severity: VmrunRefuses,
        field: "dr6",
        source: CONSISTENCY,
        test: |vmsa| when(vmsa.dr6 >> 32 != 0, || format!("DR6 is {:#x}: bits 63:32 must be zero", vmsa.dr6)),
    },
    Rule {
        id: "dr7-high",
        severity: VmrunRefuses,
        field: "dr7",
        source: CONSISTENCY,
        test: |vmsa| when(vmsa.dr7 >> 32 != 0, || format!("DR7 is {:#x}: bits 63:32 must be zero", vmsa.dr7)),
    },
    Rule {
        id: "rflags-one",
        severity: Suspicious,
        field: "rflags",
        source: "APM 2, RFLAGS Register (bit 1 reads as one; the APM does not say what VMRUN does)",
        test: |vmsa| when(vmsa.rflags & 2 == 0, || format!("RFLAGS is {:#x}: bit 1 is always one", vmsa.rflags)),
    },
    Rule {
        id: "rflags-reserved",
        severity: Suspicious,
        field: "rflags",
        source: "APM 2, RFLAGS Register (the APM does not say what VMRUN does)",
        test: |vmsa| reserved("RFLAGS", vmsa.rflags, RFLAGS_DEFINED),
    },
    Rule {
        id: "rflags-vm",
        severity: Suspicious,
        field: "rflags",
        source: "APM 2, RFLAGS Register (virtual-8086 mode exists in legacy protected mode only)",
        test: |vmsa| {
            let possible = matches!(Mode::of(vmsa), Mode::Virtual8086);
            when(vmsa.rflags & bit::RFLAGS_VM != 0 && !possible, || {
                "RFLAGS.VM is set outside legacy protected mode".into()
            })
        },
    },
    Rule {
        id: "dbgctl-reserved",
        severity: Suspicious,
        field: "dbgctl",
        source: "APM 2, Debug-Control MSR (the APM does not say what VMRUN does)",
        test: |vmsa| reserved("DBGCTL", vmsa.dbgctl, DBGCTL_DEFINED),
    },
];

fn long_paging(vmsa: &Vmsa) -> bool {
    vmsa.efer & bit::EFER_LME != 0 && vmsa.cr0 & bit::CR0_PG != 0
}
