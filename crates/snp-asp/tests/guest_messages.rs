//! SNP_GUEST_REQUEST: what is answered, and what is refused with nothing changed.

mod common;

use common::*;
use proptest::prelude::*;
use snp_abi::{
    FwStatus, GuestMessageHeader, GuestState, KeyRequest, KeyResponse, MessageType, Pfn, ReportRequest, TscInfoRequest,
    TscInfoResponse,
};
use snp_asp::{Firmware, PlatformConfig, RefusedRequest};
use snp_sev_guest::{Channel, MessagePage};
use zerocopy::{FromBytes, IntoBytes};

const REPORT: (MessageType, u8) = (MessageType::REPORT_REQ, 1);

fn request(report_data: u8) -> ReportRequest {
    ReportRequest { report_data: [report_data; 64], vmpl: 3, ..ReportRequest::default() }
}

/// The status; that a refusal changes nothing is checked on the way.
fn refusal(firmware: &mut Firmware, page: &MessagePage) -> RefusedRequest {
    let before = firmware.clone();
    let refused = firmware.guest_request(GCTX, page).expect_err("refused");
    assert_eq!(*firmware, before, "refused with {refused}, but something changed");
    refused
}

fn status(firmware: &mut Firmware, page: &MessagePage) -> FwStatus {
    match refusal(firmware, page) {
        RefusedRequest::Status(status) => status,
        unmodelled => panic!("{unmodelled}"),
    }
}

#[test]
fn a_guest_and_the_firmware_understand_each_other() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    for vmpck in 0..4 {
        let mut channel = Channel::new(&secrets, vmpck).unwrap();
        for round in 0..5 {
            let report = report(&mut firmware, &mut channel, &request(round)).unwrap();
            assert_eq!((report.report_data, report.vmpl), ([round; 64], 3));
            assert_eq!(channel.count(), 2 * (u64::from(round) + 1));
        }
    }
}

/// Who plays the guest has its secrets from the firmware; a guest without the page has none.
#[test]
fn the_secrets_page_is_told_if_there_is_one() {
    let (running, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    assert_eq!(running.secrets_page(GCTX).as_deref(), Some(&secrets));
    assert_eq!(firmware(Some(GuestState::Running), true).secrets_page(GCTX), None);
}

#[test]
fn a_replayed_or_reordered_message_is_refused() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let mut channel = Channel::new(&secrets, 0).unwrap();
    let first = channel.seal(REPORT.0, REPORT.1, request(1).as_bytes());
    let answer = firmware.guest_request(GCTX, &first).unwrap();
    channel.sent();
    assert_eq!(status(&mut firmware, &first), FwStatus::AEAD_OFLOW, "a replay");
    assert_eq!(status(&mut firmware, &answer), FwStatus::AEAD_OFLOW, "its own answer");
    let key = secrets.vmpck0;
    for count in [0, 1, 3, 4, 6, u64::MAX - 1, u64::MAX] {
        let early = Channel::resume(0, key, count).seal(REPORT.0, REPORT.1, request(2).as_bytes());
        assert_eq!(status(&mut firmware, &early), FwStatus::AEAD_OFLOW, "after {count} messages");
    }
    report(&mut firmware, &mut channel, &request(2)).unwrap();
}

/// The counts of the keys are apart: what one said is no replay under another.
#[test]
fn every_vmpck_counts_for_itself() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let mut channels: Vec<_> = (0..4).map(|vmpck| Channel::new(&secrets, vmpck).unwrap()).collect();
    for (vmpck, rounds) in [(3, 2), (0, 1), (2, 3), (0, 2)] {
        for _ in 0..rounds {
            report(&mut firmware, &mut channels[vmpck], &request(0)).unwrap();
        }
    }
    assert_eq!(channels.iter().map(Channel::count).collect::<Vec<_>>(), [6, 0, 6, 4]);
}

#[test]
fn another_key_does_not_do() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    for (named, key) in [(0, secrets.vmpck1), (1, secrets.vmpck0), (0, [1; 32]), (3, secrets.vmpck2)] {
        let page = Channel::resume(named, key, 0).seal(REPORT.0, REPORT.1, request(0).as_bytes());
        assert_eq!(status(&mut firmware, &page), FwStatus::BAD_MEASUREMENT);
    }
    for named in [4, 0xff] {
        let page = Channel::resume(named, secrets.vmpck0, 0).seal(REPORT.0, REPORT.1, request(0).as_bytes());
        assert_eq!(status(&mut firmware, &page), FwStatus::INVALID_PARAM);
    }
    // The keys of another guest of the same platform.
    let mut other = Firmware::new(PlatformConfig::genoa());
    let gctx = Pfn(0x300);
    for pfn in [GCTX, gctx] {
        other.rmp_update(pfn, snp_asp::RmpUpdate::FIRMWARE).unwrap();
        other.gctx_create(pfn).unwrap();
        other.launch_start(pfn, &START).unwrap();
        other.launch_finish(pfn, &PLAIN).unwrap();
    }
    let page = Channel::new(&secrets, 0).unwrap().seal(REPORT.0, REPORT.1, request(0).as_bytes());
    assert_eq!(other.guest_request(gctx, &page), Err(FwStatus::BAD_MEASUREMENT.into()));
    assert!(other.guest_request(GCTX, &page).is_ok());
}

#[test]
fn every_bit_of_a_message_counts() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let page = Channel::new(&secrets, 1).unwrap().seal(REPORT.0, REPORT.1, request(7).as_bytes());
    for bit in 0..8 * (usize::from(GuestMessageHeader::LENGTH) + size_of::<ReportRequest>()) {
        let mut wrong = page.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let status = status(&mut firmware, &wrong);
        let expected = match bit / 8 {
            0x00..0x10 | 0x34..0x36 | 0x60.. => FwStatus::BAD_MEASUREMENT,
            0x20..0x28 => FwStatus::AEAD_OFLOW,
            // A length that fits is authenticated, a key that exists has counts and a key of its own.
            0x36..0x38 | 0x3c if status == FwStatus::BAD_MEASUREMENT => status,
            _ => FwStatus::INVALID_PARAM,
        };
        assert_eq!(status, expected, "bit {bit} of byte {:#x}", bit / 8);
    }
    firmware.guest_request(GCTX, &page).unwrap();
}

/// Authentic, and nothing that the firmware answers.
#[test]
fn unknown_messages_are_refused_and_unmodelled_ones_are_said() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let channel = Channel::new(&secrets, 0).unwrap();
    let responses = (2..=18).step_by(2);
    for number in responses.chain([0, 19, 20, 0xff]) {
        let page = channel.seal(MessageType(number), 1, request(0).as_bytes());
        assert_eq!(status(&mut firmware, &page), FwStatus::INVALID_PARAM, "{:?}", MessageType(number));
    }
    for number in [1, 7, 9, 11, 13, 15] {
        let page = channel.seal(MessageType(number), 1, request(0).as_bytes());
        assert_eq!(refusal(&mut firmware, &page), RefusedRequest::Unmodelled(MessageType(number)));
    }
    let (report, key) = (request(0), KeyRequest::default());
    let tsc = TscInfoRequest::default();
    let wrong: [(MessageType, u8, &[u8]); 12] = [
        (MessageType::REPORT_REQ, 0, report.as_bytes()),
        (MessageType::REPORT_REQ, 2, report.as_bytes()),
        (MessageType::REPORT_REQ, 1, &report.as_bytes()[..95]),
        (MessageType::REPORT_REQ, 1, &[0; 97]),
        (MessageType::REPORT_REQ, 1, &[]),
        (MessageType::KEY_REQ, 0, key.as_bytes()),
        (MessageType::KEY_REQ, 3, key.as_bytes()),
        (MessageType::KEY_REQ, 2, key.as_bytes()),
        (MessageType::KEY_REQ, 1, &[0; 40]),
        (MessageType::KEY_REQ, 1, &[0; 31]),
        (MessageType::TSC_INFO_REQ, 2, tsc.as_bytes()),
        (MessageType::TSC_INFO_REQ, 1, &[0; 4000]),
    ];
    for (msg_type, version, payload) in wrong {
        let page = channel.seal(msg_type, version, payload);
        assert_eq!(status(&mut firmware, &page), FwStatus::INVALID_PARAM, "{msg_type} {version} {}", payload.len());
    }
}

#[test]
fn only_a_running_guest_asks() {
    let (_, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let page = Channel::new(&secrets, 0).unwrap().seal(REPORT.0, REPORT.1, request(0).as_bytes());
    for (state, expected) in [
        (None, FwStatus::INVALID_GUEST),
        (Some(GuestState::Init), FwStatus::INVALID_GUEST_STATE),
        (Some(GuestState::Launch), FwStatus::INVALID_GUEST_STATE),
    ] {
        assert_eq!(status(&mut firmware(state, false), &page), expected);
    }
    let mut firmware = firmware(Some(GuestState::Running), true);
    assert!(firmware.guest_request(GCTX, &page).is_ok());
    firmware.decommission(GCTX).unwrap();
    assert_eq!(status(&mut firmware, &page), FwStatus::INVALID_GUEST);
}

/// A key speaks for its own VMPL and those below it in privilege.
#[test]
fn a_key_speaks_for_its_own_vmpl_and_less() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    for vmpck in 0..4_u8 {
        let mut channel = Channel::new(&secrets, vmpck).unwrap();
        for vmpl in [0, 1, 2, 3, 4, 0x100, u32::MAX] {
            let expected = if (u32::from(vmpck)..4).contains(&vmpl) { 0 } else { FwStatus::INVALID_PARAM.0 };
            let wanted = ReportRequest { vmpl, ..request(0) };
            let got = report(&mut firmware, &mut channel, &wanted).map(|report| report.vmpl);
            assert_eq!(got, if expected == 0 { Ok(vmpl) } else { Err(FwStatus(expected)) });
            let wanted = KeyRequest { vmpl, ..KeyRequest::default() };
            let answer = ask(&mut firmware, &mut channel, (MessageType::KEY_REQ, 1), wanted.as_bytes());
            assert_eq!(KeyResponse::read_from_bytes(&answer).unwrap().status, expected);
        }
    }
}

#[test]
fn the_tsc_is_told() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let mut channel = Channel::new(&secrets, 0).unwrap();
    let ask = |firmware: &mut Firmware, channel: &mut Channel, request: TscInfoRequest| {
        let answer = ask(firmware, channel, (MessageType::TSC_INFO_REQ, 1), request.as_bytes());
        TscInfoResponse::read_from_bytes(&answer).unwrap()
    };
    let answer = ask(&mut firmware, &mut channel, TscInfoRequest::default());
    assert_eq!(answer, TscInfoResponse { guest_tsc_scale: 1 << 32, ..TscInfoResponse::default() });
    let answer = ask(&mut firmware, &mut channel, TscInfoRequest { reserved_0x0: [1; 128] });
    assert_eq!(answer, TscInfoResponse { status: FwStatus::INVALID_PARAM.0, ..TscInfoResponse::default() });
}

proptest! {
    /// Any page is answered or refused, and a refusal changes nothing.
    #[test]
    fn any_page(header in prop::collection::vec(any::<u8>(), 0x60), plausible in any::<bool>(), body in any::<u8>()) {
        let (mut firmware, _) = running(PlatformConfig::genoa(), &PLAIN);
        let mut page = [body; 4096];
        page[..0x60].copy_from_slice(&header);
        if plausible {
            page[16..0x30].fill(0);
            page[0x20] = 1;
            page[0x30..0x34].copy_from_slice(&[1, 1, 0x60, 0]);
            page[0x38..0x60].fill(0);
            page[0x37] &= 0x1f;
        }
        let refused = refusal(&mut firmware, &page);
        prop_assert!(matches!(
            refused,
            RefusedRequest::Status(FwStatus::INVALID_PARAM | FwStatus::AEAD_OFLOW | FwStatus::BAD_MEASUREMENT)
        ));
    }
}
