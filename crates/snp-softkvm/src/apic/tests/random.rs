//! Any sequence of accesses.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Nothing panics, interrupts are taken in order of their classes, and time ends no sooner than it must.
    #[test]
    fn any_accesses(ops in prop::collection::vec((0u8..10, 0u64..0x420, any::<u32>(), 0u64..1_000_000), 0..80), x2 in any::<bool>()) {
        let mut apic = if x2 { x2apic(1) } else { apic(1) };
        let mut tsc = 0u64;
        for (op, offset, value, time) in ops {
            tsc += time;
            match op {
                0..=2 => drop(apic.write_page(offset & !0xf, &value.to_le_bytes(), tsc)),
                3 => drop(apic.write_msr(0x800 + (offset >> 4) as u32, u64::from(value) << (offset & 32), tsc)),
                4 => {
                    apic.read_page(offset, &mut [0; 4], tsc);
                    let _ = apic.read_msr(0x800 + (offset >> 4) as u32, tsc);
                }
                5 => drop(apic.accept(&fixed(value as u8, value & 0x100 != 0))),
                6 => {
                    if let Some(vector) = apic.acknowledge() {
                        prop_assert!(vector & 0xf0 > 0 && apic.pending().is_none_or(|next| next & 0xf0 > vector & 0xf0));
                    }
                }
                7 => apic.set_tsc_deadline(tsc + u64::from(value & 0xffff)),
                8 => {
                    let state = apic.state(tsc, false);
                    prop_assert!(apic.set_state(&state, tsc, false));
                }
                _ => {
                    apic.advance(tsc);
                    prop_assert!(apic.next_event().is_none_or(|next| next > tsc));
                }
            }
        }
    }

    /// Any state of user space is kept, and used without harm.
    #[test]
    fn any_state(bytes in prop::collection::vec(any::<u8>(), 1024), tsc in any::<u64>()) {
        let mut state = kvm_lapic_state::default();
        state.regs.copy_from_slice(&bytes);
        let mut apic = apic(1);
        prop_assert!(apic.set_state(&state, tsc, false));
        apic.advance(tsc);
        while apic.acknowledge().is_some() {}
        let _ = write(&mut apic, EOI, 0);
        let _ = apic.state(tsc, true);
    }

    #[test]
    fn any_io_apic(ops in prop::collection::vec((any::<bool>(), 0u64..0x20, any::<u32>(), any::<u8>()), 0..60)) {
        let mut chip = IoApic::default();
        for (up, offset, value, pin) in ops {
            chip.write(offset, &value.to_le_bytes());
            chip.set_line(pin, up);
            prop_assert!(chip.end_of_interrupt(pin).len() <= 24);
            chip.read(offset, &mut [0; 8]);
        }
    }
}
