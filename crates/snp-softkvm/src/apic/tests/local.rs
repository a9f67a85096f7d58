//! lapic.c: registers, modes, priorities.

use super::*;

/// `kvm_lapic_reset`.
#[test]
fn after_a_reset() {
    let apic = LocalApic::new(3, false, KHZ);
    assert_eq!(apic.base(), 0xfee0_0800);
    assert_eq!(LocalApic::new(0, true, KHZ).base(), 0xfee0_0900);
    for (offset, value) in [
        (0x20, 3 << 24),
        (0x30, 0x5_0014),
        (TPR, 0),
        (LDR, 0),
        (DFR, u32::MAX),
        (SVR, 0xff),
        (LVT_TIMER, 0x1_0000),
        (0x350, 0x1_0000),
        (CURRENT, 0),
    ] {
        assert_eq!(read(&apic, offset, 0), value, "{offset:#x}");
    }
    // The bootstrap processor's LINT0 takes external interrupts: KVM_X86_QUIRK_LINT0_REENABLED.
    assert_eq!(read(&LocalApic::new(0, true, KHZ), 0x350, 0), 0x700);
}

/// `kvm_lapic_reg_write`: which bits are kept.
#[test]
fn registers_keep_their_bits() {
    for (offset, value, kept) in [
        (0x20, 0x1234_5678, 0x1200_0000),
        (TPR, 0xffff_ff35, 0x35),
        (LDR, 0x1234_5678, 0x1200_0000),
        (DFR, 0, 0x0fff_ffff),
        (SVR, 0xffff_ffff, 0x3ff),
        (ICR_HIGH, 0x1234_5678, 0x1200_0000),
        (LVT_TIMER, u32::MAX, 0x7_10ff),
        (0x330, u32::MAX, 0x1_17ff),
        (0x340, u32::MAX, 0x1_17ff),
        (0x350, u32::MAX, 0x1_f7ff),
        (0x360, u32::MAX, 0x1_f7ff),
        (0x370, u32::MAX, 0x1_10ff),
        (DIVIDE, u32::MAX, 0xb),
        // Read-only, reserved, and the error status that KVM does not keep.
        (0x30, u32::MAX, 0x5_0014),
        (0xa0, 5, 0),
        (0x100, 5, 0),
        (0x280, 5, 0),
    ] {
        let mut apic = apic(0);
        assert_eq!(write(&mut apic, offset, value), Effect::default());
        assert_eq!(read(&apic, offset, 0), kept, "{offset:#x}");
    }
}

/// `apic_mmio_write`, `kvm_lapic_reg_read`: whole aligned registers are written, parts of one are read.
#[test]
fn accesses_by_parts() {
    let mut apic = apic(0);
    for (offset, data) in [(TPR, &[1][..]), (TPR, &[1, 2]), (TPR, &[0; 8]), (TPR + 4, &[1; 4]), (0x400, &[1; 4])] {
        assert_eq!(apic.write_page(offset, data, 0), Effect::default());
    }
    assert_eq!(read(&apic, TPR, 0), 0);
    let mut byte = [0xaa];
    apic.read_page(0x32, &mut byte, 0);
    assert_eq!(byte, [0x05]);
    let mut across = [0xaa; 4];
    apic.read_page(0x32, &mut across, 0);
    assert_eq!(across, [0xaa; 4]);
}

/// `apic_set_spiv`: switched off by software it masks its local vectors and takes nothing.
#[test]
fn off_by_software() {
    let mut apic = apic(0);
    set(&mut apic, 0x350, 0x30);
    set(&mut apic, SVR, 0xff);
    assert_eq!(read(&apic, 0x350, 0), 0x1_0030);
    set(&mut apic, 0x350, 0x31);
    assert_eq!(read(&apic, 0x350, 0), 0x1_0031);
    assert!(!apic.accept(&fixed(0x41, false)));
    // NMI, INIT and SIPI come through.
    for mode in [Mode::Nmi, Mode::Init, Mode::Startup] {
        assert!(apic.accept(&Message { mode, ..fixed(0x41, false) }));
    }
}

/// `apic_update_ppr`, `apic_has_interrupt_for_ppr`, `apic_set_eoi`.
#[test]
fn priorities() {
    let mut apic = apic(0);
    for vector in [0x31, 0x52, 0x55, 0x91] {
        assert!(apic.accept(&fixed(vector, false)));
    }
    assert_eq!(apic.pending(), Some(0x91));
    set(&mut apic, TPR, 0x95);
    assert_eq!((apic.pending(), apic.cr8()), (None, 9));
    apic.set_cr8(8);
    assert_eq!((apic.acknowledge(), read(&apic, 0xa0, 0)), (Some(0x91), 0x90));
    apic.set_cr8(0);
    // One of the same class waits for the one before it.
    assert_eq!(apic.pending(), None);
    assert_eq!(write(&mut apic, EOI, 0), Effect::default());
    assert_eq!((apic.acknowledge(), read(&apic, 0xa0, 0)), (Some(0x55), 0x50));
    assert_eq!(apic.pending(), None);
    assert!(apic.accept(&fixed(0x60, false)));
    assert_eq!(apic.acknowledge(), Some(0x60));
    // EOI is for the highest.
    for next in [None, Some(0x52), Some(0x31)] {
        set(&mut apic, EOI, 0);
        assert_eq!(apic.acknowledge(), next);
    }
    set(&mut apic, EOI, 0);
    assert_eq!((apic.pending(), write(&mut apic, EOI, 0)), (None, Effect::default()));
}

/// A level-triggered interrupt's end is the I/O APIC's to know.
#[test]
fn the_end_of_a_level_is_told() {
    let mut apic = apic(0);
    assert!(apic.accept(&fixed(0x41, true)));
    assert_eq!(apic.acknowledge(), Some(0x41));
    let effect = write(&mut apic, EOI, 0);
    assert_eq!(effect, Effect { end_of_interrupt: Some(0x41), message: None });
    // The next of that vector may be an edge.
    assert!(apic.accept(&fixed(0x41, false)));
    apic.acknowledge();
    assert_eq!(write(&mut apic, EOI, 0), Effect::default());
}

/// `__apic_accept_irq`, `kvm_apic_accept_events`: INIT ends a SIPI that nobody looked at; its de-assertion is nothing.
#[test]
fn init_and_startup() {
    let mut apic = apic(1);
    let message = |mode, asserted, level_triggered| Message { mode, asserted, level_triggered, ..fixed(0x12, false) };
    assert!(apic.accept(&message(Mode::Startup, true, false)));
    assert!(apic.accept(&message(Mode::Init, true, true)));
    assert!(apic.has_init_or_startup());
    assert!(apic.take_init() && apic.take_startup().is_none());
    assert!(!apic.accept(&message(Mode::Init, false, true)));
    assert!(!apic.has_init_or_startup());
    assert!(apic.accept(&message(Mode::Startup, true, false)));
    assert_eq!((apic.take_startup(), apic.take_startup()), (Some(0x12), None));
    assert!(apic.accept(&message(Mode::Nmi, true, false)));
    assert!(apic.has_nmi() && apic.take_nmi() && !apic.take_nmi());
    for mode in [Mode::Smi, Mode::Reserved, Mode::External] {
        assert!(!apic.accept(&message(mode, true, false)));
    }
}

/// `kvm_apic_set_base`: the states of APIC_BASE, for the guest and for user space.
#[test]
fn modes() {
    const OFF: u64 = 0xfee0_0000;
    const XAPIC: u64 = OFF | BASE_ENABLED;
    const X2APIC: u64 = XAPIC | BASE_X2APIC;
    for (from, to, guest) in [
        (OFF, XAPIC, true),
        (OFF, X2APIC, false),
        (XAPIC, OFF, true),
        (XAPIC, X2APIC, true),
        (X2APIC, OFF, true),
        (X2APIC, XAPIC, false),
    ] {
        let mut apic = LocalApic::new(1, false, KHZ);
        assert!(apic.set_base(from, 0, true));
        assert_eq!(apic.clone().set_base(to, 0, false), guest, "{from:#x} → {to:#x}");
        assert!(apic.set_base(to, 0, true));
        assert_eq!(apic.base(), to);
    }
    let mut apic = LocalApic::new(1, false, KHZ);
    // x2APIC without being on, reserved bits, address bits that the guest has not.
    for base in [OFF | BASE_X2APIC, XAPIC | 1, XAPIC | 1 << 9, XAPIC | 1 << 60] {
        assert!(!apic.set_base(base, 0xffff_0000_0000_0000, true));
    }
    assert_eq!(apic.base(), XAPIC);
    // The page moves; in x2APIC mode and off there is none.
    assert_eq!((apic.register_at(0xfee0_0080), apic.register_at(0xfee0_1000)), (Some(0x80), None));
    assert!(apic.set_base(0x1000 | BASE_ENABLED, 0, false));
    assert_eq!((apic.register_at(0xfee0_0080), apic.register_at(0x1fff)), (None, Some(0xfff)));
    assert!(apic.set_base(X2APIC, 0, true));
    assert_eq!(apic.register_at(0xfee0_0080), None);
}

/// `kvm_x2apic_msr_read`, `kvm_x2apic_msr_write`.
#[test]
fn registers_as_msrs() {
    let mut apic = x2apic(0x123);
    // IDs have 32 bits and are fixed.
    assert_eq!(apic.read_msr(0x802, 0), Some(0x123));
    assert_eq!(apic.read_msr(0x80d, 0), Some(0x12_0008));
    for (msr, value, result) in [
        (0x808, 0x20, true),
        (0x808, 1 << 32, false),
        (0x802, 1, false),
        (0x80d, 1, false),
        (0x80e, 1, false),
        (0x831, 1, false),
        (0x80b, 0, true),
        (0x828, 0, true),
        (0x828, 1, false),
        (0x83f, 0x44, true),
        (0x803, 0, false),
        (0x840, 0, false),
        // Reserved bits of ICR.
        (0x830, 1 << 13, false),
        (0x830, 1 << 16, false),
        (0x830, 1 << 20, false),
        (0x830, 0x7_0000_4041, true),
    ] {
        assert_eq!(apic.write_msr(msr, value, 0).is_some(), result, "{msr:#x} = {value:#x}");
    }
    assert_eq!(apic.read_msr(0x830, 0), Some(0x7_0000_4041));
    assert_eq!((apic.read_msr(0x80e, 0), apic.read_msr(0x831, 0), apic.read_msr(0x83f, 0)), (None, None, None));
    // In xAPIC mode there are none.
    let mut apic = super::apic(0);
    assert_eq!((apic.read_msr(0x802, 0), apic.write_msr(0x808, 0, 0)), (None, None));
}

/// `kvm_apic_get_state`, `kvm_apic_set_state`, `kvm_apic_state_fixup`.
#[test]
fn the_state_survives() {
    let mut apic = apic(5);
    set(&mut apic, TPR, 0x20);
    assert!(apic.accept(&fixed(0x41, true)));
    set(&mut apic, LVT_TIMER, 0x2_0040);
    set(&mut apic, INITIAL, 1_000_000);
    let state = apic.state(500_000, false);
    let mut copy = LocalApic::new(5, false, KHZ);
    assert!(copy.set_state(&state, 500_000, false));
    assert_eq!(copy.state(500_000, false).regs, state.regs);
    assert_eq!((copy.pending(), copy.next_event()), (apic.pending(), apic.next_event()));

    // x2APIC: the ID is at its old place unless user space asked for 32-bit IDs, and is not taken from it.
    let mut apic = x2apic(5);
    let word = |state: &kvm_lapic_state| u32::from_le_bytes(state.regs[0x20..0x24].try_into().unwrap());
    let (short, long) = (apic.state(0, false), apic.state(0, true));
    assert_eq!((word(&short), word(&long)), (5 << 24, 5));
    assert!(apic.set_state(&short, 0, false) && apic.set_state(&long, 0, true));
    assert!(!apic.set_state(&short, 0, true));
    assert_eq!(apic.read_msr(0x802, 0), Some(5));
}
