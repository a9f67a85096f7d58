//! sev.c, `snp_begin_psc`, `snp_complete_one_psc`; GHCB, "SNP Page State Change".

use super::*;

const SHARED: u64 = 2 << 52;
const PRIVATE: u64 = 1 << 52;
const SMASH: u64 = 3 << 52;
const LARGE: u64 = 1 << 56;

/// Puts a list into the shared buffer and asks for it.
fn ask(guest: &mut Guest, current: u16, last: u16, entries: &[u64]) -> Outcome {
    let header = u64::from(current) | u64::from(last) << 16;
    let list: Vec<u8> = [header].iter().chain(entries).flat_map(|word| word.to_le_bytes()).collect();
    guest.put(BUFFER, &list);
    guest.ask(&Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::PSC, 0, 0) })
}

/// The list as the guest finds it: current entry, last entry, entries.
fn list(guest: &mut Guest, count: usize) -> (u64, Vec<u64>) {
    guest.ghcb.before_entry(&mut guest.vm);
    let bytes = guest.bytes(BUFFER, 8 + 8 * count);
    let mut words = bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    (words.next().unwrap(), words.collect())
}

fn map(gpa: u64, pages: u64, flags: u64) -> Outcome {
    Outcome::Exit(UserExit::Hypercall { nr: 12, args: [gpa, pages, flags, 0, 0, 0], flags: None })
}

#[test]
fn neighbours_leave_together() {
    let mut guest = Guest::new(CONFIG);
    let entries = [
        0x7000 | SHARED,
        0x8000 | SHARED,
        // Another operation, a gap, a large page, its neighbour, a small one after it.
        0x9000 | PRIVATE,
        0xb000 | PRIVATE,
        0x20_0000 | PRIVATE | LARGE,
        0x40_0000 | PRIVATE | LARGE,
        0x60_0000 | PRIVATE,
    ];
    let mut outcome = ask(&mut guest, 0, 6, &entries);
    for exit in [
        map(0x7000, 2, 0),
        map(0x9000, 1, 0x10),
        map(0xb000, 1, 0x10),
        map(0x20_0000, 1024, 0x11),
        map(0x60_0000, 1, 0x10),
    ] {
        assert_eq!(outcome, exit);
        outcome = guest.complete(Answer::Hypercall(0));
    }
    assert_eq!(outcome, Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    let done = entries.map(|entry| entry | if entry & LARGE != 0 { 512 } else { 1 });
    assert_eq!(list(&mut guest, 7), (7 | 6 << 16, done.to_vec()));
}

/// Pages of an entry that are done are left out; a large page that was begun goes on in small ones, and alone.
#[test]
fn a_list_can_be_gone_on_with() {
    let mut guest = Guest::new(CONFIG);
    let entries = [0x7001 | SHARED, 0x20_0003 | SHARED | LARGE, 0x40_0000 | SHARED | LARGE, 0x9000 | SHARED];
    // KVM looks at the header's current entry first, so that entries before it are none of its business.
    let mut outcome = ask(&mut guest, 1, 3, &entries);
    // The size that user space is told is the entry's.
    for exit in [map(0x20_3000, 509, 1), map(0x40_0000, 512, 1), map(0x9000, 1, 0)] {
        assert_eq!(outcome, exit);
        outcome = guest.complete(Answer::Hypercall(0));
    }
    assert_eq!((outcome, guest.infos()), (Outcome::Resume, (0, 0)));
    let done = [entries[0], 0x20_0200 | SHARED | LARGE, 0x40_0200 | SHARED | LARGE, 0x9001 | SHARED];
    assert_eq!(list(&mut guest, 4), (4 | 3 << 16, done.to_vec()));
}

#[test]
fn nothing_left_is_success() {
    for (current, last, entries) in [(0, 1, [0x7001 | SHARED, 0x20_0200 | SHARED | LARGE]), (2, 1, [0, 0])] {
        let mut guest = Guest::new(CONFIG);
        assert_eq!(ask(&mut guest, current, last, &entries), Outcome::Resume);
        assert_eq!(guest.infos(), (0, 0));
        assert_eq!(list(&mut guest, 2), (2 | 1 << 16, entries.to_vec()));
    }
}

/// An operation that is neither private nor shared counts as done: KVM has nothing to do for it.
#[test]
fn smashing_is_nothing_to_kvm() {
    let mut guest = Guest::new(CONFIG);
    let entries = [0x20_0000 | SMASH | LARGE, 0x7000 | PRIVATE];
    assert_eq!(ask(&mut guest, 0, 1, &entries), map(0x7000, 1, 0x10));
    assert_eq!(guest.complete(Answer::Hypercall(0)), Outcome::Resume);
    assert_eq!(list(&mut guest, 2), (2 | 1 << 16, vec![entries[0] | 512, entries[1] | 1]));
}

/// VMGEXIT_PSC_ERROR_INVALID_ENTRY: what came before stays done, and the header points at the bad entry.
#[test]
fn a_bad_entry_ends_the_list() {
    for bad in [
        // A large page that is not aligned; more pages done than there are.
        0x20_1000 | SHARED | LARGE,
        0x7002 | SHARED,
        0x20_0201 | SHARED | LARGE,
    ] {
        let mut guest = Guest::new(CONFIG);
        assert_eq!(ask(&mut guest, 0, 2, &[0x9000 | SHARED, bad, 0xa000 | PRIVATE]), map(0x9000, 1, 0));
        assert_eq!(guest.complete(Answer::Hypercall(0)), Outcome::Resume);
        assert_eq!(guest.infos(), (0, 1 << 32 | 2));
        assert_eq!(list(&mut guest, 3), (1 | 2 << 16, vec![0x9001 | SHARED, bad, 0xa000 | PRIVATE]));
    }
}

/// VMGEXIT_PSC_ERROR_INVALID_HDR: the last entry lies past the scratch area, which reaches to the shared buffer's end.
#[test]
fn a_list_longer_than_its_place_is_refused() {
    let mut guest = Guest::new(CONFIG);
    for (scratch, room) in [(BUFFER, 253u64), (BUFFER + 16, 251), (BUFFER + 0x7e8, 0)] {
        for (last, infos) in [(room, (0, 1 << 32 | 1)), (0xffff, (0, 1 << 32 | 1))] {
            guest.put(BUFFER, &[0; 0x7f0]);
            guest.put(scratch, &(last << 16).to_le_bytes());
            let request = Request { scratch: Some(scratch), ..Request::new(GhcbExit::PSC, 0, 0) };
            assert_eq!(guest.ask(&request), Outcome::Resume);
            assert_eq!(guest.infos(), infos);
        }
    }
    // The longest list.
    let entries: Vec<u64> = (0..253).map(|page| (0x10_0000 + page * 0x1000) | SHARED).collect();
    assert_eq!(ask(&mut guest, 0, 252, &entries), map(0x10_0000, 253, 0));
}

/// VMGEXIT_PSC_ERROR_GENERIC.
#[test]
fn user_space_may_refuse() {
    let mut guest = Guest::new(CONFIG);
    let entries = [0x7000 | SHARED, 0x9000 | SHARED];
    assert_eq!(ask(&mut guest, 0, 1, &entries), map(0x7000, 1, 0));
    assert_eq!(guest.complete(Answer::Hypercall(22u64.wrapping_neg())), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0x100 << 32));
    assert_eq!(list(&mut guest, 2), (1 << 16, entries.to_vec()));

    guest.vm.exits = false;
    assert_eq!(ask(&mut guest, 0, 1, &entries), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0x100 << 32));
}
