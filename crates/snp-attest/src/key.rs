//! P-384 keys, in the PEM files of OpenSSL and in the firmware's own format.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use der::Decode;
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{self, VerifyingKey};
use p384::elliptic_curve::sec1::FromSec1Point;
use p384::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use sha2::{Digest, Sha384};
use snp_abi::{CURVE_P384, EcdsaPublicKey, EcdsaSignature};
use thiserror::Error;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use zerocopy::IntoBytes;

/// Bytes of a P-384 coordinate or scalar.
const SCALAR: usize = 48;

/// A private key that signs ID blocks or ID keys.
#[derive(Clone)]
pub struct SigningKey(ecdsa::SigningKey);

/// A file that holds no usable key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// No PEM block with a private key.
    #[error("no PEM private key: want `EC PRIVATE KEY` (SEC1) or `PRIVATE KEY` (PKCS#8), got {0}")]
    NotAPrivateKey(String),
    /// The key is encrypted.
    #[error("the private key is encrypted; decrypt it first, for instance with `openssl pkey -in KEY -out PLAIN`")]
    Encrypted,
    /// The PEM block holds something else than a P-384 key.
    #[error("not a P-384 private key: {0}; make one with `openssl ecparam -name secp384r1 -genkey -noout -out KEY`")]
    NotP384(String),
}

impl SigningKey {
    /// Reads a private key in PEM: SEC1 (`EC PRIVATE KEY`, with or without a leading `EC PARAMETERS`) or PKCS#8.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let labels = || text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
        let block = |label: &str| {
            let begin = text.find(&format!("-----BEGIN {label}-----"))?;
            let end = format!("-----END {label}-----");
            let len = text[begin..].find(&end)? + end.len();
            Some(text[begin..begin + len].to_owned() + "\n")
        };
        let secret = if let Some(sec1) = block("EC PRIVATE KEY") {
            if sec1.contains("ENCRYPTED") {
                return Err(KeyError::Encrypted);
            }
            p384::SecretKey::from_sec1_pem(&sec1).map_err(|error| KeyError::NotP384(error.to_string()))?
        } else if let Some(pkcs8) = block("PRIVATE KEY") {
            p384::SecretKey::from_pkcs8_pem(&pkcs8).map_err(|error| KeyError::NotP384(error.to_string()))?
        } else if block("ENCRYPTED PRIVATE KEY").is_some() {
            return Err(KeyError::Encrypted);
        } else {
            let found: Vec<_> = labels().collect();
            let found = if found.is_empty() { "no PEM at all".into() } else { format!("`{}`", found.join("`, `")) };
            return Err(KeyError::NotAPrivateKey(found));
        };
        Ok(Self(secret.into()))
    }

    /// The public key in the firmware's format.
    pub fn public(&self) -> EcdsaPublicKey {
        firmware_key(self.0.verifying_key())
    }

    /// Signs a message with SHA-384, deterministically (RFC 6979).
    pub fn sign(&self, message: &[u8]) -> EcdsaSignature {
        let signature: ecdsa::Signature = self.0.sign(message);
        let (r, s) = signature.split_bytes();
        EcdsaSignature { r: little_endian(&r), s: little_endian(&s), reserved_0x90: [0; 368] }
    }
}

/// Reads a public key in PEM (`PUBLIC KEY`), in the firmware's format.
///
/// # Errors
/// [`KeyError::NotP384`]
pub fn public_from_pem(text: &str) -> Result<EcdsaPublicKey, KeyError> {
    let key = p384::PublicKey::from_public_key_pem(text.trim());
    let key = key.map_err(|error| KeyError::NotP384(error.to_string()))?;
    Ok(firmware_key(&key.into()))
}

fn firmware_key(key: &VerifyingKey) -> EcdsaPublicKey {
    let point = key.to_sec1_point(false);
    let coordinate = |bytes: Option<&p384::FieldBytes>| {
        let bytes: &[u8] = bytes.expect("an uncompressed point that is not the identity has both coordinates");
        little_endian(bytes)
    };
    EcdsaPublicKey { curve: CURVE_P384, qx: coordinate(point.x()), qy: coordinate(point.y()), reserved_0x94: [0; 880] }
}

/// A key in the firmware's format as certificates have it, `None` if it is not canonical.
pub(crate) fn subject_public_key_info(key: &EcdsaPublicKey) -> Option<SubjectPublicKeyInfoOwned> {
    if key.reserved_0x94 != [0; 880] {
        return None;
    }
    let key = p384::PublicKey::from(parse_key(key)?);
    SubjectPublicKeyInfoOwned::from_der(key.to_public_key_der().ok()?.as_bytes()).ok()
}

/// The digest by which reports name a key: SHA-384 of all 0x404 bytes.
///
/// # Source
/// AMD 56860, ATTESTATION_REPORT, ID_KEY_DIGEST and AUTHOR_KEY_DIGEST.
pub fn key_digest(key: &EcdsaPublicKey) -> [u8; 48] {
    Sha384::digest(key.as_bytes()).into()
}

/// The key and the signature in the form of the elliptic-curve library, `None` if either is not canonical: wrong curve,
/// non-zero padding, a point off the curve, R or S zero or not below the order.
pub(crate) fn parse(key: &EcdsaPublicKey, signature: &EcdsaSignature) -> Option<(VerifyingKey, ecdsa::Signature)> {
    let (r, s) = (big_endian(&signature.r)?, big_endian(&signature.s)?);
    Some((parse_key(key)?, ecdsa::Signature::from_scalars(r, s).ok()?))
}

/// The key in the form of the elliptic-curve library, `None` if it is none.
pub(crate) fn parse_key(key: &EcdsaPublicKey) -> Option<VerifyingKey> {
    if key.curve != CURVE_P384 {
        return None;
    }
    let (x, y) = (big_endian(&key.qx)?, big_endian(&key.qy)?);
    let point = p384::Sec1Point::from_affine_coordinates(&x.into(), &y.into(), false);
    let key = Option::<p384::PublicKey>::from(p384::PublicKey::from_sec1_point(&point))?;
    Some(key.into())
}

/// A big-endian scalar as the firmware stores it: little-endian, padded with zeros to 72 bytes.
fn little_endian(scalar: &[u8]) -> [u8; 72] {
    let mut field = [0; 72];
    field.iter_mut().zip(scalar.iter().rev()).for_each(|(to, from)| *to = *from);
    field
}

/// The inverse of [`little_endian`]; `None` if the padding is not zero.
fn big_endian(field: &[u8; 72]) -> Option<[u8; SCALAR]> {
    let (scalar, padding) = field.split_at(SCALAR);
    let mut bytes = [0; SCALAR];
    bytes.iter_mut().zip(scalar.iter().rev()).for_each(|(to, from)| *to = *from);
    padding.iter().all(|byte| *byte == 0).then_some(bytes)
}
