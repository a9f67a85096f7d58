//! RSASSA-PSS as AMD uses it: RSA-4096, SHA-384, MGF1 with SHA-384, 48 bytes of salt.

use alloc::string::{String, ToString};

use der::Encode;
use der::asn1::ObjectIdentifier;
use der::referenced::OwnedToRef;
use rsa::PublicKey;
use rsa::pss::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use sha2::Sha384;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

pub(crate) const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// The algorithm's parameters without trailerField, whose value is the default.
///
/// # Source
/// RFC 4055, section 3.1, "RSASSA-PSS-params".
pub(crate) const PARAMETERS: [u8; 54] = [
    0x30, 0x34, 0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00,
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09,
    0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30,
];

/// trailerField written out, as AMD's older certificates have it; DER would leave it out.
const TRAILER_FIELD: [u8; 5] = [0xa3, 0x03, 0x02, 0x01, 0x01];

const BITS: u32 = 4096;

/// `Err` says what the algorithm is instead.
pub(crate) fn check_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<(), String> {
    if algorithm.oid != RSASSA_PSS {
        return Err(algorithm.oid.to_string());
    }
    let parameters = algorithm.parameters.as_ref().and_then(|any| any.to_der().ok()).unwrap_or_default();
    let with_trailer = parameters.len() == PARAMETERS.len() + TRAILER_FIELD.len()
        && parameters[..2] == [PARAMETERS[0], PARAMETERS[1] + TRAILER_FIELD.len() as u8]
        && parameters[2..PARAMETERS.len()] == PARAMETERS[2..]
        && parameters.ends_with(&TRAILER_FIELD);
    if with_trailer || parameters == PARAMETERS { Ok(()) } else { Err("RSASSA-PSS with other parameters".into()) }
}

/// The key of an authority; `Err` says what it is instead.
pub(crate) fn authority_key(key: &SubjectPublicKeyInfoOwned) -> Result<PublicKey, String> {
    let parsed = PublicKey::try_from(key.owned_to_ref()).map_err(|_| key.algorithm.oid.to_string())?;
    let bits = parsed.n().bit_width();
    if bits == BITS { Ok(parsed) } else { Err(alloc::format!("RSA of {bits} bits")) }
}

/// Whether `signature` is the key's over `message`.
pub(crate) fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let key = VerifyingKey::<Sha384>::new_with_salt_len(key.clone(), 48);
    Signature::try_from(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}
