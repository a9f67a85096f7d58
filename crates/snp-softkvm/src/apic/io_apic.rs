//! The I/O APIC.

use super::message::{Message, Mode};

/// Pins.
pub(crate) const PINS: u8 = 24;
/// Where its registers are.
pub(crate) const BASE: u64 = 0xfec0_0000;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const DELIVERY_STATUS: u64 = 1 << 12;

/// An I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IoApic {
    pub(crate) select: u8,
    pub(crate) id: u32,
    /// Lines that are up, or edges that were not delivered.
    pub(crate) lines: u32,
    /// Redirection entries.
    pub(crate) entries: [u64; PINS as usize],
}

impl Default for IoApic {
    fn default() -> Self {
        Self { select: 0, id: 0, lines: 0, entries: [MASKED; PINS as usize] }
    }
}

/// Offsets in `struct kvm_ioapic_state`.
const SELECT_AT: usize = 8;
const ID_AT: usize = 12;
const LINES_AT: usize = 16;
const ENTRIES_AT: usize = 24;

impl IoApic {
    /// KVM_GET_IRQCHIP.
    pub(crate) fn store(&self, state: &mut [u8; 512]) {
        let mut put = |at: usize, bytes: &[u8]| state[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &BASE.to_le_bytes());
        put(SELECT_AT, &u32::from(self.select).to_le_bytes());
        put(ID_AT, &self.id.to_le_bytes());
        put(LINES_AT, &self.lines.to_le_bytes());
        for (index, entry) in self.entries.iter().enumerate() {
            put(ENTRIES_AT + 8 * index, &entry.to_le_bytes());
        }
    }

    /// KVM_SET_IRQCHIP.
    pub(crate) fn load(state: &[u8; 512]) -> Self {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| state[at + i]));
        let entry = |index: usize| u64::from_le_bytes(std::array::from_fn(|i| state[ENTRIES_AT + 8 * index + i]));
        Self {
            select: word(SELECT_AT) as u8,
            id: word(ID_AT),
            lines: word(LINES_AT),
            entries: std::array::from_fn(entry),
        }
    }

    /// Whether its registers are at that address: the offset.
    pub(crate) fn register_at(gpa: u64) -> Option<u64> {
        gpa.checked_sub(BASE).filter(|offset| *offset < 0x100)
    }

    /// Reads a register. Accesses are as long as they like; what is past four bytes is zero.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/ioapic.c, `ioapic_mmio_read`.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        let value = match offset & 0xff {
            0x00 => u32::from(self.select),
            0x10 => self.selected(),
            _ => 0,
        };
        data.fill(0);
        data.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }

    fn selected(&self) -> u32 {
        const VERSION: u32 = 0x11;
        match self.select {
            0 | 2 => self.id << 24,
            1 => u32::from(PINS - 1) << 16 | VERSION,
            select => {
                let entry = usize::from(select).checked_sub(0x10).and_then(|index| self.entries.get(index / 2));
                entry.map_or(u32::MAX, |entry| (entry >> if select & 1 != 0 { 32 } else { 0 }) as u32)
            }
        }
    }

    /// Writes a register: the interrupt that is delivered by it.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/ioapic.c, `ioapic_mmio_write`, `ioapic_write_indirect`.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Option<Message> {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        let value = u32::from_le_bytes(bytes);
        match offset & 0xff {
            0x00 => self.select = value as u8,
            0x10 => return self.write_selected(value),
            _ => {}
        }
        None
    }

    fn write_selected(&mut self, value: u32) -> Option<Message> {
        const FIXED: u64 = DELIVERY_STATUS | REMOTE_IRR;
        match self.select {
            0 => self.id = value >> 24 & 0xf,
            1 | 2 => {}
            select => {
                let pin = usize::from(select).checked_sub(0x10)? / 2;
                let entry = self.entries.get_mut(pin)?;
                let kept = *entry & FIXED;
                *entry = if select & 1 != 0 {
                    *entry & 0xffff_ffff | u64::from(value) << 32
                } else {
                    *entry >> 32 << 32 | u64::from(value) & !FIXED & 0x1_ffff | kept
                };
                if *entry & LEVEL == 0 {
                    *entry &= !REMOTE_IRR;
                }
                let waits = *entry & LEVEL != 0 && self.lines >> pin & 1 != 0;
                return if waits { self.service(pin as u8) } else { None };
            }
        }
        None
    }

    /// A line goes up or down: the interrupt that is delivered by it.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/ioapic.c, `ioapic_set_irq`.
    pub(crate) fn set_line(&mut self, pin: u8, up: bool) -> Option<Message> {
        let entry = *self.entries.get(usize::from(pin))?;
        let bit = 1 << pin;
        let was = self.lines & bit != 0;
        if !up {
            self.lines &= !bit;
            return None;
        }
        self.lines |= bit;
        if entry & LEVEL == 0 && was { None } else { self.service(pin) }
    }

    fn service(&mut self, pin: u8) -> Option<Message> {
        let entry = &mut self.entries[usize::from(pin)];
        let level = *entry & LEVEL != 0;
        if *entry & MASKED != 0 || level && *entry & REMOTE_IRR != 0 {
            return None;
        }
        if level {
            *entry |= REMOTE_IRR;
        }
        let entry = *entry;
        Some(Message {
            vector: entry as u8,
            mode: Mode::from_bits((entry >> 8) as u32),
            logical: entry & 1 << 11 != 0,
            asserted: true,
            level_triggered: level,
            shorthand: 0,
            destination: (entry >> 56) as u32,
            source: None,
        })
    }

    /// A processor is through with a vector: interrupts whose lines are still up come again.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/ioapic.c, `kvm_ioapic_update_eoi_one`.
    pub(crate) fn end_of_interrupt(&mut self, vector: u8) -> Vec<Message> {
        let mut again = Vec::new();
        for pin in 0..PINS {
            let entry = &mut self.entries[usize::from(pin)];
            if *entry as u8 != vector || *entry & LEVEL == 0 || *entry & REMOTE_IRR == 0 {
                continue;
            }
            *entry &= !REMOTE_IRR;
            if self.lines >> pin & 1 != 0 {
                again.extend(self.service(pin));
            }
        }
        again
    }
}
