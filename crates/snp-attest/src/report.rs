//! Verifying attestation reports.
//!
//! Nothing here does I/O or reads a clock: certificates, revocation lists and the time come from the caller. The same input
//! gives the same verdict.

use alloc::format;
use alloc::string::{String, ToString};

use snp_abi::{
    AbiLayout, AttestationReport, GuestPolicy, KeyAlgorithm, ProductLine, ReportVersion, SignerInfo, SigningKey,
    TcbVersion,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::chain::{Certificates, Chain, Endorsement, Trust};
use crate::ecdsa;
use crate::error::{Failure, Hex, Role};
use crate::extensions;
use crate::policy::Policy;
use crate::verdict::Checks;

/// What came out of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Every check, also those that were not made.
    pub checks: Checks,
    /// The product line, if it could be found out.
    pub product_line: Option<ProductLine>,
    /// The chain ends in a TEST root, which proves nothing about hardware.
    pub test_root: bool,
}

impl Verdict {
    /// Whether every check that was made holds.
    pub fn passed(&self) -> bool {
        self.checks.passed()
    }
}

/// Reads a report. A file of another length is none.
///
/// # Errors
/// [`Failure::ReportLength`]
pub fn parse(report: &[u8]) -> Result<AttestationReport, Failure> {
    let length = |_| Failure::ReportLength { expected: AttestationReport::LEN, got: report.len() };
    AttestationReport::read_from_bytes(report).map_err(length)
}

/// The product line of the report's processor; `None` if the version does not tell, or tells one that is not known.
pub fn product_line(report: &AttestationReport) -> Option<ProductLine> {
    report.cpuid().and_then(snp_abi::CpuidSignature::product_line)
}

/// Verifies a report in its file, its chain and the policy.
///
/// ```
/// use snp_attest::chain::{Certificates, Trust};
/// use snp_attest::certificate::Certificate;
/// use snp_attest::policy::Policy;
///
/// let report = include_bytes!("../tests/reports/milan-v3-vlek.report.bin");
/// let vlek = Certificate::from_der(include_bytes!("../tests/reports/milan-v3-vlek.vlek.der"))?;
/// let certificates = Certificates { vlek: Some(vlek), ..Certificates::default() };
/// let verdict = snp_attest::report::verify(report, &certificates, &Trust::default(), &Policy::default());
/// assert!(verdict.passed());
/// # Ok::<(), snp_attest::error::Malformed>(())
/// ```
pub fn verify(report: &[u8], certificates: &Certificates, trust: &Trust, policy: &Policy) -> Verdict {
    match parse(report) {
        Ok(report) => {
            let line = product_line(&report);
            let chain = Chain::check(report.signer_info.signing_key(), line, certificates, trust);
            verify_with(&report, &chain, policy)
        }
        Err(failure) => {
            let mut checks = Checks::default();
            checks.check("length", Err(failure));
            Verdict { checks, product_line: None, test_root: false }
        }
    }
}

/// Verifies a report against a chain that was checked before. The chain's own checks are part of the verdict.
pub fn verify_with(report: &AttestationReport, chain: &Chain, policy: &Policy) -> Verdict {
    let mut checks = Checks::default();
    checks.check("length", Ok(format!("{} bytes", AttestationReport::LEN)));
    let line = check_form(report, chain, policy, &mut checks);
    chain.note_for(product_line(report), &mut checks);
    check_binding(report, chain, &mut checks);
    check_signature(report, chain, &mut checks);
    policy.check(report, line, chain, &mut checks);
    Verdict { checks, product_line: line, test_root: chain.is_test() }
}

/// What the report says of itself. Returns the product line by the report, or else by the chain.
fn check_form(report: &AttestationReport, chain: &Chain, policy: &Policy, checks: &mut Checks) -> Option<ProductLine> {
    checks.check("version", check_version(report, policy));
    if report.version.is_known() {
        checks.check("reserved", check_reserved(report));
    } else {
        checks.skip("reserved", "the fields of this version are not known");
    }
    checks.check("guest-policy", check_guest_policy(report));
    checks.check("requester", check_vmpl(report));
    checks.check("algorithm", check_algorithm(report));
    checks.check("signing-key", check_signing_key(report, chain));
    let line = checks.note("processor", check_processor(report, chain));
    match line {
        Some(Some(line)) => checks.check("tcb-order", check_tcb_order(report, line)),
        _ => checks.skip("tcb-order", "the product line is not known"),
    }
    checks.check("version-order", check_version_order(report));
    line.flatten()
}

fn check_version(report: &AttestationReport, policy: &Policy) -> Result<String, Failure> {
    match (report.version.is_known(), policy.allow_unknown_version) {
        (true, _) => Ok(format!("version {}", report.version)),
        (false, true) => Ok(format!("version {}, which is not known, as permitted", report.version)),
        (false, false) => Err(Failure::ReportVersion { got: report.version.0 }),
    }
}

fn check_reserved(report: &AttestationReport) -> Result<String, Failure> {
    let bytes = report.as_bytes();
    for field in AttestationReport::FIELDS {
        let value = &bytes[field.offset..field.offset + field.size];
        if !AttestationReport::has_field(report.version, field) && value.iter().any(|byte| *byte != 0) {
            return Err(Failure::ReservedField { field: field.name, offset: field.offset });
        }
    }
    let reserved = [
        ("PLATFORM_INFO", report.platform_info.reserved()),
        ("the word at 0x48", u64::from(report.signer_info.reserved())),
    ];
    match reserved.into_iter().find(|(_, bits)| *bits != 0) {
        Some((field, bits)) => Err(Failure::ReservedBits { field, bits }),
        None => Ok("all zero".into()),
    }
}

fn check_guest_policy(report: &AttestationReport) -> Result<String, Failure> {
    let policy = report.policy;
    if !policy.has(GuestPolicy::RESERVED_MBO) {
        return Err(Failure::PolicyBit17 { got: policy.0 });
    }
    let bits = policy.0 & !GuestPolicy::DEFINED;
    if bits != 0 {
        return Err(Failure::ReservedBits { field: "POLICY", bits });
    }
    Ok(policy.to_string())
}

fn check_vmpl(report: &AttestationReport) -> Result<String, Failure> {
    match report.vmpl {
        vmpl @ 0..=3 => Ok(format!("the guest, at VMPL {vmpl}")),
        AttestationReport::VMPL_OF_HOST => Ok("the host".into()),
        got => Err(Failure::VmplRange { got }),
    }
}

fn check_algorithm(report: &AttestationReport) -> Result<String, Failure> {
    if report.signature_algo == KeyAlgorithm::ECDSA_P384_SHA384 {
        Ok("ECDSA P-384 with SHA-384".into())
    } else {
        Err(Failure::SignatureAlgorithm { got: report.signature_algo.0 })
    }
}

fn check_signing_key(report: &AttestationReport, chain: &Chain) -> Result<String, Failure> {
    let key = report.signer_info.signing_key();
    match key {
        SigningKey::NONE => return Err(Failure::NotSigned),
        SigningKey::VCEK if report.signer_info.has(SignerInfo::MASK_CHIP_KEY) => return Err(Failure::ChipKeyMasked),
        SigningKey::VCEK | SigningKey::VLEK => {}
        SigningKey(got) => return Err(Failure::SigningKeyReserved { got }),
    }
    let author_key = report.signer_info.has(SignerInfo::AUTHOR_KEY_EN);
    if !author_key && report.author_key_digest != [0; 48] {
        return Err(Failure::AuthorKeyWithoutFlag { digest: Hex::of(&report.author_key_digest) });
    }
    let expected = if key == SigningKey::VLEK { Role::Vlek } else { Role::Vcek };
    if chain.role != expected {
        return Err(Failure::OtherEndorsementKey { expected, got: chain.role });
    }
    Ok(expected.name().into())
}

fn check_processor(report: &AttestationReport, chain: &Chain) -> Result<(Option<ProductLine>, String), Failure> {
    let Some(cpuid) = report.cpuid() else {
        return Ok((chain.product_line(), "not told in this version".into()));
    };
    let words = format!("family {:#x}, model {:#x}, stepping {}", cpuid.family, cpuid.model, cpuid.stepping);
    match cpuid.product_line() {
        Some(line) => Ok((Some(line), format!("{}: {words}", line.name()))),
        None => Err(Failure::UnknownProcessor { family: cpuid.family, model: cpuid.model }),
    }
}

/// REPORTED_TCB ≤ COMMITTED_TCB ≤ CURRENT_TCB, and LAUNCH_TCB ≤ CURRENT_TCB, part by part.
///
/// # Source
/// AMD 56860, "TCB Version" and SNP_CONFIG.
fn check_tcb_order(report: &AttestationReport, line: ProductLine) -> Result<String, Failure> {
    let reported = ("REPORTED_TCB", report.reported_tcb);
    let committed = ("COMMITTED_TCB", report.committed_tcb);
    let current = ("CURRENT_TCB", report.current_tcb);
    let launch = ("LAUNCH_TCB", report.launch_tcb);
    for (field, version) in [reported, committed, current, launch] {
        let bits = TcbVersion::reserved(version, line);
        if bits != 0 {
            return Err(Failure::ReservedBits { field, bits });
        }
    }
    for ((lower, below), (higher, bound)) in [(reported, committed), (committed, current), (launch, current)] {
        let (below, bound) = (below.parts(line), bound.parts(line));
        if let Some(component) = bound.below(below) {
            let (lower_value, higher_value) = (below.get(component), bound.get(component));
            return Err(Failure::TcbOrder { lower, higher, component: component.name(), lower_value, higher_value });
        }
    }
    Ok("reported ≤ committed ≤ current, launch ≤ current".into())
}

fn check_version_order(report: &AttestationReport) -> Result<String, Failure> {
    let (committed, current) = (report.committed_version(), report.current_version());
    if committed > current {
        return Err(Failure::VersionOrder { committed: committed.to_string(), current: current.to_string() });
    }
    Ok(format!("firmware {current}, committed {committed}"))
}

/// Whether the endorsement key is that of the report's TCB version and chip.
fn check_binding(report: &AttestationReport, chain: &Chain, checks: &mut Checks) {
    let extensions = chain.endorsement.as_ref().and_then(|endorsement| endorsement.extensions.as_ref());
    let (Some(extensions), Some(line)) = (extensions, chain.product_line()) else {
        checks.skip("tcb", "no trusted certificate to compare with");
        checks.skip("chip", "no trusted certificate to compare with");
        return;
    };
    let reported = report.reported_tcb.parts(line);
    let other = line.tcb_components().iter().find(|part| reported.get(**part) != extensions.tcb.get(**part));
    checks.check(
        "tcb",
        match other {
            Some(&component) => Err(Failure::TcbOfCertificate {
                role: chain.role,
                component,
                certificate: extensions.tcb.get(component),
                report: reported.get(component),
            }),
            None => {
                let parts = line.tcb_components().iter();
                let words: alloc::vec::Vec<_> = parts
                    .map(|part| format!("{} {}", extensions::component(*part).name, reported.get(*part)))
                    .collect();
                Ok(words.join(", "))
            }
        },
    );
    match &extensions.hwid {
        None => checks.skip("chip", "a VLEK is not of one chip"),
        Some(_) if report.chip_id_is_masked() => checks.skip("chip", "CHIP_ID is masked"),
        Some(hwid) => checks.check("chip", check_chip(report, hwid, line)),
    }
}

fn check_chip(report: &AttestationReport, hwid: &[u8], line: ProductLine) -> Result<String, Failure> {
    let (id, rest) = report.chip_id.split_at(hwid.len());
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Failure::ChipIdLength { line, expected: hwid.len() });
    }
    if id != hwid {
        return Err(Failure::ChipOfCertificate { certificate: Hex::of(hwid), report: Hex::of(id) });
    }
    Ok(Hex::of(id).to_string())
}

fn check_signature(report: &AttestationReport, chain: &Chain, checks: &mut Checks) {
    let signature = ecdsa::canonical(&report.signature).map(|signature| (signature, "canonical".into()));
    let signature = checks.note("signature-form", signature);
    match (signature, &chain.endorsement) {
        (Some(signature), Some(Endorsement { key, .. })) => {
            let valid = key.verify(report.signed(), &signature);
            let failure = Failure::ReportSignature { role: chain.role };
            checks.check("signature", if valid { Ok(format!("by the {}", chain.role)) } else { Err(failure) });
        }
        (None, _) => checks.skip("signature", "it is not canonical"),
        (_, None) => checks.skip("signature", "no trusted key to verify it with"),
    }
}

/// Reports of these versions are known.
pub const KNOWN_VERSIONS: core::ops::RangeInclusive<u32> = ReportVersion::V2.0..=ReportVersion::V5.0;
