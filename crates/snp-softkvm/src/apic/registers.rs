//! Registers of a local APIC, in memory and as MSRs.

use super::message::{Message, Mode};
use super::{Effect, LocalApic};

/// The first x2APIC MSR.
const MSR_FIRST: u32 = 0x800;

/// A register, by its number: offset in the page / 16, or MSR − 0x800.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u8);

impl Register {
    pub(super) const ID: Self = Self(0x02);
    pub(super) const VERSION: Self = Self(0x03);
    pub(super) const TASK_PRIORITY: Self = Self(0x08);
    pub(super) const ARBITRATION_PRIORITY: Self = Self(0x09);
    pub(super) const PROCESSOR_PRIORITY: Self = Self(0x0a);
    pub(super) const EOI: Self = Self(0x0b);
    pub(super) const LOGICAL_DESTINATION: Self = Self(0x0d);
    pub(super) const DESTINATION_FORMAT: Self = Self(0x0e);
    pub(super) const SPURIOUS: Self = Self(0x0f);
    pub(super) const ISR: Self = Self(0x10);
    pub(super) const TMR: Self = Self(0x18);
    pub(super) const IRR: Self = Self(0x20);
    pub(super) const ERROR_STATUS: Self = Self(0x28);
    pub(super) const ICR_LOW: Self = Self(0x30);
    pub(super) const ICR_HIGH: Self = Self(0x31);
    pub(super) const LVT_TIMER: Self = Self(0x32);
    pub(super) const LVT_THERMAL: Self = Self(0x33);
    pub(super) const LVT_PERFORMANCE: Self = Self(0x34);
    pub(super) const LVT_LINT0: Self = Self(0x35);
    pub(super) const LVT_LINT1: Self = Self(0x36);
    pub(super) const LVT_ERROR: Self = Self(0x37);
    pub(super) const TIMER_INITIAL: Self = Self(0x38);
    pub(super) const TIMER_CURRENT: Self = Self(0x39);
    pub(super) const TIMER_DIVIDE: Self = Self(0x3e);
    pub(super) const SELF_IPI: Self = Self(0x3f);

    pub(super) const LVTS: [Self; 6] =
        [Self::LVT_TIMER, Self::LVT_THERMAL, Self::LVT_PERFORMANCE, Self::LVT_LINT0, Self::LVT_LINT1, Self::LVT_ERROR];

    /// The register of that number, which is below 64.
    pub(super) const fn at(index: usize) -> Self {
        Self((index & 0x3f) as u8)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether the register can be read in that mode.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_lapic_readable_reg_mask`.
    fn is_readable(self, x2apic: bool) -> bool {
        match self {
            Self::ARBITRATION_PRIORITY | Self::DESTINATION_FORMAT | Self::ICR_HIGH => !x2apic,
            Self::ID
            | Self::VERSION
            | Self::TASK_PRIORITY
            | Self::PROCESSOR_PRIORITY
            | Self::LOGICAL_DESTINATION
            | Self::SPURIOUS
            | Self::ERROR_STATUS
            | Self::ICR_LOW
            | Self::TIMER_INITIAL
            | Self::TIMER_CURRENT
            | Self::TIMER_DIVIDE => true,
            Self(0x10..=0x27) => true,
            lvt => Self::LVTS.contains(&lvt),
        }
    }

    /// The bits of a local vector that can be written.
    fn lvt_mask(self) -> u32 {
        /// Vector, delivery status, mask.
        const PLAIN: u32 = 0x1_10ff;
        const MODE: u32 = 0x700;
        /// Polarity, remote IRR, trigger mode.
        const PIN: u32 = 0xe000;
        const TIMER_MODE: u32 = 0b11 << 17;
        match self {
            Self::LVT_TIMER => PLAIN | TIMER_MODE,
            Self::LVT_THERMAL | Self::LVT_PERFORMANCE => PLAIN | MODE,
            Self::LVT_LINT0 | Self::LVT_LINT1 => PLAIN | MODE | PIN,
            _ => PLAIN,
        }
    }
}

const MASKED: u32 = 1 << 16;
const ICR_BUSY: u32 = 1 << 12;

impl LocalApic {
    /// Reads from the register page; what lies between registers reads as it was.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_lapic_reg_read`.
    pub(crate) fn read_page(&self, offset: u64, data: &mut [u8], tsc: u64) {
        let (register, at) = (Register::at((offset >> 4) as usize), (offset & 0xf) as usize);
        if offset >= 0x400 || at + data.len() > 4 || !register.is_readable(false) {
            return;
        }
        data.copy_from_slice(&self.read(register, tsc).to_le_bytes()[at..at + data.len()]);
    }

    /// Writes to the register page: whole registers only.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `apic_mmio_write`.
    pub(crate) fn write_page(&mut self, offset: u64, data: &[u8], tsc: u64) -> Effect {
        match <[u8; 4]>::try_from(data) {
            Ok(bytes) if offset & 0xf == 0 && offset < 0x400 => {
                let register = Register::at((offset >> 4) as usize);
                self.write(register, u32::from_le_bytes(bytes), tsc).unwrap_or_default()
            }
            _ => Effect::default(),
        }
    }

    /// Reads an x2APIC MSR; `None`: #GP.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_x2apic_msr_read`.
    pub(crate) fn read_msr(&self, index: u32, tsc: u64) -> Option<u64> {
        let register = self.msr(index)?;
        if !register.is_readable(true) {
            return None;
        }
        let high = if register == Register::ICR_LOW { self.get(Register::ICR_HIGH) } else { 0 };
        Some(u64::from(high) << 32 | u64::from(self.read(register, tsc)))
    }

    /// Writes an x2APIC MSR; `None`: #GP.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_x2apic_msr_write`, `kvm_x2apic_icr_write`.
    pub(crate) fn write_msr(&mut self, index: u32, value: u64, tsc: u64) -> Option<Effect> {
        const ICR_RESERVED: u64 = 0xfff3_2000;
        let register = self.msr(index)?;
        if register == Register::ICR_LOW {
            if value & ICR_RESERVED != 0 {
                return None;
            }
            self.set(Register::ICR_HIGH, (value >> 32) as u32);
            return self.write(register, value as u32, tsc);
        }
        if value >> 32 != 0 {
            return None;
        }
        self.write(register, value as u32, tsc)
    }

    fn msr(&self, index: u32) -> Option<Register> {
        let index = index.checked_sub(MSR_FIRST).filter(|index| *index < 64)?;
        (self.is_enabled() && self.is_x2apic()).then_some(Register::at(index as usize))
    }

    fn read(&self, register: Register, tsc: u64) -> u32 {
        match register {
            Register::ARBITRATION_PRIORITY => 0,
            Register::TIMER_CURRENT => self.timer.current(tsc),
            register => self.get(register),
        }
    }

    /// Writes a register; `None`: there is no such register to write in this mode.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_lapic_reg_write`.
    fn write(&mut self, register: Register, value: u32, tsc: u64) -> Option<Effect> {
        let x2apic = self.is_x2apic();
        match register {
            Register::ID if !x2apic => self.set(register, value & 0xff00_0000),
            Register::TASK_PRIORITY => {
                self.set(register, value & 0xff);
                self.update_priority();
            }
            Register::EOI => return Some(self.end_of_interrupt()),
            Register::LOGICAL_DESTINATION if !x2apic => self.set(register, value & 0xff00_0000),
            Register::DESTINATION_FORMAT if !x2apic => self.set(register, value | 0x0fff_ffff),
            Register::SPURIOUS => self.write_spurious(value),
            Register::ICR_LOW => {
                let low = value & !ICR_BUSY;
                self.set(register, low);
                return Some(Effect { message: Some(self.ipi(low)), ..Effect::default() });
            }
            Register::ICR_HIGH if !x2apic => self.set(register, value & 0xff00_0000),
            Register::LVT_TIMER => self.write_timer_vector(value),
            lvt if Register::LVTS.contains(&lvt) => self.set(lvt, self.local_vector(lvt, value)),
            Register::TIMER_INITIAL => {
                if !self.timer.is_deadline() {
                    self.set(register, value);
                    self.timer.start(tsc, value, value);
                }
            }
            Register::TIMER_DIVIDE => {
                self.set(register, value & 0b1011);
                self.timer.change_divider(tsc, value);
            }
            // As in KVM, errors are not kept.
            Register::ERROR_STATUS if !x2apic || value == 0 => {}
            Register::SELF_IPI if x2apic => {
                let message = Message::to_self(self.id, value as u8);
                return Some(Effect { message: Some(message), ..Effect::default() });
            }
            _ => return None,
        }
        Some(Effect::default())
    }

    fn write_spurious(&mut self, value: u32) {
        const ENABLED: u32 = 1 << 8;
        self.set(Register::SPURIOUS, value & 0x3ff);
        if value & ENABLED == 0 {
            for lvt in Register::LVTS {
                self.set(lvt, self.get(lvt) | MASKED);
            }
        }
    }

    /// What is kept of a local vector: one that is written while the APIC is off by software is masked.
    fn local_vector(&self, lvt: Register, value: u32) -> u32 {
        let masked = if self.is_software_enabled() { 0 } else { MASKED };
        (value | masked) & lvt.lvt_mask()
    }

    fn write_timer_vector(&mut self, value: u32) {
        let value = self.local_vector(Register::LVT_TIMER, value);
        self.set(Register::LVT_TIMER, value);
        if self.timer.set_mode(value) {
            // Into or out of TSC-deadline mode.
            self.set(Register::TIMER_INITIAL, 0);
        }
    }

    /// The IPI that ICR asks for.
    fn ipi(&self, low: u32) -> Message {
        let high = self.get(Register::ICR_HIGH);
        Message {
            vector: low as u8,
            mode: Mode::from_bits(low >> 8),
            logical: low & 1 << 11 != 0,
            asserted: low & 1 << 14 != 0,
            level_triggered: low & 1 << 15 != 0,
            shorthand: (low >> 18 & 0b11) as u8,
            destination: if self.is_x2apic() { high } else { high >> 24 },
            source: Some(self.id),
        }
    }

    /// TSC_DEADLINE; 0 if the timer is not in that mode.
    pub(crate) fn tsc_deadline(&self) -> u64 {
        self.timer.deadline_msr()
    }

    /// Writes TSC_DEADLINE: nothing happens in another mode.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_set_lapic_tscdeadline_msr`.
    pub(crate) fn set_tsc_deadline(&mut self, deadline: u64) {
        if self.is_enabled() {
            self.timer.set_deadline(deadline);
        }
    }

    /// When the timer fires next, as a time-stamp.
    pub(crate) fn next_event(&self) -> Option<u64> {
        self.timer.next_event()
    }

    /// Time has come so far: the timer fires if it is due. Whether it did.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_apic_inject_pending_timer_irqs`, `kvm_apic_local_deliver`.
    pub(crate) fn advance(&mut self, tsc: u64) -> bool {
        if !self.timer.expire(tsc) {
            return false;
        }
        let lvt = self.get(Register::LVT_TIMER);
        if self.is_enabled() && lvt & MASKED == 0 {
            let message = Message::to_self(self.id, lvt as u8);
            self.accept(&message);
        }
        true
    }
}
