//! Certificates and revocation lists, as far as chains of AMD's need them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use der::asn1::ObjectIdentifier;
use der::pem::{LineEnding, PemLabel};
use der::{Decode, Encode, EncodePem, Header, Reader, SliceReader};
use sha2::{Digest, Sha256};
use x509_cert::crl::CertificateList;
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::error::{Hex, Malformed, Role};
use crate::time::UnixTime;

/// Certificates of AMD's have less than 2 KiB; more than this is no certificate of a chain.
const LONGEST: usize = 64 << 10;

/// An X.509 certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// Where in it what is signed lies.
    signed: Range<usize>,
    x509: x509_cert::Certificate,
}

impl Certificate {
    /// Reads a certificate in DER. Nothing may follow it, and it must be written as DER wants it, so that it has only one
    /// form.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "an X.509 certificate in DER";
        if der.len() > LONGEST {
            return Err(Malformed::new(WHAT, alloc::format!("{} bytes, at most {LONGEST}", der.len())));
        }
        let x509 = x509_cert::Certificate::from_der(der).map_err(|error| Malformed::new(WHAT, error))?;
        let again = x509.to_der().map_err(|error| Malformed::new(WHAT, error))?;
        if again != der {
            return Err(Malformed::new(WHAT, "its encoding is not canonical"));
        }
        Ok(Self { signed: first_element(der).map_err(|error| Malformed::new(WHAT, error))?, der: again, x509 })
    }

    /// One of those that are built in, known to be in DER: a test holds them to [`from_der`](Self::from_der). Every
    /// verification reads some of them, and their encoding need not be compared again each time.
    pub(crate) fn built_in(der: &'static [u8]) -> Self {
        let x509 = x509_cert::Certificate::from_der(der).expect("built-in certificates are well-formed");
        Self { signed: first_element(der).expect("it was read"), der: der.into(), x509 }
    }

    /// Reads one certificate in PEM.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn from_pem(pem: &str) -> Result<Self, Malformed> {
        Self::from_der(&within_pem::<x509_cert::Certificate>(pem, "an X.509 certificate in PEM")?)
    }

    /// Reads a file: one certificate in DER, or any number in PEM.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn from_file(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        const END: &str = "-----END CERTIFICATE-----";
        let Some(text) = core::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN")) else {
            return Ok(alloc::vec![Self::from_der(bytes)?]);
        };
        let blocks = text.split_inclusive(END).filter(|block| !block.trim().is_empty());
        blocks.map(Self::from_pem).collect()
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM.
    pub fn to_pem(&self) -> String {
        self.x509.to_pem(LineEnding::LF).expect("a certificate that was read can be written")
    }

    /// The subject, as text.
    pub fn subject(&self) -> String {
        self.x509.tbs_certificate().subject().to_string()
    }

    /// The subject's common name, empty if it has none.
    pub fn common_name(&self) -> String {
        common_name(self.subject_name())
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Hex {
        Hex::of(&Sha256::digest(&self.der))
    }

    /// The serial number.
    pub fn serial(&self) -> Hex {
        Hex::of(self.x509.tbs_certificate().serial_number().as_bytes())
    }

    /// The part that the subject's common name says, `None` if it is not a name that AMD gives.
    pub fn role(&self) -> Option<Role> {
        let name = self.common_name();
        let name = name.strip_suffix(crate::roots::TEST_MARK).unwrap_or(&name);
        match name {
            "SEV-VCEK" => Some(Role::Vcek),
            "SEV-VLEK" => Some(Role::Vlek),
            name if name.starts_with("ARK-") => Some(Role::Ark),
            name if name.starts_with("SEV-VLEK-") => Some(Role::Asvk),
            name if name.starts_with("SEV-") => Some(Role::Ask),
            _ => None,
        }
    }

    pub(crate) fn x509(&self) -> &x509_cert::Certificate {
        &self.x509
    }

    pub(crate) fn issuer_name(&self) -> &Name {
        self.x509.tbs_certificate().issuer()
    }

    pub(crate) fn subject_name(&self) -> &Name {
        self.x509.tbs_certificate().subject()
    }

    pub(crate) fn key(&self) -> &SubjectPublicKeyInfoOwned {
        self.x509.tbs_certificate().subject_public_key_info()
    }

    pub(crate) fn extensions(&self) -> &[Extension] {
        self.x509.tbs_certificate().extensions().map_or(&[], Vec::as_slice)
    }

    /// What is signed, with which algorithm, and the signature.
    pub(crate) fn signed(&self) -> (&[u8], &AlgorithmIdentifierOwned, &[u8]) {
        // Bits that are declared unused would be a second form of the same certificate.
        (
            &self.der[self.signed.clone()],
            self.x509.signature_algorithm(),
            self.x509.signature().as_bytes().unwrap_or_default(),
        )
    }

    /// notBefore and notAfter.
    pub(crate) fn validity(&self) -> (UnixTime, UnixTime) {
        let validity = self.x509.tbs_certificate().validity();
        (UnixTime::of(validity.not_before), UnixTime::of(validity.not_after))
    }
}

/// The common name in a name, empty if it has none.
pub(crate) fn common_name(name: &Name) -> String {
    name.common_name().ok().flatten().map(|name| name.value().to_string()).unwrap_or_default()
}

/// All the bytes within a PEM block of a type. They are read as those of a file in DER are, so that what is refused there is
/// refused here: the library's own reader of PEM leaves out what follows, and reads what is not DER.
fn within_pem<T: PemLabel>(pem: &str, what: &'static str) -> Result<Vec<u8>, Malformed> {
    let (label, der) = der::pem::decode_vec(pem.trim().as_bytes()).map_err(|error| Malformed::new(what, error))?;
    T::validate_pem_label(label).map_err(|error| Malformed::new(what, error))?;
    Ok(der)
}

/// The place of the first element of the sequence that `der` is: what is signed of a certificate or a list.
fn first_element(der: &[u8]) -> der::Result<Range<usize>> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?;
    let start = usize::try_from(reader.position())?;
    let len = reader.tlv_bytes()?.len();
    Ok(start..start + len)
}

/// A certificate revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    signed: Range<usize>,
    list: CertificateList,
}

/// Lists grow; AMD's have a few hundred bytes.
const LONGEST_LIST: usize = 4 << 20;

impl Crl {
    /// Reads a list in DER.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a certificate revocation list in DER";
        if der.len() > LONGEST_LIST {
            return Err(Malformed::new(WHAT, alloc::format!("{} bytes, at most {LONGEST_LIST}", der.len())));
        }
        let list = CertificateList::from_der(der).map_err(|error| Malformed::new(WHAT, error))?;
        let again = list.to_der().map_err(|error| Malformed::new(WHAT, error))?;
        if again != der {
            return Err(Malformed::new(WHAT, "its encoding is not canonical"));
        }
        Ok(Self { signed: first_element(der).map_err(|error| Malformed::new(WHAT, error))?, der: again, list })
    }

    /// Reads a list in DER or PEM.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn from_file(bytes: &[u8]) -> Result<Self, Malformed> {
        match core::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN") => {
                Self::from_der(&within_pem::<CertificateList>(text, "a certificate revocation list in PEM")?)
            }
            _ => Self::from_der(bytes),
        }
    }

    /// The list in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The list in PEM.
    pub fn to_pem(&self) -> String {
        self.list.to_pem(LineEnding::LF).expect("a list that was read can be written")
    }

    pub(crate) fn issuer_name(&self) -> &Name {
        &self.list.tbs_cert_list.issuer
    }

    pub(crate) fn signed(&self) -> (&[u8], &AlgorithmIdentifierOwned, &[u8]) {
        (
            &self.der[self.signed.clone()],
            &self.list.signature_algorithm,
            self.list.signature.as_bytes().unwrap_or_default(),
        )
    }

    /// Whether both places that name the signature algorithm agree.
    pub(crate) fn algorithms_agree(&self) -> bool {
        self.list.tbs_cert_list.signature == self.list.signature_algorithm
    }

    /// thisUpdate and nextUpdate.
    pub(crate) fn validity(&self) -> (UnixTime, Option<UnixTime>) {
        let list = &self.list.tbs_cert_list;
        (UnixTime::of(list.this_update), list.next_update.map(UnixTime::of))
    }

    /// A critical extension of the list or of an entry: none is understood here. They say that a list is not the whole one
    /// (deltaCRLIndicator, issuingDistributionPoint), or that an entry is of another issuer (certificateIssuer).
    ///
    /// # Source
    /// RFC 5280, sections 5.2 and 5.3: such a list says nothing about any certificate.
    pub(crate) fn critical_extension(&self) -> Option<ObjectIdentifier> {
        let list = &self.list.tbs_cert_list;
        let entries = list.revoked_certificates.iter().flatten().flat_map(|entry| &entry.crl_entry_extensions);
        let all = list.crl_extensions.iter().chain(entries).flatten();
        all.filter(|extension| extension.critical).map(|extension| extension.extn_id).next()
    }

    /// Since when the certificate with this serial number is revoked.
    pub(crate) fn revoked(&self, serial: &[u8]) -> Option<UnixTime> {
        let revoked = self.list.tbs_cert_list.revoked_certificates.iter().flatten();
        let mut found = revoked.filter(|entry| entry.serial_number.as_bytes() == serial);
        found.next().map(|entry| UnixTime::of(entry.revocation_date))
    }
}
