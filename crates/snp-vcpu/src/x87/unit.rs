//! The x87 registers as a stack, and what exceptions do to them.

use super::float::status::*;
use super::float::{Class, Control, F80, Outcome};
use crate::Extended;

/// The registers, taken out of the processor while an instruction works on them: put back only if it completes.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    registers: [[u8; 10]; 8],
    pub(super) control: u16,
    pub(super) status: u16,
    /// Bit `i`: physical register `i` is not empty.
    pub(super) tags: u8,
}

impl Unit {
    pub(super) fn of(extended: &Extended) -> Self {
        Self { registers: extended.x87, control: extended.fcw, status: extended.fsw, tags: extended.ftw }
    }

    pub(super) fn put_back(self, extended: &mut Extended) {
        (extended.x87, extended.fcw, extended.fsw, extended.ftw) =
            (self.registers, self.control, self.status, self.tags);
    }

    pub(super) fn rounding(&self) -> Control {
        Control(self.control)
    }

    pub(super) fn top(&self) -> usize {
        usize::from(self.status >> 11) & 7
    }

    fn physical(&self, index: usize) -> usize {
        (self.top() + index) & 7
    }

    /// TOP becomes another.
    pub(super) fn turn(&mut self, by: usize) {
        let top = (self.top() + by) & 7;
        self.status = self.status & !0x3800 | (top as u16) << 11;
    }

    pub(super) fn is_empty(&self, index: usize) -> bool {
        self.tags >> self.physical(index) & 1 == 0
    }

    pub(super) fn get(&self, index: usize) -> F80 {
        F80::from_bytes(&self.registers[self.physical(index)])
    }

    pub(super) fn set(&mut self, index: usize, value: F80) {
        let physical = self.physical(index);
        self.registers[physical] = value.to_bytes();
        self.tags |= 1 << physical;
    }

    pub(super) fn free(&mut self, index: usize) {
        self.tags &= !(1 << self.physical(index));
    }

    pub(super) fn pop(&mut self) {
        self.free(0);
        self.turn(1);
    }

    /// Pushes, onto a place that was found empty.
    pub(super) fn push(&mut self, value: F80) {
        self.turn(7);
        self.set(0, value);
    }

    /// Notes exceptions, and C1. Whether the instruction gives its result: none of those that are found before computing is
    /// unmasked. If it gives none, those that are found afterwards are not noted.
    #[must_use]
    pub(super) fn note(&mut self, exceptions: u16, up: bool) -> bool {
        let stops = exceptions & BEFORE & !self.control != 0;
        let noted = if stops { exceptions & (BEFORE | SF) } else { exceptions };
        self.status = self.status & !C1 | noted;
        if up && !stops {
            self.status |= C1;
        }
        self.summarise();
        !stops
    }

    /// ES and B say whether an exception is pending.
    pub(super) fn summarise(&mut self) {
        if self.status & !self.control & EXCEPTIONS != 0 {
            self.status |= ES | B;
        } else {
            self.status &= !(ES | B);
        }
    }

    /// An empty register was read. Whether the instruction goes on with the default NaN.
    #[must_use]
    pub(super) fn underflow(&mut self) -> bool {
        self.note(IE | SF, false)
    }

    /// A push found the stack full. Whether the instruction goes on with the default NaN.
    #[must_use]
    pub(super) fn overflow(&mut self) -> bool {
        let goes_on = self.note(IE | SF, false);
        self.status |= C1;
        goes_on
    }

    /// Writes a result to a register, unless an exception keeps it back. Whether it was written.
    pub(super) fn give(&mut self, index: usize, outcome: Outcome<F80>) -> bool {
        let written = self.note(outcome.exceptions, outcome.up);
        if written {
            self.set(index, outcome.value);
        }
        written
    }

    /// Pushes a result, with the stack checked first.
    pub(super) fn give_new(&mut self, outcome: Outcome<F80>) {
        if !self.is_empty(7) {
            if self.overflow() {
                self.push(F80::INDEFINITE);
            }
        } else if self.note(outcome.exceptions, outcome.up) || outcome.exceptions == DE {
            // A denormal in memory is normal in a register: it is loaded even if its exception is unmasked.
            self.push(outcome.value);
        }
    }

    /// The condition codes C0, C2 and C3.
    pub(super) fn set_codes(&mut self, codes: u16) {
        self.status = self.status & !(C0 | C2 | C3) | codes;
    }

    /// The full tag word: 0 valid, 1 zero, 2 special, 3 empty.
    pub(super) fn tag_word(&self) -> u16 {
        (0..8).fold(0, |word, physical| {
            let tag = if self.tags >> physical & 1 == 0 {
                3
            } else {
                match F80::from_bytes(&self.registers[physical]).class() {
                    Class::Normal => 0,
                    Class::Zero => 1,
                    _ => 2,
                }
            };
            word | tag << (2 * physical)
        })
    }

    /// Of a full tag word only "empty" counts.
    pub(super) fn set_tag_word(&mut self, word: u16) {
        self.tags =
            (0..8).filter(|physical| word >> (2 * physical) & 3 != 3).fold(0, |tags, physical| tags | 1 << physical);
    }

    /// FNINIT. The registers keep their contents.
    pub(super) fn initialise(&mut self) {
        (self.control, self.status, self.tags) = (0x37f, 0, 0);
    }
}
