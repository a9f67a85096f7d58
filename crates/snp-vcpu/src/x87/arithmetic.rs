//! Addition to remainder, on registers. Each gives the value with exceptions masked, and the exceptions.

use std::cmp::Ordering;

use super::float::status::{C0, C1, C2, C3, DE, IE, PE, ZE};
use super::float::*;

/// The result for operands of which one is a NaN or unsupported; `None` if none is.
///
/// # Source
/// AMD 24592 (APM volume 1), "x87 Floating-Point Programming", "NaN Results from NaN Source Operands".
pub(super) fn special(a: F80, b: F80) -> Option<Outcome<F80>> {
    use Class::{Quiet, Signaling, Unsupported};
    let (class_a, class_b) = (a.class(), b.class());
    if class_a == Unsupported || class_b == Unsupported {
        return Some(Outcome::with(F80::INDEFINITE, IE));
    }
    let invalid = if class_a == Signaling || class_b == Signaling { IE } else { 0 };
    let value = match (class_a, class_b) {
        (Quiet, Quiet) | (Signaling, Signaling) => larger(a.quieted(), b.quieted()),
        (Quiet, _) => a,
        (_, Quiet) => b,
        (Signaling, _) => a.quieted(),
        (_, Signaling) => b.quieted(),
        _ => return None,
    };
    Some(Outcome::with(value, invalid))
}

/// Of two NaNs the one with the larger significand; the positive one if these are equal.
fn larger(a: F80, b: F80) -> F80 {
    match a.significand.cmp(&b.significand) {
        Ordering::Less => b,
        Ordering::Greater => a,
        Ordering::Equal if a.negative => b,
        Ordering::Equal => a,
    }
}

fn denormals(a: F80, b: F80) -> u16 {
    denormal(a.class()) | denormal(b.class())
}

const INVALID: Outcome<F80> = Outcome::with(F80::INDEFINITE, IE);

pub(super) fn add(a: F80, b: F80, control: Control) -> Outcome<F80> {
    use Class::{Infinity, Zero};
    if let Some(result) = special(a, b) {
        return result;
    }
    let exceptions = denormals(a, b);
    match (a.class(), b.class()) {
        (Infinity, Infinity) if a.negative != b.negative => INVALID,
        (Infinity, _) => Outcome::with(a, exceptions),
        (_, Infinity) => Outcome::with(b, exceptions),
        (Zero, Zero) if a.negative == b.negative => Outcome::exact(a),
        (Zero, Zero) => Outcome::exact(F80::zero(control.rounding() == Rounding::Down)),
        (Zero, _) => round_extended(&b.number(), control).and(exceptions),
        (_, Zero) => round_extended(&a.number(), control).and(exceptions),
        _ => match sum(a.number(), b.number()) {
            Some(number) => round_extended(&number, control).and(exceptions),
            None => Outcome::with(F80::zero(control.rounding() == Rounding::Down), exceptions),
        },
    }
}

/// The sum of two numbers of at most 126 bits; `None` is zero.
pub(super) fn sum(a: Number, b: Number) -> Option<Number> {
    let (large, small) = if a.compare(&b) == Ordering::Less { (b, a) } else { (a, b) };
    let distance = (large.exponent - small.exponent) as u32;
    // One bit of room for the carry.
    let high = large.significand >> 1;
    let shifted = small.significand >> 1;
    let (low, lost) = match distance {
        0 => (shifted, false),
        1..=127 => (shifted >> distance, shifted << (128 - distance) != 0),
        _ => (0, true),
    };
    let exponent = large.exponent + 1;
    let significand = if large.negative == small.negative {
        high + low
    } else {
        // What was lost makes the difference smaller than it looks, and is more than nothing.
        high - low - u128::from(lost)
    };
    (significand != 0).then(|| Number { negative: large.negative, exponent, significand, sticky: lost }.normalised())
}

pub(super) fn multiply(a: F80, b: F80, control: Control) -> Outcome<F80> {
    use Class::{Infinity, Zero};
    if let Some(result) = special(a, b) {
        return result;
    }
    let exceptions = denormals(a, b);
    let negative = a.negative != b.negative;
    match (a.class(), b.class()) {
        (Infinity, Zero) | (Zero, Infinity) => INVALID,
        (Infinity, _) | (_, Infinity) => Outcome::with(F80::infinity(negative), exceptions),
        (Zero, _) | (_, Zero) => Outcome::with(F80::zero(negative), exceptions),
        _ => {
            let (a, b) = (a.number(), b.number());
            let significand = (a.significand >> 64) * (b.significand >> 64);
            let product = Number { negative, exponent: a.exponent + b.exponent + 1, significand, sticky: false };
            round_extended(&product.normalised(), control).and(exceptions)
        }
    }
}

pub(super) fn divide(a: F80, b: F80, control: Control) -> Outcome<F80> {
    use Class::{Infinity, Zero};
    if let Some(result) = special(a, b) {
        return result;
    }
    let exceptions = denormals(a, b);
    let negative = a.negative != b.negative;
    match (a.class(), b.class()) {
        (Infinity, Infinity) | (Zero, Zero) => INVALID,
        (Infinity, _) => Outcome::with(F80::infinity(negative), exceptions),
        (_, Infinity) | (Zero, _) => Outcome::with(F80::zero(negative), exceptions),
        (_, Zero) => Outcome::with(F80::infinity(negative), ZE),
        _ => {
            let (a, b) = (a.number(), b.number());
            let (dividend, divisor) = (a.significand, b.significand >> 64);
            // Both have their highest bit set: the quotient has 64 or 65 bits, and 63 more follow.
            let (high, rest) = (dividend / divisor, dividend % divisor);
            let (low, rest) = ((rest << 63) / divisor, (rest << 63) % divisor);
            let significand = high << 63 | low;
            let exponent = a.exponent - b.exponent;
            let quotient = Number { negative, exponent, significand, sticky: rest != 0 };
            round_extended(&quotient.normalised(), control).and(exceptions)
        }
    }
}

pub(super) fn square_root(a: F80, control: Control) -> Outcome<F80> {
    if let Some(result) = special(a, a) {
        return result;
    }
    match a.class() {
        Class::Zero => Outcome::exact(a),
        _ if a.negative => INVALID,
        Class::Infinity => Outcome::exact(a),
        class => {
            let number = a.number();
            // An even exponent, and a radicand in [1, 4).
            let odd = number.exponent & 1;
            let (significand, rest) = root(number.significand >> (1 - odd));
            let result = Number {
                negative: false,
                exponent: (number.exponent - odd) / 2,
                significand: significand << (128 - ROOT_BITS),
                sticky: rest,
            };
            round_extended(&result, control).and(denormal(class))
        }
    }
}

const ROOT_BITS: u32 = 67;

/// The root of a radicand in `[2^126, 2^128)`, to [`ROOT_BITS`] bits of which the highest is set, and whether more follow.
fn root(radicand: u128) -> (u128, bool) {
    let mut rest = 0_u128;
    let mut root = 0_u128;
    for step in 0..ROOT_BITS {
        let pair = if step < 64 { radicand >> (126 - 2 * step) & 3 } else { 0 };
        rest = rest << 2 | pair;
        let trial = root << 2 | 1;
        root <<= 1;
        if rest >= trial {
            rest -= trial;
            root |= 1;
        }
    }
    (root, rest != 0)
}

/// FSCALE: `a * 2^trunc(b)`.
pub(super) fn scale(a: F80, b: F80, control: Control) -> Outcome<F80> {
    use Class::{Infinity, Zero};
    if let Some(result) = special(a, b) {
        return result;
    }
    let exceptions = denormals(a, b);
    match (a.class(), b.class()) {
        (Infinity, Infinity) if b.negative => INVALID,
        (Zero, Infinity) if !b.negative => INVALID,
        (Infinity, _) => Outcome::with(a, exceptions),
        (Zero, _) => Outcome::with(a, exceptions),
        (_, Infinity) if b.negative => Outcome::with(F80::zero(a.negative), exceptions),
        (_, Infinity) => Outcome::with(F80::infinity(a.negative), exceptions),
        _ => {
            const FAR: i32 = 0x1_0000;
            let by = match magnitude(b, Rounding::Truncate) {
                Some((magnitude, ..)) if magnitude < FAR as u128 => magnitude as i32,
                _ => FAR,
            };
            let mut number = a.number();
            number.exponent += if b.negative { -by } else { by };
            round_extended(&number, control.extended()).and(exceptions)
        }
    }
}

/// FRNDINT.
pub(super) fn round_to_integer(a: F80, control: Control) -> Outcome<F80> {
    if let Some(result) = special(a, a) {
        return result;
    }
    let class = a.class();
    if matches!(class, Class::Zero | Class::Infinity) || a.exponent >= (BIAS + 63) as u16 {
        return Outcome::exact(a);
    }
    let Some((magnitude, inexact, up)) = magnitude(a, control.rounding()) else { return Outcome::exact(a) };
    let value = if magnitude == 0 {
        F80::zero(a.negative)
    } else {
        let shift = (magnitude as u64).leading_zeros();
        F80 {
            negative: a.negative,
            exponent: (BIAS + 63 - shift as i32) as u16,
            significand: (magnitude as u64) << shift,
        }
    };
    Outcome { value, exceptions: denormal(class) | if inexact { PE } else { 0 }, up }
}

/// FXTRACT: exponent and significand.
pub(super) fn extract(a: F80) -> (Outcome<F80>, F80) {
    if let Some(result) = special(a, a) {
        return (result, result.value);
    }
    match a.class() {
        Class::Zero => (Outcome::with(F80::infinity(true), ZE), a),
        Class::Infinity => (Outcome::exact(F80::infinity(false)), a),
        class => {
            let number = a.number();
            let exponent = F80::integer(i64::from(number.exponent));
            let significand = (number.significand >> 64) as u64;
            let significand = F80 { negative: a.negative, exponent: BIAS as u16, significand };
            (Outcome::with(exponent, denormal(class)), significand)
        }
    }
}

/// FPREM, or FPREM1 with `nearest`: the remainder, and the condition codes if there is a quotient.
pub(super) fn remainder(a: F80, b: F80, nearest: bool, control: Control) -> (Outcome<F80>, Option<u16>) {
    use Class::{Infinity, Zero};
    if let Some(result) = special(a, b) {
        return (result, None);
    }
    let exceptions = denormals(a, b);
    match (a.class(), b.class()) {
        (Infinity, _) | (_, Zero) => return (INVALID, None),
        (Zero, _) => return (Outcome::with(a, exceptions), Some(0)),
        (_, Infinity) => return (round_extended(&a.number(), control.extended()).and(exceptions), Some(0)),
        _ => {}
    }
    let (dividend, divisor) = (a.number(), b.number());
    let (high, low) = (dividend.significand >> 64, divisor.significand >> 64);
    let distance = dividend.exponent - divisor.exponent;
    if distance >= 64 {
        // As much as one step may do; the program repeats it while C2 is set.
        let step = 32 + distance % 32;
        let rest = modulo(high, step as u32, low).1;
        let exponent = divisor.exponent + distance - step;
        return (remaining(rest, a.negative, exponent, control).and(exceptions), Some(C2));
    }
    let (mut quotient, mut rest, mut negative) = (0, high, a.negative);
    let exponent = if distance >= 0 {
        (quotient, rest) = modulo(high, distance as u32, low);
        divisor.exponent
    } else {
        dividend.exponent
    };
    // Against half of the divisor, in units of the remainder.
    let twice = match distance {
        0.. => (rest << 1).cmp(&low),
        -1 => rest.cmp(&low),
        _ => Ordering::Less,
    };
    let mut outcome = None;
    if nearest && (twice == Ordering::Greater || twice == Ordering::Equal && quotient & 1 != 0) {
        quotient += 1;
        negative = !negative;
        let whole = if distance < 0 { low << 1 } else { low };
        outcome = Some(remaining(whole - rest, negative, exponent, control));
    }
    let outcome = outcome.unwrap_or_else(|| remaining(rest, negative, exponent, control));
    let codes = [(4, C0), (2, C3), (1, C1)].into_iter().filter(|(bit, _)| quotient & bit != 0);
    (outcome.and(exceptions), Some(codes.fold(0, |all, (_, code)| all | code)))
}

/// `(high << by) / low` and the rest; `by` below 64.
fn modulo(high: u128, by: u32, low: u128) -> (u128, u128) {
    let shifted = high << by;
    (shifted / low, shifted % low)
}

/// A remainder of 64-bit units at an exponent: exact.
fn remaining(rest: u128, negative: bool, exponent: i32, control: Control) -> Outcome<F80> {
    if rest == 0 {
        return Outcome::exact(F80::zero(negative));
    }
    let shift = rest.leading_zeros();
    let number = Number { negative, exponent: exponent + 64 - shift as i32, significand: rest << shift, sticky: false };
    round_extended(&number, control.extended())
}

/// The order of two numbers; `None` if one is a NaN or unsupported.
pub(super) fn compare(a: F80, b: F80) -> Option<Ordering> {
    use Class::{Quiet, Signaling, Unsupported, Zero};
    let unordered = |class| matches!(class, Quiet | Signaling | Unsupported);
    if unordered(a.class()) || unordered(b.class()) {
        return None;
    }
    if a.class() == Zero && b.class() == Zero {
        return Some(Ordering::Equal);
    }
    // Zero is less than any other magnitude; infinities have the largest exponent.
    let key = |value: F80| {
        if value.significand == 0 {
            return (i32::MIN, 0);
        }
        let number = value.number();
        (number.exponent, number.significand)
    };
    let magnitudes = key(a).cmp(&key(b));
    Some(match (a.negative, b.negative) {
        (false, false) => magnitudes,
        (true, true) => magnitudes.reverse(),
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
    })
}

/// The exceptions of a comparison.
pub(super) fn compare_exceptions(a: F80, b: F80, quiet: bool) -> u16 {
    use Class::{Quiet, Signaling, Unsupported};
    let either = |class| a.class() == class || b.class() == class;
    if either(Unsupported) || either(Signaling) || !quiet && either(Quiet) {
        return IE;
    }
    if either(Quiet) { 0 } else { denormals(a, b) & DE }
}
