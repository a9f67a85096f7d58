//! The timer of a local APIC, counted in time-stamps.

/// Nanoseconds of a bus cycle: what KVM_CAP_X86_APIC_BUS_CYCLES_NS is unless user space says otherwise.
const BUS_CYCLE: u128 = 1;
/// The shortest period of a periodic timer in nanoseconds: KVM's module parameter `min_timer_period_us`.
const SHORTEST_PERIOD: u128 = 200_000;

/// The mode, from LVT bits 18:17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneShot,
    Periodic,
    Deadline,
    Reserved,
}

/// A timer.
#[derive(Clone, Debug)]
pub(super) struct Timer {
    tsc_khz: u32,
    mode: Mode,
    /// Bus cycles of one count.
    divider: u32,
    /// When it fires, as a time-stamp.
    deadline: Option<u64>,
    /// Time-stamps of a period.
    period: u64,
}

impl Timer {
    pub(super) fn new(tsc_khz: u32) -> Self {
        Self { tsc_khz, mode: Mode::OneShot, divider: 2, deadline: None, period: 0 }
    }

    pub(super) fn stop(&mut self) {
        (self.deadline, self.period) = (None, 0);
        self.divider = 2;
    }

    /// Takes the mode from the local vector. Whether it went into or out of TSC-deadline mode, which stops it.
    pub(super) fn set_mode(&mut self, lvt: u32) -> bool {
        let mode = [Mode::OneShot, Mode::Periodic, Mode::Deadline, Mode::Reserved][(lvt >> 17 & 0b11) as usize];
        let old = std::mem::replace(&mut self.mode, mode);
        let changed = (old == Mode::Deadline) != (mode == Mode::Deadline);
        if changed {
            (self.deadline, self.period) = (None, 0);
        }
        changed
    }

    pub(super) fn is_deadline(&self) -> bool {
        self.mode == Mode::Deadline
    }

    /// Takes the divider from its register: bits 3, 1 and 0 are 0 for 2, 1 for 4 … 6 for 128, 7 for 1.
    pub(super) fn set_divider(&mut self, register: u32) {
        let bits = register & 0b11 | (register & 0b1000) >> 1;
        self.divider = 1 << ((bits + 1) & 7);
    }

    /// Takes another divider: a count that is under way goes on with it.
    pub(super) fn change_divider(&mut self, tsc: u64, register: u32) {
        let old = self.divider;
        self.set_divider(register);
        let scale = |stamps: u64| (u128::from(stamps) * u128::from(self.divider) / u128::from(old)) as u64;
        if let Some(deadline) = self.deadline.filter(|_| !self.is_deadline() && old != self.divider) {
            self.deadline = Some(tsc.saturating_add(scale(deadline.saturating_sub(tsc))));
            self.period = scale(self.period);
        }
    }

    fn nanoseconds(&self, count: u32) -> u128 {
        u128::from(count) * u128::from(self.divider) * BUS_CYCLE
    }

    fn stamps(&self, nanoseconds: u128) -> u64 {
        (nanoseconds * u128::from(self.tsc_khz) / 1_000_000) as u64
    }

    /// Counts `first` down, and then, in periodic mode, `initial` again and again. An initial count of 0 stops.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `set_target_expiration`, `limit_periodic_timer_frequency`.
    pub(super) fn start(&mut self, tsc: u64, initial: u32, first: u32) {
        if self.is_deadline() {
            return;
        }
        (self.deadline, self.period) = (None, 0);
        if initial == 0 {
            return;
        }
        let shortest = if self.mode == Mode::Periodic { SHORTEST_PERIOD } else { 0 };
        let period = self.nanoseconds(initial).max(shortest);
        // A count that comes from user space may be longer than the period: it is cut.
        let first = if first >= initial { period } else { self.nanoseconds(first) };
        self.period = self.stamps(period);
        self.deadline = Some(tsc.saturating_add(self.stamps(first)));
    }

    /// The current count.
    pub(super) fn current(&self, tsc: u64) -> u32 {
        let Some(deadline) = self.deadline.filter(|_| !self.is_deadline()) else { return 0 };
        let nanoseconds = u128::from(deadline.saturating_sub(tsc)) * 1_000_000 / u128::from(self.tsc_khz.max(1));
        (nanoseconds / (u128::from(self.divider) * BUS_CYCLE)).try_into().unwrap_or(u32::MAX)
    }

    pub(super) fn deadline_msr(&self) -> u64 {
        self.deadline.filter(|_| self.is_deadline()).unwrap_or(0)
    }

    /// Sets the deadline in TSC-deadline mode; 0 disarms.
    pub(super) fn set_deadline(&mut self, deadline: u64) {
        if self.is_deadline() {
            self.deadline = (deadline != 0).then_some(deadline);
        }
    }

    pub(super) fn next_event(&self) -> Option<u64> {
        self.deadline
    }

    /// Whether it fires by now. A periodic one goes on; periods that were missed count once.
    pub(super) fn expire(&mut self, tsc: u64) -> bool {
        let Some(deadline) = self.deadline.filter(|deadline| *deadline <= tsc) else { return false };
        self.deadline = (self.mode == Mode::Periodic && self.period != 0).then(|| {
            let missed = (tsc - deadline) / self.period;
            deadline.saturating_add(self.period.saturating_mul(missed + 1))
        });
        true
    }
}
