//! Reports that AMD hardware made, with the chains that AMD certified. See reports/README.md.

use snp_abi::{AttestationReport, ProductLine, TcbVersion};
use snp_attest::UnixTime;
use snp_attest::certificate::{Certificate, Crl};
use snp_attest::chain::{Certificates, Trust};
use snp_attest::policy::Policy;
use snp_attest::report::{Verdict, parse, verify};
use snp_attest::roots::{ROOTS, Root};
use zerocopy::IntoBytes;

struct Real {
    name: &'static str,
    report: &'static [u8],
    certificates: Certificates,
    /// When the certificates were valid.
    time: &'static str,
    line: ProductLine,
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    Some(Certificate::from_der(der).expect("AMD's certificates can be read"))
}

fn all() -> Vec<Real> {
    let vcek = |der: &[u8]| Certificates { vcek: certificate(der), ..Certificates::default() };
    vec![
        Real {
            name: "milan-v2",
            report: include_bytes!("reports/milan-v2.report.bin"),
            certificates: vcek(include_bytes!("reports/milan-v2.vcek.der")),
            time: "2023-06-01",
            line: ProductLine::Milan,
        },
        Real {
            name: "milan-v2-virtee",
            report: include_bytes!("reports/milan-v2-virtee.report.bin"),
            certificates: vcek(include_bytes!("reports/milan-v2-virtee.vcek.der")),
            time: "2024-06-01",
            line: ProductLine::Milan,
        },
        Real {
            name: "milan-v3-vlek",
            report: include_bytes!("reports/milan-v3-vlek.report.bin"),
            certificates: Certificates {
                vlek: certificate(include_bytes!("reports/milan-v3-vlek.vlek.der")),
                ..Certificates::default()
            },
            time: "2025-06-01",
            line: ProductLine::Milan,
        },
        Real {
            name: "genoa-v3",
            report: include_bytes!("reports/genoa-v3.report.bin"),
            certificates: vcek(include_bytes!("reports/genoa-v3.vcek.der")),
            time: "2026-06-01",
            line: ProductLine::Genoa,
        },
    ]
}

fn trust(time: &str) -> Trust {
    Trust { now: UnixTime::parse(time), ..Trust::default() }
}

/// Hardware of test laboratories runs guests that can be debugged.
fn policy() -> Policy {
    Policy { allow_debug: true, ..Policy::default() }
}

impl Real {
    fn verify(&self, report: &[u8]) -> Verdict {
        verify(report, &self.certificates, &trust(self.time), &policy())
    }
}

#[test]
fn genuine_reports_pass() {
    for real in all() {
        let verdict = real.verify(real.report);
        assert!(verdict.passed(), "{}: {:#?}", real.name, verdict.checks);
        assert_eq!(verdict.product_line, Some(real.line), "{}", real.name);
        assert!(!verdict.test_root);
    }
}

#[test]
fn a_guest_that_can_be_debugged_is_refused_unless_allowed() {
    let real = &all()[0];
    let verdict = verify(real.report, &real.certificates, &trust(real.time), &Policy::default());
    let failures: Vec<_> = verdict.checks.failures().map(|failure| failure.code()).collect();
    assert_eq!(failures, ["debug"]);
}

/// Every field that is signed, and the signature.
#[test]
fn a_change_of_any_field_fails() {
    use snp_abi::AbiLayout;
    for real in all() {
        for field in AttestationReport::FIELDS {
            let mut report = real.report.to_vec();
            report[field.offset] ^= 1;
            assert!(!real.verify(&report).passed(), "{}: {}", real.name, field.name);
        }
    }
}

#[test]
fn the_wrong_time_fails() {
    for real in all() {
        for (time, code) in [("2019-01-01", "not-yet-valid"), ("2049-01-01", "expired")] {
            let verdict = verify(real.report, &real.certificates, &trust(time), &policy());
            let failures: Vec<_> = verdict.checks.failures().map(|failure| failure.code()).collect();
            assert_eq!(failures, [code], "{} at {time}", real.name);
        }
    }
}

/// AMD's own revocation lists, within their time and beyond it, and of another product line.
#[test]
fn lists_of_amd_s_are_read() {
    let list = |der| Crl::from_der(der).expect("AMD's lists can be read");
    let genoa = list(include_bytes!("reports/genoa-ark.crl.der"));
    let milan = list(include_bytes!("reports/milan-ark.crl.der"));
    for (index, crl, time, code) in [
        (3, &genoa, "2025-06-01", None),
        (3, &genoa, "2026-06-01", Some("crl-expired")),
        (3, &milan, "2025-06-01", Some("crl-issuer")),
        (0, &milan, "2026-05-11", None),
        (0, &milan, "2025-05-05", Some("crl-not-yet-valid")),
    ] {
        let real = &all()[index];
        let trust = Trust { crls: vec![crl.clone()], ..trust(time) };
        let verdict = verify(real.report, &real.certificates, &trust, &policy());
        let failures: Vec<_> = verdict.checks.failures().map(|failure| failure.code()).collect();
        assert_eq!(failures, Vec::from_iter(code), "{} at {time}", real.name);
    }
}

#[test]
fn another_chip_s_certificate_fails() {
    let [first, second, ..] = &all()[..] else { unreachable!() };
    let verdict = verify(first.report, &second.certificates, &trust("2024-06-01"), &policy());
    let failures: Vec<_> = verdict.checks.failures().map(|failure| failure.code()).collect();
    assert_eq!(failures, ["tcb-of-certificate", "chip-of-certificate", "report-signature"]);
}

/// The certificate is real; no public test suite has a report of a Turin with its chain.
#[test]
fn the_chain_of_a_turin_passes() {
    let vcek = certificate(include_bytes!("reports/turin.vcek.der"));
    let mut report = AttestationReport { version: snp_abi::ReportVersion::V3, ..AttestationReport::default() };
    (report.cpuid_fam_id, report.cpuid_mod_id) = (0x1a, 0x02);
    (report.signature_algo, report.policy.0) = (snp_abi::KeyAlgorithm::ECDSA_P384_SHA384, 0x30000);
    report.chip_id[..8].copy_from_slice(&[0x1e, 0x55, 0x0a, 0x8e, 0xe5, 0xcf, 0x9f, 0x4d]);
    for tcb in [&mut report.current_tcb, &mut report.reported_tcb, &mut report.committed_tcb] {
        *tcb = TcbVersion(0x0900_0000_0000_0000);
    }
    (report.signature.r[0], report.signature.s[0]) = (1, 1);
    let certificates = Certificates { vcek, ..Certificates::default() };
    let verdict = verify(report.as_bytes(), &certificates, &trust("2026-01-01"), &Policy::default());
    let failures: Vec<_> = verdict.checks.failures().map(|failure| failure.code()).collect();
    assert_eq!(failures, ["report-signature"], "{:#?}", verdict.checks);
}

/// `src/roots/README.md` lists them with the two places where each was found.
#[test]
fn built_in_roots_are_the_ones_that_the_documentation_names() {
    let documented = include_str!("../src/roots/README.md");
    for root in ROOTS.iter().filter(|root| !root.test) {
        for der in [root.ark, root.ask, root.asvk] {
            let certificate = Certificate::from_der(der).unwrap();
            let line = format!("| {} | {} |", certificate.common_name(), certificate.fingerprint());
            assert!(documented.contains(&line), "{line}");
        }
    }
}

/// Against another library's copy of AMD's certificates.
#[test]
fn built_in_roots_are_those_of_another_library() {
    use sev::certs::snp::builtin::{genoa, milan, turin};
    let theirs = [
        (ProductLine::Milan, milan::ark(), milan::ask()),
        (ProductLine::Genoa, genoa::ark(), genoa::ask()),
        (ProductLine::Turin, turin::ark(), turin::ask()),
    ];
    for (line, ark, ask) in theirs {
        let ours = Root::of(line, false);
        assert_eq!(ark.unwrap().to_der().unwrap(), ours.ark);
        assert_eq!(ask.unwrap().to_der().unwrap(), ours.ask);
    }
}

#[test]
fn every_version_s_fields_are_read() {
    let report = parse(all()[2].report).unwrap();
    let cpuid = report.cpuid().unwrap();
    assert_eq!((cpuid.family, cpuid.model, cpuid.stepping), (0x19, 1, 1));
    assert_eq!(report.reported_tcb.parts(ProductLine::Milan).microcode, 0xd9);
    assert!(report.chip_id_is_masked());
    assert_eq!(report.current_version().to_string(), "1.55.29");
    assert_eq!(parse(&all()[0].report[1..]).unwrap_err().code(), "report-length");
}
