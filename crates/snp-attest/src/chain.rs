//! The chain from a root that is built in to the endorsement key that signed a report.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use der::Decode;
use der::asn1::ObjectIdentifier;
use snp_abi::{ProductLine, SigningKey};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::certificate::{Certificate, Crl, common_name};
use crate::ecdsa::VerifyingKey;
use crate::error::{Failure, Hex, Role};
use crate::extensions::{ALL, EndorsementExtensions};
use crate::pss;
use crate::roots::{ROOTS, Root};
use crate::time::UnixTime;
use crate::verdict::Checks;

/// The certificates that came with a report. Those of AMD's roots may be left out: they are built in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// The root.
    pub ark: Option<Certificate>,
    /// The signer of VCEKs.
    pub ask: Option<Certificate>,
    /// The signer of VLEKs.
    pub asvk: Option<Certificate>,
    /// The chip's key.
    pub vcek: Option<Certificate>,
    /// The cloud provider's key.
    pub vlek: Option<Certificate>,
}

impl Certificates {
    /// The place of a certificate.
    pub fn slot(&mut self, role: Role) -> &mut Option<Certificate> {
        match role {
            Role::Ark => &mut self.ark,
            Role::Ask => &mut self.ask,
            Role::Asvk => &mut self.asvk,
            Role::Vcek => &mut self.vcek,
            Role::Vlek => &mut self.vlek,
        }
    }

    fn get(&self, role: Role) -> Result<&Certificate, Failure> {
        let slot = match role {
            Role::Ark => &self.ark,
            Role::Ask => &self.ask,
            Role::Asvk => &self.asvk,
            Role::Vcek => &self.vcek,
            Role::Vlek => &self.vlek,
        };
        slot.as_ref().ok_or(Failure::CertificateMissing { role })
    }
}

/// Whom to trust, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Trust the TEST roots of the software platform, too. Their private keys are published: anybody can make such reports.
    pub test_roots: bool,
    /// The time of the verification; without it no validity is checked.
    pub now: Option<UnixTime>,
    /// Revocation lists of the chain's authorities.
    pub crls: Vec<Crl>,
}

/// A chain that was checked, for any number of reports of one endorsement key.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) checks: Checks,
    pub(crate) role: Role,
    pub(crate) root: Option<&'static Root>,
    pub(crate) endorsement: Option<Endorsement>,
}

/// The key at the end of a chain, and what its certificate says.
#[derive(Clone, Debug)]
pub(crate) struct Endorsement {
    pub(crate) key: VerifyingKey,
    pub(crate) extensions: Option<EndorsementExtensions>,
}

/// The check that compares a report's processor with the root.
const PRODUCT_LINE: &str = "product-line";

impl Chain {
    /// Checks the chain of the key that a report says it was signed with. `line` is the product line of the report's
    /// processor, if the report tells.
    pub fn check(
        signing_key: SigningKey,
        line: Option<ProductLine>,
        certificates: &Certificates,
        trust: &Trust,
    ) -> Self {
        let role = if signing_key == SigningKey::VLEK { Role::Vlek } else { Role::Vcek };
        let mut chain = Self { checks: Checks::default(), role, root: None, endorsement: None };
        let certificate = chain.checks.note("endorsement-certificate", given(certificates, role));
        let Some(certificate) = certificate else {
            for name in ["root", PRODUCT_LINE, "authority", "endorsement", "validity", "revocation", "extensions"] {
                chain.checks.skip(name, format!("no {role}"));
            }
            return chain;
        };
        chain.root = chain.checks.note("root", root(certificates, certificate, trust));
        // A TEST root that is not trusted is refused above; the rest of the chain is looked at all the same.
        let root = chain.root.or_else(|| anchor(certificates, certificate).ok());
        let Some(root) = root else {
            for name in [PRODUCT_LINE, "authority", "endorsement", "validity", "revocation", "extensions"] {
                chain.checks.skip(name, "the chain has no root");
            }
            return chain;
        };
        chain.checks.check(PRODUCT_LINE, same_line(line, root));
        chain.follow(root, certificate, certificates, trust);
        chain
    }

    fn follow(&mut self, root: &'static Root, certificate: &Certificate, certificates: &Certificates, trust: &Trust) {
        let ark = Root::certificate(root.ark);
        let (authority_role, built_in) = match self.role {
            Role::Vlek => (Role::Asvk, root.asvk),
            _ => (Role::Ask, root.ask),
        };
        let authority = certificates.get(authority_role).cloned().unwrap_or_else(|_| Root::certificate(built_in));
        self.checks.check("authority", check_authority(&authority, authority_role, &ark, root));
        let signed = check_endorsement(certificate, self.role, &authority, authority_role, root);
        let key = self.checks.note("endorsement", signed);
        let links = [(Role::Ark, &ark), (authority_role, &authority), (self.role, certificate)];
        match trust.now {
            Some(now) => self.checks.check("validity", check_validity(&links, now)),
            None => self.checks.skip("validity", "no time was given"),
        }
        if trust.crls.is_empty() {
            self.checks.skip("revocation", "no revocation list was given");
        } else {
            self.checks.check("revocation", check_revocation(&links, trust));
        }
        let extensions = EndorsementExtensions::read(certificate, self.role, root.line);
        let extensions =
            self.checks.note("extensions", extensions.and_then(|found| check_product(found, self.role, root)));
        self.endorsement = key.map(|key| Endorsement { key, extensions });
    }

    /// Computes tables with which the key verifies many signatures fast. It takes some milliseconds, and gives the same
    /// answers.
    pub fn precompute(&mut self, generator: &crate::ecdsa::GeneratorTable) {
        if let Some(endorsement) = &mut self.endorsement {
            endorsement.key.precompute(generator);
        }
    }

    /// Notes the chain's checks for a report whose processor is of `line`. The chain may have been checked for a report that
    /// does not tell, or for that of another processor: the product line is compared for each anew.
    pub(crate) fn note_for(&self, line: Option<ProductLine>, checks: &mut Checks) {
        for check in &self.checks.0 {
            match self.root {
                Some(root) if check.name == PRODUCT_LINE => checks.check(PRODUCT_LINE, same_line(line, root)),
                _ => checks.0.push(check.clone()),
            }
        }
    }

    /// The checks of the chain alone.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Whether the chain ends in a TEST root.
    pub fn is_test(&self) -> bool {
        self.root.is_some_and(|root| root.test)
    }

    /// The product line by the root.
    pub fn product_line(&self) -> Option<ProductLine> {
        self.root.map(|root| root.line)
    }
}

fn given(certificates: &Certificates, role: Role) -> Result<(&Certificate, String), Failure> {
    let certificate = certificates.get(role)?;
    match certificate.role() {
        Some(got @ (Role::Vcek | Role::Vlek)) if got != role => {
            Err(Failure::OtherEndorsementKey { expected: role, got })
        }
        _ => Ok((certificate, certificate.subject())),
    }
}

/// The root that the certificates name: the ARK itself, or else the root whose authority issued the endorsement key.
fn anchor(certificates: &Certificates, endorsement: &Certificate) -> Result<&'static Root, Failure> {
    if let Some(ark) = &certificates.ark {
        let untrusted = || Failure::UntrustedRoot { subject: ark.subject(), fingerprint: ark.fingerprint() };
        return ROOTS.iter().find(|root| root.ark == ark.der()).ok_or_else(untrusted);
    }
    let issuer = endorsement.issuer_name();
    let name = common_name(issuer);
    let issued = |root: &Root, role, der| {
        // The common name first: it need not be read out of a certificate.
        name == root.common_name(role) && Root::certificate(der).subject_name() == issuer
    };
    let root = ROOTS.iter().find(|root| issued(root, Role::Ask, root.ask) || issued(root, Role::Asvk, root.asvk));
    root.ok_or_else(|| Failure::UntrustedRoot { subject: issuer.to_string(), fingerprint: Hex(Vec::new()) })
}

fn root(
    certificates: &Certificates,
    endorsement: &Certificate,
    trust: &Trust,
) -> Result<(&'static Root, String), Failure> {
    let root = anchor(certificates, endorsement)?;
    let ark = Root::certificate(root.ark);
    if root.test && !trust.test_roots {
        return Err(Failure::TestRoot { subject: ark.subject() });
    }
    let kind = if root.test { "TEST root, trusted as asked for" } else { "AMD's root" };
    Ok((root, format!("{kind}: {}, SHA-256 {}", ark.common_name(), ark.fingerprint())))
}

fn same_line(expected: Option<ProductLine>, root: &Root) -> Result<String, Failure> {
    match expected {
        Some(expected) if expected != root.line => Err(Failure::OtherProductLine { expected, got: root.line }),
        Some(_) => Ok(format!("{}, by the report's processor and the root", root.line.name())),
        None => Ok(format!("{}, by the root; this report does not tell its processor", root.line.name())),
    }
}

/// What every certificate of a chain has in common.
fn check_form(certificate: &Certificate, role: Role, issuer: &Certificate, root: &Root) -> Result<(), Failure> {
    let tbs = certificate.x509().tbs_certificate();
    if tbs.version() != x509_cert::Version::V3 {
        return Err(Failure::CertificateVersion { role, got: tbs.version() as u8 + 1 });
    }
    let expected = root.common_name(role);
    if certificate.common_name() != expected {
        return Err(Failure::SubjectName { role, expected, got: certificate.common_name() });
    }
    if certificate.issuer_name() != issuer.subject_name() {
        let (expected, got) = (issuer.subject(), certificate.issuer_name().to_string());
        return Err(Failure::IssuerName { role, expected, got });
    }
    let (_, algorithm, _) = certificate.signed();
    pss::check_algorithm(algorithm).map_err(|got| Failure::CertificateAlgorithm { role, got })?;
    if tbs.signature() != algorithm {
        return Err(Failure::AlgorithmMismatch { role });
    }
    check_extensions(certificate, role)
}

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// No extension is there twice, and every critical one is known.
fn check_extensions(certificate: &Certificate, role: Role) -> Result<(), Failure> {
    let extensions = certificate.extensions();
    for (index, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        if extensions[..index].iter().any(|other| other.extn_id == oid) {
            let name = ALL.iter().find(|known| known.oid == oid).map(|known| known.name.to_string());
            return Err(Failure::ExtensionTwice { role, name: name.unwrap_or_else(|| oid.to_string()) });
        }
        let known = [BASIC_CONSTRAINTS, KEY_USAGE].contains(&oid) || ALL.iter().any(|known| known.oid == oid);
        if extension.critical && !known {
            return Err(Failure::CriticalExtension { role, oid: oid.to_string() });
        }
    }
    Ok(())
}

fn extension<'a, T: Decode<'a>>(certificate: &'a Certificate, oid: ObjectIdentifier) -> Option<T> {
    let extension = certificate.extensions().iter().find(|extension| extension.extn_id == oid)?;
    T::from_der(extension.extn_value.as_bytes()).ok()
}

fn check_signature(
    certificate: &Certificate,
    role: Role,
    issuer: &Certificate,
    issuer_role: Role,
) -> Result<(), Failure> {
    let key = pss::authority_key(issuer.key()).map_err(|got| Failure::AuthorityKey { role: issuer_role, got })?;
    let (signed, _, signature) = certificate.signed();
    if pss::verify(&key, signed, signature) {
        Ok(())
    } else {
        Err(Failure::CertificateSignature { role, issuer: issuer_role })
    }
}

fn check_authority(authority: &Certificate, role: Role, ark: &Certificate, root: &Root) -> Result<String, Failure> {
    check_form(authority, role, ark, root)?;
    if !extension::<BasicConstraints>(authority, BASIC_CONSTRAINTS).is_some_and(|constraints| constraints.ca) {
        return Err(Failure::NotAnAuthority { role, missing: "cA in basicConstraints" });
    }
    if !extension::<KeyUsage>(authority, KEY_USAGE).is_some_and(|usage| usage.key_cert_sign()) {
        return Err(Failure::NotAnAuthority { role, missing: "keyCertSign in keyUsage" });
    }
    // One that is built in was built in with its signature checked, which a test does: a fifth of a verification is this check.
    if ![root.ask, root.asvk].contains(&authority.der()) {
        check_signature(authority, role, ark, Role::Ark)?;
    }
    Ok(format!("{}, signed by the ARK", authority.common_name()))
}

fn check_endorsement(
    certificate: &Certificate,
    role: Role,
    authority: &Certificate,
    authority_role: Role,
    root: &Root,
) -> Result<(VerifyingKey, String), Failure> {
    check_form(certificate, role, authority, root)?;
    if extension::<BasicConstraints>(certificate, BASIC_CONSTRAINTS).is_some_and(|constraints| constraints.ca) {
        return Err(Failure::UnexpectedAuthority { role });
    }
    let key = endorsement_key(certificate, role)?;
    check_signature(certificate, role, authority, authority_role)?;
    Ok((key, format!("{}, signed by the {authority_role}", certificate.common_name())))
}

fn endorsement_key(certificate: &Certificate, role: Role) -> Result<VerifyingKey, Failure> {
    const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    let key = certificate.key();
    if key.algorithm.oid != EC_PUBLIC_KEY {
        return Err(Failure::EndorsementKeyAlgorithm { role, got: key.algorithm.oid.to_string() });
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if curve != Some(SECP384R1) {
        let got = curve.map_or_else(|| "not named".into(), |curve| curve.to_string());
        return Err(Failure::EndorsementKeyCurve { role, got });
    }
    let point = key.subject_public_key.as_bytes().and_then(VerifyingKey::from_uncompressed);
    point.ok_or(Failure::EndorsementKeyPoint { role })
}

fn check_validity(links: &[(Role, &Certificate)], now: UnixTime) -> Result<String, Failure> {
    let mut last = UnixTime(u64::MAX);
    for &(role, certificate) in links {
        let (from, until) = certificate.validity();
        if now < from {
            return Err(Failure::NotYetValid { role, from, now });
        }
        if now > until {
            return Err(Failure::Expired { role, until, now });
        }
        last = last.min(until);
    }
    Ok(format!("at {now}, until {last}"))
}

/// Every list must be of an authority of this chain and of this time, and must not name a certificate that it issued.
fn check_revocation(links: &[(Role, &Certificate)], trust: &Trust) -> Result<String, Failure> {
    let mut looked_at = Vec::new();
    for crl in &trust.crls {
        let issued_by = |(_, certificate): &&(Role, &Certificate)| certificate.subject_name() == crl.issuer_name();
        let &(issuer_role, issuer) = links[..2].iter().find(issued_by).ok_or_else(|| Failure::CrlIssuer {
            expected: format!("{} or {}", links[0].1.subject(), links[1].1.subject()),
            got: crl.issuer_name().to_string(),
        })?;
        let (signed, algorithm, signature) = crl.signed();
        pss::check_algorithm(algorithm).map_err(|got| Failure::CrlAlgorithm { got })?;
        let key = pss::authority_key(issuer.key());
        let key = key.map_err(|got| Failure::AuthorityKey { role: issuer_role, got })?;
        if !crl.algorithms_agree() || !pss::verify(&key, signed, signature) {
            return Err(Failure::CrlSignature { issuer: issuer_role });
        }
        check_crl_signer(issuer, issuer_role)?;
        if let Some(oid) = crl.critical_extension() {
            return Err(Failure::CrlCriticalExtension { oid: oid.to_string() });
        }
        check_currency(crl, trust.now)?;
        for &(role, certificate) in
            links.iter().filter(|(_, certificate)| certificate.issuer_name() == crl.issuer_name())
        {
            let serial = certificate.serial();
            if let Some(since) = crl.revoked(&serial.0) {
                return Err(Failure::Revoked { role, serial, since });
            }
        }
        looked_at.push(issuer_role.name());
    }
    Ok(format!("not in the list of the {}", looked_at.join(", ")))
}

/// An authority whose keyUsage does not say so signs no lists: AMD's ASKs and ASVKs sign certificates only.
///
/// # Source
/// RFC 5280, section 6.3.3, step (f).
fn check_crl_signer(issuer: &Certificate, role: Role) -> Result<(), Failure> {
    match extension::<KeyUsage>(issuer, KEY_USAGE) {
        Some(usage) if usage.crl_sign() => Ok(()),
        _ => Err(Failure::NotAnAuthority { role, missing: "cRLSign in keyUsage" }),
    }
}

/// A list of the time, which says until when it is. One that does not would be current for ever.
fn check_currency(crl: &Crl, now: Option<UnixTime>) -> Result<(), Failure> {
    let (from, until) = crl.validity();
    let until = until.ok_or(Failure::CrlEndless { from })?;
    let Some(now) = now else { return Ok(()) };
    if now < from {
        return Err(Failure::CrlNotYetValid { from, now });
    }
    if now > until { Err(Failure::CrlExpired { until, now }) } else { Ok(()) }
}

fn check_product(
    found: EndorsementExtensions,
    role: Role,
    root: &Root,
) -> Result<(EndorsementExtensions, String), Failure> {
    if found.product_line() != Some(root.line) {
        return Err(Failure::ProductName { role, expected: root.line, got: found.product_name });
    }
    let owner = match &found.csp_id {
        Some(provider) => format!(", provider {provider}"),
        None => String::new(),
    };
    let words = format!("{}{owner}", found.product_name);
    Ok((found, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_in_der_and_signed_by_its_root() {
        for root in ROOTS {
            for der in [root.ark, root.ask, root.asvk] {
                assert_eq!(Certificate::from_der(der), Ok(Root::certificate(der)));
            }
            let ark = Root::certificate(root.ark);
            assert_eq!(check_signature(&ark, Role::Ark, &ark, Role::Ark), Ok(()), "{}", ark.subject());
            for (role, der) in [(Role::Ask, root.ask), (Role::Asvk, root.asvk)] {
                let authority = Root::certificate(der);
                assert_eq!(check_signature(&authority, role, &ark, Role::Ark), Ok(()), "{}", authority.subject());
            }
        }
    }
}
