//! Any bytes as a report, with a real chain, and any bytes as its certificate or its revocation list.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use snp_attest::certificate::{Certificate, Crl};
use snp_attest::chain::{Certificates, Chain, Trust};
use snp_attest::policy::Policy;
use snp_attest::report::{parse, verify, verify_with};

const VCEK: &[u8] = include_bytes!("../../crates/snp-attest/tests/reports/genoa-v3.vcek.der");
const REPORT: &[u8] = include_bytes!("../../crates/snp-attest/tests/reports/genoa-v3.report.bin");

/// The chain does not depend on the input.
static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let certificates = Certificates { vcek: Certificate::from_der(VCEK).ok(), ..Certificates::default() };
    Chain::check(snp_abi::SigningKey::VCEK, Some(snp_abi::ProductLine::Genoa), &certificates, &Trust::default())
});

fuzz_target!(|data: &[u8]| {
    let policy = Policy { allow_debug: true, allow_unknown_version: true, ..Policy::default() };
    if let Ok(report) = parse(data) {
        // Nobody but AMD's firmware can make another report that this chip's key signed.
        assert!(data == REPORT || !verify_with(&report, &CHAIN, &policy).passed());
    }
    let crls = Crl::from_file(data).into_iter().collect();
    for certificate in Certificate::from_file(data).unwrap_or_default() {
        let again = Certificate::from_der(certificate.der()).expect("what was read can be read again");
        assert_eq!(again, certificate);
        let Some(role) = certificate.role() else { continue };
        let mut certificates = Certificates::default();
        *certificates.slot(role) = Some(certificate);
        let genuine = certificates.vcek.as_ref().is_some_and(|vcek| vcek.der() == VCEK);
        assert!(genuine || !verify(REPORT, &certificates, &Trust::default(), &policy).passed());
    }
    let trust = Trust { crls, ..Trust::default() };
    if !trust.crls.is_empty() {
        let certificates = Certificates { vcek: Certificate::from_der(VCEK).ok(), ..Certificates::default() };
        let _ = verify(REPORT, &certificates, &trust, &policy);
    }
});
