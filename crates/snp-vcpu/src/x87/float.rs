//! Numbers of 80 bits: classes, and rounding to extended, double and single precision.

use std::cmp::Ordering;

/// Bits of the status word.
pub(super) mod status {
    /// Invalid operation.
    pub(crate) const IE: u16 = 1 << 0;
    /// Denormal operand.
    pub(crate) const DE: u16 = 1 << 1;
    /// Division by zero.
    pub(crate) const ZE: u16 = 1 << 2;
    /// Overflow.
    pub(crate) const OE: u16 = 1 << 3;
    /// Underflow.
    pub(crate) const UE: u16 = 1 << 4;
    /// Inexact.
    pub(crate) const PE: u16 = 1 << 5;
    /// Stack fault.
    pub(crate) const SF: u16 = 1 << 6;
    /// An unmasked exception is pending.
    pub(crate) const ES: u16 = 1 << 7;
    /// Condition code 0.
    pub(crate) const C0: u16 = 1 << 8;
    /// Condition code 1: rounded up, or a stack that was full.
    pub(crate) const C1: u16 = 1 << 9;
    /// Condition code 2.
    pub(crate) const C2: u16 = 1 << 10;
    /// Condition code 3.
    pub(crate) const C3: u16 = 1 << 14;
    /// As ES.
    pub(crate) const B: u16 = 1 << 15;
    /// The six exceptions.
    pub(crate) const EXCEPTIONS: u16 = 0x3f;
    /// Those that are found before anything is computed: if unmasked, the instruction has no result.
    pub(crate) const BEFORE: u16 = IE | DE | ZE;
}

use status::{DE, IE, OE, PE, UE};

/// The integer bit of a significand.
pub(super) const INTEGER: u64 = 1 << 63;
const QUIET: u64 = 1 << 62;
/// Bias of extended exponents.
pub(super) const BIAS: i32 = 16383;
/// What unmasked overflow and underflow take from, or add to, the exponent.
const WRAP: i32 = 24576;

/// A number as the registers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct F80 {
    pub(super) negative: bool,
    pub(super) exponent: u16,
    pub(super) significand: u64,
}

/// Kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Zero,
    /// Denormals and pseudo-denormals.
    Denormal,
    Normal,
    Infinity,
    Quiet,
    Signaling,
    /// Encodings that the 8087 had: pseudo-NaNs, pseudo-infinities, unnormals.
    Unsupported,
}

impl F80 {
    pub(super) const ONE: Self = Self { negative: false, exponent: BIAS as u16, significand: INTEGER };
    /// The default NaN, "real indefinite".
    pub(super) const INDEFINITE: Self = Self { negative: true, exponent: 0x7fff, significand: INTEGER | QUIET };

    pub(super) const fn zero(negative: bool) -> Self {
        Self { negative, exponent: 0, significand: 0 }
    }

    pub(super) const fn infinity(negative: bool) -> Self {
        Self { negative, exponent: 0x7fff, significand: INTEGER }
    }

    pub(super) fn from_bytes(bytes: &[u8; 10]) -> Self {
        let [low @ .., b8, b9] = *bytes;
        let top = u16::from_le_bytes([b8, b9]);
        Self { negative: top >> 15 != 0, exponent: top & 0x7fff, significand: u64::from_le_bytes(low) }
    }

    pub(super) fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.significand.to_le_bytes());
        bytes[8..].copy_from_slice(&(self.exponent | u16::from(self.negative) << 15).to_le_bytes());
        bytes
    }

    pub(super) fn class(self) -> Class {
        let integer = self.significand & INTEGER != 0;
        match self.exponent {
            0 if self.significand == 0 => Class::Zero,
            0 => Class::Denormal,
            _ if !integer => Class::Unsupported,
            0x7fff if self.significand == INTEGER => Class::Infinity,
            0x7fff if self.significand & QUIET != 0 => Class::Quiet,
            0x7fff => Class::Signaling,
            _ => Class::Normal,
        }
    }

    pub(super) fn is_nan(self) -> bool {
        matches!(self.class(), Class::Quiet | Class::Signaling)
    }

    pub(super) fn quieted(self) -> Self {
        Self { significand: self.significand | QUIET, ..self }
    }

    pub(super) fn negated(self) -> Self {
        Self { negative: !self.negative, ..self }
    }

    /// A finite number that is not zero, normalised: its value is `significand / 2^127 * 2^exponent`.
    pub(super) fn number(self) -> Number {
        let shift = self.significand.leading_zeros();
        Number {
            negative: self.negative,
            exponent: i32::from(self.exponent.max(1)) - BIAS - shift as i32,
            significand: u128::from(self.significand << shift) << 64,
            sticky: false,
        }
    }

    /// An integer.
    pub(super) fn integer(value: i64) -> Self {
        let magnitude = value.unsigned_abs();
        if magnitude == 0 {
            return Self::zero(false);
        }
        let shift = magnitude.leading_zeros();
        Self { negative: value < 0, exponent: (BIAS + 63 - shift as i32) as u16, significand: magnitude << shift }
    }
}

/// An exact number that is not zero, or the beginning of one: `significand / 2^127 * 2^exponent`, bit 127 set, and whether
/// more bits follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) negative: bool,
    pub(super) exponent: i32,
    pub(super) significand: u128,
    pub(super) sticky: bool,
}

impl Number {
    /// With bit 127 set. The significand is not 0.
    pub(super) fn normalised(self) -> Self {
        let shift = self.significand.leading_zeros();
        Self { exponent: self.exponent - shift as i32, significand: self.significand << shift, ..self }
    }

    /// Compares magnitudes.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        (self.exponent, self.significand).cmp(&(other.exponent, other.significand))
    }
}

/// What an operation gives: the value with all exceptions masked, but for overflow and underflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome<T> {
    pub(super) value: T,
    /// The exceptions that it met.
    pub(super) exceptions: u16,
    /// The magnitude was rounded up.
    pub(super) up: bool,
}

impl<T> Outcome<T> {
    pub(super) const fn exact(value: T) -> Self {
        Self { value, exceptions: 0, up: false }
    }

    pub(super) const fn with(value: T, exceptions: u16) -> Self {
        Self { value, exceptions, up: false }
    }

    /// With more exceptions.
    pub(super) fn and(self, exceptions: u16) -> Self {
        Self { exceptions: self.exceptions | exceptions, ..self }
    }
}

/// The control word, as far as arithmetic asks it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control(pub(super) u16);

/// Rounding control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    Nearest,
    Down,
    Up,
    Truncate,
}

impl Control {
    pub(super) fn rounding(self) -> Rounding {
        match self.0 >> 10 & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Truncate,
        }
    }

    /// Bits of significands that precision control asks for.
    fn precision(self) -> u32 {
        match self.0 >> 8 & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        }
    }

    /// The same with 64 bits of precision.
    pub(super) fn extended(self) -> Self {
        Self(self.0 | 0x300)
    }

    fn masks(self, exception: u16) -> bool {
        self.0 & exception != 0
    }
}

/// A format that numbers are rounded to.
struct Format {
    bits: u32,
    /// Exponents of the smallest and largest normal number.
    least: i32,
    most: i32,
}

/// What rounding gives, in terms of a format.
struct Rounded {
    /// `bits` bits, or 0: the integer bit may be clear for denormals.
    significand: u64,
    exponent: i32,
    infinite: bool,
    exceptions: u16,
    up: bool,
}

/// Drops the bits below `drop`: the rest, whether bits were lost, and whether it was rounded up.
fn drop_bits(rounding: Rounding, negative: bool, significand: u128, sticky: bool, drop: u32) -> (u128, bool, bool) {
    // 128 bits never reach the bit above them.
    let kept = if drop >= 128 { 0 } else { significand >> drop };
    let lost = if drop >= 128 { significand } else { significand & ((1 << drop) - 1) };
    let inexact = lost != 0 || sticky;
    let half = if drop > 128 { u128::MAX } else { 1 << (drop - 1) };
    let up = match rounding {
        Rounding::Nearest if drop > 128 => false,
        Rounding::Nearest => match lost.cmp(&half) {
            Ordering::Greater => true,
            Ordering::Equal => sticky || kept & 1 != 0,
            Ordering::Less => false,
        },
        Rounding::Down => negative && inexact,
        Rounding::Up => !negative && inexact,
        Rounding::Truncate => false,
    };
    (kept + u128::from(up), inexact, up)
}

/// Rounds to a format. Tininess is detected after rounding.
fn round(number: &Number, format: &Format, control: Control) -> Rounded {
    let drop = 128 - format.bits;
    let rounding = control.rounding();
    let one = 1_u128 << format.bits;
    let (mut significand, inexact, up) = drop_bits(rounding, number.negative, number.significand, number.sticky, drop);
    let mut exponent = number.exponent;
    if significand == one {
        significand >>= 1;
        exponent += 1;
    }
    let precision = if inexact { PE } else { 0 };
    let whole = |significand: u128, exponent, exceptions, up| Rounded {
        significand: significand as u64,
        exponent,
        infinite: false,
        exceptions,
        up,
    };
    if exponent > format.most {
        if !control.masks(OE) {
            return whole(significand, exponent - WRAP, OE | precision, up);
        }
        let infinite = match rounding {
            Rounding::Nearest => true,
            Rounding::Down => number.negative,
            Rounding::Up => !number.negative,
            Rounding::Truncate => false,
        };
        let result = whole(one - 1, format.most, OE | PE, infinite);
        return Rounded { infinite, ..result };
    }
    if exponent >= format.least {
        return whole(significand, exponent, precision, up);
    }
    if !control.masks(UE) {
        return whole(significand, exponent + WRAP, UE | precision, up);
    }
    let shift = (format.least - number.exponent) as u32;
    let (significand, inexact, up) =
        drop_bits(rounding, number.negative, number.significand, number.sticky, drop.saturating_add(shift));
    whole(significand, format.least, if inexact { UE | PE } else { 0 }, up)
}

/// Rounds to a register, with the precision that the control word asks for.
pub(super) fn round_extended(number: &Number, control: Control) -> Outcome<F80> {
    let bits = control.precision();
    let rounded = round(number, &Format { bits, least: 1 - BIAS, most: BIAS }, control);
    let significand = rounded.significand << (64 - bits);
    let Rounded { exceptions, up, .. } = rounded;
    if rounded.infinite {
        return Outcome { value: F80::infinity(number.negative), exceptions, up };
    }
    let negative = number.negative;
    match rounded.exponent + BIAS {
        _ if significand & INTEGER == 0 => {
            Outcome { value: F80 { negative, exponent: 0, significand }, exceptions, up }
        }
        biased @ 1..=0x7ffe => {
            Outcome { value: F80 { negative, exponent: biased as u16, significand }, exceptions, up }
        }
        // FSCALE: even wrapping does not bring the exponent into range, and the result is not exact.
        ..=0 => Outcome { value: F80::zero(negative), exceptions: exceptions | PE, up: false },
        _ => Outcome { value: F80::infinity(negative), exceptions: exceptions | PE, up: true },
    }
}

/// The layout of double or single precision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interchange {
    /// Bits of the fraction.
    pub(super) fraction: u32,
    /// Bits of the exponent.
    pub(super) exponent: u32,
}

impl Interchange {
    pub(super) const SINGLE: Self = Self { fraction: 23, exponent: 8 };
    pub(super) const DOUBLE: Self = Self { fraction: 52, exponent: 11 };

    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    fn largest_exponent(self) -> u64 {
        (1 << self.exponent) - 1
    }

    /// Widens: exact, but a NaN stays signaling. The second value tells a denormal.
    pub(super) fn widen(self, bits: u64) -> (F80, bool) {
        let negative = bits >> (self.fraction + self.exponent) & 1 != 0;
        let exponent = bits >> self.fraction & self.largest_exponent();
        let fraction = bits & ((1 << self.fraction) - 1);
        let significand = fraction << (63 - self.fraction);
        let value = |exponent, significand| F80 { negative, exponent, significand };
        match exponent {
            0 if fraction == 0 => (F80::zero(negative), false),
            0 => {
                let shift = significand.leading_zeros();
                let exponent = 1 - self.bias() - shift as i32 + BIAS;
                (value(exponent as u16, significand << shift), true)
            }
            _ if exponent == self.largest_exponent() => (value(0x7fff, significand | INTEGER), false),
            _ => (value((exponent as i32 - self.bias() + BIAS) as u16, significand | INTEGER), false),
        }
    }

    /// Narrows.
    pub(super) fn narrow(self, value: F80, control: Control) -> Outcome<u64> {
        let sign = u64::from(value.negative) << (self.fraction + self.exponent);
        let infinity = sign | self.largest_exponent() << self.fraction;
        let nan = |value: F80| {
            let fraction = (value.quieted().significand & !INTEGER) >> (63 - self.fraction);
            infinity | fraction
        };
        match value.class() {
            Class::Zero => Outcome::exact(sign),
            Class::Infinity => Outcome::exact(infinity),
            Class::Quiet => Outcome::exact(nan(value)),
            Class::Signaling => Outcome::with(nan(value), IE),
            Class::Unsupported => Outcome::with(self.indefinite(), IE),
            Class::Denormal | Class::Normal => {
                let format = Format { bits: self.fraction + 1, least: 1 - self.bias(), most: self.bias() };
                let rounded = round(&value.number(), &format, control);
                let fraction = rounded.significand & ((1 << self.fraction) - 1);
                let bits = if rounded.infinite {
                    infinity
                } else if rounded.significand >> self.fraction == 0 {
                    sign | fraction
                } else {
                    // Out of range only where an unmasked exception keeps it from being stored.
                    let exponent = (rounded.exponent + self.bias()) as u64 & self.largest_exponent();
                    sign | exponent << self.fraction | fraction
                };
                Outcome { value: bits, exceptions: rounded.exceptions, up: rounded.up }
            }
        }
    }

    pub(super) fn indefinite(self) -> u64 {
        let ones = (1_u64 << (self.exponent + 2)) - 1;
        ones << (self.fraction - 1)
    }
}

/// Rounds to an integer; the number's class is finite. `None` if it has more than `bits` bits, one of them the sign's.
pub(super) fn to_integer(value: F80, bits: u32, rounding: Rounding) -> Option<Outcome<i64>> {
    let (magnitude, inexact, up) = magnitude(value, rounding)?;
    let limit = 1_u128 << (bits - 1);
    let signed = if value.negative { -(magnitude as i128) } else { magnitude as i128 };
    let fits = if value.negative { magnitude <= limit } else { magnitude < limit };
    fits.then_some(Outcome { value: signed as i64, exceptions: if inexact { PE } else { 0 }, up })
}

/// The integer magnitude of a finite number; `None` from 2^65 on.
pub(super) fn magnitude(value: F80, rounding: Rounding) -> Option<(u128, bool, bool)> {
    if value.class() == Class::Zero {
        return Some((0, false, false));
    }
    let number = value.number();
    if number.exponent > 64 {
        return None;
    }
    // 2^exponent is at bit 127: everything below bit 127 - exponent is fraction.
    let drop = (127 - number.exponent) as u32;
    Some(drop_bits(rounding, value.negative, number.significand, false, drop))
}

/// The exceptions of an operand that is no NaN.
pub(super) fn denormal(class: Class) -> u16 {
    if class == Class::Denormal { DE } else { 0 }
}
