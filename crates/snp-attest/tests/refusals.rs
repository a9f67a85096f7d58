//! Every way in which a report can be wrong, each with its own reason.

mod setup;

use std::collections::BTreeSet;

use der::Encode;
use der::asn1::{BitString, ObjectIdentifier, OctetString};
use setup::{PARTS, Setup, key, other_key};
use snp_abi::{
    AttestationReport, GuestPolicy, KeyAlgorithm, LaunchDigest, PlatformInfo, ProductLine, ReportVersion, SignerInfo,
    SigningKey, TcbParts,
};
use snp_attest::UnixTime;
use snp_attest::authority::{TEST_CSP_ID, TemplateCrl, TestAuthority, root_template};
use snp_attest::certificate::Crl;
use snp_attest::chain::Certificates;
use snp_attest::error::{Failure, Role};
use snp_attest::policy::{Flags, MinTcb, Policy};
use snp_attest::report::verify;
use snp_attest::verdict::Outcome;
use x509_cert::ext::Extension;
use zerocopy::IntoBytes;

struct Case {
    name: &'static str,
    code: &'static str,
    line: ProductLine,
    version: ReportVersion,
    spoil: fn(&mut Setup),
}

/// On a report of a Milan, version 3.
const fn case(name: &'static str, code: &'static str, spoil: fn(&mut Setup)) -> Case {
    Case { name, code, line: ProductLine::Milan, version: ReportVersion::V3, spoil }
}

const fn on(line: ProductLine, version: ReportVersion, case: Case) -> Case {
    Case { line, version, ..case }
}

fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

fn octets(bytes: &[u8]) -> OctetString {
    OctetString::new(bytes).unwrap()
}

fn extension(oid_text: &str, critical: bool, value: &[u8]) -> Extension {
    Extension { extn_id: oid(oid_text), critical, extn_value: octets(value) }
}

const BL: &str = "1.3.6.1.4.1.3704.1.3.1";
const HWID: &str = "1.3.6.1.4.1.3704.1.4";
const PRODUCT: &str = "1.3.6.1.4.1.3704.1.2";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";

/// The report is signed by the provider's key, which has a certificate in place of the chip's.
fn by_vlek(setup: &mut Setup) {
    let author_key = setup.report.signer_info.has(SignerInfo::AUTHOR_KEY_EN);
    setup.report.signer_info = SignerInfo::new(SigningKey::VLEK, false, author_key);
    let vlek = TestAuthority::new(setup.line).issue_vlek(&key().public(), TEST_CSP_ID, setup.report.reported_tcb);
    setup.certificates.vlek = Some(vlek.unwrap());
}

fn remove(setup: &mut Setup, oid_text: &str) {
    setup.vcek.extensions.retain(|extension| extension.extn_id != oid(oid_text));
}

fn set(setup: &mut Setup, oid_text: &str, value: &[u8]) {
    *setup.vcek.extension(oid_text).unwrap() = octets(value);
}

/// Another authority between the root and the VCEK.
fn authority(setup: &mut Setup, change: impl FnOnce(&mut snp_attest::authority::Template)) {
    let mut template = root_template(setup.line, Role::Ask);
    change(&mut template);
    setup.certificates.ask = Some(template.sign(setup.line, Role::Ark));
}

fn at(setup: &mut Setup, time: &str) {
    setup.trust.now = UnixTime::parse(time);
}

fn level(component: fn(&mut TcbParts) -> &mut u8, by: i16, line: ProductLine) -> snp_abi::TcbVersion {
    let mut parts = PARTS;
    let level = component(&mut parts);
    *level = (i16::from(*level) + by) as u8;
    parts.pack(line)
}

/// REPORTED_TCB below what the certificate is for.
fn reported(setup: &mut Setup, component: fn(&mut TcbParts) -> &mut u8) {
    setup.report.reported_tcb = level(component, -1, setup.line);
}

fn sha256_with_rsa() -> x509_cert::spki::AlgorithmIdentifierOwned {
    x509_cert::spki::AlgorithmIdentifierOwned { oid: oid("1.2.840.113549.1.1.11"), parameters: None }
}

fn crl(setup: &mut Setup, issuer: Role, change: impl FnOnce(&mut TemplateCrl)) {
    let mut template = TemplateCrl::default();
    change(&mut template);
    setup.trust.crls.push(template.sign(setup.line, issuer));
}

fn bound(setup: &mut Setup, bounds: MinTcb) {
    setup.policy.min_tcb = bounds;
}

/// n of P-384, little-endian.
fn order() -> [u8; 48] {
    let mut order = [0xff; 48];
    let low = "c7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    for (byte, index) in order[24..].iter_mut().zip(0..) {
        *byte = u8::from_str_radix(&low[2 * index..2 * index + 2], 16).unwrap();
    }
    order.reverse();
    order
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    // The report's form.
    case("version 0", "report-version", |s| s.report.version = ReportVersion(0)),
    case("version 1", "report-version", |s| s.report.version = ReportVersion(1)),
    case("version 6", "report-version", |s| s.report.version = ReportVersion(6)),
    case("version 0xffffffff", "report-version", |s| s.report.version = ReportVersion(u32::MAX)),
    case("reserved at 0x4c", "reserved-field", |s| s.report.reserved_0x4c = 1),
    case("reserved at 0x18b", "reserved-field", |s| s.report.reserved_0x18b[20] = 1),
    case("reserved at 0x1eb", "reserved-field", |s| s.report.reserved_0x1eb = 0x80),
    case("reserved at 0x1ef", "reserved-field", |s| s.report.reserved_0x1ef = 1),
    case("reserved at 0x208", "reserved-field", |s| s.report.reserved_0x208[0x97] = 1),
    on(ProductLine::Milan, ReportVersion::V2, case("CPUID_FAM_ID in version 2", "reserved-field", |s| s.report.cpuid_fam_id = 0x19)),
    on(ProductLine::Milan, ReportVersion::V2, case("CPUID_STEP in version 2", "reserved-field", |s| s.report.cpuid_step = 1)),
    case("LAUNCH_MIT_VECTOR in version 3", "reserved-field", |s| s.report.launch_mit_vector = 1),
    on(ProductLine::Milan, ReportVersion::V4, case("CURRENT_MIT_VECTOR in version 4", "reserved-field", |s| s.report.current_mit_vector = 1)),
    case("PLATFORM_INFO bit 6", "reserved-bits", |s| s.report.platform_info.0 |= 1 << 6),
    case("PLATFORM_INFO bit 63", "reserved-bits", |s| s.report.platform_info.0 |= 1 << 63),
    case("the word at 0x48, bit 5", "reserved-bits", |s| s.report.signer_info.0 |= 1 << 5),
    case("POLICY bit 26", "reserved-bits", |s| s.report.policy.0 |= 1 << 26),
    case("POLICY without bit 17", "policy-bit-17", |s| s.report.policy.0 &= !GuestPolicy::RESERVED_MBO),
    case("reserved byte of CURRENT_TCB", "reserved-bits", |s| s.report.current_tcb.0 |= 1 << 24),
    on(ProductLine::Turin, ReportVersion::V5, case("reserved byte of REPORTED_TCB", "reserved-bits", |s| s.report.reported_tcb.0 |= 1 << 40)),
    case("VMPL 4", "vmpl-range", |s| s.report.vmpl = 4),
    case("VMPL 0xfffffffe", "vmpl-range", |s| s.report.vmpl = 0xffff_fffe),
    case("an author key without its flag", "author-key-without-flag", |s| s.report.signer_info.0 = 0),
    case("algorithm 0", "signature-algorithm", |s| s.report.signature_algo = KeyAlgorithm(0)),
    case("algorithm 2", "signature-algorithm", |s| s.report.signature_algo = KeyAlgorithm(2)),
    case("SIGNING_KEY 3", "signing-key-reserved", |s| s.report.signer_info = SignerInfo::new(SigningKey(3), false, true)),
    case("SIGNING_KEY NONE", "not-signed", |s| s.report.signer_info = SignerInfo::new(SigningKey::NONE, false, true)),
    case("MASK_CHIP_KEY", "chip-key-masked", |s| s.report.signer_info.0 |= SignerInfo::MASK_CHIP_KEY),
    case("family 0x17", "unknown-processor", |s| s.report.cpuid_fam_id = 0x17),
    case("model 0x50", "unknown-processor", |s| s.report.cpuid_mod_id = 0x50),
    case("committed above current", "tcb-order", |s| s.report.current_tcb = level(|p| &mut p.snp, -1, s.line)),
    case("reported above committed", "tcb-order", |s| s.report.committed_tcb = level(|p| &mut p.microcode, -1, s.line)),
    case("launch above current", "tcb-order", |s| s.report.launch_tcb = level(|p| &mut p.bootloader, 1, s.line)),
    case("committed firmware above the running", "version-order", |s| s.report.committed_minor = 56),
    on(ProductLine::Turin, ReportVersion::V5, case("a long CHIP_ID of a Turin", "chip-id-length", |s| s.report.chip_id[8] = 1)),

    // The root.
    case("a TEST root that is not trusted", "test-root", |s| s.trust.test_roots = false),
    case("a root of its own", "untrusted-root", |s| {
        let mut ark = root_template(s.line, Role::Ark);
        ark.serial = vec![9];
        s.certificates.ark = Some(ark.sign(s.line, Role::Ark));
    }),
    case("an issuer that nobody knows", "untrusted-root", |s| {
        s.certificates = Certificates::default();
        s.vcek.issuer = "CN=Nobody".parse().unwrap();
    }),
    case("a chain of another product line", "other-product-line", |s| {
        let genoa = Setup::new(ProductLine::Genoa, ReportVersion::V3);
        (s.certificates, s.vcek, s.issuer) = (genoa.certificates, genoa.vcek, genoa.issuer);
    }),
    case("an authority of another product line", "subject-name", |s| {
        s.certificates.ask = TestAuthority::new(ProductLine::Genoa).certificates().ask;
    }),

    // Certificates.
    case("no VCEK", "certificate-missing", |s| s.exchange = Some(|c| c.vcek = None)),
    case("no VLEK", "certificate-missing", |s| s.report.signer_info = SignerInfo::new(SigningKey::VLEK, false, true)),
    case("a VLEK as the VCEK", "other-endorsement-key", |s| s.exchange = Some(|c| {
        let vlek = TestAuthority::new(ProductLine::Milan).issue_vlek(&key().public(), TEST_CSP_ID, PARTS.pack(ProductLine::Milan));
        c.vcek = vlek.ok();
    })),
    case("a VCEK as the VLEK", "other-endorsement-key", |s| {
        s.report.signer_info = SignerInfo::new(SigningKey::VLEK, false, true);
        s.exchange = Some(|c| c.vlek = c.vcek.take());
    }),
    case("an X.509 certificate of version 1", "certificate-version", |s| s.vcek.version = x509_cert::Version::V1),
    case("an authority of version 1", "certificate-version", |s| authority(s, |ask| ask.version = x509_cert::Version::V1)),
    case("SHA-256 with RSA", "certificate-algorithm", |s| (s.vcek.algorithm, s.vcek.outer_algorithm) = (sha256_with_rsa(), sha256_with_rsa())),
    case("PSS without parameters", "certificate-algorithm", |s| s.vcek.outer_algorithm.parameters = None),
    case("two algorithms", "algorithm-mismatch", |s| s.vcek.algorithm = sha256_with_rsa()),
    case("an authority with two algorithms", "algorithm-mismatch", |s| authority(s, |ask| ask.algorithm = sha256_with_rsa())),
    case("another subject", "subject-name", |s| s.vcek.subject = "CN=SEV-VCEK".parse().unwrap()),
    case("another issuer", "issuer-name", |s| s.vcek.issuer = root_template(s.line, Role::Ark).subject),
    case("an authority of another issuer", "issuer-name", |s| authority(s, |ask| ask.issuer = "CN=Nobody".parse().unwrap())),
    case("an authority that is none", "not-an-authority", |s| authority(s, |ask| *ask.extension(BASIC_CONSTRAINTS).unwrap() = octets(&[0x30, 0]))),
    case("an authority that may not sign", "not-an-authority", |s| authority(s, |ask| ask.extensions.retain(|e| e.extn_id != oid("2.5.29.15")))),
    case("a VCEK that is an authority", "unexpected-authority", |s| s.vcek.extensions.push(extension(BASIC_CONSTRAINTS, true, &[0x30, 3, 1, 1, 0xff]))),
    case("a critical extension", "critical-extension", |s| s.vcek.extensions.push(extension("1.2.3.4", true, &[5, 0]))),
    case("a critical extension of the authority", "critical-extension", |s| authority(s, |ask| ask.extensions.push(extension("1.2.3.5", true, &[5, 0])))),
    case("an authority with an elliptic key", "authority-key", |s| { let key = s.vcek.key.clone(); authority(s, |ask| ask.key = key) }),
    case("signed by the root", "certificate-signature", |s| s.issuer.1 = Role::Ark),
    case("an authority that signed itself", "certificate-signature", |s| {
        s.certificates.ask = Some(root_template(s.line, Role::Ask).sign(s.line, Role::Ask));
    }),
    case("before its time", "not-yet-valid", |s| s.vcek.not_before = UnixTime(1_800_000_000)),
    case("after its time", "expired", |s| s.vcek.not_after = UnixTime(1_750_000_000)),
    case("an authority before its time", "not-yet-valid", |s| authority(s, |ask| ask.not_before = UnixTime(1_800_000_000))),
    case("an authority after its time", "expired", |s| authority(s, |ask| ask.not_after = UnixTime(1_750_000_000))),
    case("before all of it", "not-yet-valid", |s| at(s, "2023-12-31")),
    case("after all of it", "expired", |s| at(s, "2050-01-01")),
    case("an RSA key", "endorsement-key-algorithm", |s| s.vcek.key = root_template(s.line, Role::Ask).key),
    case("P-256", "endorsement-key-curve", |s| {
        s.vcek.key.algorithm.parameters = Some(der::Any::from(&oid("1.2.840.10045.3.1.7")));
    }),
    case("no curve", "endorsement-key-curve", |s| s.vcek.key.algorithm.parameters = None),
    case("a point off the curve", "endorsement-key-point", |s| {
        let mut point = s.vcek.key.subject_public_key.raw_bytes().to_vec();
        point[50] ^= 1;
        s.vcek.key.subject_public_key = BitString::from_bytes(&point).unwrap();
    }),

    // Revocation.
    case("the authority is revoked", "revoked", |s| crl(s, Role::Ark, |list| list.revoked.push((vec![0x7e, 0x57, 0, 1], UnixTime(1_710_000_000))))),
    case("the VCEK is revoked", "revoked", |s| { let serial = s.vcek.serial.clone(); crl(s, Role::Ask, |list| list.revoked.push((serial, UnixTime(1_720_000_000)))) }),
    case("a list of somebody else", "crl-issuer", |s| s.trust.crls.push(TestAuthority::new(ProductLine::Genoa).crl(Role::Ark, &[]))),
    case("a list of another algorithm", "crl-algorithm", |s| crl(s, Role::Ark, |list| list.algorithm = sha256_with_rsa())),
    case("a list that was changed", "crl-signature", |s| {
        let mut der = TestAuthority::new(s.line).crl(Role::Ark, &[]).der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        s.trust.crls.push(Crl::from_der(&der).unwrap());
    }),
    case("a list of tomorrow", "crl-not-yet-valid", |s| crl(s, Role::Ark, |list| list.this_update = UnixTime(1_800_000_000))),
    case("a list of yesterday", "crl-expired", |s| crl(s, Role::Ark, |list| list.next_update = Some(UnixTime(1_750_000_000)))),
    case("a list without an end", "crl-endless", |s| crl(s, Role::Ark, |list| list.next_update = None)),
    case("a list of changes", "crl-critical-extension", |s| crl(s, Role::Ark, |list| list.extensions.push(extension("2.5.29.27", true, &[2, 1, 1])))),
    case("a list of some certificates", "crl-critical-extension", |s| crl(s, Role::Ark, |list| list.extensions.push(extension("2.5.29.28", true, &[0x30, 3, 0x81, 1, 0xff])))),
    case("a list with an entry of another issuer", "crl-critical-extension", |s| crl(s, Role::Ark, |list| {
        list.revoked.push((vec![1], UnixTime(1_710_000_000)));
        list.entry_extensions.push(extension("2.5.29.29", true, &[0x30, 0]));
    })),
    case("a list of an authority that signs none", "not-an-authority", |s| {
        // keyCertSign alone, as AMD's ASKs have it.
        authority(s, |ask| *ask.extension("2.5.29.15").unwrap() = octets(&[3, 2, 2, 4]));
        crl(s, Role::Ask, |_| {});
    }),

    // AMD's extensions.
    case("no hwID", "extension-missing", |s| remove(s, HWID)),
    case("no blSPL", "extension-missing", |s| remove(s, BL)),
    case("no productName", "extension-missing", |s| remove(s, PRODUCT)),
    on(ProductLine::Turin, ReportVersion::V5, case("no fmcSPL on a Turin", "extension-missing", |s| remove(s, "1.3.6.1.4.1.3704.1.3.9"))),
    case("blSPL twice", "extension-twice", |s| { let bl = extension(BL, false, &[2, 1, 4]); s.vcek.extensions.push(bl) }),
    case("a negative blSPL", "extension-malformed", |s| set(s, BL, &[2, 1, 0x84])),
    case("a productName that is no text", "extension-malformed", |s| set(s, PRODUCT, &[2, 1, 1])),
    case("a short hwID", "extension-malformed", |s| set(s, HWID, &[0x99; 63])),
    case("a reserved SPL", "extension-malformed", |s| set(s, "1.3.6.1.4.1.3704.1.3.4", &[2, 1, 1])),
    case("a cspID in a VCEK", "extension-unexpected", |s| s.vcek.extensions.push(extension("1.3.6.1.4.1.3704.1.5", false, &[0x16, 1, 0x41]))),
    case("an fmcSPL on a Milan", "extension-unexpected", |s| s.vcek.extensions.push(extension("1.3.6.1.4.1.3704.1.3.9", false, &[2, 1, 0]))),
    case("the productName of a Genoa", "product-name", |s| set(s, PRODUCT, &[0x16, 5, b'G', b'e', b'n', b'o', b'a'])),
    case("an unknown productName", "product-name", |s| set(s, PRODUCT, &[0x16, 7, b'R', b'o', b'm', b'e', b'-', b'B', b'0'])),
    case("a lower bootloader than certified", "tcb-of-certificate", |s| reported(s, |p| &mut p.bootloader)),
    case("a lower TEE than certified", "tcb-of-certificate", |s| reported(s, |p| &mut p.tee)),
    case("a lower SNP than certified", "tcb-of-certificate", |s| reported(s, |p| &mut p.snp)),
    case("a lower microcode than certified", "tcb-of-certificate", |s| reported(s, |p| &mut p.microcode)),
    on(ProductLine::Turin, ReportVersion::V5, case("a lower FMC than certified", "tcb-of-certificate", |s| reported(s, |p| &mut p.fmc))),
    case("another chip", "chip-of-certificate", |s| s.report.chip_id[63] ^= 1),

    // The signature.
    case("R is zero", "signature-zero", |s| s.tamper = Some(|r| r.signature.r = [0; 72])),
    case("S is zero", "signature-zero", |s| s.tamper = Some(|r| r.signature.s = [0; 72])),
    case("R is the order", "signature-range", |s| s.tamper = Some(|r| r.signature.r[..48].copy_from_slice(&order()))),
    case("S is above the order", "signature-range", |s| s.tamper = Some(|r| r.signature.s[..48].fill(0xff))),
    case("a byte behind R", "signature-padding", |s| s.tamper = Some(|r| r.signature.r[48] = 1)),
    case("a byte behind S", "signature-padding", |s| s.tamper = Some(|r| r.signature.s[71] = 1)),
    case("a byte behind both", "signature-padding", |s| s.tamper = Some(|r| r.signature.reserved_0x90[367] = 1)),
    case("signed by another key", "report-signature", |s| s.key = other_key()),

    // What is asked of it.
    case("DEBUG", "debug", |s| s.report.policy.0 |= GuestPolicy::DEBUG),
    case("MIGRATE_MA where it is forbidden", "policy-forbidden", |s| { s.report.policy.0 |= GuestPolicy::MIGRATE_MA; s.policy.guest_policy.forbid = GuestPolicy::MIGRATE_MA }),
    case("SMT where it is forbidden", "policy-forbidden", |s| s.policy.guest_policy.forbid = GuestPolicy::SMT | GuestPolicy::CXL_ALLOW),
    case("an ABI version where it is forbidden", "policy-forbidden", |s| { s.report.policy.0 |= 0x0137; s.policy.guest_policy.forbid = 0x0100 }),
    case("SINGLE_SOCKET where it is required", "policy-required", |s| s.policy.guest_policy.require = GuestPolicy::SMT | GuestPolicy::SINGLE_SOCKET),
    case("SMT_EN where it is forbidden", "platform-forbidden", |s| s.policy.platform.forbid = PlatformInfo::SMT_EN | PlatformInfo::TIO_EN),
    case("ALIAS_CHECK_COMPLETE where it is required", "platform-required", |s| s.policy.platform.require = PlatformInfo::SMT_EN | PlatformInfo::ALIAS_CHECK_COMPLETE),
    on(ProductLine::Turin, ReportVersion::V5, case("a mitigation that came after the launch", "mitigations", |s| s.policy.mitigations = 4)),
    on(ProductLine::Turin, ReportVersion::V5, case("a mitigation that is not there now", "mitigations", |s| { s.report.current_mit_vector = 1; s.policy.mitigations = 3 })),
    case("mitigations of a report that tells none", "no-mitigation-vectors", |s| s.policy.mitigations = 1),
    case("another measurement", "measurement", |s| s.policy.measurements = vec![LaunchDigest([1; 48])]),
    case("none of two measurements", "measurement", |s| s.policy.measurements = vec![LaunchDigest([1; 48]), LaunchDigest([2; 48])]),
    case("bootloader too low", "min-tcb", |s| bound(s, MinTcb { bootloader: Some(5), ..MinTcb::default() })),
    case("TEE too low", "min-tcb", |s| bound(s, MinTcb { tee: Some(2), ..MinTcb::default() })),
    case("SNP too low", "min-tcb", |s| bound(s, MinTcb { snp: Some(21), ..MinTcb::default() })),
    case("microcode too low", "min-tcb", |s| bound(s, MinTcb { microcode: Some(210), ..MinTcb::default() })),
    on(ProductLine::Turin, ReportVersion::V5, case("FMC too low", "min-tcb", |s| bound(s, MinTcb { fmc: Some(4), ..MinTcb::default() }))),
    case("launched too low", "min-tcb", |s| { s.report.launch_tcb = level(|p| &mut p.snp, -1, s.line); bound(s, MinTcb { snp: Some(20), ..MinTcb::default() }) }),
    case("FMC of a Milan", "min-tcb-part", |s| bound(s, MinTcb { fmc: Some(0), ..MinTcb::default() })),
    case("another VMPL", "vmpl", |s| s.policy.vmpl = Some(0)),
    case("the host asked", "vmpl", |s| { s.report.vmpl = AttestationReport::VMPL_OF_HOST; s.policy.vmpl = Some(0) }),
    case("another HOST_DATA", "host-data", |s| s.policy.host_data = Some([0; 32])),
    case("another REPORT_DATA", "report-data", |s| s.policy.report_data = Some([0; 64])),
    case("another ID key", "id-key", |s| s.policy.id_key_digest = Some([0; 48])),
    case("another author key", "author-key", |s| s.policy.author_key_digest = Some([0; 48])),
    case("no author key", "no-author-key", |s| { s.report.signer_info.0 = 0; s.report.author_key_digest = [0; 48]; s.policy.author_key_digest = Some([0x77; 48]) }),
    case("another FAMILY_ID", "family-id", |s| s.policy.family_id = Some([0; 16])),
    case("another IMAGE_ID", "image-id", |s| s.policy.image_id = Some([0; 16])),
    case("GUEST_SVN too low", "min-svn", |s| s.policy.min_svn = Some(6)),
    case("another CHIP_ID", "chip-id", |s| s.policy.chip_id = Some([0; 64])),
    case("another provider's VLEK", "provider", |s| { by_vlek(s); s.policy.provider = Some("Some Cloud".into()) }),
    case("a VCEK where a provider's key is wanted", "no-provider", |s| s.policy.provider = Some(TEST_CSP_ID.into())),
];

#[test]
fn each_is_refused_with_its_own_reason() {
    let mut codes = BTreeSet::new();
    let mut reasons = BTreeSet::new();
    for case in CASES {
        let mut setup = Setup::new(case.line, case.version);
        (case.spoil)(&mut setup);
        let verdict = setup.verdict();
        let failures: Vec<_> = verdict.checks.failures().collect();
        let found = failures.iter().find(|failure| failure.code() == case.code);
        let Some(found) = found else {
            panic!("{}: want {}, got {failures:#?}", case.name, case.code);
        };
        codes.insert(found.code());
        assert!(reasons.insert(format!("{}: {found}", found.code())), "{}: not its own: {found}", case.name);
    }
    assert!(CASES.len() >= 80, "{}", CASES.len());
    assert_eq!(reasons.len(), CASES.len());
    // A report that is no report never comes so far.
    let missing: Vec<_> = Failure::CODES.iter().filter(|code| !codes.contains(*code)).collect();
    assert_eq!(missing, [&"report-length"]);
}

#[test]
fn lengths_are_exact() {
    let setup = Setup::new(ProductLine::Milan, ReportVersion::V3);
    let (report, chain) = (setup.signed_report(), setup.chain());
    let long = [report.as_bytes(), &[0]].concat();
    for wrong in [&[][..], &report.as_bytes()[..1183], &long, &report.as_bytes()[..0x2a0]] {
        let verdict = verify(wrong, &chain, &setup.trust, &setup.policy);
        let failures: Vec<_> = verdict.checks.failures().cloned().collect();
        assert_eq!(failures, [Failure::ReportLength { expected: 1184, got: wrong.len() }]);
    }
}

/// Whatever is wrong, every check is listed: it passed, it failed, or it says why it was not made.
#[test]
fn every_check_is_listed_whatever_is_wrong() {
    let names = |setup: &Setup| setup.verdict().checks.0.iter().map(|check| check.name).collect::<Vec<_>>();
    let all = names(&Setup::new(ProductLine::Milan, ReportVersion::V3));
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    for case in CASES {
        let mut setup = Setup::new(case.line, case.version);
        (case.spoil)(&mut setup);
        assert_eq!(names(&setup), all, "{}", case.name);
    }
}

#[test]
fn what_is_allowed_passes() {
    let mut setup = Setup::new(ProductLine::Milan, ReportVersion::V3);
    setup.report.version = ReportVersion(6);
    setup.report.policy.0 |= GuestPolicy::DEBUG;
    setup.policy = Policy { allow_debug: true, allow_unknown_version: true, ..Policy::default() };
    let verdict = setup.verdict();
    assert!(verdict.passed(), "{:#?}", verdict.checks);
    assert!(matches!(verdict.checks.outcome("reserved"), Some(Outcome::Skipped(_))));
    // Allowed is not required, and forbidden wins.
    setup.policy.guest_policy.forbid = GuestPolicy::DEBUG;
    let codes: Vec<_> = setup.verdict().checks.failures().map(Failure::code).collect();
    assert_eq!(codes, ["policy-forbidden"]);
}

#[test]
fn what_is_asked_for_passes_when_it_is_so() {
    let mut setup = Setup::new(ProductLine::Turin, ReportVersion::V5);
    let report = setup.report;
    setup.policy = Policy {
        measurements: vec![LaunchDigest([0; 48]), report.measurement],
        min_tcb: MinTcb::at_least(report.reported_tcb, ProductLine::Turin),
        vmpl: Some(1),
        guest_policy: Flags { require: GuestPolicy::SMT, forbid: GuestPolicy::DEBUG | GuestPolicy::MIGRATE_MA },
        platform: Flags { require: PlatformInfo::SMT_EN, forbid: PlatformInfo::TSME_EN },
        mitigations: 3,
        host_data: Some(report.host_data),
        report_data: Some(report.report_data),
        id_key_digest: Some(report.id_key_digest),
        author_key_digest: Some(report.author_key_digest),
        family_id: Some(report.family_id),
        image_id: Some(report.image_id),
        min_svn: Some(report.guest_svn),
        chip_id: Some(report.chip_id),
        ..Policy::default()
    };
    setup.trust.crls = vec![
        TestAuthority::new(ProductLine::Turin).crl(Role::Ark, &[]),
        TestAuthority::new(ProductLine::Turin).crl(Role::Ask, &[]),
    ];
    let verdict = setup.verdict();
    assert!(verdict.passed(), "{:#?}", verdict.checks);
    assert_eq!(skipped(&setup), ["provider"]);

    by_vlek(&mut setup);
    setup.policy.provider = Some(TEST_CSP_ID.into());
    setup.trust.crls[1] = TestAuthority::new(ProductLine::Turin).crl(Role::Asvk, &[]);
    let verdict = setup.verdict();
    assert!(verdict.passed(), "{:#?}", verdict.checks);
    assert_eq!(skipped(&setup), ["chip"]);
}

/// The checks that were not made.
fn skipped(setup: &Setup) -> Vec<&'static str> {
    let checks = setup.verdict().checks.0;
    checks.iter().filter(|check| matches!(check.outcome, Outcome::Skipped(_))).map(|check| check.name).collect()
}

/// Lists have extensions that are no condition: AMD's have a number and the key of their issuer.
#[test]
fn a_list_with_other_extensions_is_read() {
    let mut setup = Setup::new(ProductLine::Milan, ReportVersion::V3);
    crl(&mut setup, Role::Ark, |list| {
        list.extensions.push(extension("2.5.29.20", false, &[2, 1, 4]));
        list.revoked.push((vec![1], UnixTime(1_710_000_000)));
        list.entry_extensions.push(extension("2.5.29.21", false, &[10, 1, 1]));
    });
    let verdict = setup.verdict();
    assert!(verdict.passed(), "{:#?}", verdict.checks);
}

/// A masked CHIP_ID cannot be compared; the signature still is the chip's.
#[test]
fn a_masked_chip_is_told() {
    let mut setup = Setup::new(ProductLine::Genoa, ReportVersion::V3);
    setup.report.chip_id = [0; 64];
    let verdict = setup.verdict();
    assert!(verdict.passed(), "{:#?}", verdict.checks);
    assert_eq!(verdict.checks.outcome("chip"), Some(&Outcome::Skipped("CHIP_ID is masked".into())));
}

/// A hardware ID may be written as an OCTET STRING, too.
#[test]
fn both_forms_of_a_hardware_id_are_read() {
    let mut setup = Setup::new(ProductLine::Genoa, ReportVersion::V3);
    let wrapped = octets(&setup.report.chip_id).to_der().unwrap();
    set(&mut setup, HWID, &wrapped);
    assert!(setup.verdict().passed());
}
