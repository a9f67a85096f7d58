//! The TEST endorsement: it verifies when it is trusted, here and elsewhere, and says what it is.

mod setup;

use setup::{PARTS, Setup, key};
use sev::certs::snp::{Certificate as Theirs, Chain as TheirChain, Verifiable, ca};
use sev::firmware::guest::AttestationReport as TheirReport;
use sev::parser::ByteParser;
use snp_abi::{AttestationReport, ProductLine, ReportVersion, SignerInfo, SigningKey};
use snp_attest::authority::{TEST_CSP_ID, TestAuthority, make_root};
use snp_attest::certificate::{Certificate, Crl};
use snp_attest::certificate_table;
use snp_attest::chain::{Certificates, Chain};
use snp_attest::ecdsa::GeneratorTable;
use snp_attest::error::{Failure, Role};
use snp_attest::policy::Policy;
use snp_attest::report::{parse, product_line, verify, verify_with};
use snp_attest::roots::{ROOTS, Root, TEST_MARK};
use zerocopy::IntoBytes;

fn cases() -> impl Iterator<Item = Setup> {
    let versions = [ReportVersion::V2, ReportVersion::V3, ReportVersion::V4, ReportVersion::V5];
    ProductLine::ALL.iter().flat_map(move |&line| versions.map(|version| Setup::new(line, version)))
}

#[test]
fn good_reports_verify_under_trusted_test_roots() {
    for case in cases() {
        let verdict = case.verdict();
        assert!(verdict.passed(), "{:?} {}: {:#?}", case.line, case.report.version, verdict.checks);
        assert!(verdict.test_root);
        assert_eq!(verdict.product_line, Some(case.line));
    }
}

#[test]
fn vleks_verify_too() {
    for mut case in cases() {
        let authority = TestAuthority::new(case.line);
        let vlek = authority.issue_vlek(&key().public(), TEST_CSP_ID, case.report.reported_tcb).unwrap();
        case.report.signer_info = SignerInfo::new(SigningKey::VLEK, false, true);
        let certificates = Certificates { vlek: Some(vlek), ..authority.certificates() };
        let verdict = verify(case.signed_report().as_bytes(), &certificates, &case.trust, &Policy::default());
        assert!(verdict.passed(), "{:#?}", verdict.checks);
    }
}

/// The built-in certificates are those that the published keys make.
#[test]
fn roots_are_made_again() {
    for root in ROOTS.iter().filter(|root| root.test) {
        for (role, der) in [(Role::Ark, root.ark), (Role::Ask, root.ask), (Role::Asvk, root.asvk)] {
            assert_eq!(make_root(root.line, role).der(), der, "{:?} {role}", root.line);
        }
    }
}

#[test]
fn every_name_says_test_and_none_is_amd_s() {
    for case in cases() {
        let chain = case.chain();
        for certificate in [chain.ark, chain.ask, chain.asvk, chain.vcek].into_iter().flatten() {
            assert!(certificate.common_name().ends_with(TEST_MARK), "{}", certificate.subject());
            assert!(!certificate.subject().contains("Advanced Micro Devices"));
            assert_eq!(certificate.subject().matches("TEST\\, not AMD").count(), 2, "{}", certificate.subject());
        }
    }
}

#[test]
fn the_same_input_gives_the_same_certificate() {
    let vcek = || Setup::new(ProductLine::Milan, ReportVersion::V3).chain().vcek.unwrap();
    assert_eq!(vcek().der(), vcek().der());
    let mut other = Setup::new(ProductLine::Milan, ReportVersion::V3);
    let tcb = snp_abi::TcbParts { snp: PARTS.snp - 1, ..PARTS }.pack(ProductLine::Milan);
    other.vcek = TestAuthority::new(ProductLine::Milan).vcek_template(&key().public(), &[1; 64], tcb).unwrap();
    let other = other.chain().vcek.unwrap();
    assert_ne!(other.der(), vcek().der());
    assert_ne!(other.serial(), vcek().serial());
}

#[test]
fn keys_that_are_none_are_not_certified() {
    let authority = TestAuthority::new(ProductLine::Genoa);
    let mut wrong = key().public();
    wrong.qx[0] ^= 1;
    assert!(authority.issue_vcek(&wrong, &[0; 64], PARTS.pack(ProductLine::Genoa)).is_err());
    let mut wrong = key().public();
    wrong.reserved_0x94[3] = 1;
    assert!(authority.issue_vcek(&wrong, &[0; 64], PARTS.pack(ProductLine::Genoa)).is_err());
    assert!(authority.issue_vlek(&key().public(), "Anbieter ü", PARTS.pack(ProductLine::Genoa)).is_err());
}

fn theirs(certificates: &Certificates) -> TheirChain {
    let read = |slot: &Option<Certificate>| Theirs::from_der(slot.as_ref().unwrap().der()).unwrap();
    let ca = ca::Chain { ark: read(&certificates.ark), ask: read(&certificates.ask) };
    TheirChain { ca, vek: read(&certificates.vcek) }
}

/// The `sev` crate, which snpguest is made of.
#[test]
fn another_library_verifies_them() {
    for case in cases() {
        let chain = theirs(&case.chain());
        chain.verify().unwrap();
        let report = TheirReport::from_bytes(case.signed_report().as_bytes()).unwrap();
        (&chain, &report).verify().unwrap();
        assert_eq!((report.version, report.measurement), (case.report.version.0, [0x44; 48]));
        assert_eq!(report.reported_tcb.microcode, PARTS.microcode);
    }
}

/// The reserved bytes of TCB versions, which the other library drops when it reads a report and takes for zero when it
/// verifies, and what is behind R, behind S and behind both (docs/prior-bugs.md).
fn their_blind_spot(byte: usize) -> bool {
    let reserved = [0x38, 0x180, 0x1e0, 0x1f0].iter().any(|tcb| (tcb + 2..tcb + 6).contains(&byte));
    reserved || byte >= 0x330 || [0x2a0, 0x2e8].iter().any(|number| (number + 48..number + 72).contains(&byte))
}

/// A chain that was checked for one report says nothing of another one's processor.
#[test]
fn a_chain_is_not_taken_for_a_report_of_another_product_line() {
    let milan = Setup::new(ProductLine::Milan, ReportVersion::V3);
    let mut other = milan.report;
    other.cpuid_mod_id = 0x11;
    other.signature = key().sign(other.signed());
    for line in [None, Some(ProductLine::Milan), Some(ProductLine::Genoa)] {
        let chain = Chain::check(SigningKey::VCEK, line, &milan.chain(), &milan.trust);
        let codes = |report| -> Vec<_> {
            verify_with(report, &chain, &milan.policy).checks.failures().map(Failure::code).collect()
        };
        assert_eq!(codes(&other), ["other-product-line"], "checked for {line:?}");
        assert!(codes(&milan.signed_report()).is_empty(), "checked for {line:?}");
    }
}

/// Every bit of the report, for us; one of every byte for the other library, which leaves out what it does not know.
#[test]
fn a_flipped_bit_in_the_report_fails() {
    let generator = GeneratorTable::new();
    for version in [ReportVersion::V2, ReportVersion::V3, ReportVersion::V5] {
        let case = Setup::new(ProductLine::Genoa, version);
        let good = case.signed_report();
        let mut chain = Chain::check(SigningKey::VCEK, product_line(&good), &case.chain(), &case.trust);
        chain.precompute(&generator);
        assert!(verify_with(&good, &chain, &case.policy).passed());
        let their_vcek = theirs(&case.chain()).vek;
        for byte in 0..AttestationReport::LEN {
            for bit in 0..8 {
                let mut report = good;
                report.as_mut_bytes()[byte] ^= 1 << bit;
                assert!(!verify_with(&report, &chain, &case.policy).passed(), "version {version}, {byte:#x}.{bit}");
                if bit == byte % 8 && !their_blind_spot(byte) {
                    let theirs = TheirReport::from_bytes(report.as_bytes());
                    let accepted = theirs.is_ok_and(|report| (&their_vcek, &report).verify().is_ok());
                    assert!(!accepted, "theirs: version {version}, {byte:#x}.{bit}");
                }
            }
        }
    }
}

/// A bit of every byte of every certificate.
#[test]
fn a_flipped_bit_in_the_chain_fails() {
    let case = Setup::new(ProductLine::Turin, ReportVersion::V5);
    let (report, good) = (case.signed_report(), case.chain());
    for role in [Role::Ark, Role::Ask, Role::Vcek] {
        let der = good.clone().slot(role).clone().unwrap().der().to_vec();
        for byte in 0..der.len() {
            let mut changed = der.clone();
            changed[byte] ^= 1 << (byte % 8);
            let Ok(certificate) = Certificate::from_der(&changed) else { continue };
            let mut certificates = good.clone();
            *certificates.slot(role) = Some(certificate);
            let verdict = verify(report.as_bytes(), &certificates, &case.trust, &case.policy);
            assert!(!verdict.passed(), "{role}: byte {byte:#x}");
        }
    }
}

/// The same for the other library. It looks at the algorithm's OID beside the signature only, so that a change of its
/// parameters passes (docs/prior-bugs.md).
#[test]
fn a_flipped_bit_in_the_chain_fails_for_another_library() {
    let case = Setup::new(ProductLine::Milan, ReportVersion::V3);
    let good = case.chain();
    let report = TheirReport::from_bytes(case.signed_report().as_bytes()).unwrap();
    for role in [Role::Ask, Role::Vcek] {
        let der = good.clone().slot(role).clone().unwrap().der().to_vec();
        // One byte in seven: each takes three of their RSA verifications.
        for byte in (0..der.len()).step_by(7) {
            let mut changed = der.clone();
            changed[byte] ^= 1 << (byte % 8);
            let Ok(certificate) = Theirs::from_der(&changed) else { continue };
            let mut chain = theirs(&good);
            *(if role == Role::Ask { &mut chain.ca.ask } else { &mut chain.vek }) = certificate;
            let accepted = (&chain, &report).verify().is_ok();
            // Before the signature are its header, five bytes, and before that the parameters.
            let parameters = der.len() - 512 - 5 - 56..der.len() - 512;
            assert!(!accepted || parameters.contains(&byte), "{role}: byte {byte:#x} of {:#x}", der.len());
        }
    }
}

#[test]
fn tables_of_certificates_come_back() {
    let authority = TestAuthority::new(ProductLine::Genoa);
    let chain = Setup::new(ProductLine::Genoa, ReportVersion::V3).chain();
    let vlek = authority.issue_vlek(&key().public(), TEST_CSP_ID, PARTS.pack(ProductLine::Genoa)).unwrap();
    let all = Certificates { vlek: Some(vlek), ..chain };
    let table = certificate_table::build(&all);
    assert_eq!(certificate_table::parse(&table).unwrap(), all);
    assert_eq!(certificate_table::parse(&[0; 24]).unwrap(), Certificates::default());
    for length in 0..table.len() - 1 {
        let _ = certificate_table::parse(&table[..length]);
    }
    for wrong in [&[][..], &[0; 23], &table[..100], &table[..table.len() - 1]] {
        assert!(certificate_table::parse(wrong).is_err());
    }
    let mut outside = table.clone();
    outside[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = certificate_table::parse(&outside).unwrap_err().to_string();
    assert!(error.contains("entry 0 at 0x0"), "{error}");
}

/// What the host gives along with the certificates is read, above all if it says that one is revoked.
#[test]
fn revocation_lists_of_tables_are_read() {
    let authority = TestAuthority::new(ProductLine::Genoa);
    let certificates = authority.certificates();
    let list = authority.crl(Role::Ark, &[certificates.ask.as_ref().unwrap()]);
    let table = |list: &[u8]| {
        let mut table = certificate_table::build(&certificates);
        let entries = table.chunks(24).position(|entry| entry == [0; 24]).unwrap();
        // One more entry, so that everything behind it lies 24 bytes further.
        for entry in 0..entries {
            let offset = entry * 24 + 16..entry * 24 + 20;
            let further = u32::from_le_bytes(table[offset.clone()].try_into().unwrap()) + 24;
            table[offset].copy_from_slice(&further.to_le_bytes());
        }
        let place = [(table.len() + 24) as u32, list.len() as u32].map(u32::to_le_bytes).concat();
        let guid = 0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes();
        table.splice(entries * 24..entries * 24, [&guid[..], &place].concat());
        table.extend_from_slice(list);
        table
    };
    let good = table(list.der());
    assert_eq!(certificate_table::parse(&good), Ok(certificates.clone()));
    assert_eq!(certificate_table::revocation_lists(&good), Ok(vec![list.clone()]));
    assert_eq!(certificate_table::revocation_lists(&certificate_table::build(&certificates)), Ok(vec![]));
    let error = certificate_table::revocation_lists(&table(&list.der()[1..])).unwrap_err().to_string();
    assert!(error.contains("entry 3 at 0x48 (CRL)"), "{error}");
}

#[test]
fn files_of_certificates_are_read_in_both_forms() {
    let root = Root::of(ProductLine::Milan, false);
    let read = |der: &[u8]| Certificate::from_der(der).unwrap();
    let both = format!("{}\n{}", read(root.ask).to_pem(), read(root.ark).to_pem());
    assert_eq!(Certificate::from_file(both.as_bytes()).unwrap(), [read(root.ask), read(root.ark)]);
    assert_eq!(Certificate::from_file(root.ark).unwrap(), [read(root.ark)]);
    for wrong in ["", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
        assert!(Certificate::from_file(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
    let long = [root.ark, &[0]].concat();
    assert!(Certificate::from_der(&long).is_err());
    assert!(parse(&[0; AttestationReport::LEN - 1]).is_err());
}

/// PEM is another way to write the same bytes: what is refused as a file in DER is refused within it.
#[test]
fn what_is_no_der_is_none_within_pem() {
    let list = TestAuthority::new(ProductLine::Milan).crl(Role::Ark, &[]);
    let list = [list.der(), list.der()].concat();
    assert!(Crl::from_der(&list).is_err());
    assert!(Crl::from_file(pem("X509 CRL", &list).as_bytes()).is_err(), "the second list is left out");

    let vcek = include_bytes!("reports/genoa-v3.vcek.der");
    assert!(Certificate::from_pem(&pem("CERTIFICATE", vcek)).is_ok());
    for wrong in [[&vcek[..], &[0]].concat(), [&vcek[..], vcek].concat(), with_explicit_default(vcek)] {
        assert!(Certificate::from_der(&wrong).is_err());
        assert!(Certificate::from_pem(&pem("CERTIFICATE", &wrong)).is_err());
    }
    assert!(Certificate::from_pem(&pem("X509 CRL", vcek)).is_err());
}

fn pem(label: &'static str, der: &[u8]) -> String {
    der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap()
}

/// The first extension says that it is not critical, which DER leaves out. The signature is over other bytes, then.
fn with_explicit_default(certificate: &[u8]) -> Vec<u8> {
    const STRUCT_VERSION: [u8; 11] = [6, 9, 0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 1];
    let find = |sought: &[u8]| certificate.windows(sought.len()).position(|window| window == sought).unwrap();
    let (extensions, first) = (find(&[0xa3, 0x82]), find(&STRUCT_VERSION));
    let mut der = certificate.to_vec();
    // The certificate, what is signed of it, its extensions, their list.
    for length in [2, 6, extensions + 2, extensions + 6] {
        let longer = u16::from_be_bytes([der[length], der[length + 1]]) + 3;
        der[length..length + 2].copy_from_slice(&longer.to_be_bytes());
    }
    der[first - 1] += 3;
    der.splice(first + STRUCT_VERSION.len()..first + STRUCT_VERSION.len(), [1, 1, 0]);
    der
}
