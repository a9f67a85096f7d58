//! What the bits of a field mean, in the specification's names.
//!
//! # Source
//! AMD 24593 (APM volume 2), the sections of the registers.

use snp_abi::Vmsa;
use snp_vmsa::fields::Value;

type Bits = &'static [(u32, &'static str)];

const CR0: Bits = &[
    (0, "PE"),
    (1, "MP"),
    (2, "EM"),
    (3, "TS"),
    (4, "ET"),
    (5, "NE"),
    (16, "WP"),
    (18, "AM"),
    (29, "NW"),
    (30, "CD"),
    (31, "PG"),
];

const CR4: Bits = &[
    (0, "VME"),
    (1, "PVI"),
    (2, "TSD"),
    (3, "DE"),
    (4, "PSE"),
    (5, "PAE"),
    (6, "MCE"),
    (7, "PGE"),
    (8, "PCE"),
    (9, "OSFXSR"),
    (10, "OSXMMEXCPT"),
    (11, "UMIP"),
    (12, "LA57"),
    (16, "FSGSBASE"),
    (17, "PCIDE"),
    (18, "OSXSAVE"),
    (20, "SMEP"),
    (21, "SMAP"),
    (22, "PKE"),
    (23, "CET"),
];

const EFER: Bits = &[
    (0, "SCE"),
    (8, "LME"),
    (10, "LMA"),
    (11, "NXE"),
    (12, "SVME"),
    (13, "LMSLE"),
    (14, "FFXSR"),
    (15, "TCE"),
    (17, "MCOMMIT"),
    (18, "INTWB"),
    (20, "UAIE"),
    (21, "AIBRSE"),
];

const RFLAGS: Bits = &[
    (0, "CF"),
    (1, "1"),
    (2, "PF"),
    (4, "AF"),
    (6, "ZF"),
    (7, "SF"),
    (8, "TF"),
    (9, "IF"),
    (10, "DF"),
    (11, "OF"),
    (14, "NT"),
    (16, "RF"),
    (17, "VM"),
    (18, "AC"),
    (19, "VIF"),
    (20, "VIP"),
    (21, "ID"),
];

const SEV_FEATURES: Bits = &[
    (0, "SNPActive"),
    (1, "vTOM"),
    (2, "ReflectVC"),
    (3, "RestrictedInjection"),
    (4, "AlternateInjection"),
    (5, "DebugSwap"),
    (6, "PreventHostIBS"),
    (7, "BTBIsolation"),
    (8, "VmplSSS"),
    (9, "SecureTSC"),
    (10, "VmgexitParameter"),
    (11, "PmcVirtualization"),
    (12, "IbsVirtualization"),
    (13, "GuestInterceptCtl"),
    (14, "VmsaRegProt"),
    (15, "SmtProtection"),
    (16, "SecureAvic"),
    (21, "IbpbOnEntry"),
];

const XCR0: Bits =
    &[(0, "x87"), (1, "SSE"), (2, "AVX"), (5, "AVX512-k"), (6, "AVX512-hi256"), (7, "AVX512-hi16"), (9, "MPK")];

/// The meaning of a field's value, or nothing.
pub(crate) fn meaning(name: &str, value: &Value) -> String {
    let Value::Integer(value) = value else { return String::new() };
    let table = match name {
        "cr0" => CR0,
        "cr4" => CR4,
        "efer" => EFER,
        "rflags" => RFLAGS,
        "sev_features" => SEV_FEATURES,
        "xcr0" => XCR0,
        "g_pat" => return memory_types(*value),
        "tsc_scale" | "tsc_offset" => return "measured as zero".into(),
        _ => return String::new(),
    };
    bits(*value, table)
}

/// The names of the bits that are set; those without a name by number.
fn bits(value: u64, table: Bits) -> String {
    let name = |bit: u32| match table.iter().find(|(known, _)| *known == bit) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("bit{bit}"),
    };
    let set: Vec<String> = (0..64).filter(|bit| value >> bit & 1 != 0).map(name).collect();
    set.join(" ")
}

fn memory_types(pat: u64) -> String {
    let name = |byte: u8| match byte {
        0 => "UC",
        1 => "WC",
        4 => "WT",
        5 => "WP",
        6 => "WB",
        7 => "UC-",
        _ => "?",
    };
    pat.to_le_bytes().map(name).join(" ")
}

/// What the attributes of the segment called `name` say; nothing for the descriptor tables.
pub(super) fn segment(vmsa: &Vmsa, name: &str) -> String {
    let attrib = match name {
        "es" => vmsa.es.attrib,
        "cs" => vmsa.cs.attrib,
        "ss" => vmsa.ss.attrib,
        "ds" => vmsa.ds.attrib,
        "fs" => vmsa.fs.attrib,
        "gs" => vmsa.gs.attrib,
        "ldtr" => vmsa.ldtr.attrib,
        "tr" => vmsa.tr.attrib,
        _ => return String::new(),
    };
    if attrib == 0 { "null".into() } else { attributes(attrib) }
}

fn attributes(attrib: u16) -> String {
    let has = |bit: u16| attrib >> bit & 1 != 0;
    let user = has(4);
    let kind = match (user, has(3), has(1)) {
        (true, true, true) => "code execute/read",
        (true, true, false) => "code execute-only",
        (true, false, true) => "data read/write",
        (true, false, false) => "data read-only",
        (false, ..) => system_type(attrib & 0xf),
    };
    let width = match (user, has(3) && has(9), has(10)) {
        (false, ..) => "",
        (true, true, _) => ", 64-bit",
        (true, false, true) => ", 32-bit",
        (true, false, false) => ", 16-bit",
    };
    let present = if has(7) { "" } else { ", not present" };
    format!("{kind}{width}, DPL {}{present}", attrib >> 5 & 3)
}

fn system_type(kind: u16) -> &'static str {
    match kind {
        1 => "16-bit TSS available",
        2 => "LDT",
        3 => "16-bit TSS busy",
        9 => "TSS available",
        0xb => "TSS busy",
        _ => "system segment",
    }
}
