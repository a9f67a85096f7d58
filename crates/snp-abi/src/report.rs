//! The attestation report.

use core::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;
use crate::{EcdsaSignature, FieldLayout, GuestPolicy, KeyAlgorithm, LaunchDigest, ProductLine, TcbVersion};

/// The format of an [`AttestationReport`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct ReportVersion(pub u32);

impl ReportVersion {
    /// Firmware up to ABI 1.55.
    pub const V2: Self = Self(2);
    /// Adds CPUID_FAM_ID, CPUID_MOD_ID and CPUID_STEP.
    pub const V3: Self = Self(3);
    /// As 3.
    pub const V4: Self = Self(4);
    /// Adds LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR.
    pub const V5: Self = Self(5);

    /// Whether this crate knows which fields such a report has.
    pub const fn is_known(self) -> bool {
        Self::V2.0 <= self.0 && self.0 <= Self::V5.0
    }
}

impl fmt::Debug for ReportVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ReportVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 <= 0xff { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}

/// PLATFORM_INFO: how the platform is configured.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    /// SMT is enabled.
    pub const SMT_EN: u64 = 1 << 0;
    /// TSME is enabled.
    pub const TSME_EN: u64 = 1 << 1;
    /// The memory has ECC.
    pub const ECC_EN: u64 = 1 << 2;
    /// RAPL is disabled.
    pub const RAPL_DIS: u64 = 1 << 3;
    /// Ciphertext hiding is enabled for DRAM.
    pub const CIPHERTEXT_HIDING_DRAM_EN: u64 = 1 << 4;
    /// Since the last reset the memory was checked for aliases, and has none.
    pub const ALIAS_CHECK_COMPLETE: u64 = 1 << 5;
    /// SEV-TIO is enabled.
    pub const TIO_EN: u64 = 1 << 7;

    /// Every bit with a meaning, by its name in the specification.
    pub const FLAGS: &'static [(&'static str, u64)] = &[
        ("SMT_EN", Self::SMT_EN),
        ("TSME_EN", Self::TSME_EN),
        ("ECC_EN", Self::ECC_EN),
        ("RAPL_DIS", Self::RAPL_DIS),
        ("CIPHERTEXT_HIDING_DRAM_EN", Self::CIPHERTEXT_HIDING_DRAM_EN),
        ("ALIAS_CHECK_COMPLETE", Self::ALIAS_CHECK_COMPLETE),
        ("TIO_EN", Self::TIO_EN),
    ];

    /// Whether all bits of `mask` are set.
    pub const fn has(self, mask: u64) -> bool {
        self.0 & mask == mask
    }

    /// The bits without a meaning that are set.
    pub const fn reserved(self) -> u64 {
        self.0 & !0xbf
    }
}

impl fmt::Debug for PlatformInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The key that signed a report: SIGNING_KEY, three bits of [`SignerInfo`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SigningKey(pub u8);

impl SigningKey {
    /// The versioned chip endorsement key.
    pub const VCEK: Self = Self(0);
    /// The versioned loaded endorsement key, of a cloud provider.
    pub const VLEK: Self = Self(1);
    /// The report is not signed.
    pub const NONE: Self = Self(7);

    /// The specification's name, if the value has one.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::VCEK => Some("VCEK"),
            Self::VLEK => Some("VLEK"),
            Self::NONE => Some("NONE"),
            _ => None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "reserved ({})", self.0),
        }
    }
}

/// The word at 0x48: which keys belong to the report.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SignerInfo(pub u32);

impl SignerInfo {
    /// AUTHOR_KEY_EN: AUTHOR_KEY_DIGEST holds the digest of the author key.
    pub const AUTHOR_KEY_EN: u32 = 1 << 0;
    /// MASK_CHIP_KEY: the firmware does not sign with the VCEK; SIGNATURE is zero then.
    pub const MASK_CHIP_KEY: u32 = 1 << 1;

    /// The word for a key and the two flags.
    pub const fn new(signing_key: SigningKey, mask_chip_key: bool, author_key_en: bool) -> Self {
        Self((signing_key.0 as u32 & 7) << 2 | (mask_chip_key as u32) << 1 | author_key_en as u32)
    }

    /// SIGNING_KEY.
    pub const fn signing_key(self) -> SigningKey {
        SigningKey((self.0 >> 2 & 7) as u8)
    }

    /// Whether all bits of `mask` are set.
    pub const fn has(self, mask: u32) -> bool {
        self.0 & mask == mask
    }

    /// The bits without a meaning that are set.
    pub const fn reserved(self) -> u32 {
        self.0 & !0x1f
    }
}

impl fmt::Debug for SignerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A version of the firmware; ordered as versions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FirmwareVersion {
    /// MAJOR.
    pub major: u8,
    /// MINOR.
    pub minor: u8,
    /// BUILD.
    pub build: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Combined family and model, and stepping, of the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuidSignature {
    /// CPUID_FAM_ID: extended family plus base family.
    pub family: u8,
    /// CPUID_MOD_ID: extended model and base model.
    pub model: u8,
    /// CPUID_STEP.
    pub stepping: u8,
}

impl CpuidSignature {
    /// From CPUID Fn0000_0001_EAX.
    pub const fn from_eax(eax: u32) -> Self {
        Self {
            family: ((eax >> 20 & 0xff) + (eax >> 8 & 0xf)) as u8,
            model: ((eax >> 12 & 0xf0) | (eax >> 4 & 0xf)) as u8,
            stepping: (eax & 0xf) as u8,
        }
    }

    /// The product line, if it is known.
    pub const fn product_line(self) -> Option<ProductLine> {
        ProductLine::of_processor(self.family, self.model)
    }
}

/// Which mitigations were verified, at launch and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MitigationVectors {
    /// LAUNCH_MIT_VECTOR.
    pub launch: u64,
    /// CURRENT_MIT_VECTOR.
    pub current: u64,
}

/// What the firmware says of a guest and its platform, signed by the platform's endorsement key.
///
/// Fields of a later version than [`version`](Self::version) are reserved there and zero; [`cpuid`](Self::cpuid) and
/// [`mitigation_vectors`](Self::mitigation_vectors) give them only where they exist.
///
/// # Source
/// AMD 56860, "ATTESTATION_REPORT".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AttestationReport {
    /// VERSION of this structure.
    pub version: ReportVersion,
    /// GUEST_SVN of the ID block.
    pub guest_svn: u32,
    /// POLICY.
    pub policy: GuestPolicy,
    /// FAMILY_ID of the ID block.
    pub family_id: [u8; 16],
    /// IMAGE_ID of the ID block.
    pub image_id: [u8; 16],
    /// VMPL of the request; [`AttestationReport::VMPL_OF_HOST`] if the host asked.
    pub vmpl: u32,
    /// SIGNATURE_ALGO of SIGNATURE.
    pub signature_algo: KeyAlgorithm,
    /// CURRENT_TCB.
    pub current_tcb: TcbVersion,
    /// PLATFORM_INFO.
    pub platform_info: PlatformInfo,
    /// AUTHOR_KEY_EN, MASK_CHIP_KEY and SIGNING_KEY.
    pub signer_info: SignerInfo,
    /// Reserved, zero.
    pub reserved_0x4c: u32,
    /// REPORT_DATA of the guest.
    pub report_data: [u8; 64],
    /// MEASUREMENT: the launch digest.
    pub measurement: LaunchDigest,
    /// HOST_DATA of SNP_LAUNCH_FINISH.
    pub host_data: [u8; 32],
    /// ID_KEY_DIGEST: SHA-384 of the ID key.
    pub id_key_digest: [u8; 48],
    /// AUTHOR_KEY_DIGEST: SHA-384 of the author key.
    pub author_key_digest: [u8; 48],
    /// REPORT_ID of the guest.
    pub report_id: [u8; 32],
    /// REPORT_ID_MA: that of its migration agent.
    pub report_id_ma: [u8; 32],
    /// REPORTED_TCB, from which the signing key was derived.
    pub reported_tcb: TcbVersion,
    /// CPUID_FAM_ID, since version 3.
    pub cpuid_fam_id: u8,
    /// CPUID_MOD_ID, since version 3.
    pub cpuid_mod_id: u8,
    /// CPUID_STEP, since version 3.
    pub cpuid_step: u8,
    /// Reserved, zero.
    pub reserved_0x18b: [u8; 21],
    /// CHIP_ID, zero if masked.
    pub chip_id: [u8; 64],
    /// COMMITTED_TCB.
    pub committed_tcb: TcbVersion,
    /// CURRENT_BUILD.
    pub current_build: u8,
    /// CURRENT_MINOR.
    pub current_minor: u8,
    /// CURRENT_MAJOR.
    pub current_major: u8,
    /// Reserved, zero.
    pub reserved_0x1eb: u8,
    /// COMMITTED_BUILD.
    pub committed_build: u8,
    /// COMMITTED_MINOR.
    pub committed_minor: u8,
    /// COMMITTED_MAJOR.
    pub committed_major: u8,
    /// Reserved, zero.
    pub reserved_0x1ef: u8,
    /// LAUNCH_TCB: CURRENT_TCB when the guest was launched or imported.
    pub launch_tcb: TcbVersion,
    /// LAUNCH_MIT_VECTOR, since version 5.
    pub launch_mit_vector: u64,
    /// CURRENT_MIT_VECTOR, since version 5.
    pub current_mit_vector: u64,
    /// Reserved, zero.
    pub reserved_0x208: [u8; 0x98],
    /// SIGNATURE of everything before it.
    pub signature: EcdsaSignature,
}

abi_layout!(AttestationReport, 0x4a0, {
    version: 0, guest_svn: 4, policy: 8, family_id: 0x10, image_id: 0x20, vmpl: 0x30, signature_algo: 0x34,
    current_tcb: 0x38, platform_info: 0x40, signer_info: 0x48, reserved_0x4c: 0x4c, report_data: 0x50,
    measurement: 0x90, host_data: 0xc0, id_key_digest: 0xe0, author_key_digest: 0x110, report_id: 0x140,
    report_id_ma: 0x160, reported_tcb: 0x180, cpuid_fam_id: 0x188, cpuid_mod_id: 0x189, cpuid_step: 0x18a,
    reserved_0x18b: 0x18b, chip_id: 0x1a0, committed_tcb: 0x1e0, current_build: 0x1e8, current_minor: 0x1e9,
    current_major: 0x1ea, reserved_0x1eb: 0x1eb, committed_build: 0x1ec, committed_minor: 0x1ed,
    committed_major: 0x1ee, reserved_0x1ef: 0x1ef, launch_tcb: 0x1f0, launch_mit_vector: 0x1f8,
    current_mit_vector: 0x200, reserved_0x208: 0x208, signature: 0x2a0,
});

impl AttestationReport {
    /// Bytes of a report.
    pub const LEN: usize = 0x4a0;
    /// Bytes that SIGNATURE covers: all before it.
    pub const SIGNED_LEN: usize = 0x2a0;
    /// VMPL of a report that the host asked for (SNP_HV_REPORT_REQ).
    pub const VMPL_OF_HOST: u32 = u32::MAX;

    /// The bytes that SIGNATURE covers.
    pub fn signed(&self) -> &[u8] {
        &self.as_bytes()[..Self::SIGNED_LEN]
    }

    /// Family, model and stepping of the processor; `None` before version 3.
    pub const fn cpuid(&self) -> Option<CpuidSignature> {
        if self.version.0 < ReportVersion::V3.0 {
            return None;
        }
        Some(CpuidSignature { family: self.cpuid_fam_id, model: self.cpuid_mod_id, stepping: self.cpuid_step })
    }

    /// The mitigation vectors; `None` before version 5.
    pub const fn mitigation_vectors(&self) -> Option<MitigationVectors> {
        if self.version.0 < ReportVersion::V5.0 {
            return None;
        }
        Some(MitigationVectors { launch: self.launch_mit_vector, current: self.current_mit_vector })
    }

    /// The version of the firmware that runs.
    pub const fn current_version(&self) -> FirmwareVersion {
        FirmwareVersion { major: self.current_major, minor: self.current_minor, build: self.current_build }
    }

    /// The version of the firmware that is committed.
    pub const fn committed_version(&self) -> FirmwareVersion {
        FirmwareVersion { major: self.committed_major, minor: self.committed_minor, build: self.committed_build }
    }

    /// Whether CHIP_ID is masked.
    pub fn chip_id_is_masked(&self) -> bool {
        self.chip_id == [0; 64]
    }

    /// Whether a field, by its name in [`AbiLayout::FIELDS`](crate::AbiLayout::FIELDS), has a meaning in reports of
    /// `version`. Fields without one are reserved and zero.
    pub fn has_field(version: ReportVersion, field: &FieldLayout) -> bool {
        let since = match field.name {
            name if name.starts_with("reserved_") => return false,
            "cpuid_fam_id" | "cpuid_mod_id" | "cpuid_step" => ReportVersion::V3,
            "launch_mit_vector" | "current_mit_vector" => ReportVersion::V5,
            _ => ReportVersion::V2,
        };
        since <= version
    }
}

impl Default for AttestationReport {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AbiLayout;

    #[test]
    fn fields_come_with_their_version() {
        let mut report = AttestationReport { version: ReportVersion::V2, cpuid_fam_id: 0x19, ..Default::default() };
        assert_eq!((report.cpuid(), report.mitigation_vectors()), (None, None));
        report.version = ReportVersion::V3;
        assert_eq!(report.cpuid().and_then(CpuidSignature::product_line), Some(ProductLine::Milan));
        assert_eq!(report.mitigation_vectors(), None);
        report.version = ReportVersion::V5;
        assert_eq!(report.mitigation_vectors(), Some(MitigationVectors::default()));

        let count =
            |version| AttestationReport::FIELDS.iter().filter(|f| AttestationReport::has_field(version, f)).count();
        assert_eq!(count(ReportVersion::V3), count(ReportVersion::V2) + 3);
        assert_eq!(count(ReportVersion::V4), count(ReportVersion::V3));
        assert_eq!(count(ReportVersion::V5), count(ReportVersion::V4) + 2);
    }

    #[test]
    fn signer_info_packs_and_unpacks() {
        let info = SignerInfo::new(SigningKey::VLEK, false, true);
        assert_eq!((info, info.signing_key()), (SignerInfo(0b101), SigningKey::VLEK));
        assert_eq!(SignerInfo::new(SigningKey::NONE, true, false), SignerInfo(0b11110));
        assert_eq!(SignerInfo(u32::MAX).reserved(), 0xffff_ffe0);
        let flags = PlatformInfo::FLAGS.iter().fold(0, |all, (_, bit)| all | bit);
        assert_eq!(PlatformInfo(u64::MAX).reserved(), !flags);
    }

    /// EPYC 7003, 9004 and 9005.
    #[test]
    fn processors_name_their_product_line() {
        let line = |eax| CpuidSignature::from_eax(eax).product_line();
        assert_eq!(line(0x00a0_0f11), Some(ProductLine::Milan));
        assert_eq!(line(0x00a1_0f11), Some(ProductLine::Genoa));
        assert_eq!(line(0x00aa_0f02), Some(ProductLine::Genoa));
        assert_eq!(line(0x00b0_0f21), Some(ProductLine::Turin));
        assert_eq!(line(0x0080_0f12), None);
        assert_eq!(CpuidSignature::from_eax(0x00b0_0f21), CpuidSignature { family: 0x1a, model: 2, stepping: 1 });
    }
}
