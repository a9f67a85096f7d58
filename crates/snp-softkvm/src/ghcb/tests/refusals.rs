//! Malformed requests: the answer, and nothing else changed.

use super::*;

const MALFORMED: u64 = 2;

/// Asks, and checks that the guest goes on, what it is told, and that nothing else happened in the VM.
#[track_caller]
fn refused(config: Config, request: &Request, error: u64) {
    let mut guest = Guest::new(config);
    assert_eq!(guest.ask(request), Outcome::Resume, "{request:?}");
    let page = guest.answer();
    assert_eq!((page.sw_exit_info_1, page.sw_exit_info_2), (MALFORMED, error), "{request:?}");
    // SW_EXITINFO1, SW_EXITINFO2, RAX to RDX are what KVM marks valid, and what it writes.
    let mut expected = request.page();
    let register = |value: Option<u64>| value.unwrap_or(0);
    (expected.sw_exit_info_1, expected.sw_exit_info_2) = (MALFORMED, error);
    (expected.rax, expected.rbx) = (register(request.rax), register(request.rbx));
    (expected.rcx, expected.rdx) = (register(request.rcx), register(request.rdx));
    expected.valid_bitmap = ANSWERED.to_le_bytes();
    assert_eq!(page, expected, "{request:?}");
    let mut memory = Vm::default().memory;
    memory[GHCB as usize..][..PAGE_SIZE].copy_from_slice(page.as_bytes());
    guest.vm.log.retain(|line| !line.starts_with("xcr0"));
    assert_eq!(guest.vm, Vm { memory, ..Vm::default() }, "{request:?}");
}

/// RAX, RCX, RDX, RBX, SW_EXITINFO1, SW_EXITINFO2.
const ANSWERED: u128 = 1 << 63 | 1 << 97 | 1 << 98 | 1 << 99 | 1 << 115 | 1 << 116;

/// sev.c, `sev_es_validate_vmgexit`: GHCB_ERR_INVALID_USAGE comes before all.
#[test]
fn another_usage_is_2_2() {
    for usage in [1, 0x1000_0000, u32::MAX] {
        refused(CONFIG, &Request { usage, ..Request::default() }, 2);
        refused(CONFIG, &Request { usage, ..Request::new(GhcbExit(0x1234), 0, 0) }, 2);
    }
}

/// sev.c, `sev_es_validate_vmgexit`: GHCB_ERR_MISSING_INPUT.
#[test]
fn a_request_without_its_parts_is_2_4() {
    let good = Request::new(GhcbExit::HV_FEATURES, 0, 0);
    refused(CONFIG, &Request { code: None, ..good.clone() }, 4);
    refused(CONFIG, &Request { info_1: None, ..good.clone() }, 4);
    refused(CONFIG, &Request { info_2: None, ..good }, 4);
}

/// sev.c, `sev_es_validate_vmgexit`: what each event needs, one by one.
#[test]
fn an_event_without_its_registers_is_2_4() {
    let (rax, rcx, rdx) = (Some(1), Some(2), Some(3));
    let scratch = Some(BUFFER);
    let ask = |code, info_1| Request::new(code, info_1, 0);
    for request in [
        ask(GhcbExit::WRITE_DR7, 0),
        ask(GhcbExit::RDPMC, 0),
        Request { rcx, ..ask(GhcbExit::CPUID, 0) },
        Request { rax, ..ask(GhcbExit::CPUID, 0) },
        // Function 0xd without XCR0.
        Request { rax: Some(0xd), rcx, ..ask(GhcbExit::CPUID, 0) },
        // OUT without RAX, INS and OUTS without a scratch area.
        ask(GhcbExit::IOIO, 0x10),
        Request { rax, ..ask(GhcbExit::IOIO, 0x14) },
        Request { rax, ..ask(GhcbExit::IOIO, 0x15) },
        // RDMSR, WRMSR.
        Request { rax, rdx, ..ask(GhcbExit::MSR, 0) },
        Request { rax, rcx, ..ask(GhcbExit::MSR, 1) },
        Request { rcx, rdx, ..ask(GhcbExit::MSR, 1) },
        // VMMCALL without RAX, without CPL.
        Request { cpl: Some(0), ..ask(GhcbExit::VMMCALL, 0) },
        Request { rax, ..ask(GhcbExit::VMMCALL, 0) },
        Request { rax, rcx, ..ask(GhcbExit::MONITOR, 0) },
        Request { rax, rdx, ..ask(GhcbExit::MONITOR, 0) },
        Request { rcx, rdx, ..ask(GhcbExit::MONITOR, 0) },
        Request { rax, ..ask(GhcbExit::MWAIT, 0) },
        Request { rcx, ..ask(GhcbExit::MWAIT, 0) },
        ask(GhcbExit::MMIO_READ, 0xfee0_0000),
        ask(GhcbExit::MMIO_WRITE, 0xfee0_0000),
        ask(GhcbExit::PSC, 0),
        // AP creation without features; only destruction needs none.
        ask(GhcbExit::AP_CREATION, 1),
        ask(GhcbExit::AP_CREATION, 0),
        ask(GhcbExit::AP_CREATION, 3),
        ask(GhcbExit::GET_APIC_IDS, 0x6000),
        // Guest requests: alignment, and two different pages.
        Request::new(GhcbExit::GUEST_REQUEST, 0x6001, 0x7000),
        Request::new(GhcbExit::GUEST_REQUEST, 0x6000, 0x7fff),
        Request::new(GhcbExit::GUEST_REQUEST, 0x6000, 0x6000),
        Request::new(GhcbExit::EXT_GUEST_REQUEST, 0x6000, 0x6000),
    ] {
        refused(CONFIG, &request, 4);
    }
    // SNP's events in other guests.
    let destroy = ask(GhcbExit::AP_CREATION, 2);
    let psc = Request { scratch, ..ask(GhcbExit::PSC, 0) };
    let message = Request::new(GhcbExit::GUEST_REQUEST, 0x6000, 0x7000);
    let extended = Request::new(GhcbExit::EXT_GUEST_REQUEST, 0x6000, 0x7000);
    for request in [destroy, psc, message, extended] {
        refused(SEV_ES, &request, 4);
    }
}

/// sev.c, `sev_es_validate_vmgexit`: GHCB_ERR_INVALID_EVENT for all that is not listed there, run VMPL among them.
#[test]
fn an_unknown_event_is_2_6() {
    for code in [0, 0x40, 0x74, 0x78, 0x400, 0x8000_0000, 0x8000_0014, 0x8000_0018, 0x1_0000_007b, u64::MAX] {
        let all = Some(0);
        let scratch = Some(BUFFER);
        let request = Request { rax: all, rcx: all, rdx: all, scratch, ..Request::new(GhcbExit(code), 0, 0) };
        refused(CONFIG, &request, 6);
    }
    // Linux 7.3 has no APIC ID list.
    let mainline = Config { apic_id_list: false, ..CONFIG };
    refused(mainline, &Request { rax: Some(0), ..Request::new(GhcbExit::GET_APIC_IDS, 0x6000, 0) }, 6);
}

/// sev.c, `sev_handle_vmgexit`: without a page there is nowhere to answer.
#[test]
fn no_page_no_answer() {
    for msr in [0x10_0000, 0xffff_ffff_ffff_f000, 0] {
        let mut guest = Guest::new(CONFIG);
        assert_eq!(guest.exit(msr), Outcome::Resume);
        guest.ghcb.before_entry(&mut guest.vm);
        assert_eq!((guest.msr, guest.vm), (msr, Vm::default()));
    }
}

/// sev.c, `sev_handle_vmgexit`, `ghcb_gpa_is_registered`: KVM_RUN fails, and the guest is told nothing.
#[test]
fn an_unregistered_page_ends_kvm_run() {
    let request = Request::new(GhcbExit::HV_FEATURES, 0, 0);
    for registered in [0, 0x6000] {
        let mut guest = Guest::new(CONFIG);
        guest.ghcb.register(registered);
        assert_eq!(guest.ask(&request), Outcome::Fail(Errno::EINVAL));
        let page = guest.answer();
        assert_eq!((page.sw_exit_info_1, page.sw_exit_info_2), (0, 0));
    }
    // SEV-ES knows no registration.
    let mut guest = Guest::new(SEV_ES);
    guest.ghcb.register(0);
    assert_eq!(guest.ask(&request), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0x3));
}

/// sev.c, `setup_vmgexit_scratch`.
#[test]
fn a_bad_scratch_area_is_2_3() {
    let read = |scratch, len| Request { scratch: Some(scratch), ..Request::new(GhcbExit::MMIO_READ, 0x1000_0000, len) };
    for (config, scratch, len) in [
        (CONFIG, 0, 8),
        (CONFIG, u64::MAX, 8),
        // Before the shared buffer, past it, across its end.
        (CONFIG, GHCB, 8),
        (CONFIG, BUFFER - 1, 8),
        (CONFIG, GHCB + 0xff0, 1),
        (CONFIG, GHCB + 0xfe9, 8),
        // Version 2: outside of the GHCB.
        (CONFIG, 0x6000, 8),
        // Version 1: longer than 16 pages.
        (SEV_ES, 0x1000, 0x1_0001),
        (SEV_ES, 0x1000, u64::MAX),
        (SEV_ES, BUFFER, 0x7f1),
    ] {
        refused(config, &read(scratch, len), 3);
    }
}

/// The same function: memory that is not there is user space's problem.
#[test]
fn a_scratch_area_without_memory_ends_kvm_run() {
    let request = Request { scratch: Some(0x10_0000), ..Request::new(GhcbExit::MMIO_READ, 0x1000_0000, 16) };
    assert_eq!(Guest::new(SEV_ES).ask(&request), Outcome::Fail(Errno::EFAULT));
}

/// sev.c, `sev_handle_vmgexit`: "SW_EXITINFO2 must be less than or equal to 0x8" from version 2 on (GHCB, "MMIO Access").
#[test]
fn mmio_of_more_than_eight_bytes_is_2_5() {
    let request = Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::MMIO_WRITE, 0x1000_0000, 9) };
    refused(CONFIG, &request, 5);
    refused(CONFIG, &Request { info_2: Some(u64::MAX), ..request }, 5);
}

/// sev.c, `sev_handle_vmgexit`, SVM_VMGEXIT_AP_JUMP_TABLE.
#[test]
fn an_unknown_jump_table_request_is_2_5() {
    for request in [2, u64::MAX] {
        refused(CONFIG, &Request::new(GhcbExit::AP_JUMP_TABLE, request, 0x9000), 5);
    }
}

/// sev.c, `sev_handle_vmgexit`, SVM_VMGEXIT_UNSUPPORTED_EVENT.
#[test]
fn an_unsupported_event_ends_kvm_run() {
    let request = Request::new(GhcbExit::UNSUPPORTED_EVENT, 0x40, 0);
    assert_eq!(Guest::new(CONFIG).ask(&request), Outcome::Fail(Errno::EINVAL));
}

/// sev.c, `sev_snp_ap_creation`; GHCB, "SNP AP Creation".
#[test]
fn a_processor_that_cannot_be_created_is_2_5() {
    const CREATE: u64 = 1;
    let create = |request: u64, id: u64, gpa, rax| {
        let info_1 = id << 32 | request;
        Request { rax: Some(rax), ..Request::new(GhcbExit::AP_CREATION, info_1, gpa) }
    };
    for request in [
        // A foreign APIC ID.
        create(CREATE, 4, 0x6000, 1),
        create(0, 4, 0x6000, 1),
        create(2, u32::MAX.into(), 0, 0),
        // Other features than the VM's.
        create(CREATE, 1, 0x6000, 0),
        create(CREATE, 1, 0x6000, 0x21),
        create(0, 1, 0x6000, 0),
        // Not a page, above physical memory, at the start of a large page.
        create(CREATE, 1, 0x6008, 1),
        create(CREATE, 1, 1 << 52, 1),
        create(CREATE, 1, 0x20_0000, 1),
        create(CREATE, 1, 0, 1),
        create(0, 1, 0x20_0000, 1),
        // An unknown request, and another VMPL than 0.
        create(3, 1, 0x6000, 1),
        create(0x1_0001, 1, 0x6000, 1),
    ] {
        refused(CONFIG, &request, 5);
    }
}

/// "KVM: SVM: Implement GET_AP_APIC_IDS NAE event", `sev_get_apic_ids`: the address counts once there are pages enough.
#[test]
fn apic_ids_to_nowhere_are_2_5() {
    for gpa in [0x6001, 1 << 52, 0x10_0000] {
        refused(CONFIG, &Request { rax: Some(1), ..Request::new(GhcbExit::GET_APIC_IDS, gpa, 0) }, 5);
    }
}
