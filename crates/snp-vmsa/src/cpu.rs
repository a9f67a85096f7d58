//! CPU models and the signatures that a processor of that model has in RDX at reset.

/// A CPU model of QEMU by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuModel {
    /// The name that QEMU's `-cpu` takes.
    pub name: &'static str,
    /// Its signature: what CPUID Fn0000_0001 returns in EAX.
    pub signature: u32,
}

/// The signature of family `family`, model `model`, stepping `stepping`, as CPUID Fn0000_0001_EAX encodes it.
///
/// Families up to 270, models up to 255 and steppings up to 15 can be encoded; excess bits are dropped.
///
/// # Source
/// AMD 24594 (APM volume 3), CPUID Fn0000_0001_EAX, "Family, Model, Stepping Identifiers".
pub const fn signature_from_fms(family: u16, model: u8, stepping: u8) -> u32 {
    let (base_family, extended_family) = if family > 0xf { (0xf, (family - 0xf) & 0xff) } else { (family, 0) };
    (extended_family as u32) << 20
        | ((model >> 4) as u32) << 16
        | (base_family as u32) << 8
        | ((model & 0xf) as u32) << 4
        | (stepping & 0xf) as u32
}

const NAPLES: u32 = signature_from_fms(23, 1, 2);
const ROME: u32 = signature_from_fms(23, 49, 0);
const MILAN: u32 = signature_from_fms(25, 1, 1);
const GENOA: u32 = signature_from_fms(25, 17, 0);
const TURIN: u32 = signature_from_fms(26, 0, 0);

const fn model(name: &'static str, signature: u32) -> CpuModel {
    CpuModel { name, signature }
}

/// QEMU's EPYC models.
///
/// # Source
/// sev-snp-measure 0.0.13, `vcpu_types.py`. Not verified against QEMU: the versions that it does not list (EPYC-v5,
/// EPYC-Rome-v4 and -v5, EPYC-Milan-v3, EPYC-Genoa-v2, EPYC-Turin-v1). They are given the signature of their model, since
/// all the versions that it lists share theirs.
pub const MODELS: &[CpuModel] = &[
    model("EPYC", NAPLES),
    model("EPYC-IBPB", NAPLES),
    model("EPYC-v1", NAPLES),
    model("EPYC-v2", NAPLES),
    model("EPYC-v3", NAPLES),
    model("EPYC-v4", NAPLES),
    model("EPYC-v5", NAPLES),
    model("EPYC-Rome", ROME),
    model("EPYC-Rome-v1", ROME),
    model("EPYC-Rome-v2", ROME),
    model("EPYC-Rome-v3", ROME),
    model("EPYC-Rome-v4", ROME),
    model("EPYC-Rome-v5", ROME),
    model("EPYC-Milan", MILAN),
    model("EPYC-Milan-v1", MILAN),
    model("EPYC-Milan-v2", MILAN),
    model("EPYC-Milan-v3", MILAN),
    model("EPYC-Genoa", GENOA),
    model("EPYC-Genoa-v1", GENOA),
    model("EPYC-Genoa-v2", GENOA),
    model("EPYC-Turin", TURIN),
    model("EPYC-Turin-v1", TURIN),
];

/// The signature of the model called `name` (upper and lower case alike), if there is one in [`MODELS`].
pub fn signature(name: &str) -> Option<u32> {
    MODELS.iter().find(|model| model.name.eq_ignore_ascii_case(name)).map(|model| model.signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by sev-snp-measure 0.0.13 (`vcpu_types.CPU_SIGS`).
    #[test]
    fn signatures_are_those_of_sev_snp_measure() {
        for (name, expected) in [
            ("EPYC-v4", 0x0080_0f12),
            ("EPYC-Rome", 0x0083_0f10),
            ("EPYC-Milan-v2", 0x00a0_0f11),
            ("EPYC-Genoa", 0x00a1_0f10),
            ("epyc-turin", 0x00b0_0f00),
        ] {
            assert_eq!(signature(name), Some(expected), "{name}");
        }
        assert_eq!(signature("EPYC-Verano"), None);
    }

    #[test]
    fn small_and_large_families() {
        assert_eq!(signature_from_fms(6, 0x5e, 3), 0x5_06e3);
        assert_eq!(signature_from_fms(15, 0, 0), 0xf00);
        assert_eq!(signature_from_fms(u16::MAX, u8::MAX, u8::MAX) & 0xf000_0000, 0);
    }

    #[test]
    fn names_are_unique() {
        for (i, model) in MODELS.iter().enumerate() {
            assert!(MODELS[..i].iter().all(|other| other.name != model.name), "{}", model.name);
        }
    }
}
