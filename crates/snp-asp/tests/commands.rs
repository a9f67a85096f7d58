//! Every guest state × command, every page state × command: the status, and nothing changed by a refusal.

mod common;

use common::*;
use snp_abi::{Asid, FwStatus, Gpa, GuestPolicy, GuestState, PageSize, PageState, PageType, Pfn, VmplPermissions};
use snp_asp::{Firmware, LaunchStart, LaunchUpdate, PlatformConfig, Product, RmpUpdate};

type Command = fn(&mut Firmware) -> Result<(), FwStatus>;

const OK: FwStatus = FwStatus::SUCCESS;

/// The status; that a refusal changes nothing is checked on the way.
fn issue(firmware: &mut Firmware, command: Command) -> FwStatus {
    let before = firmware.clone();
    match command(firmware) {
        Ok(()) => OK,
        Err(status) => {
            assert_eq!(*firmware, before, "refused with {status}, but something changed");
            status
        }
    }
}

fn launch_update(firmware: &mut Firmware) -> Result<(), FwStatus> {
    firmware.launch_update(GCTX, &update(PageType::NORMAL), page(9)).map(drop).map_err(|refused| {
        assert_eq!(refused.page, page(9), "a refused page comes back as it was");
        refused.status
    })
}

/// Columns: no guest, GSTATE_INIT, GSTATE_LAUNCH without ASID, GSTATE_LAUNCH, GSTATE_RUNNING.
#[test]
fn guest_states_by_commands() {
    const GUEST: FwStatus = FwStatus::INVALID_GUEST;
    const STATE: FwStatus = FwStatus::INVALID_GUEST_STATE;
    const PAGE_STATE: FwStatus = FwStatus::INVALID_PAGE_STATE;
    let table: [(&str, Command, [FwStatus; 5]); 10] = [
        ("GCTX_CREATE", |f| f.gctx_create(GCTX), [PAGE_STATE; 5]),
        ("LAUNCH_START", |f| f.launch_start(GCTX, &START), [GUEST, OK, STATE, STATE, STATE]),
        ("ACTIVATE", |f| f.activate(GCTX, ASID), [GUEST, STATE, OK, FwStatus::ACTIVE, FwStatus::ACTIVE]),
        ("LAUNCH_UPDATE", launch_update, [GUEST, STATE, FwStatus::INACTIVE, OK, STATE]),
        ("LAUNCH_FINISH", |f| f.launch_finish(GCTX, &FINISH), [GUEST, STATE, OK, OK, STATE]),
        ("GUEST_STATUS", |f| f.guest_status(GCTX).map(drop), [GUEST, OK, OK, OK, OK]),
        (
            "DBG_DECRYPT",
            |f| f.dbg_decrypt(GCTX, PAGE, &page(1)).map(drop),
            [GUEST, FwStatus::POLICY_FAILURE, FwStatus::INVALID_PAGE_OWNER, OK, OK],
        ),
        (
            "DBG_ENCRYPT",
            |f| f.dbg_encrypt(GCTX, PAGE, page(1)).map(drop).map_err(|refused| refused.status),
            [GUEST, FwStatus::POLICY_FAILURE, FwStatus::INVALID_PAGE_OWNER, OK, OK],
        ),
        ("DECOMMISSION", |f| f.decommission(GCTX), [GUEST, OK, OK, OK, OK]),
        ("PAGE_RECLAIM", |f| f.page_reclaim(PAGE), [OK; 5]),
    ];
    let states = [
        (None, false),
        (Some(GuestState::Init), false),
        (Some(GuestState::Launch), false),
        (Some(GuestState::Launch), true),
        (Some(GuestState::Running), true),
    ];
    for (name, command, expected) in table {
        for ((state, active), expected) in states.into_iter().zip(expected) {
            let mut firmware = firmware(state, active);
            bring_page(&mut firmware, PageState::PreGuest).unwrap();
            assert_eq!(issue(&mut firmware, command), expected, "{name} in {state:?}, active: {active}");
        }
    }
}

/// What each page state answers to the commands that take a page.
#[test]
fn page_states_by_commands() {
    const NO: FwStatus = FwStatus::INVALID_PAGE_STATE;
    use PageState::*;
    //                   LAUNCH_UPDATE, PAGE_RECLAIM, GCTX_CREATE, DBG_DECRYPT
    let table = [
        (Hypervisor, [NO, NO, NO, NO]),
        (Firmware, [NO, OK, OK, NO]),
        (Reclaim, [NO, NO, NO, NO]),
        (Context, [NO, NO, NO, NO]),
        (PreGuest, [OK, OK, NO, OK]),
        (GuestInvalid, [NO, NO, NO, OK]),
        (GuestValid, [NO, NO, NO, OK]),
    ];
    let commands: [Command; 4] = [
        launch_update,
        |f| f.page_reclaim(PAGE),
        |f| f.gctx_create(PAGE),
        |f| f.dbg_decrypt(GCTX, PAGE, &page(1)).map(drop),
    ];
    for (state, expected) in table {
        for (command, expected) in commands.into_iter().zip(expected) {
            let mut firmware = firmware(Some(GuestState::Launch), true);
            bring_page(&mut firmware, state).unwrap();
            assert_eq!(firmware.rmp().entry(PAGE).state, state);
            assert_eq!(issue(&mut firmware, command), expected, "{state:?}");
        }
    }
}

#[test]
fn a_launched_page_is_the_guests() {
    for page_type in 1..=6 {
        let page_type = PageType(page_type);
        let mut firmware = firmware(Some(GuestState::Launch), true);
        bring_page(&mut firmware, PageState::PreGuest).unwrap();
        let mut update = update(page_type);
        update.permissions = [VmplPermissions(0xf), VmplPermissions(3), VmplPermissions(1)];
        firmware.launch_update(GCTX, &update, snp_asp::SealedPage::zero()).unwrap();
        let entry = firmware.rmp().entry(PAGE);
        assert_eq!(
            (entry.state, entry.assigned, entry.validated, entry.immutable),
            (PageState::GuestValid, true, true, false)
        );
        assert_eq!((entry.asid, entry.gpa), (ASID, GPA));
        assert_eq!(entry.vmsa, page_type == PageType::VMSA);
        assert_eq!(entry.permissions.map(|rights| rights.0), [0xf, 0xf, 3, 1]);
    }
}

/// SHA-384 chains computed with Python's hashlib from the layout of PAGE_INFO in AMD 56860:
/// `ld = sha384(ld + contents + le16(0x70) + bytes([type, imi, 0, vmpl1, vmpl2, vmpl3]) + le64(gpa))`, each type in turn over
/// the page of fill bytes 0x51, permissions 0x0f, 0x03, 0x01, at GPA 0x1234000.
#[test]
fn known_answers() {
    for (page_type, expected) in include_str!("known-answers.txt").lines().map(|line| line.split_once(' ').unwrap()) {
        let mut firmware = firmware(Some(GuestState::Launch), true);
        bring_page(&mut firmware, PageState::PreGuest).unwrap();
        let mut update = update(PageType(page_type.parse().unwrap()));
        update.permissions = [VmplPermissions(0xf), VmplPermissions(3), VmplPermissions(1)];
        let content = if update.page_type == PageType::CPUID { page(0) } else { page(0x51) };
        firmware.launch_update(GCTX, &update, content).unwrap();
        assert_eq!(firmware.launch_digest(GCTX).unwrap().to_string(), expected, "type {page_type}");
    }
}

#[test]
fn tsc_fields_of_a_vmsa_are_measured_as_zero_and_kept() {
    let digest = |tsc: u8| {
        let mut firmware = firmware(Some(GuestState::Launch), true);
        bring_page(&mut firmware, PageState::PreGuest).unwrap();
        let mut vmsa = [0x33; snp_abi::PAGE_SIZE];
        vmsa[0x2f0..0x300].fill(tsc);
        let vmsa = snp_asp::SealedPage::copy_of(&vmsa);
        let kept = firmware.launch_update(GCTX, &update(PageType::VMSA), vmsa).unwrap();
        assert_eq!(kept.as_bytes()[0x2f0..0x300], [tsc; 16]);
        firmware.launch_digest(GCTX).unwrap()
    };
    assert_eq!(digest(0), digest(0xff));
}

#[test]
fn wrong_arguments_of_launch_update() {
    type Case = (&'static str, FwStatus, fn(&mut LaunchUpdate));
    let cases: [Case; 7] = [
        ("type 0", FwStatus::INVALID_PARAM, |u| u.page_type = PageType(0)),
        ("type 7", FwStatus::INVALID_PARAM, |u| u.page_type = PageType(7)),
        ("reserved VMPL1 right", FwStatus::INVALID_PARAM, |u| u.permissions[0].0 = 0x20),
        ("reserved VMPL3 right", FwStatus::INVALID_PARAM, |u| u.permissions[2].0 = 0x80),
        ("IMI page without IMI_EN", FwStatus::INVALID_PARAM, |u| u.imi_page = true),
        ("2 MiB", FwStatus::INVALID_PAGE_SIZE, |u| u.page_size = PageSize::Size2M),
        ("another page", FwStatus::INVALID_PAGE_STATE, |u| u.pfn = Pfn(0x999)),
    ];
    for (name, expected, change) in cases {
        let mut firmware = firmware(Some(GuestState::Launch), true);
        bring_page(&mut firmware, PageState::PreGuest).unwrap();
        let before = firmware.clone();
        let mut update = update(PageType::NORMAL);
        change(&mut update);
        assert_eq!(firmware.launch_update(GCTX, &update, page(1)).unwrap_err().status, expected, "{name}");
        assert_eq!(firmware, before, "{name}");
    }
}

#[test]
fn a_page_of_another_guest_is_refused() {
    let mut firmware = firmware(Some(GuestState::Launch), true);
    firmware.rmp_update(PAGE, RmpUpdate::pre_guest(Asid(8), GPA)).unwrap();
    assert_eq!(issue(&mut firmware, launch_update), FwStatus::INVALID_PAGE_OWNER);
}

#[test]
fn debugging_needs_the_policys_leave() {
    let mut firmware = firmware(Some(GuestState::Init), false);
    firmware.launch_start(GCTX, &LaunchStart { policy: GuestPolicy::DEFAULT, ..START }).unwrap();
    firmware.activate(GCTX, ASID).unwrap();
    bring_page(&mut firmware, PageState::PreGuest).unwrap();
    assert_eq!(firmware.dbg_decrypt(GCTX, PAGE, &page(1)), Err(FwStatus::POLICY_FAILURE));
    assert_eq!(firmware.dbg_encrypt(GCTX, PAGE, page(2)).unwrap_err().page, page(2));
}

#[test]
fn asids() {
    const OTHER: Pfn = Pfn(0x101);
    let mut firmware = firmware(Some(GuestState::Launch), false);
    for asid in [0, 100, u32::MAX] {
        assert_eq!(firmware.activate(GCTX, Asid(asid)), Err(FwStatus::INVALID_ASID), "{asid}");
    }
    firmware.activate(GCTX, Asid(99)).unwrap();
    firmware.rmp_update(OTHER, RmpUpdate::FIRMWARE).unwrap();
    firmware.gctx_create(OTHER).unwrap();
    firmware.launch_start(OTHER, &START).unwrap();
    assert_eq!(firmware.activate(OTHER, Asid(99)), Err(FwStatus::ASID_OWNED));
    firmware.decommission(GCTX).unwrap();
    assert_eq!(firmware.activate(OTHER, Asid(99)), Err(FwStatus::DFFLUSH_REQUIRED));
    firmware.df_flush();
    assert_eq!(firmware.activate(OTHER, Asid(99)), Ok(()));
    assert_eq!(firmware.platform_status().guest_count, 1);
}

#[test]
fn policies_that_the_platform_cannot_keep() {
    use GuestPolicy as P;
    let config = |change: fn(&mut PlatformConfig)| {
        let mut config = PlatformConfig::genoa();
        change(&mut config);
        config
    };
    let base = P::DEFAULT.0;
    const PF: FwStatus = FwStatus::POLICY_FAILURE;
    let cases = [
        ("must-be-one bit", base & !P::RESERVED_MBO, config(|_| {}), FwStatus::INVALID_PARAM),
        ("undefined bit", base | 1 << 26, config(|_| {}), FwStatus::INVALID_PARAM),
        ("bit of a newer firmware", base | P::PAGE_SWAP_DISABLE, PlatformConfig::milan(), FwStatus::INVALID_PARAM),
        ("an older ABI with a higher minor", base | 59, config(|_| {}), OK),
        ("ABI major", base | 2 << 8, config(|_| {}), PF),
        ("ABI version", base | 1 << 8 | 59, config(|_| {}), PF),
        ("ABI version that it has", base | 1 << 8 | 58, config(|_| {}), OK),
        ("SMT is on", base & !P::SMT, config(|_| {}), PF),
        ("SMT is off", base & !P::SMT, config(|c| c.smt_enabled = false), OK),
        ("CXL is populated", base, config(|c| c.cxl_populated = true), PF),
        ("CXL is allowed", base | P::CXL_ALLOW, config(|c| c.cxl_populated = true), OK),
        ("AES-128", base | P::MEM_AES_256_XTS, config(|c| c.mem_aes_256_xts = false), PF),
        ("AES-256", base | P::MEM_AES_256_XTS, config(|_| {}), OK),
        ("RAPL is on", base | P::RAPL_DIS, config(|_| {}), PF),
        ("RAPL is off", base | P::RAPL_DIS, config(|c| c.rapl_disabled = true), OK),
        ("no ciphertext hiding", base | P::CIPHERTEXT_HIDING_DRAM, config(|_| {}), PF),
        ("ciphertext hiding", base | P::CIPHERTEXT_HIDING_DRAM, PlatformConfig::turin(), OK),
        ("page swap disabled", base | P::PAGE_SWAP_DISABLE, config(|_| {}), OK),
    ];
    for (name, policy, config, expected) in cases {
        let mut firmware = Firmware::new(config);
        firmware.rmp_update(GCTX, RmpUpdate::FIRMWARE).unwrap();
        firmware.gctx_create(GCTX).unwrap();
        let before = firmware.clone();
        let answer = firmware.launch_start(GCTX, &LaunchStart { policy: P(policy), ..START });
        assert_eq!(answer.err().unwrap_or(OK), expected, "{name}");
        if answer.is_err() {
            assert_eq!(firmware, before, "{name}");
        }
    }
}

#[test]
fn a_single_socket_guest_is_not_activated_on_two() {
    let policy = GuestPolicy(GuestPolicy::DEFAULT.0 | GuestPolicy::SINGLE_SOCKET);
    for (sockets, expected) in [(1, Ok(())), (2, Err(FwStatus::POLICY_FAILURE))] {
        let mut firmware = Firmware::new(PlatformConfig { sockets, ..PlatformConfig::genoa() });
        firmware.rmp_update(GCTX, RmpUpdate::FIRMWARE).unwrap();
        firmware.gctx_create(GCTX).unwrap();
        firmware.launch_start(GCTX, &LaunchStart { policy, ..START }).unwrap();
        assert_eq!(firmware.activate(GCTX, ASID), expected);
    }
}

#[test]
fn migration_agents_are_not_modelled() {
    let agent = LaunchStart { migration_agent: Some(Pfn(1)), ..START };
    let allowed = LaunchStart { policy: GuestPolicy(START.policy.0 | GuestPolicy::MIGRATE_MA), ..agent };
    let mut firmware = firmware(Some(GuestState::Init), false);
    assert_eq!(firmware.launch_start(GCTX, &agent), Err(FwStatus::POLICY_FAILURE));
    assert_eq!(firmware.launch_start(GCTX, &allowed), Err(FwStatus::UNSUPPORTED));
}

#[test]
fn secrets_are_filled_and_repeatable() {
    let secrets = || {
        let mut firmware = firmware(Some(GuestState::Launch), true);
        bring_page(&mut firmware, PageState::PreGuest).unwrap();
        firmware.launch_update(GCTX, &update(PageType::SECRETS), page(0xee)).unwrap()
    };
    assert_eq!(secrets(), secrets());
    let page: snp_abi::SecretsPage = zerocopy::FromBytes::read_from_bytes(secrets().as_bytes()).unwrap();
    assert_eq!((page.version, page.flags, page.gosvw), (3, 0, START.gosvw));
    assert_eq!(page.fms, Product::Genoa.signature());
    let keys = [page.vmpck0, page.vmpck1, page.vmpck2, page.vmpck3];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key) && *key != [0; 32], "each key is its own");
    }
    assert_eq!((page.guest_area_0xa0, page.reserved_0x164), ([0; 96], [0; 0xe9c]));
}

/// Two guests of one platform have different keys; the contents that the host gave are gone.
#[test]
fn every_guest_has_its_own_keys() {
    let mut firmware = firmware(Some(GuestState::Launch), true);
    bring_page(&mut firmware, PageState::PreGuest).unwrap();
    let first = firmware.launch_update(GCTX, &update(PageType::SECRETS), page(1)).unwrap();
    let (other, other_page) = (Pfn(0x300), Pfn(0x301));
    firmware.rmp_update(other, RmpUpdate::FIRMWARE).unwrap();
    firmware.gctx_create(other).unwrap();
    firmware.launch_start(other, &START).unwrap();
    firmware.activate(other, Asid(8)).unwrap();
    firmware.rmp_update(other_page, RmpUpdate::pre_guest(Asid(8), Gpa(0))).unwrap();
    let update = LaunchUpdate { pfn: other_page, ..update(PageType::SECRETS) };
    assert_ne!(firmware.launch_update(other, &update, page(1)).unwrap(), first);
}

#[test]
fn a_zero_page_becomes_zero() {
    let mut firmware = firmware(Some(GuestState::Launch), true);
    bring_page(&mut firmware, PageState::PreGuest).unwrap();
    assert_eq!(firmware.launch_update(GCTX, &update(PageType::ZERO), page(0xee)).unwrap(), page(0));
}
