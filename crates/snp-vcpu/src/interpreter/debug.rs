//! Debug registers.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Debug and Performance Resources".

use super::cpu::*;
use crate::AccessKind;

/// DR7: the enable bits of all four breakpoints.
const ENABLED: u64 = 0xff;

impl Cpu<'_> {
    /// Whether any breakpoint is enabled.
    #[inline(always)]
    pub(crate) fn has_breakpoints(&self) -> bool {
        self.state.dr7 & ENABLED != 0
    }

    /// Whether data accesses are watched.
    pub(crate) fn watches_data(&self) -> bool {
        self.has_breakpoints() && (0..4).any(|n| self.enabled(n) && self.condition(n) != 0)
    }

    fn enabled(&self, n: usize) -> bool {
        self.state.dr7 >> (2 * n) & 3 != 0
    }

    /// R/W: 0 execution, 1 writes, 2 port access, 3 reads and writes.
    fn condition(&self, n: usize) -> u64 {
        self.state.dr7 >> (16 + 4 * n) & 3
    }

    fn length(&self, n: usize) -> u64 {
        [1, 2, 8, 4][(self.state.dr7 >> (18 + 4 * n) & 3) as usize]
    }

    /// Notes which breakpoints a data access meets: #DB follows the instruction.
    #[inline(always)]
    pub(crate) fn watch(&mut self, address: u64, len: u64, kind: AccessKind) {
        if self.has_breakpoints() && kind != AccessKind::Execute {
            self.watch_data(address, len, kind);
        }
    }

    #[cold]
    fn watch_data(&mut self, address: u64, len: u64, kind: AccessKind) {
        for n in 0..4 {
            let meant = match self.condition(n) {
                1 => kind == AccessKind::Write,
                3 => true,
                _ => false,
            };
            let size = self.length(n);
            let start = self.state.dr[n] & !(size - 1);
            if self.enabled(n) && meant && address < start.wrapping_add(size) && start < address.wrapping_add(len) {
                self.debug_hits |= 1 << n;
            }
        }
    }

    /// The breakpoints on execution at an address, as bits of DR6.
    pub(crate) fn code_breakpoints(&self, address: u64) -> u64 {
        let hit = |n: usize| self.enabled(n) && self.condition(n) == 0 && self.state.dr[n] == address;
        (0..4).filter(|n| hit(*n)).map(|n| 1 << n).sum()
    }
}
