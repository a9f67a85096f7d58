//! The ID block at LAUNCH_FINISH: accepted, or refused with the right status and nothing changed.

mod common;

use common::*;
use snp_abi::{FwStatus, GuestPolicy, GuestState, IdAuth, IdBlock, KeyAlgorithm, LaunchDigest};
use snp_asp::{Firmware, LaunchFinish};
use snp_attest::{Identity, SigningKey, key_digest, sign};

fn key(pem: &str) -> SigningKey {
    SigningKey::from_pem(pem).unwrap()
}

fn id_key() -> SigningKey {
    key(include_str!("../../snp-attest/tests/keys/id.sec1.pem"))
}

fn author_key() -> SigningKey {
    key(include_str!("../../snp-attest/tests/keys/author.sec1.pem"))
}

/// A launch with one page, and an ID block for it.
fn launch() -> (Firmware, IdBlock, Box<IdAuth>) {
    let mut firmware = firmware(Some(GuestState::Launch), true);
    bring_page(&mut firmware, snp_abi::PageState::PreGuest).unwrap();
    firmware.launch_update(GCTX, &update(snp_abi::PageType::NORMAL), page(0x51)).unwrap();
    let identity = Identity {
        digest: firmware.launch_digest(GCTX).unwrap(),
        policy: START.policy,
        family_id: [1; 16],
        image_id: [2; 16],
        guest_svn: 3,
    };
    let (block, auth) = sign(&identity, &id_key(), Some(&author_key()));
    (firmware, block, auth)
}

fn finish(firmware: &mut Firmware, block: &IdBlock, auth: &IdAuth, author: bool) -> Result<(), FwStatus> {
    firmware.launch_finish(GCTX, &LaunchFinish { id_block: Some((block, auth)), author_key_enabled: author, ..FINISH })
}

#[test]
fn a_block_for_this_launch_is_accepted() {
    for author in [false, true] {
        let (mut firmware, block, auth) = launch();
        finish(&mut firmware, &block, &auth, author).unwrap();
        let identity = firmware.identity(GCTX).unwrap();
        assert_eq!((identity.family_id, identity.image_id, identity.guest_svn), ([1; 16], [2; 16], 3));
        assert_eq!(identity.id_key_digest, Some(key_digest(&auth.id_key)));
        assert_eq!(identity.author_key_digest, author.then(|| key_digest(&auth.author_key)));
        assert_eq!((identity.host_data, identity.vcek_disabled), ([5; 32], true));
        assert_eq!(firmware.guest_status(GCTX).unwrap().state, GuestState::Running);
    }
}

#[test]
fn every_other_block_is_refused_and_the_launch_stays_open() {
    type Change = fn(&mut IdBlock, &mut IdAuth);
    const SIGNATURE: FwStatus = FwStatus::BAD_SIGNATURE;
    let resigned = |change: fn(&mut Identity)| {
        let (_, block, _) = launch();
        let mut identity =
            Identity { digest: block.ld, policy: block.policy, family_id: [1; 16], image_id: [2; 16], guest_svn: 3 };
        change(&mut identity);
        sign(&identity, &id_key(), Some(&author_key()))
    };
    let (block, auth) = resigned(|identity| identity.digest = LaunchDigest([0xaa; 48]));
    refuse("another digest, well signed", &block, &auth, FwStatus::BAD_MEASUREMENT);
    let (block, auth) = resigned(|identity| identity.policy = GuestPolicy::DEFAULT);
    refuse("another policy, well signed", &block, &auth, FwStatus::POLICY_FAILURE);

    let cases: [(&str, FwStatus, Change); 14] = [
        ("version 0", FwStatus::INVALID_PARAM, |block, _| block.version = 0),
        ("version 2", FwStatus::INVALID_PARAM, |block, _| block.version = 2),
        ("ID key algorithm", FwStatus::INVALID_PARAM, |_, auth| auth.id_key_algo = KeyAlgorithm(0)),
        ("author key algorithm", FwStatus::INVALID_PARAM, |_, auth| auth.author_key_algo = KeyAlgorithm(2)),
        ("digest changed after signing", SIGNATURE, |block, _| block.ld.0[0] ^= 1),
        ("policy changed after signing", SIGNATURE, |block, _| block.policy.0 ^= 1),
        ("SVN changed after signing", SIGNATURE, |block, _| block.guest_svn += 1),
        ("R zero", SIGNATURE, |_, auth| auth.id_block_sig.r = [0; 72]),
        ("S not below the order", SIGNATURE, |_, auth| auth.id_block_sig.s[..48].fill(0xff)),
        ("R with padding", SIGNATURE, |_, auth| auth.id_block_sig.r[48] = 1),
        ("wrong curve", SIGNATURE, |_, auth| auth.id_key.curve = 3),
        ("key off the curve", SIGNATURE, |_, auth| auth.id_key.qy[3] ^= 1),
        ("author's signature", SIGNATURE, |_, auth| auth.id_key_sig.s[0] ^= 1),
        ("another author", SIGNATURE, |_, auth| auth.author_key = auth.id_key),
    ];
    for (name, expected, change) in cases {
        let (_, mut block, mut auth) = launch();
        change(&mut block, &mut auth);
        refuse(name, &block, &auth, expected);
    }
}

fn refuse(name: &str, block: &IdBlock, auth: &IdAuth, expected: FwStatus) {
    let (mut firmware, good_block, good_auth) = launch();
    let before = firmware.clone();
    assert_eq!(finish(&mut firmware, block, auth, true), Err(expected), "{name}");
    assert_eq!(firmware, before, "{name}");
    // The launch is still open: the right block finishes it.
    assert_eq!(finish(&mut firmware, &good_block, &good_auth, true), Ok(()), "{name}");
}

#[test]
fn an_author_key_needs_a_block() {
    let (mut firmware, ..) = launch();
    let before = firmware.clone();
    let answer = firmware.launch_finish(GCTX, &LaunchFinish { author_key_enabled: true, ..FINISH });
    assert_eq!(answer, Err(FwStatus::INVALID_PARAM));
    assert_eq!(firmware, before);
}
