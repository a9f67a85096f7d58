//! The larger guests are what their source says: code that decodes, tables that lead where they should. That they also do what
//! they should is tested where they run: `snp run`, crates/snp-cli/tests/run.rs.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use snp_abi::{PAGE_SIZE, PageType, Vmsa};
use snp_guests::{Guest, NAMES, find};
use zerocopy::FromBytes;

const C_BIT: u64 = 1 << 51;
const ALIAS: u64 = 1 << 30;
const TEMPLATE: u64 = 0x10_e000;

fn programs() -> impl Iterator<Item = Guest> {
    NAMES.iter().filter(|name| **name != "hello").filter_map(|name| find(name))
}

fn page(guest: &Guest, gpa: u64) -> &[u8] {
    &guest.pages.iter().find(|page| page.gpa.0 == gpa).unwrap_or_else(|| panic!("{}: {gpa:#x}", guest.name)).data
}

fn entry(guest: &Guest, table: u64, index: u64) -> u64 {
    let at = index as usize * 8;
    u64::from_le_bytes(page(guest, table)[at..at + 8].try_into().unwrap())
}

/// Follows the code from an address on, through calls and both sides of branches.
fn reachable(guest: &Guest, from: &[u64]) -> Vec<Instruction> {
    let start = guest.vmsa.rip;
    let pages = guest.pages.iter().filter(|page| page.gpa.0 >= start && page.gpa.0 < start + 4 * PAGE_SIZE as u64);
    let code: Vec<u8> = pages.flat_map(|page| page.data.clone()).collect();
    let (mut seen, mut todo, mut found) = (BTreeSet::new(), from.to_vec(), Vec::new());
    while let Some(at) = todo.pop() {
        if !seen.insert(at) {
            continue;
        }
        let offset = usize::try_from(at - start).unwrap();
        let instruction = Decoder::with_ip(64, &code[offset..], at, DecoderOptions::NONE).decode();
        assert!(!instruction.is_invalid(), "{}: {at:#x}", guest.name);
        match instruction.flow_control() {
            // The decoder counts VMGEXIT among the calls.
            FlowControl::Call if instruction.mnemonic() == Mnemonic::Vmgexit => todo.push(instruction.next_ip()),
            FlowControl::UnconditionalBranch => todo.push(instruction.near_branch_target()),
            FlowControl::ConditionalBranch | FlowControl::Call => {
                todo.extend([instruction.next_ip(), instruction.near_branch_target()]);
            }
            FlowControl::Return | FlowControl::IndirectBranch => {}
            _ => todo.push(instruction.next_ip()),
        }
        found.push(instruction);
    }
    found.sort_by_key(Instruction::ip);
    // Nothing is reached in the middle of something else.
    for pair in found.windows(2) {
        assert!(pair[0].next_ip() <= pair[1].ip(), "{}: {:#x}", guest.name, pair[1].ip());
    }
    found
}

/// Where the exception handlers begin, by the descriptor table.
fn handlers(guest: &Guest) -> Vec<u64> {
    let gate = |vector: u64| {
        let (low, high) =
            (entry(guest, guest.vmsa.idtr.base, 2 * vector), entry(guest, guest.vmsa.idtr.base, 2 * vector + 1));
        assert_eq!(low >> 32 & 0xffff, 0x8e00, "a present 64-bit interrupt gate");
        assert_eq!(low >> 16 & 0xffff, 8, "the code segment");
        low & 0xffff | low >> 48 << 16 | high << 32
    };
    (0..32).map(gate).collect()
}

#[test]
fn every_path_decodes() {
    for guest in programs() {
        let code = reachable(&guest, &[guest.vmsa.rip]);
        let has = |mnemonic| code.iter().any(|instruction| instruction.mnemonic() == mnemonic);
        assert!(has(Mnemonic::Vmgexit) && has(Mnemonic::Pvalidate), "{}", guest.name);
        assert_eq!(has(Mnemonic::Rmpadjust), guest.name != "report", "{}", guest.name);
        // What a hypervisor intercepts would raise #VC, which the programs only expect where they provoke it.
        for instruction in &code {
            let intercepted = [Mnemonic::Hlt, Mnemonic::Cpuid, Mnemonic::Out, Mnemonic::In, Mnemonic::Vmmcall];
            assert!(!intercepted.contains(&instruction.mnemonic()), "{}: {:#x}", guest.name, instruction.ip());
        }
    }
}

#[test]
fn every_exception_has_its_handler() {
    for guest in programs() {
        let handlers = handlers(&guest);
        reachable(&guest, &handlers);
        for (vector, handler) in (0..).zip(&handlers) {
            let code = reachable(&guest, &[*handler]);
            let pushed = code.iter().take_while(|i| i.mnemonic() == Mnemonic::Push).count();
            let stub: Vec<_> = code.iter().filter(|i| i.ip() >= *handler).take(2).collect();
            let error_code = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30].contains(&vector);
            let number = stub[usize::from(!error_code)];
            assert_eq!((number.mnemonic(), number.immediate64()), (Mnemonic::Push, vector), "{}", guest.name);
            assert!(pushed <= 2);
        }
    }
}

/// Walks the page tables: every launched page is mapped at its own address with the C-bit and above without.
#[test]
fn pages_are_mapped_twice() {
    for guest in programs() {
        let walk = |address: u64| {
            let mut table = guest.vmsa.cr3;
            for level in (1..4).rev() {
                assert_ne!(table & C_BIT, 0, "page tables are encrypted");
                table = entry(&guest, table & 0x0007_ffff_ffff_f000, address >> (12 + 9 * level) & 0x1ff);
                assert_eq!(table & 3, 3, "present and writable");
            }
            assert_ne!(table & 1 << 7, 0, "a large page");
            (table & 0x0007_ffff_ffe0_0000 | address & 0x1f_ffff, table & C_BIT != 0)
        };
        let (start, len) = guest.memory;
        for address in (start.0..start.0 + len).step_by(PAGE_SIZE) {
            assert_eq!(walk(address), (address, true), "{}", guest.name);
            assert_eq!(walk(address + ALIAS), (address, false), "{}", guest.name);
        }
    }
}

/// The template of the other processors' VMSAs starts a processor as the boot processor's does.
#[test]
fn the_template_is_a_vmsa() {
    let guest = find("smp").unwrap();
    let template = Vmsa::read_from_bytes(page(&guest, TEMPLATE)).unwrap();
    assert_eq!(snp_vmsa::check::vmrun_findings(&template), []);
    assert_ne!(template.rip, guest.vmsa.rip);
    assert_eq!(Vmsa { rip: guest.vmsa.rip, ..template }, *guest.vmsa);
    reachable(&guest, &[template.rip]);
}

/// The parameter page is all in which the modes differ.
#[test]
fn parameters_are_measured() {
    let modes: Vec<_> = programs().filter(|guest| guest.name.starts_with("probe:")).collect();
    let parameters: BTreeSet<_> = modes.iter().map(|guest| page(guest, 0x10_d000).to_vec()).collect();
    assert_eq!(parameters.len(), modes.len());
    let differing = |a: &Guest, b: &Guest| -> Vec<u64> {
        assert_eq!(a.pages.len(), b.pages.len());
        a.pages.iter().zip(&b.pages).filter(|(a, b)| a.data != b.data).map(|(a, _)| a.gpa.0).collect()
    };
    for mode in &modes[1..] {
        assert_eq!(differing(&modes[0], mode), [0x10_d000]);
    }
    assert_eq!(differing(&find("smp").unwrap(), &find("smp:3").unwrap()), [0x10_d000]);
    assert!(modes.iter().all(|guest| guest.pages.iter().all(|page| page.page_type != PageType::VMSA)));
}
