//! Anything may be in the MSR and in the page.

use proptest::prelude::*;

use super::*;

/// An answer that fits what user space was asked.
fn answer(exit: &UserExit, word: u64) -> Answer {
    match exit {
        UserExit::Io { input: true, size, count, .. } => {
            Answer::Io(vec![word as u8; *count as usize * usize::from(*size)])
        }
        UserExit::Io { .. } => Answer::Io(Vec::new()),
        UserExit::Mmio { .. } => Answer::Mmio(word.to_le_bytes()),
        UserExit::Hypercall { .. } => Answer::Hypercall(if word & 7 == 0 { word } else { 0 }),
        UserExit::RequestCertificates { .. } => Answer::Certificates { ret: word & 0x1f, pages: word },
        UserExit::ReadMsr { .. } | UserExit::WriteMsr { .. } => Answer::Msr((word & 1 == 0).then_some(word)),
        UserExit::SevTermination { .. } | UserExit::ApResetHold | UserExit::UnexpectedExit { .. } => {
            Answer::Hypercall(0)
        }
    }
}

/// Goes on until the guest runs again or KVM_RUN fails; how often user space was asked.
fn run(guest: &mut Guest, mut outcome: Outcome, word: u64) -> usize {
    let mut exits = 0;
    while let Outcome::Exit(exit) = outcome {
        exits += 1;
        outcome = guest.complete(answer(&exit, word));
    }
    guest.ghcb.before_entry(&mut guest.vm);
    exits
}

fn configs() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), 1u16..=2).prop_map(|(snp, certificates, version)| Config {
        snp,
        version: if snp { 2 } else { version },
        apic_id_list: certificates,
        request_certificates: certificates,
        ..CONFIG
    })
}

fn codes() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![0x27, 0x37, 0x6e, 0x6f, 0x72, 0x76, 0x7b, 0x7c, 0x81, 0x87, 0x89, 0x8a, 0x8b]),
        0x8000_0001..0x8000_001bu64,
        0x8000_fffc..=0x8000_ffffu64,
        any::<u64>(),
    ]
}

/// Numbers of which many mean something.
fn words() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..0x40,
        (0u64..16).prop_map(|page| page << 12),
        (0u64..0x900).prop_map(|at| BUFFER - 0x80 + at),
        (0u64..16, 0u64..0x1_0000).prop_map(|(port, flags)| (0x78 + port) << 16 | flags),
    ]
}

proptest! {
    /// No value of the MSR panics, loops or touches memory but for the page that it names.
    #[test]
    fn any_msr(config in configs(), msr in prop_oneof![any::<u64>(), (0u64..1 << 52, 0u64..0x120).prop_map(|(gfn, low)| gfn << 12 | low)], word in any::<u64>()) {
        let mut guest = Guest::new(config);
        let outcome = guest.exit(msr);
        prop_assert!(run(&mut guest, outcome, word) <= 1);
    }

    /// No page does, whatever is in it.
    #[test]
    fn any_page(
        config in configs(),
        code in codes(),
        infos in (words(), words()),
        registers in prop::array::uniform4(words()),
        scratch in words(),
        invalid in prop::option::of(0u32..128),
        buffer in prop::collection::vec(any::<u64>(), 254),
        word in any::<u64>(),
    ) {
        let mut guest = Guest::new(config);
        let list: Vec<u8> = buffer.iter().flat_map(|word| word.to_le_bytes()).collect();
        guest.put(BUFFER, &list);
        let [rax, rbx, rcx, rdx] = registers.map(Some);
        let request = Request {
            rax, rbx, rcx, rdx, rsi: Some(word), cpl: Some(0), xcr0: Some(7), scratch: Some(scratch),
            ..Request::new(GhcbExit(code), infos.0, infos.1)
        };
        let mut page = request.page();
        if let Some(bit) = invalid {
            let bitmap = u128::from_le_bytes(page.valid_bitmap) & !(1 << bit);
            page.valid_bitmap = bitmap.to_le_bytes();
        }
        guest.put(GHCB, &page.as_bytes()[..0x800]);
        guest.put(GHCB + 0xff0, &page.as_bytes()[0xff0..]);
        let outcome = guest.exit(GHCB);
        // The longest of all is MMIO of 16 pages in pieces of eight bytes.
        prop_assert!(run(&mut guest, outcome, word) <= 8192);
    }

    /// Page-state changes of any list end, and every page that is handed out is aligned to what it says.
    #[test]
    fn any_list(
        header in (0u16..4, 0u16..260),
        entries in prop::collection::vec((0u64..8, prop_oneof![Just(0u64), Just(512), any::<u64>()], 0u64..5, any::<bool>(), any::<bool>()), 16),
        word in any::<u64>(),
    ) {
        let mut guest = Guest::new(CONFIG);
        let head = u64::from(header.0) | u64::from(header.1) << 16;
        let words = entries.iter().map(|(done, gfn, operation, large, done_too)| {
            (if *done_too { *done } else { 0 }) | (gfn & 0xff_ffff_ffff) << 12 | operation << 52 | u64::from(*large) << 56
        });
        let list: Vec<u8> = std::iter::once(head).chain(words).flat_map(|word| word.to_le_bytes()).collect();
        guest.put(BUFFER, &list);
        let request = Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::PSC, 0, 0) };
        let mut outcome = guest.ask(&request);
        let mut exits = 0;
        while let Outcome::Exit(UserExit::Hypercall { args: [gpa, pages, flags, ..], .. }) = outcome {
            exits += 1;
            prop_assert!(exits <= 253 && pages >= 1 && gpa % 0x1000 == 0 && flags & !0x11 == 0);
            outcome = guest.complete(Answer::Hypercall(if word & 0xf == 0xf { 1 } else { 0 }));
        }
        prop_assert_eq!(outcome, Outcome::Resume);
        prop_assert_eq!(guest.infos().0, 0);
    }
}
