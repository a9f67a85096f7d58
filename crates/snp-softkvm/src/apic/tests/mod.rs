//! Table tests, with the functions of Linux 7.3 that the answers are from.

mod io_apic;
mod local;
mod random;
mod routing;
mod timer;

use std::sync::{Arc, Mutex};

use super::*;

pub(super) const KHZ: u32 = 2_000_000;

/// Offsets of registers.
pub(super) const TPR: u64 = 0x80;
pub(super) const EOI: u64 = 0xb0;
pub(super) const LDR: u64 = 0xd0;
pub(super) const DFR: u64 = 0xe0;
pub(super) const SVR: u64 = 0xf0;
pub(super) const ICR: u64 = 0x300;
pub(super) const ICR_HIGH: u64 = 0x310;
pub(super) const LVT_TIMER: u64 = 0x320;
pub(super) const INITIAL: u64 = 0x380;
pub(super) const CURRENT: u64 = 0x390;
pub(super) const DIVIDE: u64 = 0x3e0;

/// An APIC that is switched on by software.
pub(super) fn apic(id: u32) -> LocalApic {
    let mut apic = LocalApic::new(id, id == 0, KHZ);
    set(&mut apic, SVR, 0x1ff);
    apic
}

pub(super) fn x2apic(id: u32) -> LocalApic {
    let mut apic = apic(id);
    assert!(apic.set_base(apic.base() | BASE_X2APIC, 0, false));
    apic
}

pub(super) fn write(apic: &mut LocalApic, offset: u64, value: u32) -> Effect {
    apic.write_page(offset, &value.to_le_bytes(), 0)
}

/// A write of which the rest of the VM need not know.
pub(super) fn set(apic: &mut LocalApic, offset: u64, value: u32) {
    let _ = write(apic, offset, value);
}

pub(super) fn read(apic: &LocalApic, offset: u64, tsc: u64) -> u32 {
    let mut data = [0; 4];
    apic.read_page(offset, &mut data, tsc);
    u32::from_le_bytes(data)
}

pub(super) fn fixed(vector: u8, level_triggered: bool) -> Message {
    Message { level_triggered, ..Message::to_self(0, vector) }
}

pub(super) fn shared(apics: impl IntoIterator<Item = LocalApic>) -> Vec<Shared> {
    apics.into_iter().map(|apic| Arc::new(Mutex::new(apic))).collect()
}

pub(super) fn pending(apics: &[Shared]) -> Vec<Option<u8>> {
    apics.iter().map(|apic| apic.lock().unwrap().pending()).collect()
}
