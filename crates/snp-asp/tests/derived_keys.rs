//! Derived keys: the same for the same launch and seed, another as soon as anything that was chosen differs.

mod common;

use common::*;
use proptest::prelude::*;
use snp_abi::{
    FwStatus, GuestFieldSelect, GuestPolicy, GuestState, IdAuth, IdBlock, KeyRequest, KeyRequest2, KeyResponse,
    LaunchDigest, MessageType, PageState, PageType, TcbVersion,
};
use snp_asp::{Firmware, LaunchFinish, LaunchStart, PlatformConfig, RmpUpdate};
use snp_attest::{Identity, SigningKey, sign};
use snp_sev_guest::Channel;
use zerocopy::{FromBytes, IntoBytes};

const V1: (MessageType, u8) = (MessageType::KEY_REQ, 1);
const V2: (MessageType, u8) = (MessageType::KEY_REQ, 2);

/// What a key can depend on.
#[derive(Clone, Debug, PartialEq)]
struct Guest {
    seed: [u8; 32],
    policy: GuestPolicy,
    page: u8,
    image_id: [u8; 16],
    family_id: [u8; 16],
    guest_svn: u32,
}

const GUEST: Guest =
    Guest { seed: [1; 32], policy: START.policy, page: 1, image_id: [2; 16], family_id: [3; 16], guest_svn: 9 };

impl Guest {
    fn launch(&self) -> (Firmware, Channel) {
        let mut firmware = Firmware::new(PlatformConfig { seed: self.seed, ..PlatformConfig::genoa() });
        firmware.rmp_update(GCTX, RmpUpdate::FIRMWARE).unwrap();
        firmware.gctx_create(GCTX).unwrap();
        firmware.launch_start(GCTX, &LaunchStart { policy: self.policy, ..START }).unwrap();
        firmware.activate(GCTX, ASID).unwrap();
        bring_page(&mut firmware, PageState::PreGuest).unwrap();
        firmware.launch_update(GCTX, &update(PageType::NORMAL), page(self.page)).unwrap();
        let secrets_page = snp_abi::Pfn(PAGE.0 + 1);
        firmware.rmp_update(secrets_page, RmpUpdate::pre_guest(ASID, snp_abi::Gpa(0))).unwrap();
        let secrets = snp_asp::LaunchUpdate { pfn: secrets_page, ..update(PageType::SECRETS) };
        let secrets = firmware.launch_update(GCTX, &secrets, page(0)).unwrap();
        let digest = firmware.launch_digest(GCTX).unwrap();
        let (block, auth) = self.id_block(digest);
        let finish = LaunchFinish { id_block: Some((&block, &auth)), ..PLAIN };
        firmware.launch_finish(GCTX, &finish).unwrap();
        let secrets = snp_abi::SecretsPage::read_from_bytes(secrets.as_bytes()).unwrap();
        (firmware, Channel::new(&secrets, 0).unwrap())
    }

    fn id_block(&self, digest: LaunchDigest) -> (IdBlock, Box<IdAuth>) {
        let identity = Identity {
            digest,
            policy: self.policy,
            family_id: self.family_id,
            image_id: self.image_id,
            guest_svn: self.guest_svn,
        };
        let key = SigningKey::from_pem(include_str!("../../snp-attest/tests/keys/id.sec1.pem")).unwrap();
        sign(&identity, &key, None)
    }

    fn key(&self, request: &KeyRequest2) -> [u8; 32] {
        let (mut firmware, mut channel) = self.launch();
        derive(&mut firmware, &mut channel, request).unwrap()
    }
}

fn derive(firmware: &mut Firmware, channel: &mut Channel, request: &KeyRequest2) -> Result<[u8; 32], FwStatus> {
    let answer = ask(firmware, channel, V2, request.as_bytes());
    let response = KeyResponse::read_from_bytes(&answer).unwrap();
    if response.status == 0 {
        return Ok(response.derived_key);
    }
    assert_eq!(response, KeyResponse::refused(FwStatus(response.status)));
    Err(FwStatus(response.status))
}

fn request(root_key_select: u32, fields: u64) -> KeyRequest2 {
    let v1 = KeyRequest {
        root_key_select,
        guest_field_select: GuestFieldSelect(fields),
        vmpl: 1,
        guest_svn: 4,
        tcb_version: TcbVersion(5),
        ..KeyRequest::default()
    };
    KeyRequest2 { v1, launch_mit_vector: 1 }
}

/// VCEK by default, VCEK, and VMRK.
const ROOTS: [u32; 3] = [0, 1 << KeyRequest::KEY_SEL_SHIFT, KeyRequest::VMRK];
const ALL_FIELDS: u64 = 0x7f;

type Change = fn(&mut Guest, &mut KeyRequest2);
/// For each field of the mix: something that changes its value.
const CHANGES: [(u64, Change); 7] = [
    (GuestFieldSelect::GUEST_POLICY, |guest, _| guest.policy.0 |= GuestPolicy::SINGLE_SOCKET),
    (GuestFieldSelect::IMAGE_ID, |guest, _| guest.image_id[15] ^= 1),
    (GuestFieldSelect::FAMILY_ID, |guest, _| guest.family_id[0] ^= 1),
    (GuestFieldSelect::MEASUREMENT, |guest, _| guest.page ^= 1),
    (GuestFieldSelect::GUEST_SVN, |_, request| request.v1.guest_svn += 1),
    (GuestFieldSelect::TCB_VERSION, |_, request| request.v1.tcb_version.0 += 1),
    (GuestFieldSelect::LAUNCH_MIT_VECTOR, |_, request| request.launch_mit_vector ^= 2),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same launch and seed: the same key. A change of one value: another key if the value was chosen, else the same.
    #[test]
    fn a_key_depends_on_what_was_chosen(root in 0..ROOTS.len(), fields in 0..=ALL_FIELDS, change in 0..CHANGES.len()) {
        let wanted = request(ROOTS[root], fields);
        let key = GUEST.key(&wanted);
        prop_assert_eq!(key, GUEST.key(&wanted));
        let (field, change) = CHANGES[change];
        let (mut guest, mut other) = (GUEST, wanted);
        change(&mut guest, &mut other);
        prop_assert_eq!(guest.key(&other) != key, fields & field != 0);
    }
}

/// What is always mixed in: root, VMPL, which fields there are, and the platform's seed.
#[test]
fn roots_vmpls_mixes_and_platforms_have_keys_of_their_own() {
    let (mut firmware, mut channel) = GUEST.launch();
    let mut keys = std::collections::BTreeSet::new();
    let mut count = 0;
    for root in [0, KeyRequest::VMRK] {
        for vmpl in 0..4 {
            for fields in [0, 1, 2, 4, 8, 16, 32, 64, ALL_FIELDS] {
                let mut wanted = request(root, fields);
                wanted.v1.vmpl = vmpl;
                keys.insert(derive(&mut firmware, &mut channel, &wanted).unwrap());
                count += 1;
            }
        }
    }
    assert_eq!(keys.len(), count);
    for root in ROOTS {
        let other = Guest { seed: [2; 32], ..GUEST };
        assert_ne!(other.key(&request(root, 0)), GUEST.key(&request(root, 0)));
    }
    // Selecting the VCEK by name is selecting the same key.
    assert_eq!(GUEST.key(&request(ROOTS[0], 0)), GUEST.key(&request(ROOTS[1], 0)));
}

/// A key from the VMRK is this guest's alone, one from the VCEK is the same for the next guest like it.
#[test]
fn only_the_vmrk_tells_two_launches_of_one_image_apart() {
    let (mut firmware, mut channel) = GUEST.launch();
    let (vcek, vmrk) = (request(0, ALL_FIELDS), request(KeyRequest::VMRK, ALL_FIELDS));
    let first = [&vcek, &vmrk].map(|wanted| derive(&mut firmware, &mut channel, wanted).unwrap());
    // The same again on a platform that had a guest before.
    let mut second = Firmware::new(PlatformConfig { seed: GUEST.seed, ..PlatformConfig::genoa() });
    let before = snp_abi::Pfn(0x900);
    second.rmp_update(before, RmpUpdate::FIRMWARE).unwrap();
    second.gctx_create(before).unwrap();
    let (mut second, mut channel) = relaunch(second);
    let second = [&vcek, &vmrk].map(|wanted| derive(&mut second, &mut channel, wanted).unwrap());
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
}

fn relaunch(mut firmware: Firmware) -> (Firmware, Channel) {
    firmware.rmp_update(GCTX, RmpUpdate::FIRMWARE).unwrap();
    firmware.gctx_create(GCTX).unwrap();
    firmware.launch_start(GCTX, &START).unwrap();
    firmware.activate(GCTX, ASID).unwrap();
    bring_page(&mut firmware, PageState::PreGuest).unwrap();
    firmware.launch_update(GCTX, &update(PageType::NORMAL), page(GUEST.page)).unwrap();
    let pfn = snp_abi::Pfn(PAGE.0 + 1);
    firmware.rmp_update(pfn, RmpUpdate::pre_guest(ASID, snp_abi::Gpa(0))).unwrap();
    let secrets = snp_asp::LaunchUpdate { pfn, ..update(PageType::SECRETS) };
    let secrets = firmware.launch_update(GCTX, &secrets, page(0)).unwrap();
    let (block, auth) = GUEST.id_block(firmware.launch_digest(GCTX).unwrap());
    firmware.launch_finish(GCTX, &LaunchFinish { id_block: Some((&block, &auth)), ..PLAIN }).unwrap();
    assert_eq!(firmware.guest_status(GCTX).unwrap().state, GuestState::Running);
    let secrets = snp_abi::SecretsPage::read_from_bytes(secrets.as_bytes()).unwrap();
    (firmware, Channel::new(&secrets, 0).unwrap())
}

#[test]
fn a_guest_gets_no_key_of_a_platform_or_svn_that_it_is_not() {
    let (mut firmware, mut channel) = GUEST.launch();
    let committed = firmware.config().tcb.0;
    type Wrong = fn(&mut KeyRequest2, u64);
    let wrong: [(&str, Wrong); 9] = [
        ("SVN above the guest's", |wanted, _| wanted.v1.guest_svn = 10),
        ("bootloader above the committed one", |wanted, committed| wanted.v1.tcb_version.0 = committed + 1),
        ("microcode above the committed one", |wanted, committed| wanted.v1.tcb_version.0 = committed + (1 << 56)),
        ("a component that there is not", |wanted, _| wanted.v1.tcb_version.0 = 1 << 32),
        ("a mitigation that was not there", |wanted, _| wanted.launch_mit_vector = 4),
        ("reserved bits of the selection", |wanted, _| wanted.v1.root_key_select = 8),
        ("a reserved endorsement key", |wanted, _| wanted.v1.root_key_select = 3 << KeyRequest::KEY_SEL_SHIFT),
        ("reserved fields of the mix", |wanted, _| wanted.v1.guest_field_select.0 = 1 << 7),
        ("the reserved word", |wanted, _| wanted.v1.reserved_0x4 = 1),
    ];
    for (what, change) in wrong {
        let mut wanted = request(0, ALL_FIELDS);
        change(&mut wanted, committed);
        assert_eq!(derive(&mut firmware, &mut channel, &wanted), Err(FwStatus::INVALID_PARAM), "{what}");
    }
    let mut limits = request(0, ALL_FIELDS);
    limits.v1.guest_svn = 9;
    limits.v1.tcb_version.0 = committed;
    limits.launch_mit_vector = 3;
    derive(&mut firmware, &mut channel, &limits).unwrap();
    // Version 1 has no mitigations, and knows no bit for them.
    let v1 = request(0, ALL_FIELDS).v1;
    let answer = ask(&mut firmware, &mut channel, V1, v1.as_bytes());
    assert_eq!(KeyResponse::read_from_bytes(&answer).unwrap().status, FwStatus::INVALID_PARAM.0);
}

/// VLEK without a hashstick, VCEK where the launch forbade it or the host masks it.
#[test]
fn a_root_that_is_not_to_be_had_is_invalid_key() {
    let vlek = request(2 << KeyRequest::KEY_SEL_SHIFT, 0);
    let ask_for = |firmware: &mut Firmware, channel: &mut Channel, wanted: &KeyRequest2| {
        derive(firmware, channel, wanted).map(drop).err().unwrap_or(FwStatus::SUCCESS)
    };
    let (mut firmware, mut channel) = GUEST.launch();
    assert_eq!(ask_for(&mut firmware, &mut channel, &vlek), FwStatus::INVALID_KEY);
    let by_vcek = derive(&mut firmware, &mut channel, &request(0, 0)).unwrap();
    firmware.vlek_load(&[0; snp_asp::VLEK_HASHSTICK_LEN]);
    let by_vlek = derive(&mut firmware, &mut channel, &vlek).unwrap();
    assert_eq!(derive(&mut firmware, &mut channel, &request(0, 0)), Ok(by_vlek));
    assert_ne!(by_vcek, by_vlek);

    let mask: [u8; snp_asp::SNP_CONFIG_LEN] = std::array::from_fn(|i| if i == 8 { 2 } else { 0 });
    firmware.snp_config(&mask).unwrap();
    assert_eq!(ask_for(&mut firmware, &mut channel, &request(ROOTS[1], 0)), FwStatus::INVALID_KEY);
    assert_eq!(derive(&mut firmware, &mut channel, &vlek), Ok(by_vlek));

    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &FINISH);
    let mut channel = Channel::new(&secrets, 0).unwrap();
    let wanted =
        |root| KeyRequest2 { v1: KeyRequest { root_key_select: root, ..KeyRequest::default() }, ..Default::default() };
    assert_eq!(ask_for(&mut firmware, &mut channel, &wanted(0)), FwStatus::INVALID_KEY);
    assert_eq!(ask_for(&mut firmware, &mut channel, &wanted(ROOTS[1])), FwStatus::INVALID_KEY);
    assert_eq!(ask_for(&mut firmware, &mut channel, &wanted(KeyRequest::VMRK)), FwStatus::SUCCESS);
}
