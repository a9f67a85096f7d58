//! A platform with a guest in any state.

#![allow(dead_code, reason = "each test takes what it needs")]

use snp_abi::{
    Asid, AttestationReport, FwStatus, Gpa, GuestPolicy, GuestState, MessageType, PAGE_SIZE, PageSize, PageState,
    PageType, Pfn, ReportRequest, ReportResponseHeader, SecretsPage, VmplPermissions,
};
use snp_asp::{Firmware, LaunchFinish, LaunchStart, LaunchUpdate, PlatformConfig, RmpUpdate, SealedPage};
use snp_sev_guest::Channel;
use zerocopy::{FromBytes, IntoBytes};

pub(crate) const GCTX: Pfn = Pfn(0x100);
pub(crate) const ASID: Asid = Asid(7);
pub(crate) const PAGE: Pfn = Pfn(0x200);
pub(crate) const GPA: Gpa = Gpa(0x123_4000);

pub(crate) const START: LaunchStart = LaunchStart {
    policy: GuestPolicy(GuestPolicy::DEFAULT.0 | GuestPolicy::DEBUG),
    migration_agent: None,
    imi: false,
    desired_tsc_khz: 0,
    gosvw: [3; 16],
};

pub(crate) const FINISH: LaunchFinish<'static> =
    LaunchFinish { id_block: None, author_key_enabled: false, vcek_disabled: true, host_data: [5; 32] };

pub(crate) fn update(page_type: PageType) -> LaunchUpdate {
    LaunchUpdate {
        pfn: PAGE,
        page_size: PageSize::Size4K,
        page_type,
        imi_page: false,
        permissions: [VmplPermissions(0); 3],
    }
}

pub(crate) fn page(fill: u8) -> SealedPage {
    SealedPage::copy_of(&[fill; PAGE_SIZE])
}

/// A running guest with a secrets page, and that page.
pub(crate) fn running(config: PlatformConfig, finish: &LaunchFinish<'_>) -> (Firmware, SecretsPage) {
    let mut firmware = Firmware::new(config);
    firmware.rmp_update(GCTX, RmpUpdate::FIRMWARE).unwrap();
    firmware.gctx_create(GCTX).unwrap();
    firmware.launch_start(GCTX, &START).unwrap();
    firmware.activate(GCTX, ASID).unwrap();
    firmware.rmp_update(PAGE, RmpUpdate::pre_guest(ASID, GPA)).unwrap();
    let secrets = firmware.launch_update(GCTX, &update(PageType::SECRETS), page(0)).unwrap();
    firmware.launch_finish(GCTX, finish).unwrap();
    (firmware, SecretsPage::read_from_bytes(secrets.as_bytes()).unwrap())
}

/// A guest that nothing is special about: the VCEK may sign for it.
pub(crate) const PLAIN: LaunchFinish<'static> = LaunchFinish { vcek_disabled: false, ..FINISH };

/// Sends a message and opens the answer.
pub(crate) fn ask(
    firmware: &mut Firmware,
    channel: &mut Channel,
    (msg_type, version): (MessageType, u8),
    payload: &[u8],
) -> Vec<u8> {
    let request = channel.seal(msg_type, version, payload);
    let response = firmware.guest_request(GCTX, &request).unwrap();
    let answer = channel.open(&request, &response).unwrap();
    channel.sent();
    answer
}

/// The report that answers a request, or the STATUS of the answer.
pub(crate) fn report(
    firmware: &mut Firmware,
    channel: &mut Channel,
    request: &ReportRequest,
) -> Result<AttestationReport, FwStatus> {
    let answer = ask(firmware, channel, (MessageType::REPORT_REQ, 1), request.as_bytes());
    let (header, rest) = ReportResponseHeader::read_from_prefix(&answer).unwrap();
    let report = AttestationReport::read_from_bytes(rest).unwrap();
    if header.status == 0 {
        assert_eq!(header.report_size as usize, AttestationReport::LEN);
        return Ok(report);
    }
    assert_eq!((header.report_size, report), (0, AttestationReport::default()));
    Err(FwStatus(header.status))
}

/// A guest in `state`, or no guest at all; activated if `active`.
pub(crate) fn firmware(state: Option<GuestState>, active: bool) -> Firmware {
    let mut firmware = Firmware::new(PlatformConfig::genoa());
    let Some(state) = state else { return firmware };
    firmware.rmp_update(GCTX, RmpUpdate::FIRMWARE).unwrap();
    firmware.gctx_create(GCTX).unwrap();
    if state == GuestState::Init {
        return firmware;
    }
    firmware.launch_start(GCTX, &START).unwrap();
    if active {
        firmware.activate(GCTX, ASID).unwrap();
    }
    if state == GuestState::Running {
        firmware.launch_finish(GCTX, &FINISH).unwrap();
    }
    firmware
}

/// Brings [`PAGE`] into a state that commands lead to; `None` if none does.
pub(crate) fn bring_page(firmware: &mut Firmware, state: PageState) -> Option<()> {
    match state {
        PageState::Hypervisor => {}
        PageState::Firmware => firmware.rmp_update(PAGE, RmpUpdate::FIRMWARE).ok()?,
        PageState::Reclaim => {
            firmware.rmp_update(PAGE, RmpUpdate::FIRMWARE).ok()?;
            firmware.page_reclaim(PAGE).ok()?;
        }
        PageState::Context => {
            firmware.rmp_update(PAGE, RmpUpdate::FIRMWARE).ok()?;
            firmware.gctx_create(PAGE).ok()?;
        }
        PageState::PreGuest => firmware.rmp_update(PAGE, RmpUpdate::pre_guest(ASID, GPA)).ok()?,
        PageState::GuestInvalid => {
            let update = RmpUpdate { immutable: false, ..RmpUpdate::pre_guest(ASID, GPA) };
            firmware.rmp_update(PAGE, update).ok()?;
        }
        PageState::GuestValid => {
            firmware.rmp_update(PAGE, RmpUpdate::pre_guest(ASID, GPA)).ok()?;
            firmware.launch_update(GCTX, &update(PageType::NORMAL), page(1)).ok()?;
        }
        // Swap and migration are not modelled: nothing leads there.
        PageState::Metadata | PageState::PreSwap => return None,
    }
    Some(())
}
