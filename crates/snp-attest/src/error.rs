//! Why a report is not believed: one variant for each reason, with the field, what was expected and what was found.

use alloc::string::String;
use core::fmt;

use snp_abi::{ProductLine, TcbComponent};
use thiserror::Error;

use crate::time::UnixTime;

/// The part that a certificate plays in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The root, AMD root key.
    Ark,
    /// The SEV signing key, which certifies VCEKs.
    Ask,
    /// The SEV VLEK signing key, which certifies VLEKs.
    Asvk,
    /// The versioned chip endorsement key.
    Vcek,
    /// The versioned loaded endorsement key.
    Vlek,
}

impl Role {
    /// The specification's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Asvk => "ASVK",
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that are shown in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hex(pub alloc::vec::Vec<u8>);

impl Hex {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Defines [`Failure`] and the name of each variant for programs.
macro_rules! failures {
    ($($(#[$attribute:meta])* $name:ident $({ $($(#[$field_attribute:meta])* $field:ident: $type:ty),+ $(,)? })? = $code:literal;)+) => {
        /// A reason why a report is not believed.
        #[derive(Clone, Debug, Error, PartialEq, Eq)]
        pub enum Failure {
            $($(#[$attribute])* $name $({ $($(#[$field_attribute])* $field: $type),+ })?,)+
        }

        impl Failure {
            /// The reason's name for programs; it stays as it is.
            pub const fn code(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $code,)+
                }
            }

            /// Every name that [`code`](Self::code) gives.
            pub const CODES: &'static [&'static str] = &[$($code),+];
        }
    };
}

failures! {
    /// The file is no report.
    #[error("the report has {got} bytes, want {expected}")]
    ReportLength {
        /// Bytes of a report.
        expected: usize,
        /// Bytes found.
        got: usize,
    } = "report-length";
    /// A report version whose fields are not known.
    #[error("VERSION at offset 0x0 is {got:#x}, want 2 to 5: fields of other versions are not known")]
    ReportVersion {
        /// VERSION.
        got: u32,
    } = "report-version";
    /// A reserved field is not zero.
    #[error("{field} at offset {offset:#x} is reserved in this version and not zero")]
    ReservedField {
        /// The field's name in this project.
        field: &'static str,
        /// Offset in the report.
        offset: usize,
    } = "reserved-field";
    /// Reserved bits of a field are set.
    #[error("{field} has reserved bits set: {bits:#x}")]
    ReservedBits {
        /// The field.
        field: &'static str,
        /// The reserved bits that are set.
        bits: u64,
    } = "reserved-bits";
    /// Bit 17 of POLICY is zero.
    #[error("POLICY is {got:#x}: bit 17 must be one in every policy")]
    PolicyBit17 {
        /// POLICY.
        got: u64,
    } = "policy-bit-17";
    /// VMPL is neither a privilege level nor the host's mark.
    #[error("VMPL is {got:#x}, want 0 to 3, or 0xffffffff for a report that the host asked for")]
    VmplRange {
        /// VMPL.
        got: u32,
    } = "vmpl-range";
    /// AUTHOR_KEY_EN is clear, yet there is a digest.
    #[error("AUTHOR_KEY_EN is 0, but AUTHOR_KEY_DIGEST is {digest}")]
    AuthorKeyWithoutFlag {
        /// AUTHOR_KEY_DIGEST.
        digest: Hex,
    } = "author-key-without-flag";
    /// An unknown signature algorithm.
    #[error("SIGNATURE_ALGO is {got}, want 1 (ECDSA P-384 with SHA-384)")]
    SignatureAlgorithm {
        /// SIGNATURE_ALGO.
        got: u32,
    } = "signature-algorithm";
    /// SIGNING_KEY has a value without a meaning.
    #[error("SIGNING_KEY is {got}, want 0 (VCEK) or 1 (VLEK)")]
    SigningKeyReserved {
        /// SIGNING_KEY.
        got: u8,
    } = "signing-key-reserved";
    /// SIGNING_KEY says that the report is not signed.
    #[error("SIGNING_KEY is 7 (NONE): the report is not signed")]
    NotSigned = "not-signed";
    /// MASK_CHIP_KEY is set.
    #[error("MASK_CHIP_KEY is 1: the platform does not sign with the VCEK")]
    ChipKeyMasked = "chip-key-masked";
    /// Family and model belong to no known product line.
    #[error("CPUID_FAM_ID {family:#x}, CPUID_MOD_ID {model:#x}: no known product line")]
    UnknownProcessor {
        /// CPUID_FAM_ID.
        family: u8,
        /// CPUID_MOD_ID.
        model: u8,
    } = "unknown-processor";
    /// A TCB version is above another that bounds it.
    #[error("{component} of {lower} is {lower_value}, above {higher_value} of {higher}")]
    TcbOrder {
        /// The TCB version that may not be above.
        lower: &'static str,
        /// The TCB version that bounds it.
        higher: &'static str,
        /// The part.
        component: &'static str,
        /// Its level in `lower`.
        lower_value: u8,
        /// Its level in `higher`.
        higher_value: u8,
    } = "tcb-order";
    /// The committed firmware is newer than the running one.
    #[error("the committed firmware is {committed}, above the running {current}")]
    VersionOrder {
        /// COMMITTED_MAJOR.MINOR.BUILD.
        committed: String,
        /// CURRENT_MAJOR.MINOR.BUILD.
        current: String,
    } = "version-order";
    /// CHIP_ID has bytes beyond the product line's hardware ID.
    #[error("CHIP_ID has bytes set beyond the {expected} of a {line} chip", line = line.name())]
    ChipIdLength {
        /// The product line.
        line: ProductLine,
        /// Bytes of its hardware ID.
        expected: usize,
    } = "chip-id-length";

    /// A certificate is not there.
    #[error("no {role} certificate was given")]
    CertificateMissing {
        /// Which.
        role: Role,
    } = "certificate-missing";
    /// A certificate is of another X.509 version.
    #[error("{role}: X.509 version {got}, want 3")]
    CertificateVersion {
        /// Which.
        role: Role,
        /// The version, counted from 1.
        got: u8,
    } = "certificate-version";
    /// A certificate is not signed with RSASSA-PSS, SHA-384, MGF1 with SHA-384 and 48 bytes of salt.
    #[error("{role}: the signature algorithm is {got}, want RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes")]
    CertificateAlgorithm {
        /// Which.
        role: Role,
        /// OID, and whether the parameters differ.
        got: String,
    } = "certificate-algorithm";
    /// The two places of a certificate that name its algorithm disagree.
    #[error("{role}: the signature algorithm within the signed part is another than outside")]
    AlgorithmMismatch {
        /// Which.
        role: Role,
    } = "algorithm-mismatch";
    /// The chain ends in a root that is not trusted.
    #[error("the chain ends in {subject} (SHA-256 {fingerprint}), which is not a root of AMD's that is built in")]
    UntrustedRoot {
        /// The root's subject, or the issuer for which there is no root.
        subject: String,
        /// SHA-256 of the root, empty if there is none.
        fingerprint: Hex,
    } = "untrusted-root";
    /// The chain ends in the TEST root.
    #[error("the chain ends in the TEST root {subject}: it proves nothing about hardware, and is trusted only when asked for")]
    TestRoot {
        /// The root's subject.
        subject: String,
    } = "test-root";
    /// The chain is of another product line than the report's processor.
    #[error("the chain is {got}'s, the report comes from {expected}", got = got.name(), expected = expected.name())]
    OtherProductLine {
        /// By the report's family and model.
        expected: ProductLine,
        /// By the root.
        got: ProductLine,
    } = "other-product-line";
    /// A certificate's subject is another.
    #[error("{role}: the subject's common name is {got:?}, want {expected:?}")]
    SubjectName {
        /// Which.
        role: Role,
        /// By role and product line.
        expected: String,
        /// In the certificate.
        got: String,
    } = "subject-name";
    /// A certificate names another issuer than the one that should have signed it.
    #[error("{role}: issued by {got}, want {expected}")]
    IssuerName {
        /// Which.
        role: Role,
        /// Subject of the issuer's certificate.
        expected: String,
        /// In the certificate.
        got: String,
    } = "issuer-name";
    /// A certificate that signs certificates or revocation lists is not marked so.
    #[error("{role}: not marked as an authority that signs certificates or lists: no {missing}")]
    NotAnAuthority {
        /// Which.
        role: Role,
        /// The mark that is missing.
        missing: &'static str,
    } = "not-an-authority";
    /// An endorsement key's certificate is marked as an authority.
    #[error("{role}: an endorsement key is marked as a certificate authority")]
    UnexpectedAuthority {
        /// Which.
        role: Role,
    } = "unexpected-authority";
    /// A critical extension that is not understood.
    #[error("{role}: critical extension {oid} is not known")]
    CriticalExtension {
        /// Which.
        role: Role,
        /// The extension.
        oid: String,
    } = "critical-extension";
    /// An authority's key is not RSA of 4096 bits.
    #[error("{role}: the key is {got}, want RSA of 4096 bits")]
    AuthorityKey {
        /// Which.
        role: Role,
        /// What it is.
        got: String,
    } = "authority-key";
    /// A certificate was not signed by the issuer's key, or was changed.
    #[error("{role}: the signature was not made by the {issuer}'s key over these bytes")]
    CertificateSignature {
        /// Which.
        role: Role,
        /// Who should have signed.
        issuer: Role,
    } = "certificate-signature";
    /// A certificate is not valid yet.
    #[error("{role}: valid from {from}, and it is {now}")]
    NotYetValid {
        /// Which.
        role: Role,
        /// notBefore.
        from: UnixTime,
        /// The time of the verification.
        now: UnixTime,
    } = "not-yet-valid";
    /// A certificate has expired.
    #[error("{role}: expired at {until}, and it is {now}")]
    Expired {
        /// Which.
        role: Role,
        /// notAfter.
        until: UnixTime,
        /// The time of the verification.
        now: UnixTime,
    } = "expired";
    /// An endorsement key is not an elliptic-curve key.
    #[error("{role}: the key's algorithm is {got}, want 1.2.840.10045.2.1 (elliptic curve)")]
    EndorsementKeyAlgorithm {
        /// Which.
        role: Role,
        /// The algorithm's OID.
        got: String,
    } = "endorsement-key-algorithm";
    /// An endorsement key is on another curve.
    #[error("{role}: the key's curve is {got}, want 1.3.132.0.34 (P-384)")]
    EndorsementKeyCurve {
        /// Which.
        role: Role,
        /// The curve's OID.
        got: String,
    } = "endorsement-key-curve";
    /// An endorsement key is not a point of the curve.
    #[error("{role}: the key is not an uncompressed point of P-384")]
    EndorsementKeyPoint {
        /// Which.
        role: Role,
    } = "endorsement-key-point";

    /// A CRL of somebody else.
    #[error("CRL: issued by {got}, want {expected}")]
    CrlIssuer {
        /// An authority of the chain.
        expected: String,
        /// In the CRL.
        got: String,
    } = "crl-issuer";
    /// A CRL that is not signed as AMD signs.
    #[error("CRL: the signature algorithm is {got}, want RSASSA-PSS with SHA-384")]
    CrlAlgorithm {
        /// OID.
        got: String,
    } = "crl-algorithm";
    /// A CRL whose signature is wrong.
    #[error("CRL: the signature was not made by the {issuer}'s key over these bytes")]
    CrlSignature {
        /// Who should have signed.
        issuer: Role,
    } = "crl-signature";
    /// A CRL from the future.
    #[error("CRL: issued at {from}, and it is {now}")]
    CrlNotYetValid {
        /// thisUpdate.
        from: UnixTime,
        /// The time of the verification.
        now: UnixTime,
    } = "crl-not-yet-valid";
    /// A CRL that is too old.
    #[error("CRL: a newer one was due at {until}, and it is {now}")]
    CrlExpired {
        /// nextUpdate.
        until: UnixTime,
        /// The time of the verification.
        now: UnixTime,
    } = "crl-expired";
    /// A CRL that does not say until when it is the newest.
    #[error("CRL: issued at {from} without nextUpdate: nothing says that it is not superseded")]
    CrlEndless {
        /// thisUpdate.
        from: UnixTime,
    } = "crl-endless";
    /// A CRL with a critical extension: it may not be a complete list.
    #[error("CRL: critical extension {oid} is not known, so that it need not be a whole list")]
    CrlCriticalExtension {
        /// The extension.
        oid: String,
    } = "crl-critical-extension";
    /// A certificate of the chain is revoked.
    #[error("{role}: revoked at {since} (serial {serial})")]
    Revoked {
        /// Which.
        role: Role,
        /// Its serial number.
        serial: Hex,
        /// revocationDate.
        since: UnixTime,
    } = "revoked";

    /// An extension of AMD's is not there.
    #[error("{role}: AMD's extension {name} is missing")]
    ExtensionMissing {
        /// Which.
        role: Role,
        /// The extension.
        name: &'static str,
    } = "extension-missing";
    /// An extension is there twice.
    #[error("{role}: extension {name} is there twice")]
    ExtensionTwice {
        /// Which.
        role: Role,
        /// The extension.
        name: String,
    } = "extension-twice";
    /// An extension of AMD's does not hold what it should.
    #[error("{role}: AMD's extension {name} is malformed")]
    ExtensionMalformed {
        /// Which.
        role: Role,
        /// The extension.
        name: &'static str,
    } = "extension-malformed";
    /// An extension that belongs to the other kind of endorsement key or to another product line.
    #[error("{role}: AMD's extension {name} does not belong there")]
    ExtensionUnexpected {
        /// Which.
        role: Role,
        /// The extension.
        name: &'static str,
    } = "extension-unexpected";
    /// A certificate of the other kind of endorsement key than the report says.
    #[error("the report is signed with the {expected}, the certificate is a {got}'s")]
    OtherEndorsementKey {
        /// By SIGNING_KEY.
        expected: Role,
        /// By the certificate.
        got: Role,
    } = "other-endorsement-key";
    /// The certificate names another product.
    #[error("{role}: productName is {got:?}, the chain is {expected}'s", expected = expected.name())]
    ProductName {
        /// Which.
        role: Role,
        /// By the root.
        expected: ProductLine,
        /// In the certificate.
        got: String,
    } = "product-name";
    /// The report was made at another TCB version than the certificate is for.
    #[error("{component} of REPORTED_TCB is {report}, the {role} was certified for {certificate}", component = component.name())]
    TcbOfCertificate {
        /// Which certificate.
        role: Role,
        /// The part.
        component: TcbComponent,
        /// In the certificate.
        certificate: u8,
        /// In the report.
        report: u8,
    } = "tcb-of-certificate";
    /// The certificate is another chip's.
    #[error("CHIP_ID is {report}, the VCEK was certified for {certificate}")]
    ChipOfCertificate {
        /// In the certificate.
        certificate: Hex,
        /// In the report.
        report: Hex,
    } = "chip-of-certificate";

    /// R or S is zero.
    #[error("{scalar} of the report's signature is zero")]
    SignatureZero {
        /// `R` or `S`.
        scalar: &'static str,
    } = "signature-zero";
    /// R or S is not below the order of the curve.
    #[error("{scalar} of the report's signature is not below the order of P-384")]
    SignatureRange {
        /// `R` or `S`.
        scalar: &'static str,
    } = "signature-range";
    /// The bytes behind R or S are not zero.
    #[error("{field} of the report's signature is not zero")]
    SignaturePadding {
        /// `padding of R`, `padding of S` or the reserved bytes.
        field: &'static str,
    } = "signature-padding";
    /// The report was not signed by the endorsement key, or was changed.
    #[error("the report's signature was not made by the {role} over these bytes")]
    ReportSignature {
        /// The endorsement key.
        role: Role,
    } = "report-signature";

    /// The guest can be debugged by the host.
    #[error("the guest's policy allows DEBUG: the host can read and write its memory")]
    Debug = "debug";
    /// The guest's policy has bits that are forbidden.
    #[error("the guest's policy has {bits}, which is forbidden")]
    PolicyForbidden {
        /// Names of bits.
        bits: String,
    } = "policy-forbidden";
    /// The guest's policy lacks bits that are required.
    #[error("the guest's policy lacks {bits}, which is required")]
    PolicyRequired {
        /// Names of bits.
        bits: String,
    } = "policy-required";
    /// The platform is configured in a way that is forbidden.
    #[error("PLATFORM_INFO has {bits}, which is forbidden")]
    PlatformForbidden {
        /// Names of bits.
        bits: String,
    } = "platform-forbidden";
    /// The platform is not configured as required. Reports of old firmware do not have all bits.
    #[error("PLATFORM_INFO lacks {bits}, which is required")]
    PlatformRequired {
        /// Names of bits.
        bits: String,
    } = "platform-required";
    /// A mitigation was not there, when the guest was launched or now.
    #[error("{field} lacks {missing:#x}, which is required")]
    Mitigations {
        /// The vector.
        field: &'static str,
        /// Bits that are required and not set.
        missing: u64,
    } = "mitigations";
    /// The report is of a version that has no mitigation vectors.
    #[error("mitigations {wanted:#x} are required, and reports of version {version} do not tell them")]
    NoMitigationVectors {
        /// Bits that are required.
        wanted: u64,
        /// Of the report.
        version: u32,
    } = "no-mitigation-vectors";
    /// Another launch.
    #[error("MEASUREMENT is {got}, want {expected}")]
    Measurement {
        /// As asked for; several may be.
        expected: String,
        /// In the report.
        got: Hex,
    } = "measurement";
    /// A TCB version is below what is asked for.
    #[error("{component} of {field} is {got}, want at least {least}", component = component.name())]
    MinTcb {
        /// The TCB version.
        field: &'static str,
        /// The part.
        component: TcbComponent,
        /// As asked for.
        least: u8,
        /// In the report.
        got: u8,
    } = "min-tcb";
    /// A minimal TCB asks for a part that the product line does not have.
    #[error("the policy wants a {component} of at least {least}, which {line} does not have", component = component.name(), line = line.name())]
    MinTcbPart {
        /// The part.
        component: TcbComponent,
        /// As asked for.
        least: u8,
        /// The product line.
        line: ProductLine,
    } = "min-tcb-part";
    /// Another privilege level.
    #[error("VMPL is {got}, want {expected}")]
    Vmpl {
        /// As asked for.
        expected: u32,
        /// In the report.
        got: u32,
    } = "vmpl";
    /// Another HOST_DATA.
    #[error("HOST_DATA is {got}, want {expected}")]
    HostData {
        /// As asked for.
        expected: Hex,
        /// In the report.
        got: Hex,
    } = "host-data";
    /// Another REPORT_DATA.
    #[error("REPORT_DATA is {got}, want {expected}")]
    ReportData {
        /// As asked for.
        expected: Hex,
        /// In the report.
        got: Hex,
    } = "report-data";
    /// Another ID key.
    #[error("ID_KEY_DIGEST is {got}, want {expected}")]
    IdKey {
        /// As asked for.
        expected: Hex,
        /// In the report.
        got: Hex,
    } = "id-key";
    /// Another author key.
    #[error("AUTHOR_KEY_DIGEST is {got}, want {expected}")]
    AuthorKey {
        /// As asked for.
        expected: Hex,
        /// In the report.
        got: Hex,
    } = "author-key";
    /// No author key at all.
    #[error("the guest was launched without an author key, want {expected}")]
    NoAuthorKey {
        /// As asked for.
        expected: Hex,
    } = "no-author-key";
    /// Another FAMILY_ID.
    #[error("FAMILY_ID is {got}, want {expected}")]
    FamilyId {
        /// As asked for.
        expected: Hex,
        /// In the report.
        got: Hex,
    } = "family-id";
    /// Another IMAGE_ID.
    #[error("IMAGE_ID is {got}, want {expected}")]
    ImageId {
        /// As asked for.
        expected: Hex,
        /// In the report.
        got: Hex,
    } = "image-id";
    /// GUEST_SVN is too low.
    #[error("GUEST_SVN is {got}, want at least {least}")]
    MinSvn {
        /// As asked for.
        least: u32,
        /// In the report.
        got: u32,
    } = "min-svn";
    /// Another chip.
    #[error("CHIP_ID is {got}, want {expected}")]
    ChipId {
        /// As asked for.
        expected: Hex,
        /// In the report.
        got: Hex,
    } = "chip-id";
    /// The VLEK of another cloud provider.
    #[error("the VLEK is of the provider {got:?}, want {expected:?}")]
    Provider {
        /// As asked for.
        expected: String,
        /// In the certificate.
        got: String,
    } = "provider";
    /// The key of a chip, which is no provider's.
    #[error("the report was signed by a {role}, which is of no provider, want a VLEK of {expected:?}")]
    NoProvider {
        /// As asked for.
        expected: String,
        /// The endorsement key.
        role: Role,
    } = "no-provider";
}

/// Bytes that are no certificate, CRL, certificate table or key, and what is wrong with them.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("not {what}: {reason}")]
pub struct Malformed {
    /// What was wanted, with its article.
    pub what: &'static str,
    /// Where it goes wrong.
    pub reason: String,
}

impl Malformed {
    pub(crate) fn new(what: &'static str, reason: impl fmt::Display) -> Self {
        use alloc::string::ToString;
        Self { what, reason: reason.to_string() }
    }
}
