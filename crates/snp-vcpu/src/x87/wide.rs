//! Arithmetic with some 125 bits, for the transcendental functions.

use std::cmp::Ordering;

use super::arithmetic::sum;
use super::float::Number;

/// A number of some 125 bits, or zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide(pub(super) Option<Number>);

impl Wide {
    pub(super) const ZERO: Self = Self(None);

    pub(super) fn integer(value: u64) -> Self {
        Self::scaled(u128::from(value), 127)
    }

    /// `significand / 2^127 * 2^exponent`, not normalised.
    pub(super) fn scaled(significand: u128, exponent: i32) -> Self {
        let number = Number { negative: false, exponent, significand, sticky: false };
        Self((significand != 0).then(|| number.normalised()))
    }

    pub(super) fn add(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(sum(a, b)),
            (a, b) => Self(a.or(b)),
        }
    }

    pub(super) fn negated(self) -> Self {
        Self(self.0.map(|number| Number { negative: !number.negative, ..number }))
    }

    pub(super) fn subtract(self, other: Self) -> Self {
        self.add(other.negated())
    }

    pub(super) fn multiply(self, other: Self) -> Self {
        let (Some(a), Some(b)) = (self.0, other.0) else { return Self::ZERO };
        let number = Number {
            negative: a.negative != b.negative,
            exponent: a.exponent + b.exponent + 1,
            significand: high(a.significand, b.significand),
            sticky: false,
        };
        Self(Some(number.normalised()))
    }

    /// The other is not zero.
    pub(super) fn divide(self, other: Self) -> Self {
        let (Some(a), Some(b)) = (self.0, other.0) else { return Self::ZERO };
        let negative = a.negative != b.negative;
        // Schoolbook, one bit at a time: seldom enough.
        let (mut rest, mut quotient) = (a.significand >> 1, 0_u128);
        let divisor = b.significand >> 1;
        for _ in 0..127 {
            quotient <<= 1;
            if rest >= divisor {
                rest -= divisor;
                quotient |= 1;
            }
            rest <<= 1;
        }
        let number = Number { negative, exponent: a.exponent - b.exponent + 1, significand: quotient, sticky: false };
        Self((quotient != 0).then(|| number.normalised()))
    }

    pub(super) fn times(self, factor: u64) -> Self {
        self.multiply(Self::integer(factor))
    }

    /// Divides by a small integer, which is not zero.
    pub(super) fn over(self, divisor: u64) -> Self {
        Self(self.0.map(|number| {
            let divisor = u128::from(divisor);
            let (high, rest) = (number.significand / divisor, number.significand % divisor);
            // As many bits again as the division took.
            let shift = high.leading_zeros();
            let low = (rest << shift) / divisor;
            Number { significand: high << shift | low, exponent: number.exponent - shift as i32, ..number }
        }))
    }

    pub(super) fn doubled(self, times: i32) -> Self {
        Self(self.0.map(|number| Number { exponent: number.exponent + times, ..number }))
    }

    /// Too small to change `whole`.
    pub(super) fn is_negligible(self, whole: Self) -> bool {
        match (self.0, whole.0) {
            (Some(part), Some(whole)) => part.exponent < whole.exponent - 127,
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    pub(super) fn is_greater(self, other: Self) -> bool {
        self.subtract(other).0.is_some_and(|difference| !difference.negative)
    }

    pub(super) fn compare_magnitude(self, other: Self) -> Ordering {
        match (self.0, other.0) {
            (Some(a), Some(b)) => a.compare(&b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }
}

/// The upper half of a product.
fn high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let middle = a1 * b0 + ((a0 * b0) >> 64);
    let other = a0 * b1 + (middle & LOW);
    a1 * b1 + (middle >> 64) + (other >> 64)
}
