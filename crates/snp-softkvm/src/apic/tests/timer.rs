//! lapic.c: `start_apic_timer`, `apic_get_tmcct`, `kvm_set_lapic_tscdeadline_msr`. Two time-stamps are a nanosecond here.

use super::*;

const PERIODIC: u32 = 1 << 17;
const DEADLINE: u32 = 2 << 17;

#[test]
fn one_shot() {
    let mut apic = apic(0);
    set(&mut apic, LVT_TIMER, 0x40);
    // Divided by 2 after a reset: 100 counts are 200 ns.
    let _ = apic.write_page(INITIAL, &100u32.to_le_bytes(), 1000);
    assert_eq!(apic.next_event(), Some(1400));
    assert_eq!([1000, 1200, 1399, 1400, 9000].map(|tsc| read(&apic, CURRENT, tsc)), [100, 50, 0, 0, 0]);
    assert!(!apic.advance(1399));
    assert!(apic.advance(1400));
    assert_eq!((apic.pending(), apic.next_event()), (Some(0x40), None));
    assert!(!apic.advance(5000));
    // An initial count of zero stops it.
    set(&mut apic, INITIAL, 100);
    set(&mut apic, INITIAL, 0);
    assert_eq!(apic.next_event(), None);
}

#[test]
fn dividers() {
    for (register, divider) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        let mut apic = apic(0);
        set(&mut apic, DIVIDE, register);
        set(&mut apic, INITIAL, 50);
        assert_eq!(apic.next_event(), Some(50 * 2 * divider));
    }
    // A count that is under way goes on with the new one.
    let mut apic = apic(0);
    set(&mut apic, INITIAL, 1000);
    let _ = apic.write_page(DIVIDE, &3u32.to_le_bytes(), 2000);
    assert_eq!((apic.next_event(), read(&apic, CURRENT, 2000)), (Some(18_000), 500));
}

/// `limit_periodic_timer_frequency`: at least 200 µs. Periods that were missed count once.
#[test]
fn periodic() {
    let mut apic = apic(0);
    set(&mut apic, LVT_TIMER, 0x40 | PERIODIC);
    set(&mut apic, INITIAL, 10);
    assert_eq!(apic.next_event(), Some(400_000));
    set(&mut apic, INITIAL, 200_000);
    assert_eq!(apic.next_event(), Some(800_000));
    assert!(apic.advance(800_000) && !apic.advance(800_001));
    assert_eq!(apic.next_event(), Some(1_600_000));
    assert!(apic.advance(4_100_000) && !apic.advance(4_100_000));
    assert_eq!(apic.next_event(), Some(4_800_000));
}

#[test]
fn masked_timers_are_silent() {
    let mut apic = apic(0);
    set(&mut apic, LVT_TIMER, 0x1_0040);
    set(&mut apic, INITIAL, 100);
    assert!(apic.advance(1000));
    assert_eq!(apic.pending(), None);
}

#[test]
fn deadlines() {
    let mut apic = apic(0);
    // Not in that mode: nothing.
    apic.set_tsc_deadline(5000);
    assert_eq!((apic.tsc_deadline(), apic.next_event()), (0, None));
    set(&mut apic, LVT_TIMER, 0x40 | DEADLINE);
    apic.set_tsc_deadline(5000);
    assert_eq!((apic.tsc_deadline(), apic.next_event()), (5000, Some(5000)));
    // The counting registers are dead meanwhile.
    set(&mut apic, INITIAL, 77);
    assert_eq!((read(&apic, INITIAL, 0), read(&apic, CURRENT, 0), apic.next_event()), (0, 0, Some(5000)));
    assert!(apic.advance(6000));
    assert_eq!((apic.pending(), apic.tsc_deadline(), apic.next_event()), (Some(0x40), 0, None));
    // 0 disarms, and so does another mode.
    apic.set_tsc_deadline(7000);
    apic.set_tsc_deadline(0);
    assert_eq!(apic.next_event(), None);
    apic.set_tsc_deadline(7000);
    set(&mut apic, LVT_TIMER, 0x40);
    assert_eq!((apic.next_event(), apic.tsc_deadline()), (None, 0));
    // One-shot to periodic goes on, as in KVM.
    set(&mut apic, INITIAL, 1_000_000);
    set(&mut apic, LVT_TIMER, 0x40 | PERIODIC);
    assert_eq!(apic.next_event(), Some(4_000_000));
}

#[test]
fn counts_do_not_overflow() {
    let mut apic = apic(0);
    set(&mut apic, DIVIDE, 10);
    let _ = apic.write_page(INITIAL, &u32::MAX.to_le_bytes(), u64::MAX - 5);
    assert_eq!(apic.next_event(), Some(u64::MAX));
    assert!(!apic.advance(u64::MAX - 1));
    let _ = read(&apic, CURRENT, 0);
}
