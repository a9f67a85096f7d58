//! The ID block of an IGVM file.

use igvm_defs::{IGVM_VHS_SNP_ID_BLOCK, IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY, IGVM_VHS_SNP_ID_BLOCK_SIGNATURE};
use snp_abi::{EcdsaPublicKey, EcdsaSignature, GuestPolicy, IdAuth, IdBlock, KeyAlgorithm, LaunchDigest};
use snp_launch::IdBlockPair;

/// The firmware's structures from the file's. Components of keys and signatures are little-endian in both; the file only
/// leaves out the padding, and pads the curve to 8 bytes.
///
/// The file has no policy of its own for the block: it is signed with the file's guest policy, as QEMU takes it too.
pub(super) fn pair(file: &IGVM_VHS_SNP_ID_BLOCK, policy: GuestPolicy) -> IdBlockPair {
    let block = IdBlock {
        ld: LaunchDigest(file.ld),
        family_id: file.family_id,
        image_id: file.image_id,
        version: file.version,
        guest_svn: file.guest_svn,
        policy,
    };
    let auth = IdAuth {
        id_key_algo: KeyAlgorithm(file.id_key_algorithm),
        author_key_algo: KeyAlgorithm(file.author_key_algorithm),
        id_block_sig: signature(&file.id_key_signature),
        id_key: public_key(&file.id_public_key),
        id_key_sig: signature(&file.author_key_signature),
        author_key: public_key(&file.author_public_key),
        ..IdAuth::default()
    };
    IdBlockPair { block, auth: Box::new(auth), author_key_enabled: file.author_key_enabled != 0 }
}

fn signature(file: &IGVM_VHS_SNP_ID_BLOCK_SIGNATURE) -> EcdsaSignature {
    EcdsaSignature { r: file.r_comp, s: file.s_comp, reserved_0x90: [0; 368] }
}

fn public_key(file: &IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY) -> EcdsaPublicKey {
    EcdsaPublicKey { curve: file.curve, qx: file.qx, qy: file.qy, reserved_0x94: [0; 880] }
}
