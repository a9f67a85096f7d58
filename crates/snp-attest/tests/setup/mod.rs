//! A report of the TEST endorsement that verifies, to be spoilt.

#![allow(dead_code, reason = "each test takes what it needs")]

use snp_abi::{
    AttestationReport, GuestPolicy, KeyAlgorithm, LaunchDigest, PlatformInfo, ProductLine, ReportVersion, SignerInfo,
    TcbParts,
};
use snp_attest::SigningKey;
use snp_attest::UnixTime;
use snp_attest::authority::{Template, TestAuthority};
use snp_attest::chain::{Certificates, Trust};
use snp_attest::error::Role;
use snp_attest::policy::Policy;
use snp_attest::report::{Verdict, verify};
use zerocopy::IntoBytes;

pub(crate) const PARTS: TcbParts = TcbParts { fmc: 3, bootloader: 4, tee: 1, snp: 20, microcode: 209 };

/// Everything that goes into a verification.
pub(crate) struct Setup {
    pub(crate) line: ProductLine,
    pub(crate) report: AttestationReport,
    /// The VCEK that signs the report.
    pub(crate) key: SigningKey,
    pub(crate) vcek: Template,
    /// Who signs the VCEK's certificate.
    pub(crate) issuer: (ProductLine, Role),
    pub(crate) certificates: Certificates,
    pub(crate) trust: Trust,
    pub(crate) policy: Policy,
    /// Happens to the report after it was signed.
    pub(crate) tamper: Option<fn(&mut AttestationReport)>,
    /// Happens to the certificates at the end.
    pub(crate) exchange: Option<fn(&mut Certificates)>,
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_pem(include_str!("../keys/id.sec1.pem")).expect("a test key")
}

pub(crate) fn other_key() -> SigningKey {
    SigningKey::from_pem(include_str!("../keys/author.sec1.pem")).expect("a test key")
}

/// A report with every field that a verifier looks at.
pub(crate) fn report(line: ProductLine, version: ReportVersion) -> AttestationReport {
    let tcb = PARTS.pack(line);
    let mut report = AttestationReport {
        version,
        guest_svn: 5,
        policy: GuestPolicy::DEFAULT,
        family_id: [0x11; 16],
        image_id: [0x22; 16],
        vmpl: 1,
        signature_algo: KeyAlgorithm::ECDSA_P384_SHA384,
        current_tcb: tcb,
        platform_info: PlatformInfo(PlatformInfo::SMT_EN),
        signer_info: SignerInfo(SignerInfo::AUTHOR_KEY_EN),
        report_data: [0x33; 64],
        measurement: LaunchDigest([0x44; 48]),
        host_data: [0x55; 32],
        id_key_digest: [0x66; 48],
        author_key_digest: [0x77; 48],
        report_id: [0x88; 32],
        report_id_ma: [0xff; 32],
        reported_tcb: tcb,
        committed_tcb: tcb,
        launch_tcb: tcb,
        current_build: 9,
        current_minor: 55,
        current_major: 1,
        committed_build: 8,
        committed_minor: 55,
        committed_major: 1,
        ..AttestationReport::default()
    };
    report.chip_id[..line.hwid_len()].fill(0x99);
    if version >= ReportVersion::V3 {
        (report.cpuid_fam_id, report.cpuid_mod_id, report.cpuid_step) = match line {
            ProductLine::Milan => (0x19, 0x01, 1),
            ProductLine::Genoa => (0x19, 0x11, 1),
            ProductLine::Turin => (0x1a, 0x02, 1),
        };
    }
    if version >= ReportVersion::V5 {
        (report.launch_mit_vector, report.current_mit_vector) = (3, 7);
    }
    report
}

impl Setup {
    pub(crate) fn new(line: ProductLine, version: ReportVersion) -> Self {
        let report = report(line, version);
        let key = key();
        let authority = TestAuthority::new(line);
        let vcek = authority.vcek_template(&key.public(), &report.chip_id, report.reported_tcb).expect("a good key");
        Self {
            line,
            report,
            key,
            vcek,
            issuer: (line, Role::Ask),
            certificates: authority.certificates(),
            trust: Trust { test_roots: true, now: UnixTime::parse("2026-01-01"), crls: Vec::new() },
            policy: Policy::default(),
            tamper: None,
            exchange: None,
        }
    }

    pub(crate) fn signed_report(&self) -> AttestationReport {
        let mut report = self.report;
        report.signature = self.key.sign(report.signed());
        if let Some(tamper) = self.tamper {
            tamper(&mut report);
        }
        report
    }

    pub(crate) fn chain(&self) -> Certificates {
        let vcek = self.vcek.sign(self.issuer.0, self.issuer.1);
        let mut certificates = Certificates { vcek: Some(vcek), ..self.certificates.clone() };
        if let Some(exchange) = self.exchange {
            exchange(&mut certificates);
        }
        certificates
    }

    pub(crate) fn verdict(&self) -> Verdict {
        verify(self.signed_report().as_bytes(), &self.chain(), &self.trust, &self.policy)
    }
}
