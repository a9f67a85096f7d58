//! Processors and messages.

use super::*;

/// sev.c, `sev_snp_ap_creation`; GHCB, "SNP AP Creation".
#[test]
fn processors_are_created_and_destroyed() {
    for (request, gpa, log) in [
        (1u64, 0x6000, "vmsa of 3: VmsaChange { gpa: Some(6000), on_init: false }"),
        (0, 0x6000, "vmsa of 3: VmsaChange { gpa: Some(6000), on_init: true }"),
        (2, 0, "vmsa of 3: VmsaChange { gpa: None, on_init: false }"),
    ] {
        let mut guest = Guest::new(CONFIG);
        let create = Request { rax: Some(1), ..Request::new(GhcbExit::AP_CREATION, 3 << 32 | request, gpa) };
        assert_eq!(guest.ask(&create), Outcome::Resume);
        assert_eq!(guest.infos(), (0, 0));
        assert_eq!(guest.vm.log, [log]);
    }
    // Destruction needs no features.
    let mut guest = Guest::new(CONFIG);
    assert_eq!(guest.ask(&Request::new(GhcbExit::AP_CREATION, 1 << 32 | 2, 0x123)), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
}

/// GHCB, "Get APIC IDs"; `sev_get_apic_ids` of the proposal.
#[test]
fn apic_ids() {
    let mut guest = Guest::new(CONFIG);
    // Too few pages: how many it takes, and nothing is looked at or written.
    let request = Request { rax: Some(0), ..Request::new(GhcbExit::GET_APIC_IDS, 0x123, 0) };
    assert_eq!(guest.ask(&request), Outcome::Resume);
    let page = guest.answer();
    assert_eq!((page.rax, page.sw_exit_info_1, page.sw_exit_info_2), (1, 0, 0));

    for pages in [1, 2, u64::MAX] {
        let request = Request { rax: Some(pages), ..Request::new(GhcbExit::GET_APIC_IDS, 0x6000, 0) };
        assert_eq!(guest.ask(&request), Outcome::Resume);
        let page = guest.answer();
        assert_eq!((page.rax, page.sw_exit_info_1, page.sw_exit_info_2), (pages, 0, 0));
        let list: Vec<u8> = [4u32, 0, 1, 2, 3].iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(guest.bytes(0x6000, 20), list);
        guest.put(0x6000, &[0; 20]);
    }
}

fn message(code: GhcbExit) -> Request {
    Request::new(code, 0x6000, 0x7000)
}

/// sev.c, `snp_handle_guest_req`; GHCB, "SNP Guest Request": the firmware's status in SW_EXITINFO2, bits 31:0.
#[test]
fn messages_reach_the_firmware() {
    for status in [0, 0x16] {
        let mut guest = Guest::new(CONFIG);
        guest.put(0x6000, &[0x0f; 16]);
        guest.vm.firmware = Ok(status);
        assert_eq!(guest.ask(&message(GhcbExit::GUEST_REQUEST)), Outcome::Resume);
        assert_eq!(guest.infos(), (0, status.into()));
        assert_eq!(guest.bytes(0x7000, 17)[..], [&[0xf0; 16][..], &[0xff]].concat());
        assert_eq!(guest.vm.log, ["guest request"]);
    }
}

/// The same function: what does not reach the firmware or come back ends KVM_RUN.
#[test]
fn messages_that_get_lost_end_kvm_run() {
    let far = 0x10_0000;
    let unread = Request::new(GhcbExit::GUEST_REQUEST, far, 0x7000);
    let unwritten = Request::new(GhcbExit::GUEST_REQUEST, 0x6000, far);
    let unread_too = Request::new(GhcbExit::EXT_GUEST_REQUEST, far, 0x7000);
    for request in [unread, unwritten, unread_too] {
        assert_eq!(Guest::new(CONFIG).ask(&request), Outcome::Fail(Errno::EIO));
    }
    let mut guest = Guest::new(CONFIG);
    guest.vm.firmware = Err(Errno::EBADF);
    assert_eq!(guest.ask(&message(GhcbExit::GUEST_REQUEST)), Outcome::Fail(Errno::EBADF));
}

/// A request for a report with `rax` and `rbx`.
fn report(guest: &mut Guest, rax: Option<u64>, rbx: Option<u64>) -> Outcome {
    guest.put(0x6034, &[5]);
    guest.ask(&Request { rax, rbx, ..message(GhcbExit::EXT_GUEST_REQUEST) })
}

/// sev.c, `snp_handle_ext_guest_req`: without certificates from user space the table is empty.
#[test]
fn an_extended_request_gets_an_empty_table() {
    let mut guest = Guest::new(CONFIG);
    guest.put(0x8000, &[0xaa; 32]);
    assert_eq!(report(&mut guest, Some(0x8000), Some(4)), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    assert_eq!(guest.bytes(0x8000, 32)[..], [[0; 24].as_slice(), &[0xaa; 8]].concat());
    assert_eq!(guest.vm.log, ["guest request"]);
    // No room for it: it is left out.
    guest.put(0x8000, &[0xaa; 32]);
    assert_eq!(report(&mut guest, Some(0x8000), Some(0)), Outcome::Resume);
    assert_eq!(guest.bytes(0x8000, 32), [0xaa; 32]);
    // Other messages have no table.
    guest.put(0x6034, &[3]);
    assert_eq!(guest.ask(&message(GhcbExit::EXT_GUEST_REQUEST)), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    // A table without memory ends KVM_RUN.
    assert_eq!(report(&mut guest, Some(0x10_0000), Some(1)), Outcome::Fail(Errno::EIO));
}

/// The same function, `request_invalid`: GHCB_ERR_INVALID_INPUT.
#[test]
fn an_extended_request_without_a_place_is_2_5() {
    for (rax, rbx) in [(None, Some(1)), (Some(0x8000), None), (Some(0x8001), Some(1))] {
        let mut guest = Guest::new(CONFIG);
        assert_eq!(report(&mut guest, rax, rbx), Outcome::Resume);
        assert_eq!(guest.infos(), (2, 5));
        assert!(guest.vm.log.is_empty());
    }
}

/// Documentation/virt/kvm/api.rst, KVM_EXIT_SNP_REQ_CERTS: the supported values of `ret`.
#[test]
fn certificates_are_user_spaces() {
    for (ret, outcome, infos, rbx) in [
        (0, Outcome::Resume, (0, 0), 4),
        (28, Outcome::Resume, (0, 1 << 32), 9),
        (11, Outcome::Resume, (0, 2 << 32), 4),
        (5, Outcome::Resume, (0, 0xffff_ffff << 32), 4),
        (1, Outcome::Fail(Errno::EINVAL), (0, 0), 4),
    ] {
        let mut guest = Guest::new(Config { request_certificates: true, ..CONFIG });
        let exit = UserExit::RequestCertificates { gpa: 0x8000, pages: 4 };
        assert_eq!(report(&mut guest, Some(0x8000), Some(4)), Outcome::Exit(exit));
        assert_eq!(guest.complete(Answer::Certificates { ret, pages: 9 }), outcome, "{ret}");
        let page = guest.answer();
        assert_eq!((page.sw_exit_info_1, page.sw_exit_info_2, page.rbx), (infos.0, infos.1, rbx), "{ret}");
        assert_eq!(guest.vm.log.len(), usize::from(ret == 0));
    }
}
