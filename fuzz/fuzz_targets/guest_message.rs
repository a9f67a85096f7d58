//! Messages of guests: any page, and any authentic payload, against a running guest; and what the guest's side takes for an
//! answer, a call or a file.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use snp_abi::{FwStatus, Gpa, GuestPolicy, MessageType, PageSize, PageType, Pfn, SecretsPage, VmplPermissions};
use snp_asp::{
    Firmware, LaunchFinish, LaunchStart, LaunchUpdate, PlatformConfig, RefusedRequest, RmpUpdate, SealedPage,
};
use snp_sev_guest::{Answer, Call, Channel, Place, Served};
use zerocopy::FromBytes;

const GCTX: Pfn = Pfn(1);

/// A running guest and its secrets.
static GUEST: LazyLock<(Firmware, Box<SecretsPage>)> = LazyLock::new(|| {
    let mut firmware = Firmware::new(PlatformConfig::genoa());
    let start = LaunchStart {
        policy: GuestPolicy::DEFAULT,
        migration_agent: None,
        imi: false,
        desired_tsc_khz: 0,
        gosvw: [0; 16],
    };
    let update = LaunchUpdate {
        pfn: Pfn(2),
        page_size: PageSize::Size4K,
        page_type: PageType::SECRETS,
        imi_page: false,
        permissions: [VmplPermissions(0); 3],
    };
    let finish = LaunchFinish { id_block: None, author_key_enabled: false, vcek_disabled: false, host_data: [0; 32] };
    firmware.rmp_update(GCTX, RmpUpdate::FIRMWARE).expect("free");
    firmware.gctx_create(GCTX).expect("a firmware page");
    firmware.launch_start(GCTX, &start).expect("a context");
    firmware.activate(GCTX, snp_abi::Asid(1)).expect("a free ASID");
    firmware.rmp_update(Pfn(2), RmpUpdate::pre_guest(snp_abi::Asid(1), Gpa(0))).expect("free");
    firmware.launch_update(GCTX, &update, SealedPage::zero()).expect("a pre-guest page");
    firmware.launch_finish(GCTX, &finish).expect("launched");
    let secrets = firmware.secrets_page(GCTX).expect("launched");
    (firmware, secrets)
});

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    match choice % 4 {
        0 => any_page(data),
        1 => authentic(data),
        2 => any_answer(data),
        _ => calls(data),
    }
});

fn page(data: &[u8]) -> [u8; 4096] {
    let mut page = [0; 4096];
    let len = data.len().min(page.len());
    page[..len].copy_from_slice(&data[..len]);
    page
}

/// What nobody with the key made is refused, and changes nothing.
fn any_page(data: &[u8]) {
    let mut firmware = GUEST.0.clone();
    let refused = firmware.guest_request(GCTX, &page(data)).expect_err("nobody has the key");
    assert_eq!(firmware, GUEST.0, "{refused}");
}

/// What a guest made is answered under the next sequence number, or refused and changes nothing.
fn authentic(data: &[u8]) {
    let [msg_type, version, vmpck, payload @ ..] = data else { return };
    let (mut firmware, secrets) = (GUEST.0.clone(), &GUEST.1);
    let Some(channel) = Channel::new(secrets, vmpck % 4) else { return };
    let request = channel.seal(MessageType(*msg_type), *version, &payload[..payload.len().min(4000)]);
    match firmware.guest_request(GCTX, &request) {
        Ok(answer) => {
            let answer = channel.open(&request, &answer).expect("authentic");
            assert!(answer.len() >= 64);
            assert!(firmware.guest_request(GCTX, &request) == Err(RefusedRequest::Status(FwStatus::AEAD_OFLOW)));
        }
        Err(refused) => assert_eq!(firmware, GUEST.0, "{refused}"),
    }
}

fn any_answer(data: &[u8]) {
    let channel = Channel::new(&GUEST.1, 0).expect("a key");
    let request = channel.seal(MessageType::REPORT_REQ, 1, &[0; 96]);
    channel.open(&request, &page(data)).expect_err("nobody has the key");
    let _ = SecretsPage::read_from_bytes(&page(data)).map(|secrets| Channel::new(&secrets, 3));
}

/// Lines that a program sends, and paths.
fn calls(data: &[u8]) {
    let nobody = |_: &Call| Answer::failed(snp_abi::Errno::EIO);
    let mut served = Served::new(nobody, 0);
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let _ = std::str::from_utf8(line).map(Place::of);
        let _ = Answer::from_line(line);
        if let Ok(call) = Call::from_line(line) {
            let answer = served.answer(&call);
            assert_eq!(Answer::from_line(&answer.to_line()), answer);
        }
    }
}
