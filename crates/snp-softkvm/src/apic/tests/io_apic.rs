//! ioapic.c.

use super::*;

fn write(chip: &mut IoApic, select: u8, value: u32) -> Option<Message> {
    assert_eq!(chip.write(0, &[select]), None);
    chip.write(0x10, &value.to_le_bytes())
}

fn read(chip: &mut IoApic, select: u8) -> u32 {
    let mut data = [0; 4];
    assert_eq!(chip.write(0, &[select]), None);
    chip.read(0x10, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn registers() {
    let mut chip = IoApic::default();
    assert_eq!((read(&mut chip, 1), read(&mut chip, 0x10), read(&mut chip, 0x11)), (0x17_0011, 0x1_0000, 0));
    write(&mut chip, 0, 0x0f00_0000);
    assert_eq!((read(&mut chip, 0), read(&mut chip, 2)), (0x0f00_0000, 0x0f00_0000));
    write(&mut chip, 0x3e, u32::MAX);
    write(&mut chip, 0x3f, 0x0200_0000);
    // Delivery status and remote IRR are read-only.
    assert_eq!((read(&mut chip, 0x3e), read(&mut chip, 0x3f)), (0x1_afff, 0x0200_0000));
    for select in [3, 0x0f, 0x40, 0xff] {
        assert_eq!(write(&mut chip, select, 0), None);
        assert!(matches!(read(&mut chip, select), u32::MAX));
    }
    assert_eq!((IoApic::register_at(0xfec0_0010), IoApic::register_at(0xfec0_0100)), (Some(0x10), None));
}

#[test]
fn edges() {
    let mut chip = IoApic::default();
    write(&mut chip, 0x10 + 8, 0x41);
    write(&mut chip, 0x11 + 8, 0x0300_0000);
    let message = chip.set_line(4, true).unwrap();
    assert_eq!((message.vector, message.destination, message.level_triggered), (0x41, 3, false));
    assert_eq!((chip.set_line(4, true), chip.set_line(4, false)), (None, None));
    assert!(chip.set_line(4, true).is_some());
    // Masked pins, and pins that are not there.
    assert_eq!((chip.set_line(5, true), chip.set_line(24, true), chip.set_line(255, true)), (None, None, None));
}

/// `ioapic_service`, `kvm_ioapic_update_eoi_one`.
#[test]
fn levels() {
    let mut chip = IoApic::default();
    write(&mut chip, 0x10 + 8, 0x8041);
    assert!(chip.set_line(4, true).unwrap().level_triggered);
    assert_eq!(read(&mut chip, 0x18), 0xc041);
    // Nothing more until the processor is through, and then again as long as the line is up.
    assert_eq!(chip.set_line(4, true), None);
    assert_eq!(chip.end_of_interrupt(0x42), []);
    assert_eq!(chip.end_of_interrupt(0x41).len(), 1);
    chip.set_line(4, false);
    assert_eq!(chip.end_of_interrupt(0x41), []);
    assert_eq!(read(&mut chip, 0x18), 0x8041);
    // A line that is up when its pin is unmasked.
    write(&mut chip, 0x18, 0x1_8041);
    assert_eq!(chip.set_line(4, true), None);
    assert_eq!(write(&mut chip, 0x18, 0x8041).unwrap().vector, 0x41);
}
