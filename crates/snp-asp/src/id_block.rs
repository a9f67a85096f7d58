//! The ID block at SNP_LAUNCH_FINISH.

use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};
use p384::elliptic_curve::sec1::FromEncodedPoint;
use snp_abi::{CURVE_P384, EcdsaPublicKey, EcdsaSignature, FwStatus, ID_BLOCK_VERSION, IdAuth, IdBlock, KeyAlgorithm};
use zerocopy::IntoBytes;

use crate::context::{GuestContext, GuestIdentity};

/// Checks an ID block against the guest's digest and policy, and its signatures; returns what the reports will say of it.
///
/// # Errors
/// INVALID_PARAM: unknown version or algorithm. BAD_SIGNATURE: a signature does not verify, or a key or signature is not a
/// canonical P-384 value. BAD_MEASUREMENT: another launch digest. POLICY_FAILURE: another policy.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_FINISH.
pub(crate) fn check(
    context: &GuestContext,
    block: &IdBlock,
    auth: &IdAuth,
    author_key_enabled: bool,
) -> Result<GuestIdentity, FwStatus> {
    if block.version != ID_BLOCK_VERSION || auth.id_key_algo != KeyAlgorithm::ECDSA_P384_SHA384 {
        return Err(FwStatus::INVALID_PARAM);
    }
    if author_key_enabled && auth.author_key_algo != KeyAlgorithm::ECDSA_P384_SHA384 {
        return Err(FwStatus::INVALID_PARAM);
    }
    verify(&auth.id_key, &auth.id_block_sig, block.as_bytes())?;
    if author_key_enabled {
        verify(&auth.author_key, &auth.id_key_sig, auth.id_key.as_bytes())?;
    }
    if block.ld != context.digest {
        return Err(FwStatus::BAD_MEASUREMENT);
    }
    if block.policy != context.policy {
        return Err(FwStatus::POLICY_FAILURE);
    }
    Ok(GuestIdentity {
        family_id: block.family_id,
        image_id: block.image_id,
        guest_svn: block.guest_svn,
        id_key_digest: Some(snp_sha384::sha384(auth.id_key.as_bytes())),
        author_key_digest: author_key_enabled.then(|| snp_sha384::sha384(auth.author_key.as_bytes())),
        ..GuestIdentity::default()
    })
}

fn verify(key: &EcdsaPublicKey, signature: &EcdsaSignature, message: &[u8]) -> Result<(), FwStatus> {
    let key = parse_key(key).ok_or(FwStatus::BAD_SIGNATURE)?;
    let signature = parse_signature(signature).ok_or(FwStatus::BAD_SIGNATURE)?;
    key.verify(message, &signature).map_err(|_| FwStatus::BAD_SIGNATURE)
}

/// `None` unless the key is a point on the curve other than the identity.
fn parse_key(key: &EcdsaPublicKey) -> Option<VerifyingKey> {
    if key.curve != CURVE_P384 {
        return None;
    }
    let (x, y) = (big_endian(&key.qx)?, big_endian(&key.qy)?);
    let point = p384::EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
    Option::<p384::PublicKey>::from(p384::PublicKey::from_encoded_point(&point)).map(VerifyingKey::from)
}

/// `None` if R or S is zero or not below the order of the curve.
fn parse_signature(signature: &EcdsaSignature) -> Option<Signature> {
    Signature::from_scalars(big_endian(&signature.r)?, big_endian(&signature.s)?).ok()
}

/// The firmware's little-endian field of 72 bytes as a 48-byte number; `None` if the padding is not zero.
fn big_endian(field: &[u8; 72]) -> Option<[u8; 48]> {
    let mut number = [0; 48];
    number.copy_from_slice(&field[..48]);
    number.reverse();
    field[48..].iter().all(|byte| *byte == 0).then_some(number)
}
