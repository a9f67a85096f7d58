//! Interrupt controllers in KVM: local APICs with their timers and IPIs, the I/O APIC, message-signalled interrupts.
//!
//! A [`LocalApic`] is a state machine of one vCPU. What it wants of others it returns ([`Effect`]): whoever drives it holds no
//! lock of it then, and hands messages on with [`deliver`], which locks one target at a time. It reads no clock: every call
//! that depends on time says what the vCPU's time-stamp counter is, and [`LocalApic::next_event`] says when the timer fires.
//!
//! Not modelled: PICs and EXTINT, SMI, the error status register (as in KVM it stays 0), performance and thermal interrupts,
//! and AVIC. Interrupts of SNP guests are injected as those of others: neither restricted nor alternate injection.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/lapic.c, ioapic.c, irq.c; AMD 24593 (APM volume 2), "Advanced Programmable Interrupt Controller";
//! Intel's 82093AA data sheet for the I/O APIC.

mod io_apic;
mod message;
mod registers;
#[cfg(test)]
mod tests;
mod timer;

pub(crate) use io_apic::IoApic;
pub(crate) use message::{Delivery, Message, Shared, deliver};

use snp_abi::kvm::kvm_lapic_state;

use message::Mode;
use registers::Register;
use timer::Timer;

/// Where the registers are after a reset.
pub(crate) const DEFAULT_BASE: u64 = 0xfee0_0000;

/// APIC_BASE: this is the bootstrap processor.
const BASE_BSP: u64 = 1 << 8;
/// APIC_BASE: x2APIC mode.
const BASE_X2APIC: u64 = 1 << 10;
/// APIC_BASE: the APIC is on.
const BASE_ENABLED: u64 = 1 << 11;
/// APIC_BASE: bits 9 and 7:0.
const BASE_RESERVED: u64 = 0x2ff;

/// A local APIC.
#[derive(Clone, Debug)]
pub(crate) struct LocalApic {
    /// The vCPU's number: its x2APIC ID, and its APIC ID as long as it does not write another.
    id: u32,
    bootstrap: bool,
    base: u64,
    /// Registers by offset / 16.
    registers: [u32; 64],
    timer: Timer,
    init: bool,
    startup: Option<u8>,
    nmi: bool,
}

/// What the rest of the VM must do about an access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct Effect {
    /// An IPI was sent.
    pub(crate) message: Option<Message>,
    /// The guest is through with a level-triggered interrupt of this vector.
    pub(crate) end_of_interrupt: Option<u8>,
}

impl LocalApic {
    /// After power-on. `tsc_khz`: the rate of the vCPU's time-stamp counter.
    pub(crate) fn new(id: u32, bootstrap: bool, tsc_khz: u32) -> Self {
        let mut apic = Self {
            id,
            bootstrap,
            base: DEFAULT_BASE | BASE_ENABLED | if bootstrap { BASE_BSP } else { 0 },
            registers: [0; 64],
            timer: Timer::new(tsc_khz),
            init: false,
            startup: None,
            nmi: false,
        };
        apic.reset();
        apic
    }

    /// INIT: everything but APIC_BASE is as after power-on.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_lapic_reset`.
    pub(crate) fn reset(&mut self) {
        const VERSION: u32 = 0x0005_0014;
        const MASKED: u32 = 1 << 16;
        const EXTERNAL: u32 = 7 << 8;
        self.registers = [0; 64];
        self.set(Register::VERSION, VERSION);
        self.set(Register::DESTINATION_FORMAT, u32::MAX);
        self.set(Register::SPURIOUS, 0xff);
        Register::LVTS.into_iter().for_each(|lvt| self.set(lvt, MASKED));
        if self.bootstrap {
            // KVM_X86_QUIRK_LINT0_REENABLED.
            self.set(Register::LVT_LINT0, EXTERNAL);
        }
        self.set_id();
        self.timer.stop();
        self.timer.set_mode(0);
    }

    /// The ID register, and in x2APIC mode the logical ID, as the mode has them.
    fn set_id(&mut self) {
        if self.is_x2apic() {
            self.set(Register::ID, self.id);
            self.set(Register::LOGICAL_DESTINATION, (self.id >> 4) << 16 | 1 << (self.id & 0xf));
        } else {
            self.set(Register::ID, self.id << 24);
        }
    }

    /// APIC_BASE.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Writes APIC_BASE; `false`: refused. `host`: user space writes it, which may change modes as it likes. `reserved`: the
    /// address bits that the guest does not have.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/x86.c, `kvm_apic_set_base`; lapic.c, `__kvm_apic_set_base`.
    pub(crate) fn set_base(&mut self, base: u64, reserved: u64, host: bool) -> bool {
        let enabled = |base: u64| base & BASE_ENABLED != 0;
        let x2apic = |base: u64| base & BASE_X2APIC != 0;
        let (old, was) = (self.base, enabled(self.base));
        if base & (reserved | BASE_RESERVED) != 0 || x2apic(base) && !enabled(base) {
            return false;
        }
        // Neither out of x2APIC mode into xAPIC mode, nor into it from off.
        let backwards = x2apic(old) && enabled(base) && !x2apic(base);
        let sudden = !was && x2apic(base);
        if !host && (backwards || sudden) {
            return false;
        }
        self.base = base;
        if x2apic(base) != x2apic(old) || enabled(base) && !was {
            self.set_id();
        }
        true
    }

    /// Whether it is on: else it takes nothing, and its registers are not there.
    pub(crate) fn is_enabled(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    /// Whether it is in x2APIC mode: registers are MSRs, IDs have 32 bits.
    pub(crate) fn is_x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    /// The page of its registers, if an access to that address is one.
    pub(crate) fn register_at(&self, gpa: u64) -> Option<u64> {
        const PAGE: u64 = 0x1000;
        let page = self.base & 0x000f_ffff_ffff_f000;
        (self.is_enabled() && !self.is_x2apic() && gpa & !(PAGE - 1) == page).then_some(gpa % PAGE)
    }

    fn is_software_enabled(&self) -> bool {
        const ENABLED: u32 = 1 << 8;
        self.is_enabled() && self.get(Register::SPURIOUS) & ENABLED != 0
    }

    fn get(&self, register: Register) -> u32 {
        self.registers[register.index()]
    }

    fn set(&mut self, register: Register, value: u32) {
        self.registers[register.index()] = value;
    }

    /// An interrupt has come; whether it was taken.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `__apic_accept_irq`.
    pub(crate) fn accept(&mut self, message: &Message) -> bool {
        match message.mode {
            Mode::Fixed | Mode::LowestPriority => {
                if !self.is_software_enabled() {
                    return false;
                }
                self.set_bit(Register::IRR, message.vector, true);
                self.set_bit(Register::TMR, message.vector, message.level_triggered);
            }
            Mode::Nmi => self.nmi = true,
            // INIT's level de-assert is nothing to processors of this age.
            Mode::Init if !message.level_triggered || message.asserted => {
                // It ends a SIPI that was not yet looked at.
                (self.init, self.startup) = (true, None);
            }
            Mode::Startup => self.startup = Some(message.vector),
            _ => return false,
        }
        true
    }

    /// A bit of IRR, ISR or TMR.
    fn set_bit(&mut self, first: Register, vector: u8, value: bool) {
        let word = &mut self.registers[first.index() + usize::from(vector / 32)];
        let bit = 1 << (vector % 32);
        *word = *word & !bit | if value { bit } else { 0 };
    }

    fn has_bit(&self, first: Register, vector: u8) -> bool {
        self.registers[first.index() + usize::from(vector / 32)] >> (vector % 32) & 1 != 0
    }

    fn highest(&self, first: Register) -> Option<u8> {
        let words = &self.registers[first.index()..][..8];
        let (index, word) = words.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        Some((index as u32 * 32 + word.ilog2()) as u8)
    }

    /// The processor's priority: its task's, or that of the interrupt that it handles if that is higher.
    fn processor_priority(&self) -> u8 {
        let task = self.get(Register::TASK_PRIORITY) as u8;
        let service = self.highest(Register::ISR).unwrap_or(0) & 0xf0;
        if task & 0xf0 >= service { task } else { service }
    }

    /// The interrupt that the processor would take now.
    pub(crate) fn pending(&self) -> Option<u8> {
        let vector = self.highest(Register::IRR).filter(|_| self.is_software_enabled())?;
        (vector & 0xf0 > self.processor_priority()).then_some(vector)
    }

    /// Whether an interrupt waits that the task's priority keeps back.
    pub(crate) fn has_blocked(&self) -> bool {
        self.is_software_enabled() && self.highest(Register::IRR).is_some() && self.pending().is_none()
    }

    /// The processor takes the pending interrupt.
    pub(crate) fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending()?;
        self.set_bit(Register::IRR, vector, false);
        self.set_bit(Register::ISR, vector, true);
        self.update_priority();
        Some(vector)
    }

    fn update_priority(&mut self) {
        let priority = self.processor_priority();
        self.set(Register::PROCESSOR_PRIORITY, priority.into());
    }

    /// The processor is through with the interrupt that it handles.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `apic_set_eoi`.
    fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = self.highest(Register::ISR) else { return Effect::default() };
        self.set_bit(Register::ISR, vector, false);
        self.update_priority();
        let level = self.has_bit(Register::TMR, vector);
        Effect { end_of_interrupt: level.then_some(vector), ..Effect::default() }
    }

    /// CR8.
    pub(crate) fn cr8(&self) -> u64 {
        u64::from(self.get(Register::TASK_PRIORITY) >> 4 & 0xf)
    }

    /// Writes CR8.
    pub(crate) fn set_cr8(&mut self, cr8: u64) {
        self.set(Register::TASK_PRIORITY, (cr8 as u32 & 0xf) << 4);
        self.update_priority();
    }

    /// Takes a pending INIT.
    pub(crate) fn take_init(&mut self) -> bool {
        std::mem::take(&mut self.init)
    }

    /// Takes a pending SIPI: its vector.
    pub(crate) fn take_startup(&mut self) -> Option<u8> {
        self.startup.take()
    }

    /// Takes a pending NMI.
    pub(crate) fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    /// Whether INIT or SIPI wait.
    #[cfg(test)]
    pub(crate) fn has_init_or_startup(&self) -> bool {
        self.init || self.startup.is_some()
    }

    /// Whether an NMI waits.
    pub(crate) fn has_nmi(&self) -> bool {
        self.nmi
    }

    /// KVM_GET_LAPIC.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_apic_get_state`, `kvm_apic_state_fixup`.
    pub(crate) fn state(&self, tsc: u64, long_ids: bool) -> kvm_lapic_state {
        let mut state = kvm_lapic_state::default();
        let mut put = |register: Register, value: u32| {
            let at = register.index() * 16;
            state.regs[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        for (index, value) in self.registers.iter().enumerate() {
            put(Register::at(index), *value);
        }
        put(Register::TIMER_CURRENT, self.timer.current(tsc));
        if self.is_x2apic() && !long_ids {
            put(Register::ID, self.id << 24);
        }
        state
    }

    /// KVM_SET_LAPIC; `false`: refused, and nothing changes.
    pub(crate) fn set_state(&mut self, state: &kvm_lapic_state, tsc: u64, long_ids: bool) -> bool {
        let word = |index: usize| {
            let bytes = &state.regs[index * 16..index * 16 + 4];
            u32::from_le_bytes(bytes.try_into().expect("four bytes"))
        };
        if self.is_x2apic() && long_ids && word(Register::ID.index()) != self.id {
            return false;
        }
        self.registers = std::array::from_fn(word);
        if self.is_x2apic() {
            self.set_id();
        }
        self.update_priority();
        self.timer.stop();
        self.timer.set_mode(self.get(Register::LVT_TIMER));
        self.timer.set_divider(self.get(Register::TIMER_DIVIDE));
        let (initial, current) = (self.get(Register::TIMER_INITIAL), self.get(Register::TIMER_CURRENT));
        self.timer.start(tsc, initial, if current != 0 { current } else { initial });
        true
    }
}
