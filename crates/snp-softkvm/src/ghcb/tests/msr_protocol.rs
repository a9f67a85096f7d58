//! GHCB, "GHCB MSR Protocol"; sev.c, `sev_handle_vmgexit_msr_protocol`.

use super::*;

/// Requests that are answered in the MSR alone.
#[test]
fn the_msr_answers() {
    let list = Config { apic_id_list: false, ..CONFIG };
    for (config, request, response) in [
        // SEV information: newest version, oldest, C-bit.
        (CONFIG, 0x002, 0x0002_0001_3300_0001),
        (SEV_ES, 0x002, 0x0001_0001_3300_0001),
        // CPUID: the function in bits 63:32, the register in 31:30. Its answer replaces the function.
        (CONFIG, 0x8000_001f_0000_0004, 0x8000_001f_0000_0005),
        (CONFIG, 0x8000_001f_4000_0004, 0x0000_0000_4000_0005),
        (CONFIG, 0x8000_001f_8000_0004, 0xcccc_cccc_8000_0005),
        (CONFIG, 0x8000_001f_c000_0004, 0xdddd_dddd_c000_0005),
        // AP reset hold: no SIPI so far.
        (CONFIG, 0xabc_d006, 0x007),
        // Hypervisor features: SNP, AP creation; the APIC ID list in profiles that have it.
        (CONFIG, 0x080, 0x13_081),
        (list, 0x080, 0x3_081),
        // Preferred GHCB GPA: none.
        (CONFIG, 0x010, 0xffff_ffff_ffff_f011),
        // Register GHCB GPA: any.
        (CONFIG, 0x6012, 0x6013),
        (CONFIG, 0xffff_ffff_ffff_f012, 0xffff_ffff_ffff_f013),
        // Unknown requests, run VMPL among them, stay as they are.
        (CONFIG, 0x1_0000_0016, 0x1_0000_0016),
        (CONFIG, 0x001, 0x001),
        (CONFIG, 0xfff, 0xfff),
    ] {
        let mut guest = Guest::new(config);
        assert_eq!(guest.exit(request), Outcome::Resume, "{request:#x}");
        assert_eq!(guest.msr, response, "{request:#x}");
    }
}

#[test]
fn a_guest_without_snp_that_asks_for_snp_is_ended() {
    for request in [0x010, 0x5012, 0x20_0000_0000_5014] {
        let mut guest = Guest::new(SEV_ES);
        assert_eq!(guest.exit(request), Outcome::Exit(UserExit::SevTermination { msr: request }));
        assert_eq!((guest.msr, guest.vm), (request, Vm::default()));
    }
}

/// GHCB, "Termination Request"; sev.c, `out_terminate`.
#[test]
fn termination_carries_the_msr() {
    for config in [CONFIG, SEV_ES] {
        let mut guest = Guest::new(config);
        assert_eq!(guest.exit(0x23_1100), Outcome::Exit(UserExit::SevTermination { msr: 0x23_1100 }));
        assert_eq!(guest.msr, 0x23_1100);
    }
}

/// sev.c, `snp_begin_psc_msr`, `snp_complete_psc_msr`.
#[test]
fn a_page_changes_by_a_hypercall_of_user_space() {
    for (operation, flags) in [(1u64, 0x10), (2, 0)] {
        for (ret, response) in [(0, 0x015), (1, 0x8000_0000_0000_0015), (22u64.wrapping_neg(), 0x8000_0000_0000_0015)] {
            let mut guest = Guest::new(CONFIG);
            let args = [0x7000, 1, flags, 0, 0, 0];
            let exit = UserExit::Hypercall { nr: 12, args, flags: None };
            assert_eq!(guest.exit(operation << 52 | 0x7014), Outcome::Exit(exit));
            assert_eq!(guest.complete(Answer::Hypercall(ret)), Outcome::Resume);
            assert_eq!(guest.msr, response);
        }
    }
}

#[test]
fn a_page_state_change_that_is_none_fails_at_once() {
    for operation in [0u64, 3, 4, 0xf] {
        let mut guest = Guest::new(CONFIG);
        assert_eq!(guest.exit(operation << 52 | 0x7014), Outcome::Resume);
        assert_eq!((guest.msr, guest.vm), (0x8000_0000_0000_0015, Vm::default()));
    }
    let mut guest = Guest::new(CONFIG);
    guest.vm.exits = false;
    assert_eq!(guest.exit(1 << 52 | 0x7014), Outcome::Resume);
    assert_eq!(guest.msr, 0x8000_0000_0000_0015);
}

/// sev.c, `sev_vcpu_deliver_sipi_vector`: the first SIPI is user space's, later ones end the hold.
#[test]
fn sipi_ends_a_hold() {
    let mut guest = Guest::new(CONFIG);
    for response in [0x007, 0x1007] {
        assert_eq!(guest.exit(0x006), Outcome::Resume);
        assert_eq!(guest.vm.log.pop().as_deref(), Some("hold"));
        guest.ghcb.sipi(&mut guest.msr);
        assert_eq!(guest.msr, response);
        guest.ghcb.before_entry(&mut guest.vm);
    }
    // One that does not wait for it keeps its MSR.
    guest.msr = 0x123;
    guest.ghcb.sipi(&mut guest.msr);
    assert_eq!(guest.msr, 0x123);
}

/// x86.c, `kvm_emulate_ap_reset_hold` without KVM's own local APIC.
#[test]
fn a_hold_without_kvms_local_apic_is_user_spaces() {
    let mut guest = Guest::new(CONFIG);
    guest.vm.local_apic = false;
    assert_eq!(guest.exit(0x006), Outcome::Exit(UserExit::ApResetHold));
    assert_eq!(guest.msr, 0x007);
    let mut guest = Guest::new(CONFIG);
    guest.vm.local_apic = false;
    assert_eq!(guest.ask(&Request::new(GhcbExit::AP_RESET_HOLD, 0, 0)), Outcome::Exit(UserExit::ApResetHold));
}

/// sev.c, `sev_es_vcpu_reset`.
#[test]
fn the_msr_after_a_reset_is_sev_information() {
    assert_eq!(Ghcb::reset_msr(&CONFIG), 0x0002_0001_3300_0001);
}
