//! Events that are handled at once.

use super::*;

fn ask(code: GhcbExit) -> Request {
    Request::new(code, 0, 0)
}

/// svm.c, `svm_exit_handlers`: intercepts that change nothing that KVM knows.
#[test]
fn some_instructions_are_nothing_to_kvm() {
    let all = Some(0x77);
    for code in [0x27, 0x37, 0x76, 0x89, 0x8a, 0x8b] {
        let mut guest = Guest::new(CONFIG);
        let request = Request { rax: all, rcx: all, rdx: all, ..ask(GhcbExit(code)) };
        assert_eq!(guest.ask(&request), Outcome::Resume);
        assert_eq!(guest.infos(), (0, 0));
        assert!(guest.vm.log.is_empty());
    }
}

/// x86/cpuid.c, `kvm_emulate_cpuid`; sev.c, `sev_es_sync_to_ghcb`.
#[test]
fn cpuid() {
    let mut guest = Guest::new(CONFIG);
    let request = Request { rax: Some(0xd), rcx: Some(0xffff_ffff_0000_0001), xcr0: Some(7), ..ask(GhcbExit::CPUID) };
    assert_eq!(guest.ask(&request), Outcome::Resume);
    let page = guest.answer();
    assert_eq!((page.rax, page.rbx, page.rcx, page.rdx), (0xd, 1, 0xcccc_cccc, 0xdddd_dddd));
    assert_eq!((page.sw_exit_info_1, page.sw_exit_info_2), (0, 0));
    assert_eq!(guest.vm.log, ["xcr0 0x7"]);
}

/// x86.c, `kvm_emulate_rdmsr`, `kvm_emulate_wrmsr`.
#[test]
fn msrs() {
    let mut guest = Guest::new(CONFIG);
    assert_eq!(guest.ask(&Request { rcx: Some(0x10), ..ask(GhcbExit::MSR) }), Outcome::Resume);
    let page = guest.answer();
    assert_eq!((page.rax, page.rdx, page.sw_exit_info_1), (0x2222_2222, 0x1111_1111, 0));
    let (rax, rdx) = (Some(0xffff_ffff_0000_0005), Some(6));
    let write = Request { rcx: Some(0x10), rax, rdx, ..Request::new(GhcbExit::MSR, 1, 0) };
    assert_eq!(guest.ask(&write), Outcome::Resume);
    assert_eq!(guest.vm.log, ["msr 0x10 = 0x600000005"]);
    assert_eq!(guest.infos(), (0, 0));
}

/// svm.c, `svm_complete_emulated_msr`, `svm_vmgexit_inject_exception`; GHCB, "Issue exception": #GP as EVENTINJ.
#[test]
fn an_msr_that_is_not_there_is_an_exception_for_the_guest() {
    let all = Some(1);
    for info_1 in [0, 1] {
        let mut guest = Guest::new(CONFIG);
        let request = Request { rax: all, rcx: Some(0x999), rdx: all, ..Request::new(GhcbExit::MSR, info_1, 0) };
        assert_eq!(guest.ask(&request), Outcome::Resume);
        assert_eq!(guest.infos(), (1, 0x8000_030d));
    }
}

/// x86.c, `kvm_msr_user_space`, `complete_fast_rdmsr`, `complete_fast_msr_access`.
#[test]
fn user_space_may_answer_msrs() {
    for (answer, infos, registers) in [(Some(0x5_0000_0004), (0, 0), (4, 5)), (None, (1, 0x8000_030d), (0, 0))] {
        let mut guest = Guest::new(CONFIG);
        guest.vm.msr = MsrAnswer::UserSpace(2);
        let exit = UserExit::ReadMsr { index: 0x999, reason: 2 };
        assert_eq!(guest.ask(&Request { rcx: Some(0x999), ..ask(GhcbExit::MSR) }), Outcome::Exit(exit));
        assert_eq!(guest.complete(Answer::Msr(answer)), Outcome::Resume);
        let page = guest.answer();
        assert_eq!((page.sw_exit_info_1, page.sw_exit_info_2), infos);
        assert_eq!((page.rax, page.rdx), registers);

        let request = Request { rcx: Some(0x999), rax: Some(8), rdx: Some(9), ..Request::new(GhcbExit::MSR, 1, 0) };
        let exit = UserExit::WriteMsr { index: 0x999, reason: 2, data: 0x9_0000_0008 };
        assert_eq!(guest.ask(&request), Outcome::Exit(exit));
        assert_eq!(guest.complete(Answer::Msr(answer)), Outcome::Resume);
        assert_eq!(guest.infos(), infos);
    }
}

/// svm.c, `svm_exit_handlers`: KVM never intercepts RDTSC, so that it is no exit it knows; RDTSCP is #UD there.
#[test]
fn time_stamps_are_not_handled() {
    let mut guest = Guest::new(CONFIG);
    assert_eq!(guest.ask(&ask(GhcbExit::RDTSC)), Outcome::Exit(UserExit::UnexpectedExit { code: 0x6e }));
    assert_eq!(guest.ask(&ask(GhcbExit::RDTSCP)), Outcome::Resume);
    assert_eq!(guest.vm.log, ["inject 6 None"]);
}

/// x86.c, `kvm_emulate_rdpmc`.
#[test]
fn counters() {
    let mut guest = Guest::new(CONFIG);
    assert_eq!(guest.ask(&Request { rcx: Some(0), ..ask(GhcbExit::RDPMC) }), Outcome::Resume);
    let page = guest.answer();
    assert_eq!((page.rax, page.rdx), (0x4444_4444, 0x3333_3333));
    assert_eq!(guest.ask(&Request { rcx: Some(9), ..ask(GhcbExit::RDPMC) }), Outcome::Resume);
    assert_eq!(guest.vm.log, ["inject 13 Some(0)"]);
}

/// x86.c, `kvm_emulate_hypercall`.
#[test]
fn hypercalls() {
    let neg = u64::wrapping_neg;
    for (cpl, rax, args, answer) in [
        (3, 1, [0; 3], neg(1)),
        (1, 12, [0x7000, 1, 0], neg(1)),
        (0, 1, [0; 3], 0),
        (0, 2, [0; 3], neg(1000)),
        // A paravirtual feature that the guest has, and one that it has not.
        (0, 11, [0; 3], 0),
        (0, 10, [0; 3], neg(1000)),
        // KVM_HC_MAP_GPA_RANGE: not a page, no pages, a range that wraps.
        (0, 12, [0x7001, 1, 0], neg(22)),
        (0, 12, [0x7000, 0, 0], neg(22)),
        (0, 12, [0x7000, u64::MAX, 0], neg(22)),
    ] {
        let mut guest = Guest::new(CONFIG);
        let [rbx, rcx, rdx] = args.map(Some);
        let request = Request { rax: Some(rax), rbx, rcx, rdx, cpl: Some(cpl), ..ask(GhcbExit::VMMCALL) };
        assert_eq!(guest.ask(&request), Outcome::Resume, "{request:?}");
        assert_eq!(guest.answer().rax, answer, "{request:?}");
    }
}

#[test]
fn a_hypercall_for_user_space() {
    let (rbx, rcx, rdx) = (Some(0x7000), Some(3), Some(0x10));
    let request = Request { rax: Some(12), rbx, rcx, rdx, cpl: Some(0), ..ask(GhcbExit::VMMCALL) };
    let mut guest = Guest::new(CONFIG);
    let exit = UserExit::Hypercall { nr: 12, args: [0x7000, 3, 0x10, 0, 0, 0], flags: Some(1) };
    assert_eq!(guest.ask(&request), Outcome::Exit(exit));
    assert_eq!(guest.complete(Answer::Hypercall(0x55)), Outcome::Resume);
    let page = guest.answer();
    assert_eq!((page.rax, page.sw_exit_info_1, page.sw_exit_info_2), (0x55, 0, 0));

    guest.vm.exits = false;
    assert_eq!(guest.ask(&request), Outcome::Resume);
    assert_eq!(guest.answer().rax, 1000u64.wrapping_neg());
}

/// Registers count by their lower halves outside of 64-bit mode: x86.c, `kvm_emulate_hypercall`.
#[test]
fn a_hypercall_of_32_bits() {
    let mut vm = Vm::default();
    let high = 0xffff_ffff_0000_0000;
    let args = [high | 0x7000, high | 1, high, 0];
    let exit = UserExit::Hypercall { nr: 12, args: [0x7000, 1, 0, 0, 0, 0], flags: Some(0) };
    assert_eq!(hypercall(high | 12, args, 0, false, &mut vm), Hypercall::Exit(exit));
    assert_eq!(hypercall(77, [0; 4], 0, false, &mut vm), Hypercall::Done(0xffff_fc18));
}

/// sev.c, `sev_handle_vmgexit`, SVM_VMGEXIT_AP_JUMP_TABLE; GHCB, "AP Jump Table".
#[test]
fn the_jump_table_is_kept() {
    let mut guest = Guest::new(SEV_ES);
    assert_eq!(guest.ask(&Request::new(GhcbExit::AP_JUMP_TABLE, 0, 0x9000)), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    assert_eq!(guest.ask(&Request::new(GhcbExit::AP_JUMP_TABLE, 1, 0)), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0x9000));
}

/// sev.c, `sev_handle_vmgexit`; GHCB, "Hypervisor Feature Support".
#[test]
fn features_nmis_and_the_end() {
    let mut guest = Guest::new(CONFIG);
    assert_eq!(guest.ask(&ask(GhcbExit::HV_FEATURES)), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0x13));
    assert_eq!(guest.ask(&ask(GhcbExit::NMI_COMPLETE)), Outcome::Resume);
    assert_eq!(guest.vm.log, ["nmi complete"]);
    let exit = UserExit::SevTermination { msr: GHCB };
    assert_eq!(guest.ask(&Request::new(GhcbExit::TERM_REQUEST, 1, 2)), Outcome::Exit(exit));
}

/// sev.c, `sev_vcpu_deliver_sipi_vector`: SW_EXITINFO2 is not zero when a SIPI ended the hold.
#[test]
fn sipi_ends_a_hold_by_the_page() {
    let mut guest = Guest::new(SEV_ES);
    for info_2 in [0, 1] {
        assert_eq!(guest.ask(&ask(GhcbExit::AP_RESET_HOLD)), Outcome::Resume);
        guest.ghcb.sipi(&mut guest.msr);
        assert_eq!(guest.infos(), (0, info_2));
    }
    assert_eq!(guest.vm.log, ["hold", "hold"]);
}
