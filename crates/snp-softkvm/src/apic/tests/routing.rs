//! lapic.c, `kvm_apic_match_dest`; irq.c, `kvm_irq_delivery_to_apic`, `kvm_msi_to_lapic_irq`.

use super::*;

/// Sends an IPI from APIC 0 by ICR; who has it pending.
fn ipi(apics: &[Shared], high: u32, low: u32) -> Vec<usize> {
    let message = {
        let mut apic = apics[0].lock().unwrap();
        set(&mut apic, ICR_HIGH, high);
        write(&mut apic, ICR, low).message.unwrap()
    };
    let delivery = deliver(&message, apics);
    assert!(delivery.taken.len() <= delivery.matched);
    delivery.taken
}

#[test]
fn physical_destinations_and_shorthands() {
    let apics = shared((0..4).map(apic));
    for (high, low, taken) in [
        (2 << 24, 0x4041, vec![2]),
        (9 << 24, 0x4041, vec![]),
        (0xff << 24, 0x4041, vec![0, 1, 2, 3]),
        (2 << 24, 0x4_4041, vec![0]),
        (2 << 24, 0x8_4041, vec![0, 1, 2, 3]),
        (2 << 24, 0xc_4041, vec![1, 2, 3]),
    ] {
        assert_eq!(ipi(&apics, high, low), taken, "{high:#x} {low:#x}");
    }
    // The guest finds its ICR without the busy bit.
    assert_eq!(read(&apics[0].lock().unwrap(), ICR, 0), 0xc_4041);
}

#[test]
fn logical_destinations() {
    let apics = shared((0..4).map(apic));
    for (index, apic) in apics.iter().enumerate() {
        set(&mut apic.lock().unwrap(), LDR, 1 << (24 + index));
    }
    assert_eq!(ipi(&apics, 0b0110 << 24, 0x4841), [1, 2]);
    assert_eq!(ipi(&apics, 0xff << 24, 0x4841), [0, 1, 2, 3]);
    // The cluster model: the cluster, and members of it.
    for (index, apic) in apics.iter().enumerate() {
        let mut apic = apic.lock().unwrap();
        set(&mut apic, DFR, 0);
        set(&mut apic, LDR, ((index as u32 / 2) << 4 | 1 << (index % 2)) << 24);
    }
    assert_eq!(ipi(&apics, 0x03 << 24, 0x4841), [0, 1]);
    assert_eq!(ipi(&apics, 0x12 << 24, 0x4841), [3]);
}

#[test]
fn x2apic_destinations() {
    let apics = shared([0, 1, 0x11, 0x123].map(x2apic));
    let send = |value| {
        let message = apics[0].lock().unwrap().write_msr(0x830, value, 0).unwrap().message.unwrap();
        deliver(&message, &apics).taken
    };
    assert_eq!(send(0x123 << 32 | 0x4041), [3]);
    assert_eq!(send(0xffff_ffff << 32 | 0x4041), [0, 1, 2, 3]);
    // 255 is nobody in particular in IPIs.
    assert_eq!(send(0xff << 32 | 0x4041), [0usize; 0]);
    // Logical: the cluster in bits 31:16.
    assert_eq!(send(0x3 << 32 | 0x4841), [0, 1]);
    assert_eq!(send(0x1_0002 << 32 | 0x4841), [2]);
    assert_eq!(send(0x12_0008 << 32 | 0x4841), [3]);
    let message = apics[2].lock().unwrap().write_msr(0x83f, 0x55, 0).unwrap().message.unwrap();
    assert_eq!(deliver(&message, &apics).taken, [2]);
    assert_eq!(pending(&apics)[2], Some(0x55));
}

/// INIT and SIPI reach those whose APICs are off by software, as they are before they start.
#[test]
fn processors_are_started() {
    let apics = shared((0..3).map(|id| LocalApic::new(id, id == 0, KHZ)));
    assert_eq!(ipi(&apics, 0, 0xc_4500), [1, 2]);
    assert!(apics[1].lock().unwrap().take_init());
    assert_eq!(ipi(&apics, 1 << 24, 0x4608), [1]);
    assert_eq!(apics[1].lock().unwrap().take_startup(), Some(8));
    // An APIC that is off takes nothing at all.
    assert!(apics[2].lock().unwrap().set_base(DEFAULT_BASE, 0, false));
    assert_eq!(ipi(&apics, 2 << 24, 0x4608), [0usize; 0]);
}

/// Lowest priority: the vector chooses among those that may take it.
#[test]
fn lowest_priority() {
    let apics = shared([apic(0), LocalApic::new(1, false, KHZ), apic(2), apic(3)]);
    for (vector, taken) in [(0x30, 0), (0x31, 2), (0x32, 3), (0x33, 0)] {
        assert_eq!(ipi(&apics, 0xff << 24, 0x4100 | vector), [taken]);
    }
}

#[test]
fn messages_of_devices() {
    let msi = |low, data| Message::msi(low, 0, data, false);
    let message = msi(0xfee0_2000, 0x41);
    assert_eq!((message.destination, message.vector, message.mode, message.logical), (2, 0x41, Mode::Fixed, false));
    let message = msi(0xfee0_300c, 0x8441);
    assert_eq!((message.destination, message.mode, message.logical), (3, Mode::Nmi, true));
    assert!(message.level_triggered && message.source.is_none());
    // The redirection hint.
    assert_eq!(msi(0xfee0_3008, 0x41).mode, Mode::LowestPriority);
    // 32-bit IDs, if user space asked for them.
    assert_eq!(Message::msi(0xfee2_3000, 0x100, 0x41, true).destination, 0x123);
    assert_eq!(Message::msi(0xfee2_3000, 0x100, 0x41, false).destination, 0x23);

    let apics = shared([x2apic(0), apic(1)]);
    // A device's broadcast of 8 bits reaches x2APICs too.
    assert_eq!(deliver(&msi(0xfeef_f000, 0x41), &apics).taken, [0, 1]);
    assert_eq!(deliver(&msi(0xfee0_9000, 0x41), &apics), Delivery::default());
}
