//! The ID block, by which a guest owner binds a launch to an identity, and its authentication data.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{GuestPolicy, LaunchDigest, layout::abi_layout};

/// The only VERSION of an [`IdBlock`].
pub const ID_BLOCK_VERSION: u32 = 1;

/// The curve number of P-384 in an [`EcdsaPublicKey`].
pub const CURVE_P384: u32 = 2;

/// What the guest owner signs: the digest and the identity of a launch.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_FINISH, "Structure of the ID Block".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IdBlock {
    /// LD: the launch digest that the guest must have.
    pub ld: LaunchDigest,
    /// FAMILY_ID, free for the guest owner.
    pub family_id: [u8; 16],
    /// IMAGE_ID, free for the guest owner.
    pub image_id: [u8; 16],
    /// VERSION: [`ID_BLOCK_VERSION`].
    pub version: u32,
    /// GUEST_SVN, the security version number of the guest.
    pub guest_svn: u32,
    /// POLICY: the policy that the guest must have been started with.
    pub policy: GuestPolicy,
}

abi_layout!(IdBlock, 96, {
    ld: 0, family_id: 0x30, image_id: 0x40, version: 0x50, guest_svn: 0x54, policy: 0x58,
});

/// A signature algorithm of the [`IdAuth`] structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct KeyAlgorithm(pub u32);

impl KeyAlgorithm {
    /// ECDSA on P-384 with SHA-384.
    pub const ECDSA_P384_SHA384: Self = Self(1);
}

/// An ECDSA signature: R and S little-endian, padded with zeros.
///
/// # Source
/// AMD 56860, "Format for an ECDSA P-384 with SHA-384 Signature".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EcdsaSignature {
    /// R, little-endian.
    pub r: [u8; 72],
    /// S, little-endian.
    pub s: [u8; 72],
    /// Reserved, zero.
    pub reserved_0x90: [u8; 368],
}

abi_layout!(EcdsaSignature, 512, { r: 0, s: 0x48, reserved_0x90: 0x90 });

/// An ECDSA public key: coordinates little-endian, padded with zeros. Its digest is the SHA-384 of all 0x404 bytes.
///
/// # Source
/// AMD 56860, "Format for an ECDSA P-384 Public Key".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EcdsaPublicKey {
    /// CURVE: [`CURVE_P384`].
    pub curve: u32,
    /// QX, little-endian.
    pub qx: [u8; 72],
    /// QY, little-endian.
    pub qy: [u8; 72],
    /// Reserved, zero.
    pub reserved_0x94: [u8; 880],
}

abi_layout!(EcdsaPublicKey, 0x404, { curve: 0, qx: 4, qy: 0x4c, reserved_0x94: 0x94 });

/// The keys and signatures that authenticate an [`IdBlock`].
///
/// # Source
/// AMD 56860, SNP_LAUNCH_FINISH, "Structure of the ID Authentication Information".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IdAuth {
    /// ID_KEY_ALGO: the algorithm of the ID key.
    pub id_key_algo: KeyAlgorithm,
    /// AUTHOR_KEY_ALGO: the algorithm of the author key.
    pub author_key_algo: KeyAlgorithm,
    /// Reserved, zero.
    pub reserved_0x8: [u8; 0x38],
    /// ID_BLOCK_SIG: the ID key's signature of the ID block.
    pub id_block_sig: EcdsaSignature,
    /// ID_KEY: the ID public key.
    pub id_key: EcdsaPublicKey,
    /// Reserved, zero.
    pub reserved_0x644: [u8; 0x3c],
    /// ID_KEY_SIG: the author key's signature of the ID key.
    pub id_key_sig: EcdsaSignature,
    /// AUTHOR_KEY: the author public key.
    pub author_key: EcdsaPublicKey,
    /// Reserved, zero.
    pub reserved_0xc84: [u8; 0x37c],
}

abi_layout!(IdAuth, 4096, {
    id_key_algo: 0, author_key_algo: 4, reserved_0x8: 8, id_block_sig: 0x40, id_key: 0x240, reserved_0x644: 0x644,
    id_key_sig: 0x680, author_key: 0x880, reserved_0xc84: 0xc84,
});

impl Default for IdAuth {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
