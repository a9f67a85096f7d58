//! FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1.
//!
//! Computed with some 125 bits and rounded once, as the rounding control says. A processor's result may differ from it in the
//! last bit.

use std::cmp::Ordering;

use iced_x86::Mnemonic;

use super::arithmetic::special;
use super::float::status::*;
use super::float::*;
use super::unit::Unit;
use super::wide::Wide;

/// Executes one.
pub(super) fn execute(mnemonic: Mnemonic, unit: &mut Unit) {
    match mnemonic {
        Mnemonic::Fsin | Mnemonic::Fcos => {
            if let Some((value, reduced)) = angle(unit, false) {
                let outcome = circular(value, reduced, mnemonic == Mnemonic::Fcos, unit.rounding());
                unit.give(0, outcome);
            }
        }
        Mnemonic::Fsincos => {
            if let Some((value, reduced)) = angle(unit, true) {
                let sine = circular(value, reduced, false, unit.rounding());
                let cosine = circular(value, reduced, true, unit.rounding());
                give_two(unit, sine, cosine);
            }
        }
        Mnemonic::Fptan => {
            if let Some((value, reduced)) = angle(unit, true) {
                let tangent = tangent(value, reduced, unit.rounding());
                give_two(unit, tangent, Outcome::exact(F80::ONE));
            }
        }
        Mnemonic::F2xm1 => {
            if unit.is_empty(0) {
                if unit.underflow() {
                    unit.set(0, F80::INDEFINITE);
                }
                return;
            }
            let outcome = exponential(unit.get(0), unit.rounding());
            unit.give(0, outcome);
        }
        _ => {
            let done = if unit.is_empty(0) || unit.is_empty(1) {
                let goes_on = unit.underflow();
                if goes_on {
                    unit.set(1, F80::INDEFINITE);
                }
                goes_on
            } else {
                let (x, y) = (unit.get(0), unit.get(1));
                let outcome = special(x, y).unwrap_or_else(|| match mnemonic {
                    Mnemonic::Fpatan => arc_tangent(y, x, unit.rounding()),
                    Mnemonic::Fyl2x => logarithm(y, x, unit.rounding()),
                    _ => logarithm_plus_one(y, x, unit.rounding()),
                });
                unit.give(1, outcome)
            };
            if done {
                unit.pop();
            }
        }
    }
}

/// The second goes above the first, of which the exceptions count.
fn give_two(unit: &mut Unit, first: Outcome<F80>, second: Outcome<F80>) {
    let nan = first.exceptions & IE != 0 || first.value.is_nan();
    let above = if nan { first.value } else { second.value };
    if unit.give(0, Outcome { exceptions: first.exceptions | second.exceptions, ..first }) {
        unit.push(above);
    }
}

fn constant(high: u64, low: u64, exponent: i32) -> Wide {
    Wide::scaled(u128::from(high) << 64 | u128::from(low), exponent)
}

/// π/2.
fn half_pi() -> Wide {
    constant(0xc90f_daa2_2168_c234, 0xc4c6_628b_80dc_1cd1, 0)
}

/// ln 2.
fn ln_2() -> Wide {
    constant(0xb172_17f7_d1cf_79ab, 0xc9e3_b398_03f2_f6af, -1)
}

fn wide(value: F80) -> Wide {
    if value.class() == Class::Zero { Wide::ZERO } else { Wide(Some(value.number())) }
}

/// Rounds a result that is not exact.
fn inexact(value: Wide, control: Control) -> Outcome<F80> {
    match value.0 {
        // The computation has lost bits: what it gives is never the whole number.
        Some(number) => round_extended(&Number { sticky: true, ..number }, control.extended()),
        None => Outcome::exact(F80::zero(false)),
    }
}

/// An angle as a number of right angles, of which the lowest two bits count, and the rest: at most half of one.
#[derive(Clone, Copy)]
struct Reduced {
    quadrant: u64,
    rest: Wide,
}

fn reduce(value: F80) -> Reduced {
    let x = Wide(Some(Number { negative: false, ..value.number() }));
    let turns = x.divide(half_pi());
    let count = match turns.0 {
        Some(number) if number.exponent >= -1 => {
            // Rounded to the nearest.
            let shift = (126 - number.exponent) as u32;
            ((number.significand >> shift) as u64).div_ceil(2)
        }
        _ => 0,
    };
    // π/2 in two parts, so that the product with the first is exact: 60 bits, and the 128 that follow.
    let first = Wide::scaled(0x0c90_fdaa_2216_8c23 << 68, 0);
    let second = constant(0x4c4c_6628_b80d_c1cd, 0x1290_24e0_88a6_7cc7, -60);
    let rest = x.subtract(first.times(count)).subtract(second.times(count));
    Reduced { quadrant: count, rest }
}

/// The operand of a circular function, and whether there is something to compute: otherwise the answer was given.
fn angle(unit: &mut Unit, pushes: bool) -> Option<(F80, Option<Reduced>)> {
    if unit.is_empty(0) || pushes && !unit.is_empty(7) {
        let goes_on = if unit.is_empty(0) { unit.underflow() } else { unit.overflow() };
        if goes_on {
            unit.set(0, F80::INDEFINITE);
            if pushes {
                unit.push(F80::INDEFINITE);
            }
        }
        return None;
    }
    unit.status &= !(C1 | C2);
    let value = unit.get(0);
    match value.class() {
        Class::Denormal | Class::Normal if i32::from(value.exponent) - BIAS >= 63 => {
            unit.status |= C2;
            None
        }
        Class::Denormal | Class::Normal => Some((value, Some(reduce(value)))),
        _ => Some((value, None)),
    }
}

/// What sine, cosine and tangent give for NaN, infinity and zero.
fn circular_special(value: F80, at_zero: F80) -> Outcome<F80> {
    special(value, value).unwrap_or_else(|| match value.class() {
        Class::Zero => Outcome::exact(at_zero),
        _ => Outcome::with(F80::INDEFINITE, IE),
    })
}

fn circular(value: F80, reduced: Option<Reduced>, cosine: bool, control: Control) -> Outcome<F80> {
    let Some(reduced) = reduced else {
        return circular_special(value, if cosine { F80::ONE } else { value });
    };
    let quadrant = reduced.quadrant + u64::from(cosine);
    let result = if quadrant & 1 == 0 { sine(reduced.rest) } else { cosine_of(reduced.rest) };
    let negative = (quadrant & 2 != 0) != (value.negative && !cosine);
    let result = if negative { result.negated() } else { result };
    inexact(result, control).and(denormal(value.class()))
}

fn tangent(value: F80, reduced: Option<Reduced>, control: Control) -> Outcome<F80> {
    let Some(reduced) = reduced else { return circular_special(value, value) };
    let (sine, cosine) = (sine(reduced.rest), cosine_of(reduced.rest));
    let result = if reduced.quadrant & 1 == 0 { sine.divide(cosine) } else { cosine.divide(sine).negated() };
    let result = if value.negative { result.negated() } else { result };
    inexact(result, control).and(denormal(value.class()))
}

/// The sum of terms of which each is made from the one before and its number, from 1.
fn series(first: Wide, mut next: impl FnMut(Wide, u64) -> Wide) -> Wide {
    let (mut term, mut sum) = (first, first);
    for number in 1..400 {
        term = next(term, number);
        if term.is_negligible(sum) {
            break;
        }
        sum = sum.add(term);
    }
    sum
}

fn sine(x: Wide) -> Wide {
    let square = x.multiply(x).negated();
    series(x, |term, n| term.multiply(square).over(2 * n * (2 * n + 1)))
}

fn cosine_of(x: Wide) -> Wide {
    let square = x.multiply(x).negated();
    series(Wide::integer(1), |term, n| term.multiply(square).over((2 * n - 1) * (2 * n)))
}

/// FPATAN: the angle of the point (x, y).
fn arc_tangent(y: F80, x: F80, control: Control) -> Outcome<F80> {
    use Class::{Infinity, Zero};
    let exceptions = denormal(x.class()) | denormal(y.class());
    let signed = |value: Wide| if y.negative { value.negated() } else { value };
    let pi = half_pi().doubled(1);
    let axis = match (y.class(), x.class()) {
        (Infinity, Infinity) if x.negative => Some(half_pi().times(3).doubled(-1)),
        (Infinity, Infinity) => Some(half_pi().doubled(-1)),
        (Infinity, _) => Some(half_pi()),
        (Zero, _) | (_, Infinity) if x.negative => Some(pi),
        (Zero, _) | (_, Infinity) => return Outcome::with(F80::zero(y.negative), exceptions),
        (_, Zero) => Some(half_pi()),
        _ => None,
    };
    if let Some(axis) = axis {
        return inexact(signed(axis), control).and(exceptions);
    }
    let magnitude = |value: F80| wide(F80 { negative: false, ..value });
    let (dy, dx) = (magnitude(y), magnitude(x));
    let steep = dy.compare_magnitude(dx) == Ordering::Greater;
    let ratio = if steep { dx.divide(dy) } else { dy.divide(dx) };
    let mut angle = small_arc_tangent(ratio);
    if steep {
        angle = half_pi().subtract(angle);
    }
    if x.negative {
        angle = pi.subtract(angle);
    }
    inexact(signed(angle), control).and(exceptions)
}

/// Euler's series, for 0 to 1.
fn small_arc_tangent(t: Wide) -> Wide {
    let square = t.multiply(t);
    let one_more = square.add(Wide::integer(1));
    let ratio = square.divide(one_more);
    series(t.divide(one_more), |term, n| term.multiply(ratio).times(2 * n).over(2 * n + 1))
}

/// F2XM1: `2^x - 1` for -1 to 1.
fn exponential(x: F80, control: Control) -> Outcome<F80> {
    if let Some(result) = special(x, x) {
        return result;
    }
    match x.class() {
        Class::Zero => Outcome::exact(x),
        Class::Infinity if x.negative => Outcome::exact(F80::ONE.negated()),
        Class::Infinity => Outcome::exact(x),
        _ if x == F80::ONE => Outcome::exact(x),
        _ if x == F80::ONE.negated() => Outcome::exact(F80 { exponent: BIAS as u16 - 1, ..x }),
        // Beyond the range the result is undefined: the operand.
        _ if x.number().exponent >= 0 => Outcome::exact(x),
        class => {
            let z = wide(x).multiply(ln_2());
            let result = series(z, |term, n| term.multiply(z).over(n + 1));
            inexact(result, control).and(denormal(class))
        }
    }
}

/// `2 artanh(s) / ln 2`.
fn twice_artanh(s: Wide) -> Wide {
    let square = s.multiply(s);
    let mut power = s;
    let sum = series(s, |_, n| {
        power = power.multiply(square);
        power.over(2 * n + 1)
    });
    sum.doubled(1).divide(ln_2())
}

/// FYL2X: `y log2 x`.
fn logarithm(y: F80, x: F80, control: Control) -> Outcome<F80> {
    use Class::{Infinity, Zero};
    let invalid = Outcome::with(F80::INDEFINITE, IE);
    let exceptions = denormal(x.class()) | denormal(y.class());
    let one = wide(F80::ONE);
    match (y.class(), x.class()) {
        (Zero, Zero) => return invalid,
        (Infinity, Zero) => return Outcome::exact(F80::infinity(!y.negative)),
        (_, Zero) => return Outcome::with(F80::infinity(!y.negative), ZE),
        _ if x.negative => return invalid,
        (Zero, Infinity) => return invalid,
        (_, Infinity) => return Outcome::with(F80::infinity(y.negative), exceptions),
        (Infinity, _) if x == F80::ONE => return invalid,
        _ if x == F80::ONE => return Outcome::with(F80::zero(y.negative), exceptions),
        (Zero | Infinity, _) => {
            let negative = y.negative == wide(x).is_greater(one);
            return Outcome::with(F80 { negative: !negative, ..y }, exceptions);
        }
        _ => {}
    }
    // x = m 2^e with m near 1, so that the logarithm of m is small.
    let mut number = x.number();
    let mut exponent = std::mem::take(&mut number.exponent);
    if number.significand >> 64 > 0xb504_f333_f9de_6484 {
        number.exponent = -1;
        exponent += 1;
    }
    let m = Wide(Some(number));
    let fraction = twice_artanh(m.subtract(one).divide(m.add(one)));
    let whole = Wide::integer(u64::from(exponent.unsigned_abs()));
    let whole = if exponent < 0 { whole.negated() } else { whole };
    let power_of_two = m.subtract(one).0.is_none();
    let result = fraction.add(whole).multiply(wide(y));
    match result.0 {
        // The logarithm of a power of two is exact.
        Some(number) if power_of_two => round_extended(&number, control.extended()).and(exceptions),
        _ => inexact(result, control).and(exceptions),
    }
}

/// FYL2XP1: `y log2 (x + 1)`.
fn logarithm_plus_one(y: F80, x: F80, control: Control) -> Outcome<F80> {
    use Class::{Infinity, Zero};
    let invalid = Outcome::with(F80::INDEFINITE, IE);
    let exceptions = denormal(x.class()) | denormal(y.class());
    let negative = x.negative != y.negative;
    match (y.class(), x.class()) {
        (Infinity, Zero) | (Zero, Infinity) => return invalid,
        (_, Infinity) if x.negative => return invalid,
        (Infinity, _) | (_, Infinity) => return Outcome::with(F80::infinity(negative), exceptions),
        (Zero, _) | (_, Zero) => return Outcome::with(F80::zero(negative), exceptions),
        _ if x.negative && x.number().exponent >= 0 => return invalid,
        _ => {}
    }
    let x = wide(x);
    let result = twice_artanh(x.divide(x.add(Wide::integer(2)))).multiply(wide(y));
    inexact(result, control).and(exceptions)
}
