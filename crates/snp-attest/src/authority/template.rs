//! Certificates and revocation lists before they are signed.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::time::Duration;

use der::asn1::{BitString, ObjectIdentifier, OctetString, Utf8StringRef};
use der::{Any, DateTime, Decode, Encode, Sequence};
use rsa::PrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::EncodePublicKey;
use rsa::pss::SigningKey;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use sha2::{Digest, Sha384};
use snp_abi::ProductLine;
use x509_cert::Version;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::name::{Name, RdnSequence};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use crate::certificate::{Certificate, Crl};
use crate::error::Role;
use crate::pss;
use crate::roots::Root;
use crate::time::UnixTime;

/// A certificate before it is signed. A good authority makes it with
/// [`TestAuthority`](super::TestAuthority); tests of verifiers make what no good authority would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// version.
    pub version: Version,
    /// serialNumber, positive.
    pub serial: Vec<u8>,
    /// The algorithm within the signed part.
    pub algorithm: AlgorithmIdentifierOwned,
    /// The algorithm beside the signature.
    pub outer_algorithm: AlgorithmIdentifierOwned,
    /// issuer.
    pub issuer: Name,
    /// subject.
    pub subject: Name,
    /// notBefore.
    pub not_before: UnixTime,
    /// notAfter.
    pub not_after: UnixTime,
    /// subjectPublicKeyInfo.
    pub key: SubjectPublicKeyInfoOwned,
    /// extensions.
    pub extensions: Vec<Extension>,
}

impl Default for Template {
    fn default() -> Self {
        let key = AlgorithmIdentifierOwned { oid: pss::RSASSA_PSS, parameters: None };
        Self {
            version: Version::V3,
            serial: alloc::vec![1],
            algorithm: algorithm(),
            outer_algorithm: algorithm(),
            issuer: Name::default(),
            subject: Name::default(),
            not_before: super::VALID_FROM,
            not_after: super::VALID_UNTIL,
            key: SubjectPublicKeyInfoOwned {
                algorithm: key,
                subject_public_key: BitString::from_bytes(&[]).expect("empty"),
            },
            extensions: Vec::new(),
        }
    }
}

/// The signed part of a certificate.
///
/// # Source
/// RFC 5280, section 4.1.
#[derive(Sequence)]
struct Signed {
    #[asn1(context_specific = "0", default = "Default::default")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct Whole {
    signed: Signed,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

impl Template {
    /// The value of an extension, to be changed.
    pub fn extension(&mut self, oid: &str) -> Option<&mut OctetString> {
        let oid = ObjectIdentifier::new(oid).ok()?;
        let found = self.extensions.iter_mut().find(|extension| extension.extn_id == oid);
        found.map(|extension| &mut extension.extn_value)
    }

    /// Signs with a TEST authority's key.
    ///
    /// # Panics
    /// The template cannot be written in DER, for instance because its serial number is empty.
    pub fn sign(&self, line: ProductLine, issuer: Role) -> Certificate {
        let signed = Signed {
            version: self.version,
            serial_number: SerialNumber::new(&self.serial).expect("a short serial number"),
            signature: self.algorithm.clone(),
            issuer: self.issuer.clone(),
            validity: Validity::new(time(self.not_before), time(self.not_after)),
            subject: self.subject.clone(),
            subject_public_key_info: self.key.clone(),
            extensions: (!self.extensions.is_empty()).then(|| self.extensions.clone()),
        };
        let signature = sign(line, issuer, &signed.to_der().expect("a template that DER can write"));
        let whole = Whole { signed, algorithm: self.outer_algorithm.clone(), signature };
        Certificate::from_der(&whole.to_der().expect("a certificate")).expect("what was written can be read")
    }
}

/// A revocation list before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateCrl {
    /// The algorithm, in both places.
    pub algorithm: AlgorithmIdentifierOwned,
    /// thisUpdate.
    pub this_update: UnixTime,
    /// nextUpdate.
    pub next_update: Option<UnixTime>,
    /// Serial numbers, and since when.
    pub revoked: Vec<(Vec<u8>, UnixTime)>,
    /// crlExtensions.
    pub extensions: Vec<Extension>,
    /// crlEntryExtensions of every entry.
    pub entry_extensions: Vec<Extension>,
}

impl Default for TemplateCrl {
    fn default() -> Self {
        Self {
            algorithm: algorithm(),
            this_update: super::VALID_FROM,
            next_update: Some(super::VALID_UNTIL),
            revoked: Vec::new(),
            extensions: Vec::new(),
            entry_extensions: Vec::new(),
        }
    }
}

impl TemplateCrl {
    /// Signs with a TEST authority's key, in its name.
    ///
    /// # Panics
    /// A serial number is empty or too long.
    pub fn sign(&self, line: ProductLine, issuer: Role) -> Crl {
        let given = |extensions: &Vec<Extension>| (!extensions.is_empty()).then(|| extensions.clone());
        let revoked = self.revoked.iter().map(|(serial, since)| RevokedCert::<Rfc5280> {
            serial_number: SerialNumber::new(serial).expect("a short serial number"),
            revocation_date: time(*since),
            crl_entry_extensions: given(&self.entry_extensions),
        });
        let revoked: Vec<_> = revoked.collect();
        let list = TbsCertList {
            version: Version::V2,
            signature: self.algorithm.clone(),
            issuer: name(&Root::of(line, true).common_name(issuer)),
            this_update: time(self.this_update),
            next_update: self.next_update.map(time),
            revoked_certificates: (!revoked.is_empty()).then_some(revoked),
            crl_extensions: given(&self.extensions),
        };
        let signature = sign(line, issuer, &list.to_der().expect("a list"));
        let list = CertificateList { tbs_cert_list: list, signature_algorithm: self.algorithm.clone(), signature };
        Crl::from_der(&list.to_der().expect("a list")).expect("what was written can be read")
    }
}

pub(super) fn extension(oid: ObjectIdentifier, critical: bool, value: Vec<u8>) -> Extension {
    Extension { extn_id: oid, critical, extn_value: OctetString::new(value).expect("a short value") }
}

/// RSASSA-PSS with AMD's parameters.
pub(super) fn algorithm() -> AlgorithmIdentifierOwned {
    let parameters = Any::from_der(&pss::PARAMETERS).expect("constant parameters");
    AlgorithmIdentifierOwned { oid: pss::RSASSA_PSS, parameters: Some(parameters) }
}

/// A TEST name.
pub(super) fn name(common_name: &str) -> Name {
    let attribute = |oid: &str, value: &str| {
        let value = Any::from(Utf8StringRef::new(value).expect("a short name"));
        let attribute = x509_cert::attr::AttributeTypeAndValue { oid: oid.parse().expect("an OID"), value };
        x509_cert::name::RelativeDistinguishedName::try_from(alloc::vec![attribute]).expect("one attribute")
    };
    let mut names = RdnSequence::default();
    names.push(attribute("2.5.4.10", &super::organisation()));
    names.push(attribute("2.5.4.3", common_name));
    Name::from_der(&names.to_der().expect("a short name")).expect("a name")
}

fn time(time: UnixTime) -> Time {
    DateTime::from_unix_duration(Duration::from_secs(time.0)).expect("a year with four digits").into()
}

/// The private keys of the TEST authorities, PKCS#1 in DER, made once with `openssl genpkey`. They are published here.
fn private_key(line: ProductLine, role: Role) -> PrivateKey {
    macro_rules! keys {
        ($name:literal) => {
            match role {
                Role::Ark => include_bytes!(concat!("keys/", $name, "-ark.der")).as_slice(),
                Role::Asvk => include_bytes!(concat!("keys/", $name, "-asvk.der")).as_slice(),
                _ => include_bytes!(concat!("keys/", $name, "-ask.der")).as_slice(),
            }
        };
    }
    let der = match line {
        ProductLine::Milan => keys!("milan"),
        ProductLine::Genoa => keys!("genoa"),
        ProductLine::Turin => keys!("turin"),
    };
    PrivateKey::from_pkcs1_der(der).expect("the TEST keys are well-formed")
}

pub(super) fn public_key(line: ProductLine, role: Role) -> SubjectPublicKeyInfoOwned {
    let der = private_key(line, role).to_public_key().to_public_key_der().expect("a public key");
    SubjectPublicKeyInfoOwned::from_der(der.as_bytes()).expect("a public key")
}

fn sign(line: ProductLine, issuer: Role, message: &[u8]) -> BitString {
    let key = SigningKey::<Sha384>::new_with_salt_len(private_key(line, issuer), 48);
    let signature = key.sign_with_rng(&mut Derived::new(message), message);
    BitString::from_bytes(&signature.to_bytes()).expect("a short signature")
}

/// Bytes that follow from the message, so that the same certificate is made every time. They blind a published key, and
/// salt a signature whose security does not rest on the salt.
struct Derived {
    seed: [u8; 48],
    counter: u64,
}

impl Derived {
    fn new(message: &[u8]) -> Self {
        Self { seed: Sha384::digest(message).into(), counter: 0 }
    }
}

impl TryRng for Derived {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(48) {
            let block = Sha384::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes()).finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.counter += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Derived {}
