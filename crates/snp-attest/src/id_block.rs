//! Making ID blocks.

use alloc::boxed::Box;

use snp_abi::{GuestPolicy, ID_BLOCK_VERSION, IdAuth, IdBlock, KeyAlgorithm, LaunchDigest};
use zerocopy::IntoBytes;

use crate::SigningKey;

/// What an ID block says about a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The launch digest that the guest must have.
    pub digest: LaunchDigest,
    /// The policy that the guest must be launched with.
    pub policy: GuestPolicy,
    /// FAMILY_ID.
    pub family_id: [u8; 16],
    /// IMAGE_ID.
    pub image_id: [u8; 16],
    /// GUEST_SVN.
    pub guest_svn: u32,
}

/// Makes the ID block of `identity` and its authentication data: the block signed by `id_key`, and the ID key signed by
/// `author_key` if there is one. The same input gives the same bytes.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_FINISH, "Structure of the ID Block" and "Structure of the ID Authentication Information".
pub fn sign(identity: &Identity, id_key: &SigningKey, author_key: Option<&SigningKey>) -> (IdBlock, Box<IdAuth>) {
    let block = IdBlock {
        ld: identity.digest,
        family_id: identity.family_id,
        image_id: identity.image_id,
        version: ID_BLOCK_VERSION,
        guest_svn: identity.guest_svn,
        policy: identity.policy,
    };
    let mut auth = Box::new(IdAuth {
        id_key_algo: KeyAlgorithm::ECDSA_P384_SHA384,
        id_block_sig: id_key.sign(block.as_bytes()),
        id_key: id_key.public(),
        ..IdAuth::default()
    });
    if let Some(author_key) = author_key {
        auth.author_key_algo = KeyAlgorithm::ECDSA_P384_SHA384;
        auth.id_key_sig = author_key.sign(auth.id_key.as_bytes());
        auth.author_key = author_key.public();
    }
    (block, auth)
}
