//! The example guest is what its source says, and keeps the rules of a portable image.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use snp_abi::{PAGE_SIZE, PageType, SevFeatures};
use snp_guests::{Guest, NAMES, find};

fn hello() -> Guest {
    find("hello").expect("hello is among the guests")
}

#[test]
fn names_are_found_and_others_are_not() {
    for name in NAMES {
        assert_eq!(find(name).map(|guest| guest.name).as_deref(), Some(*name));
    }
    for unknown in ["goodbye", "hello:1", "smp:", "smp:-1", "probe", "probe:", "probe:other", ""] {
        assert!(find(unknown).is_none(), "{unknown}");
    }
}

#[test]
fn the_image_is_portable() {
    for guest in NAMES.iter().filter_map(|name| find(name)) {
        assert!(guest.vmsa_gpa.is_page_aligned() && !guest.vmsa_gpa.is_2mib_aligned());
        assert_eq!(guest.vmsa.sev_features, SevFeatures(SevFeatures::SNP_ACTIVE));
        assert_eq!((guest.vmsa.tsc_scale, guest.vmsa.tsc_offset), (0, 0));
        let (start, len) = guest.memory;
        let mut last = None;
        for page in &guest.pages {
            assert!(page.gpa >= start && page.gpa.0 + PAGE_SIZE as u64 <= start.0 + len, "{}", page.gpa);
            assert!(last < Some(page.gpa), "pages ascend");
            last = Some(page.gpa);
            let expected = if page.page_type == PageType::NORMAL { PAGE_SIZE } else { 0 };
            assert_eq!(page.data.len(), expected, "{}", page.gpa);
        }
        assert!(last < Some(guest.vmsa_gpa), "the VMSA comes after every page");
    }
}

/// The code page, decoded by another half of the assembler's crate, does what the source says in its order.
#[test]
fn the_code_speaks_to_the_hypervisor() {
    let guest = hello();
    let code = guest.pages.iter().find(|page| page.gpa.0 == guest.vmsa.rip).expect("RIP is in a launched page");
    let decoder = Decoder::with_ip(64, &code.data, guest.vmsa.rip, DecoderOptions::NONE);
    let program: Vec<_> =
        decoder.into_iter().take_while(|instruction| instruction.mnemonic() != Mnemonic::Add).collect();
    let count = |mnemonic| program.iter().filter(|instruction| instruction.mnemonic() == mnemonic).count();
    // Page-state change, registration, output, and three ends: each writes the GHCB MSR and leaves.
    assert_eq!((count(Mnemonic::Vmgexit), count(Mnemonic::Wrmsr), count(Mnemonic::Rdmsr)), (6, 6, 5));
    let immediates: Vec<u64> =
        program.iter().filter(|i| i.mnemonic() == Mnemonic::Mov).map(|i| i.immediate64()).collect();
    for expected in [
        0x0020_0000_0010_a014,
        0x0010_a012,
        0x0010_a013,
        0x7b,
        0x03f8_0210,
        1 << 63,
        7 << 50,
        0x100,
        0x1_1100,
        0x2_1100,
    ] {
        assert!(immediates.contains(&expected), "{expected:#x}");
    }
    assert!(program.iter().all(|instruction| !instruction.is_invalid()));
    // VMGEXIT is REP VMMCALL: without the prefix it would be an ordinary hypercall.
    assert!(code.data.windows(4).any(|bytes| bytes == [0xf3, 0x0f, 0x01, 0xd9]));
}

/// A hypervisor clears the valid bitmap and answers in the request's fields, so each byte needs all of them anew: a loop that
/// wrote them once would print one byte.
#[test]
fn every_byte_fills_the_whole_request() {
    let guest = hello();
    let code = guest.pages.iter().find(|page| page.gpa.0 == guest.vmsa.rip).unwrap();
    let program: Vec<_> = Decoder::with_ip(64, &code.data, guest.vmsa.rip, DecoderOptions::NONE)
        .into_iter()
        .take_while(|instruction| instruction.mnemonic() != Mnemonic::Add)
        .collect();
    let is_loop = |i: &&iced_x86::Instruction| i.mnemonic() == Mnemonic::Jmp && i.near_branch_target() < i.ip();
    let jump = program.iter().find(is_loop).expect("a loop over the text");
    let body = program.iter().filter(|i| (jump.near_branch_target()..jump.ip()).contains(&i.ip()));
    let stored: Vec<u64> = body
        .clone()
        .filter(|i| i.mnemonic() == Mnemonic::Mov && i.memory_base() == iced_x86::Register::RBX)
        .map(|i| i.memory_displacement64())
        .collect();
    assert_eq!(stored, [0x1f8, 0x390, 0x398, 0x3a0, 0x3f0, 0x3f8, 0xffa, 0xffc]);
    assert_eq!(body.filter(|i| i.mnemonic() == Mnemonic::Vmgexit).count(), 1);
}

#[test]
fn the_vmsa_is_one_that_a_processor_runs() {
    use snp_vmsa::check::{LaunchRules, launch_findings, vmrun_findings};
    for guest in NAMES.iter().filter_map(|name| find(name)) {
        assert_eq!(vmrun_findings(&guest.vmsa), []);
        for rules in [LaunchRules::DirectVmsa, LaunchRules::VcpuState] {
            assert_eq!(launch_findings(&guest.vmsa, Some(guest.vmsa_gpa), guest.features, rules), []);
        }
    }
}

/// Walks the guest's own page tables: everything it touches is mapped, encrypted but for the GHCB.
#[test]
fn the_page_tables_map_the_guest() {
    const C_BIT: u64 = 1 << 51;
    let guest = hello();
    let entry = |table: u64, index: u64| {
        let page = guest.pages.iter().find(|page| page.gpa.0 == table).expect("the table is a launched page");
        let at = index as usize * 8;
        u64::from_le_bytes(page.data[at..at + 8].try_into().unwrap())
    };
    let walk = |address: u64| {
        let mut table = guest.vmsa.cr3;
        for level in (0..4).rev() {
            assert_ne!(table & C_BIT, 0, "page tables are encrypted");
            table = entry(table & 0x0007_ffff_ffff_f000, address >> (12 + 9 * level) & 0x1ff);
            assert_eq!(table & 3, 3, "present and writable");
        }
        table
    };
    for page in &guest.pages {
        assert_eq!(walk(page.gpa.0), page.gpa.0 | C_BIT | 3);
    }
    assert_eq!(walk(0x10_a000), 0x10_a000 | 3, "the GHCB is shared");
}
