//! x86.c, `kvm_fast_pio`, `kvm_sev_es_string_io`, `kvm_sev_es_mmio`; sev.c, `sev_es_string_io`.

use super::*;

/// SW_EXITINFO1 of IOIO.
fn ioio(port: u64, size: u64, input: bool, string: bool) -> u64 {
    port << 16 | size << 4 | u64::from(string) << 2 | u64::from(input)
}

#[test]
fn out_leaves_with_the_item() {
    let mut guest = Guest::new(CONFIG);
    for (size, data) in [(1, &[0x44][..]), (2, &[0x44, 0x33]), (4, &[0x44, 0x33, 0x22, 0x11])] {
        let info_1 = ioio(0x3f8, size, false, false);
        let request = Request { rax: Some(0x1122_3344), ..Request::new(GhcbExit::IOIO, info_1, 0) };
        let exit = UserExit::Io { port: 0x3f8, size: size as u8, input: false, count: 1, data: data.to_vec() };
        assert_eq!(guest.ask(&request), Outcome::Exit(exit));
        assert_eq!(guest.complete(Answer::Io(Vec::new())), Outcome::Resume);
        assert_eq!(guest.infos(), (0, 0));
    }
}

/// IN of one or two bytes leaves the rest of RAX as the guest gave it; of four, nothing.
#[test]
fn in_fills_rax() {
    let mut guest = Guest::new(CONFIG);
    let rax = Some(0xffff_ffff_ffff_ffff);
    for (size, rax, answer) in
        [(1, rax, 0xffff_ffff_ffff_ff41), (2, rax, 0xffff_ffff_ffff_4241), (4, rax, 0x4443_4241), (1, None, 0x41)]
    {
        let request = Request { rax, ..Request::new(GhcbExit::IOIO, ioio(0x3f8, size, true, false), 0) };
        let exit = UserExit::Io { port: 0x3f8, size: size as u8, input: true, count: 1, data: Vec::new() };
        assert_eq!(guest.ask(&request), Outcome::Exit(exit));
        assert_eq!(guest.complete(Answer::Io(b"ABCDEFGH"[..size as usize].to_vec())), Outcome::Resume);
        assert_eq!(guest.answer().rax, answer);
    }
}

#[test]
fn devices_of_kvm_need_no_user_space() {
    let mut guest = Guest::new(CONFIG);
    let out = Request { rax: Some(0x4241), ..Request::new(GhcbExit::IOIO, ioio(0x80, 2, false, false), 0) };
    assert_eq!(guest.ask(&out), Outcome::Resume);
    assert_eq!(guest.ask(&Request::new(GhcbExit::IOIO, ioio(0x80, 2, true, false), 0)), Outcome::Resume);
    assert_eq!(guest.answer().rax, 0x4241);

    let scratch = Some(BUFFER + 8);
    guest.put(BUFFER + 8, b"abcdefgh");
    let write = Request { scratch, ..Request::new(GhcbExit::MMIO_WRITE, 0xfee0_0300, 4) };
    assert_eq!(guest.ask(&write), Outcome::Resume);
    let read = Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::MMIO_READ, 0xfee0_0300, 4) };
    assert_eq!(guest.ask(&read), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    assert_eq!(guest.bytes(BUFFER, 12), b"abcd\0\0\0\0abcd");
}

/// Commits "KVM: SEV: Ignore Port I/O requests of length '0'", "Ignore MMIO requests of length '0'" (Linux 7.1).
#[test]
fn nothing_is_done_at_once() {
    let scratch = Some(BUFFER);
    for request in [
        Request { rax: Some(1), ..Request::new(GhcbExit::IOIO, ioio(0x3f8, 0, false, false), 0) },
        Request { scratch, ..Request::new(GhcbExit::IOIO, ioio(0x3f8, 0, true, true), 5) },
        Request { scratch, ..Request::new(GhcbExit::IOIO, ioio(0x3f8, 1, true, true), 0) },
        Request { scratch: Some(1), ..Request::new(GhcbExit::MMIO_READ, 0x1000_0000, 0) },
    ] {
        let mut guest = Guest::new(CONFIG);
        assert_eq!(guest.ask(&request), Outcome::Resume);
        assert_eq!(guest.infos(), (0, 0));
    }
}

/// sev.c, `sev_es_string_io`: more than fits an int.
#[test]
fn too_many_items_end_kvm_run() {
    for (size, count) in [(1, 0x8000_0000), (1, u64::MAX), (4, 0x2000_0000)] {
        let info_1 = ioio(0x3f8, size, false, true);
        let request = Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::IOIO, info_1, count) };
        assert_eq!(Guest::new(CONFIG).ask(&request), Outcome::Fail(Errno::EINVAL));
    }
}

#[test]
fn strings_go_through_the_scratch_area() {
    let mut guest = Guest::new(CONFIG);
    guest.put(BUFFER, b"hello");
    let outs = Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::IOIO, ioio(0x3f8, 1, false, true), 5) };
    let exit = UserExit::Io { port: 0x3f8, size: 1, input: false, count: 5, data: b"hello".to_vec() };
    assert_eq!(guest.ask(&outs), Outcome::Exit(exit));
    assert_eq!(guest.complete(Answer::Io(Vec::new())), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));

    let ins = Request { scratch: Some(BUFFER + 4), ..Request::new(GhcbExit::IOIO, ioio(0x3f8, 2, true, true), 3) };
    let exit = UserExit::Io { port: 0x3f8, size: 2, input: true, count: 3, data: Vec::new() };
    assert_eq!(guest.ask(&ins), Outcome::Exit(exit));
    assert_eq!(guest.complete(Answer::Io(b"AABBCC".to_vec())), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    assert_eq!(guest.bytes(BUFFER, 12), b"hellAABBCC\0\0");
}

/// User space gets a page of items at most.
#[test]
fn long_strings_leave_page_by_page() {
    let mut guest = Guest::new(SEV_ES);
    let text: Vec<u8> = (0..0x2800u32).map(|byte| (byte * 7) as u8).collect();
    guest.put(0x8000, &text);
    let outs = Request { scratch: Some(0x8000), ..Request::new(GhcbExit::IOIO, ioio(0x3f8, 2, false, true), 0x1400) };
    let mut outcome = guest.ask(&outs);
    for (count, data) in [(0x800, &text[..0x1000]), (0x800, &text[0x1000..0x2000]), (0x400, &text[0x2000..])] {
        let exit = UserExit::Io { port: 0x3f8, size: 2, input: false, count, data: data.to_vec() };
        assert_eq!(outcome, Outcome::Exit(exit));
        outcome = guest.complete(Answer::Io(Vec::new()));
    }
    assert_eq!(outcome, Outcome::Resume);

    let ins = Request { scratch: Some(0xa000), ..Request::new(GhcbExit::IOIO, ioio(0x3f8, 1, true, true), 0x1001) };
    assert!(matches!(guest.ask(&ins), Outcome::Exit(UserExit::Io { count: 0x1000, .. })));
    let last = guest.complete(Answer::Io(vec![0xaa; 0x1000]));
    assert!(matches!(last, Outcome::Exit(UserExit::Io { count: 1, .. })));
    assert_eq!(guest.complete(Answer::Io(vec![0xbb])), Outcome::Resume);
    guest.ghcb.before_entry(&mut guest.vm);
    assert_eq!(guest.bytes(0xaffe, 4), [0xaa, 0xaa, 0xbb, 0]);
}

#[test]
fn mmio_leaves_and_comes_back() {
    let mut guest = Guest::new(CONFIG);
    guest.put(BUFFER, b"abcdefgh");
    let write = Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::MMIO_WRITE, 0x1000_0000, 3) };
    let exit = UserExit::Mmio { gpa: 0x1000_0000, len: 3, data: Some(*b"abc\0\0\0\0\0") };
    assert_eq!(guest.ask(&write), Outcome::Exit(exit));
    assert_eq!(guest.complete(Answer::Mmio([0xff; 8])), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    assert_eq!(guest.bytes(BUFFER, 8), b"abcdefgh");

    let read = Request { scratch: Some(BUFFER), ..Request::new(GhcbExit::MMIO_READ, 0x1000_0000, 4) };
    assert_eq!(guest.ask(&read), Outcome::Exit(UserExit::Mmio { gpa: 0x1000_0000, len: 4, data: None }));
    assert_eq!(guest.complete(Answer::Mmio(*b"ABCDEFGH")), Outcome::Resume);
    assert_eq!(guest.infos(), (0, 0));
    assert_eq!(guest.bytes(BUFFER, 8), b"ABCDefgh");
}

/// Version 1: any length up to 16 pages, eight bytes at a time, through memory outside of the GHCB.
#[test]
fn long_mmio_leaves_in_pieces() {
    let mut guest = Guest::new(SEV_ES);
    let read = Request { scratch: Some(0x8000), ..Request::new(GhcbExit::MMIO_READ, 0x1000_0000, 20) };
    let mut outcome = guest.ask(&read);
    for (gpa, len, data) in
        [(0x1000_0000, 8, b"01234567"), (0x1000_0008, 8, b"89abcdef"), (0x1000_0010, 4, b"ghijklmn")]
    {
        assert_eq!(outcome, Outcome::Exit(UserExit::Mmio { gpa, len, data: None }));
        outcome = guest.complete(Answer::Mmio(*data));
    }
    assert_eq!(outcome, Outcome::Resume);
    guest.ghcb.before_entry(&mut guest.vm);
    assert_eq!(guest.bytes(0x8000, 21), b"0123456789abcdefghij\0");
}
