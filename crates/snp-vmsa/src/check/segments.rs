//! Segments, RIP, and the addresses that VMRUN sign-extends.

use snp_abi::{Segment, Vmsa};

use super::Severity::{Suspicious, VmrunRefuses};
use super::{CONSISTENCY, Mode, Rule, bit, is_canonical, when};

/// Attributes: L, D/B.
pub(super) const LONG: u16 = 1 << 9;
const DEFAULT_SIZE: u16 = 1 << 10;
/// Attributes: P; S (clear in system segments); Code in the type of a segment that is not a system segment.
const PRESENT: u16 = 1 << 7;
const NOT_SYSTEM: u16 = 1 << 4;
const CODE: u16 = 1 << 3;
/// Type field of system segments: LDT, and busy TSS of 16 and 32 (or 64) bits.
const TYPE: u16 = 0xf;
const TYPE_LDT: u16 = 2;
const TYPE_BUSY_TSS: [u16; 2] = [3, 0xb];

const SEGMENT_STATE: &str = "APM 2, Segment State in the VMCB";
const SIGN_EXTENDED: &str = "APM 2, Canonicalization and Consistency Checks (VMRUN sign-extends it)";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "cs-l-d",
        severity: VmrunRefuses,
        field: "cs.attrib",
        source: CONSISTENCY,
        test: |vmsa| {
            let long = vmsa.efer & bit::EFER_LME != 0 && vmsa.cr0 & bit::CR0_PG != 0 && vmsa.cr4 & bit::CR4_PAE != 0;
            when(long && vmsa.cs.attrib & (LONG | DEFAULT_SIZE) == LONG | DEFAULT_SIZE, || {
                format!("CS attributes are {:#x}: L and D are both set in long mode", vmsa.cs.attrib)
            })
        },
    },
    Rule {
        id: "cs-code",
        severity: Suspicious,
        field: "cs.attrib",
        source: SEGMENT_STATE,
        test: |vmsa| {
            when(vmsa.cs.attrib & (NOT_SYSTEM | CODE) != NOT_SYSTEM | CODE, || {
                format!("CS attributes are {:#x}: not a code segment (want bits 4 and 3)", vmsa.cs.attrib)
            })
        },
    },
    Rule {
        id: "rip-canonical",
        severity: Suspicious,
        field: "rip",
        source: "APM 2, Canonical Address Form",
        test: |vmsa| {
            when(Mode::of(vmsa) == Mode::Long64 && !is_canonical(vmsa, vmsa.rip), || {
                format!("RIP {:#x} is not canonical: the first fetch would fault", vmsa.rip)
            })
        },
    },
    Rule {
        id: "rip-limit",
        severity: Suspicious,
        field: "rip",
        source: "APM 2, Segment Limit Checks",
        test: |vmsa| {
            when(Mode::of(vmsa) != Mode::Long64 && vmsa.rip > u64::from(vmsa.cs.limit), || {
                format!(
                    "RIP {:#x} is beyond the limit of CS, {:#x}: the first fetch would fault",
                    vmsa.rip, vmsa.cs.limit
                )
            })
        },
    },
    Rule {
        id: "cpl-range",
        severity: Suspicious,
        field: "cpl",
        source: SEGMENT_STATE,
        test: |vmsa| when(vmsa.cpl > 3, || format!("CPL is {}: want 0 to 3", vmsa.cpl)),
    },
    Rule {
        id: "cpl-forced",
        severity: Suspicious,
        field: "cpl",
        source: SEGMENT_STATE,
        test: |vmsa| {
            let forced = match Mode::of(vmsa) {
                Mode::Real => 0,
                Mode::Virtual8086 => 3,
                Mode::Protected | Mode::Compatibility | Mode::Long64 => return None,
            };
            when(vmsa.cpl != forced, || format!("CPL is {}: in this mode the processor takes {forced}", vmsa.cpl))
        },
    },
    Rule {
        id: "cpl-ss-dpl",
        severity: Suspicious,
        field: "ss.attrib",
        source: SEGMENT_STATE,
        test: |vmsa| {
            let dpl = vmsa.ss.attrib >> 5 & 3;
            let checked = matches!(Mode::of(vmsa), Mode::Protected | Mode::Compatibility | Mode::Long64);
            // A null SS has no DPL; 64-bit mode allows it.
            when(checked && vmsa.ss.attrib & PRESENT != 0 && dpl != u16::from(vmsa.cpl), || {
                format!("CPL is {} but SS has DPL {dpl}", vmsa.cpl)
            })
        },
    },
    Rule {
        id: "ss-present",
        severity: Suspicious,
        field: "ss.attrib",
        source: SEGMENT_STATE,
        test: |vmsa| {
            when(Mode::of(vmsa) != Mode::Long64 && vmsa.ss.attrib & PRESENT == 0, || {
                format!(
                    "SS attributes are {:#x}: not present, so the first use of the stack would fault",
                    vmsa.ss.attrib
                )
            })
        },
    },
    Rule {
        id: "tr-tss",
        severity: Suspicious,
        field: "tr.attrib",
        source: SEGMENT_STATE,
        test: |vmsa| {
            let is_tss = vmsa.tr.attrib & NOT_SYSTEM == 0 && TYPE_BUSY_TSS.contains(&(vmsa.tr.attrib & TYPE));
            when(!is_tss, || format!("TR attributes are {:#x}: not a busy TSS (type 3 or 0xb)", vmsa.tr.attrib))
        },
    },
    Rule {
        id: "ldtr-ldt",
        severity: Suspicious,
        field: "ldtr.attrib",
        source: SEGMENT_STATE,
        test: |vmsa| {
            let attrib = vmsa.ldtr.attrib;
            let is_ldt = attrib & (NOT_SYSTEM | TYPE) == TYPE_LDT;
            when(attrib & PRESENT != 0 && !is_ldt, || {
                format!("LDTR attributes are {attrib:#x}: present, but not an LDT")
            })
        },
    },
    Rule {
        id: "attrib-reserved",
        severity: Suspicious,
        field: "",
        source: "APM 2, Segment State in the VMCB (attributes have 12 bits)",
        test: |vmsa| {
            let wide = segments(vmsa).into_iter().find(|(_, segment)| segment.attrib >> 12 != 0);
            wide.map(|(name, segment)| format!("{name}.attrib is {:#x}: attributes have 12 bits", segment.attrib))
        },
    },
    Rule {
        id: "table-limit",
        severity: Suspicious,
        field: "",
        source: "APM 2, Global Descriptor-Table Register (limits have 16 bits)",
        test: |vmsa| {
            let wide = [("gdtr", vmsa.gdtr), ("idtr", vmsa.idtr)].into_iter().find(|(_, table)| table.limit > 0xffff);
            wide.map(|(name, table)| format!("{name}.limit is {:#x}: the limit has 16 bits", table.limit))
        },
    },
    Rule {
        id: "base-canonical",
        severity: Suspicious,
        field: "",
        source: SIGN_EXTENDED,
        test: |vmsa| {
            let bases = segments(vmsa).map(|(name, segment)| (name, segment.base));
            not_canonical(vmsa, bases).map(|(name, base)| format!("{name}.base {base:#x} is not canonical"))
        },
    },
    Rule {
        id: "shadow-stack-canonical",
        severity: Suspicious,
        field: "",
        source: SIGN_EXTENDED,
        test: |vmsa| {
            let pointers = [
                ("ssp", vmsa.ssp),
                ("isst_addr", vmsa.isst_addr),
                ("pl0_ssp", vmsa.pl0_ssp),
                ("pl1_ssp", vmsa.pl1_ssp),
                ("pl2_ssp", vmsa.pl2_ssp),
                ("pl3_ssp", vmsa.pl3_ssp),
            ];
            not_canonical(vmsa, pointers).map(|(name, address)| format!("{name} {address:#x} is not canonical"))
        },
    },
    Rule {
        id: "msr-canonical",
        severity: Suspicious,
        field: "",
        source: "APM 2, Canonical Address Form (WRMSR would refuse it; the APM does not say what VMRUN does)",
        test: |vmsa| {
            let addresses = [
                ("lstar", vmsa.lstar),
                ("cstar", vmsa.cstar),
                ("kernel_gs_base", vmsa.kernel_gs_base),
                ("sysenter_esp", vmsa.sysenter_esp),
                ("sysenter_eip", vmsa.sysenter_eip),
            ];
            not_canonical(vmsa, addresses).map(|(name, address)| format!("{name} {address:#x} is not canonical"))
        },
    },
];

fn segments(vmsa: &Vmsa) -> [(&'static str, Segment); 10] {
    [
        ("es", vmsa.es),
        ("cs", vmsa.cs),
        ("ss", vmsa.ss),
        ("ds", vmsa.ds),
        ("fs", vmsa.fs),
        ("gs", vmsa.gs),
        ("gdtr", vmsa.gdtr),
        ("ldtr", vmsa.ldtr),
        ("idtr", vmsa.idtr),
        ("tr", vmsa.tr),
    ]
}

fn not_canonical<const N: usize>(vmsa: &Vmsa, addresses: [(&'static str, u64); N]) -> Option<(&'static str, u64)> {
    addresses.into_iter().find(|(_, address)| !is_canonical(vmsa, *address))
}
