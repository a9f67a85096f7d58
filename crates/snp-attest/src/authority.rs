//! The TEST endorsement of the software platform: certificates as AMD makes them, under roots that prove nothing.
//!
//! The private keys of these roots are part of this source tree, so that anybody can make such certificates. Every name in
//! them ends with [`TEST_MARK`], they name AMD nowhere else, and [`report::verify`](crate::report::verify) trusts them
//! only when asked to. The same input gives the same certificate.

mod template;

use alloc::format;
use alloc::vec::Vec;

use der::Encode;
use der::asn1::{Ia5StringRef, OctetString};
use sha2::{Digest, Sha256};
use snp_abi::{EcdsaPublicKey, ProductLine, TcbComponent, TcbVersion};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

pub use template::{Template, TemplateCrl};

use crate::certificate::{Certificate, Crl};
use crate::chain::Certificates;
use crate::error::{Malformed, Role};
use crate::extensions::{self, Known};
use crate::key;
use crate::roots::{Root, TEST_MARK};
use crate::time::UnixTime;

/// From when TEST certificates are valid: 2024-01-01.
pub const VALID_FROM: UnixTime = UnixTime(1_704_067_200);
/// Until when TEST certificates are valid: the end of 2049.
pub const VALID_UNTIL: UnixTime = UnixTime(2_524_607_999);

/// The cloud provider of TEST VLEKs.
pub const TEST_CSP_ID: &str = "snpkit (TEST, not AMD)";

/// The TEST authority of a product line: a root (ARK), and a signer of VCEKs (ASK) and of VLEKs (ASVK) under it.
#[derive(Clone, Debug)]
pub struct TestAuthority {
    line: ProductLine,
}

impl TestAuthority {
    /// The authority of a product line.
    pub const fn new(line: ProductLine) -> Self {
        Self { line }
    }

    /// The certificates of the authority itself.
    pub fn certificates(&self) -> Certificates {
        let root = Root::of(self.line, true);
        Certificates {
            ark: Some(Root::certificate(root.ark)),
            ask: Some(Root::certificate(root.ask)),
            asvk: Some(Root::certificate(root.asvk)),
            ..Certificates::default()
        }
    }

    /// Certifies a VCEK: the public key that the platform derived from its chip's secret and `tcb`.
    ///
    /// # Errors
    /// [`Malformed`]: the key is not a point of P-384.
    pub fn issue_vcek(
        &self,
        key: &EcdsaPublicKey,
        chip_id: &[u8; 64],
        tcb: TcbVersion,
    ) -> Result<Certificate, Malformed> {
        let hwid = (extensions::HWID, chip_id[..self.line.hwid_len()].to_vec());
        self.template(Role::Vcek, key, tcb, hwid).map(|template| template.sign(self.line, Role::Ask))
    }

    /// Certifies a VLEK: the public key of a cloud provider at `tcb`.
    ///
    /// # Errors
    /// [`Malformed`]: the key is not a point of P-384, or the provider's name is not ASCII.
    pub fn issue_vlek(&self, key: &EcdsaPublicKey, csp_id: &str, tcb: TcbVersion) -> Result<Certificate, Malformed> {
        let csp_id = Ia5StringRef::new(csp_id).and_then(|text| text.to_der());
        let csp_id = csp_id.map_err(|error| Malformed::new("a cloud provider's name", error))?;
        let template = self.template(Role::Vlek, key, tcb, (extensions::CSP_ID, csp_id));
        template.map(|template| template.sign(self.line, Role::Asvk))
    }

    /// The chain of a VCEK: ARK, ASK, and what [`issue_vcek`](Self::issue_vcek) certifies.
    ///
    /// # Errors
    /// [`Malformed`]: the key is not a point of P-384.
    pub fn vcek_chain(
        &self,
        key: &EcdsaPublicKey,
        chip_id: &[u8; 64],
        tcb: TcbVersion,
    ) -> Result<Certificates, Malformed> {
        let Certificates { ark, ask, .. } = self.certificates();
        let vcek = Some(self.issue_vcek(key, chip_id, tcb)?);
        Ok(Certificates { ark, ask, vcek, ..Certificates::default() })
    }

    /// The chain of a VLEK of the TEST provider: ARK, ASVK, and what [`issue_vlek`](Self::issue_vlek) certifies.
    ///
    /// # Errors
    /// [`Malformed`]: the key is not a point of P-384.
    pub fn vlek_chain(&self, key: &EcdsaPublicKey, tcb: TcbVersion) -> Result<Certificates, Malformed> {
        let Certificates { ark, asvk, .. } = self.certificates();
        let vlek = Some(self.issue_vlek(key, TEST_CSP_ID, tcb)?);
        Ok(Certificates { ark, asvk, vlek, ..Certificates::default() })
    }

    /// The revocation list of the ARK or of an authority under it: nothing but `revoked` is on it.
    pub fn crl(&self, issuer: Role, revoked: &[&Certificate]) -> Crl {
        let serials = revoked.iter().map(|certificate| (certificate.serial().0, VALID_FROM)).collect();
        TemplateCrl { revoked: serials, ..TemplateCrl::default() }.sign(self.line, issuer)
    }

    /// A certificate that is not signed yet. Tests of verifiers change it before it is.
    ///
    /// # Errors
    /// [`Malformed`]: the key is not a point of P-384.
    pub fn vcek_template(
        &self,
        key: &EcdsaPublicKey,
        chip_id: &[u8; 64],
        tcb: TcbVersion,
    ) -> Result<Template, Malformed> {
        self.template(Role::Vcek, key, tcb, (extensions::HWID, chip_id[..self.line.hwid_len()].to_vec()))
    }

    fn template(
        &self,
        role: Role,
        key: &EcdsaPublicKey,
        tcb: TcbVersion,
        owner: (Known, Vec<u8>),
    ) -> Result<Template, Malformed> {
        let key = key::subject_public_key_info(key).ok_or_else(|| {
            Malformed::new("a P-384 public key", "wrong curve, padding that is not zero, or no point of the curve")
        })?;
        let root = Root::of(self.line, true);
        let issuer = if role == Role::Vlek { Role::Asvk } else { Role::Ask };
        let mut list = self.endorsement_extensions(tcb);
        list.push(owner);
        let extensions: Vec<_> =
            list.into_iter().map(|(known, value)| template::extension(known.oid, false, value)).collect();
        let certified = key.to_der().and_then(|key| Ok((key, extensions.to_der()?)));
        let serial = certified.map(|(key, extensions)| serial(&key, &extensions));
        let serial = serial.map_err(|error| Malformed::new("a certificate", error))?;
        Ok(Template {
            serial,
            issuer: template::name(&root.common_name(issuer)),
            subject: template::name(&root.common_name(role)),
            not_before: VALID_FROM,
            not_after: VALID_UNTIL,
            key,
            extensions,
            ..Template::default()
        })
    }

    /// In the order in which AMD's certificates of the product line have them.
    fn endorsement_extensions(&self, tcb: TcbVersion) -> Vec<(Known, Vec<u8>)> {
        let parts = tcb.parts(self.line);
        let level = |known: Known, level: u8| (known, level.to_der().expect("a small number"));
        let part = |component: TcbComponent| level(extensions::component(component), parts.get(component));
        let reserved = |known| level(known, 0);
        let product = match self.line {
            ProductLine::Milan => "Milan-B0",
            ProductLine::Genoa | ProductLine::Turin => self.line.name(),
        };
        let product = Ia5StringRef::new(product).and_then(|text| text.to_der()).expect("ASCII");
        let product = (extensions::PRODUCT_NAME, product);
        let (bootloader, tee) = (part(TcbComponent::Bootloader), part(TcbComponent::Tee));
        let (snp, microcode) = (part(TcbComponent::Snp), part(TcbComponent::Microcode));
        let [five, six, seven] = [extensions::SPL_5, extensions::SPL_6, extensions::SPL_7].map(reserved);
        match self.line {
            ProductLine::Milan | ProductLine::Genoa => {
                let version = level(extensions::STRUCT_VERSION, 0);
                let four = reserved(extensions::SPL_4);
                alloc::vec![version, product, bootloader, tee, four, five, six, seven, snp, microcode]
            }
            ProductLine::Turin => {
                let version = level(extensions::STRUCT_VERSION, 1);
                let fmc = part(TcbComponent::Fmc);
                alloc::vec![version, product, fmc, bootloader, tee, snp, five, six, seven, microcode]
            }
        }
    }
}

/// A serial number by what is certified: eight bytes, positive.
fn serial(key: &[u8], extensions: &[u8]) -> Vec<u8> {
    let digest = Sha256::new().chain_update(key).chain_update(extensions).finalize();
    let mut serial = digest[..8].to_vec();
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

/// The certificates of a product line's TEST root. They are built in; a test makes them again and compares.
pub fn make_root(line: ProductLine, role: Role) -> Certificate {
    root_template(line, role).sign(line, Role::Ark)
}

/// A certificate of a TEST root before the ARK signs it.
pub fn root_template(line: ProductLine, role: Role) -> Template {
    let root = Root::of(line, true);
    let path = (role != Role::Ark).then_some(0);
    let key = template::public_key(line, role);
    let usage = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
    let constraints = BasicConstraints { ca: true, path_len_constraint: path };
    let identifier = |key: &SubjectPublicKeyInfoOwned| {
        let bytes = key.subject_public_key.as_bytes().unwrap_or_default();
        OctetString::new(&Sha256::digest(bytes)[..20]).expect("twenty bytes")
    };
    let mut extensions = Vec::new();
    let mut add = |oid: &str, critical, value: der::Result<Vec<u8>>| {
        extensions.push(template::extension(oid.parse().expect("an OID"), critical, value.expect("a small extension")));
    };
    add("2.5.29.14", false, SubjectKeyIdentifier(identifier(&key)).to_der());
    if role != Role::Ark {
        let key_identifier = Some(identifier(&template::public_key(line, Role::Ark)));
        add(
            "2.5.29.35",
            false,
            AuthorityKeyIdentifier { key_identifier, ..AuthorityKeyIdentifier::default() }.to_der(),
        );
    }
    add("2.5.29.19", true, constraints.to_der());
    add("2.5.29.15", true, KeyUsage(usage).to_der());
    Template {
        // "TEST" in hexadecimal speech.
        serial: alloc::vec![0x7e, 0x57, line as u8, role as u8],
        issuer: template::name(&root.common_name(Role::Ark)),
        subject: template::name(&root.common_name(role)),
        not_before: VALID_FROM,
        not_after: VALID_UNTIL,
        key,
        extensions,
        ..Template::default()
    }
}

/// The organisation in TEST names.
pub(crate) fn organisation() -> alloc::string::String {
    format!("snpkit{TEST_MARK}")
}
