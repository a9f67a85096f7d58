//! ID blocks against those of another implementation, and every way in which one can be wrong.

use proptest::prelude::*;
use snp_abi::{FwStatus, GuestPolicy, IdAuth, IdBlock, KeyAlgorithm, LaunchDigest};
use snp_attest::{Identity, KeyError, Outcome, SigningKey, key_digest, sign, verify};
use zerocopy::{FromBytes, IntoBytes};

const ID: &str = include_str!("keys/id.sec1.pem");
const ID_PKCS8: &str = include_str!("keys/id.pkcs8.pem");
const AUTHOR: &str = include_str!("keys/author.sec1.pem");

fn key(pem: &str) -> SigningKey {
    SigningKey::from_pem(pem).expect("a test key")
}

fn digest() -> LaunchDigest {
    LaunchDigest(std::array::from_fn(|i| i as u8 + 1))
}

fn identity() -> Identity {
    Identity {
        digest: digest(),
        policy: GuestPolicy(0xb_0000),
        family_id: *b"family-family-fa",
        image_id: *b"image-image-imag",
        guest_svn: 0x0102_0304,
    }
}

/// See vectors/README.md.
#[test]
fn foreign_blocks_verify() {
    let block = IdBlock::read_from_bytes(include_bytes!("vectors/id-block.bin")).unwrap();
    let auth = IdAuth::read_from_bytes(include_bytes!("vectors/id-auth.bin")).unwrap();
    let verdict = verify(&block, &auth, Some(digest()), Some(GuestPolicy::DEFAULT));
    assert!(verdict.passed(), "{verdict:?}");
    assert_eq!(verdict.checks.len(), 7);

    assert_eq!(auth.id_key, key(ID).public());
    assert_eq!(auth.author_key, key(AUTHOR).public());
    let hex = |bytes: [u8; 48]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digests = format!("id {}\nauthor {}\n", hex(key_digest(&auth.id_key)), hex(key_digest(&auth.author_key)));
    assert_eq!(digests, include_str!("vectors/key-digests.txt"));
}

#[test]
fn our_blocks_verify_and_are_repeatable() {
    let (block, auth) = sign(&identity(), &key(ID), Some(&key(AUTHOR)));
    let verdict = verify(&block, &auth, Some(digest()), Some(GuestPolicy(0xb_0000)));
    assert!(verdict.checks.iter().all(|check| check.outcome == Outcome::Passed), "{verdict:?}");
    assert_eq!(sign(&identity(), &key(ID_PKCS8), Some(&key(AUTHOR))), (block, auth));
}

#[test]
fn an_author_key_is_optional() {
    let (block, auth) = sign(&identity(), &key(ID), None);
    assert_eq!(auth.author_key_algo, KeyAlgorithm(0));
    assert!(verify(&block, &auth, None, None).passed());
}

#[test]
fn what_is_wrong_is_named() {
    let (block, auth) = sign(&identity(), &key(ID), Some(&key(AUTHOR)));
    let status = |block: &IdBlock, auth: &IdAuth| verify(block, auth, Some(digest()), Some(identity().policy)).status();
    assert_eq!(status(&block, &auth), FwStatus::SUCCESS);

    let other = LaunchDigest([9; 48]);
    assert_eq!(verify(&block, &auth, Some(other), None).status(), FwStatus::BAD_MEASUREMENT);
    assert_eq!(verify(&block, &auth, None, Some(GuestPolicy::DEFAULT)).status(), FwStatus::POLICY_FAILURE);

    let mut wrong = block;
    wrong.version = 2;
    assert_eq!(status(&wrong, &auth), FwStatus::INVALID_PARAM);

    type Case = (&'static str, FwStatus, fn(&mut IdAuth));
    let cases: [Case; 10] = [
        ("ID key algorithm", FwStatus::INVALID_PARAM, |auth| auth.id_key_algo = KeyAlgorithm(2)),
        ("author key algorithm", FwStatus::INVALID_PARAM, |auth| auth.author_key_algo = KeyAlgorithm(7)),
        ("R is zero", FwStatus::BAD_SIGNATURE, |auth| auth.id_block_sig.r = [0; 72]),
        ("S is zero", FwStatus::BAD_SIGNATURE, |auth| auth.id_block_sig.s = [0; 72]),
        ("R is not below the order", FwStatus::BAD_SIGNATURE, |auth| auth.id_block_sig.r[..48].fill(0xff)),
        ("R has padding", FwStatus::BAD_SIGNATURE, |auth| auth.id_block_sig.r[71] = 1),
        ("wrong curve", FwStatus::BAD_SIGNATURE, |auth| auth.id_key.curve = 1),
        ("off the curve", FwStatus::BAD_SIGNATURE, |auth| auth.id_key.qx[0] ^= 1),
        ("another author", FwStatus::BAD_SIGNATURE, |auth| auth.author_key = auth.id_key),
        ("keys exchanged", FwStatus::BAD_SIGNATURE, |auth| std::mem::swap(&mut auth.id_key, &mut auth.author_key)),
    ];
    for (name, expected, change) in cases {
        let mut wrong = auth.clone();
        change(&mut wrong);
        assert_eq!(status(&block, &wrong), expected, "{name}");
    }
}

#[test]
fn unusable_keys_are_told_apart() {
    let error = |text| SigningKey::from_pem(text).err().expect("no usable key");
    assert!(matches!(error(""), KeyError::NotAPrivateKey(_)));
    assert!(
        matches!(error(include_str!("keys/public.pem")), KeyError::NotAPrivateKey(found) if found.contains("PUBLIC KEY"))
    );
    assert_eq!(error(include_str!("keys/encrypted.pem")), KeyError::Encrypted);
    assert!(matches!(error(include_str!("keys/p256.pem")), KeyError::NotP384(_)));
    assert!(matches!(error(&ID.replace('M', "!")), KeyError::NotP384(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A single flipped bit in block, keys or signatures is found; the reserved bytes are not signed by anyone.
    #[test]
    fn a_flipped_bit_is_found(bit in 0usize..96 * 8, signature in any::<bool>(), at in 0usize..48 * 8) {
        let (block, auth) = sign(&identity(), &key(ID), None);
        let (mut block, mut auth) = (block, auth);
        if signature {
            auth.id_block_sig.s[at / 8] ^= 1 << (at % 8);
        } else {
            block.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        }
        prop_assert!(!verify(&block, &auth, None, None).passed());
    }

    #[test]
    fn no_text_is_a_panic(text in "(-----BEGIN (EC )?PRIVATE KEY-----\n)?[A-Za-z0-9+/=\n]{0,200}(-----END (EC )?PRIVATE KEY-----)?") {
        let _ = SigningKey::from_pem(&text);
    }
}
