//! Binary floating-point as IEEE 754 and MXCSR define it: results and exceptions, exactly.
//!
//! Numbers are bit patterns in a `u64`, of whichever [`Format`]. A finite number is taken apart into a sign, an exponent and
//! a significand of 128 bits; the operations compute so many bits of the result that what is below them only matters as
//! "something" or "nothing" (the lowest bit), and [`Env::round`] makes a number of it. Nothing here depends on the host's
//! floating-point unit or its modes.
//!
//! # Source
//! AMD 24592 (APM volume 1), "SIMD Floating-Point Exceptions", "Floating-Point Rounding", "NaN Results".

use std::cmp::Ordering;

/// MXCSR's invalid-operation flag.
pub(super) const INVALID: u32 = 1 << 0;
/// Denormal operand.
pub(super) const DENORMAL: u32 = 1 << 1;
/// Division by zero.
pub(super) const ZERO_DIVIDE: u32 = 1 << 2;
/// Overflow.
pub(super) const OVERFLOW: u32 = 1 << 3;
/// Underflow.
pub(super) const UNDERFLOW: u32 = 1 << 4;
/// Inexact result.
pub(super) const PRECISION: u32 = 1 << 5;
/// Those that are found before anything is computed.
pub(super) const BEFORE: u32 = INVALID | DENORMAL | ZERO_DIVIDE;

const DENORMALS_ARE_ZEROS: u32 = 1 << 6;
const MASKS: u32 = 7;
const ROUNDING: u32 = 13;
const FLUSH_TO_ZERO: u32 = 1 << 15;

/// How results are rounded, in MXCSR's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    Nearest,
    Down,
    Up,
    Zero,
}

impl Rounding {
    /// Of the two bits that encode it.
    pub(super) fn of(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Nearest,
            1 => Self::Down,
            2 => Self::Up,
            _ => Self::Zero,
        }
    }
}

/// A binary interchange format.
pub(super) trait Format {
    /// Bits of the fraction.
    const FRACTION: u32;
    /// Bits of the exponent.
    const EXPONENT: u32;

    /// The bias, which is the largest exponent as well.
    const BIAS: i32 = (1 << (Self::EXPONENT - 1)) - 1;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::FRACTION + Self::EXPONENT);
    /// Infinity.
    const INFINITY: u64 = ((1 << Self::EXPONENT) - 1) << Self::FRACTION;
    /// The bit that tells a quiet NaN from a signalling one.
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    /// What an invalid operation gives.
    const DEFAULT_NAN: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;
    /// All but the sign.
    const MAGNITUDE: u64 = Self::SIGN - 1;
    /// One.
    const ONE: u64 = (Self::BIAS as u64) << Self::FRACTION;
}

/// binary16.
pub(super) struct Half;
/// binary32.
pub(super) struct Single;
/// binary64.
pub(super) struct Double;

impl Format for Half {
    const FRACTION: u32 = 10;
    const EXPONENT: u32 = 5;
}

impl Format for Single {
    const FRACTION: u32 = 23;
    const EXPONENT: u32 = 8;
}

impl Format for Double {
    const FRACTION: u32 = 52;
    const EXPONENT: u32 = 11;
}

/// It is a NaN.
pub(super) fn is_nan<F: Format>(bits: u64) -> bool {
    bits & F::MAGNITUDE > F::INFINITY
}

/// It is a signalling NaN.
pub(super) fn is_signalling<F: Format>(bits: u64) -> bool {
    is_nan::<F>(bits) && bits & F::QUIET == 0
}

fn is_infinite<F: Format>(bits: u64) -> bool {
    bits & F::MAGNITUDE == F::INFINITY
}

fn is_zero<F: Format>(bits: u64) -> bool {
    bits & F::MAGNITUDE == 0
}

fn is_denormal<F: Format>(bits: u64) -> bool {
    !is_zero::<F>(bits) && bits & F::INFINITY == 0
}

/// A finite number that is not zero: `significand * 2^(exponent - 127)`, and the significand's highest bit is set.
#[derive(Clone, Copy, Debug)]
struct Finite {
    negative: bool,
    exponent: i32,
    significand: u128,
}

impl Finite {
    fn new<F: Format>(bits: u64) -> Self {
        let fraction = bits & ((1 << F::FRACTION) - 1);
        let biased = (bits & F::INFINITY) >> F::FRACTION;
        let whole = if biased == 0 { fraction } else { fraction | 1 << F::FRACTION };
        Self::normalised(bits & F::SIGN != 0, biased.max(1) as i32 - F::BIAS - F::FRACTION as i32 + 127, whole.into())
    }

    /// Of a significand that is not zero.
    fn normalised(negative: bool, exponent: i32, significand: u128) -> Self {
        let shift = significand.leading_zeros();
        Self { negative, exponent: exponent - shift as i32, significand: significand << shift }
    }
}

/// Shifts right; what falls out is remembered in the lowest bit.
fn shift_right_sticky(significand: u128, shift: u32) -> u128 {
    match shift {
        0 => significand,
        1..128 => significand >> shift | u128::from(significand << (128 - shift) != 0),
        _ => u128::from(significand != 0),
    }
}

/// The modes of MXCSR, and the exceptions that an instruction met so far.
#[derive(Clone, Debug)]
pub(super) struct Env {
    mxcsr: u32,
    rounding: Rounding,
    pub(super) flags: u32,
}

impl Env {
    /// As MXCSR says.
    pub(super) fn new(mxcsr: u32) -> Self {
        Self { mxcsr, rounding: Rounding::of(mxcsr >> ROUNDING), flags: 0 }
    }

    /// Does something with another rounding, if one is given.
    pub(super) fn rounded<T>(&mut self, rounding: Option<Rounding>, f: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.rounding;
        self.rounding = rounding.unwrap_or(before);
        let result = f(self);
        self.rounding = before;
        result
    }

    /// The exceptions that MXCSR does not mask, in the place of the flags.
    fn unmasked(&self) -> u32 {
        !(self.mxcsr >> MASKS) & 0x3f
    }

    /// Whether one of the exceptions so far is not masked. One that is found before the computation keeps the others from
    /// being found; then only those are in `flags`.
    pub(super) fn faults(&mut self) -> bool {
        if self.flags & BEFORE & self.unmasked() != 0 {
            self.flags &= BEFORE;
        }
        self.flags & self.unmasked() != 0
    }

    fn raise(&mut self, flags: u32) {
        self.flags |= flags;
    }

    /// An operand as the computation sees it: zero for a denormal if DAZ is set.
    pub(super) fn operand<F: Format>(&self, bits: u64) -> u64 {
        if self.mxcsr & DENORMALS_ARE_ZEROS != 0 && is_denormal::<F>(bits) { bits & F::SIGN } else { bits }
    }

    fn note_denormals<F: Format>(&mut self, operands: &[u64]) {
        if operands.iter().any(|bits| is_denormal::<F>(*bits)) {
            self.raise(DENORMAL);
        }
    }

    /// An invalid operation.
    fn invalid<F: Format>(&mut self) -> u64 {
        self.raise(INVALID);
        F::DEFAULT_NAN
    }

    /// If an operand is a NaN, the first of them, made quiet.
    fn nan<F: Format>(&mut self, operands: &[u64]) -> Option<u64> {
        let first = operands.iter().find(|bits| is_nan::<F>(**bits))?;
        if operands.iter().any(|bits| is_signalling::<F>(*bits)) {
            self.raise(INVALID);
        }
        Some(first | F::QUIET)
    }

    /// Whether a result is rounded away from zero: `remainder` is what is dropped, with `half` as its unit's half.
    fn rounds_away(&self, negative: bool, odd: bool, remainder: u128, half: u128) -> bool {
        match self.rounding {
            Rounding::Nearest => remainder > half || remainder == half && odd,
            Rounding::Down => negative && remainder != 0,
            Rounding::Up => !negative && remainder != 0,
            Rounding::Zero => false,
        }
    }

    /// Drops the low `drop` bits of a significand, rounding; the result may need a bit more. Whether it is inexact.
    fn drop_bits(&self, negative: bool, significand: u128, drop: u32) -> (u128, bool) {
        let kept = significand >> drop;
        let remainder = significand & ((1 << drop) - 1);
        let away = self.rounds_away(negative, kept & 1 != 0, remainder, 1 << (drop - 1));
        (kept + u128::from(away), remainder != 0)
    }

    /// The number of format `F` for an exact result.
    fn round<F: Format>(&mut self, exact: Finite) -> u64 {
        let least = 1 - F::BIAS;
        let drop = 127 - F::FRACTION;
        let sign = if exact.negative { F::SIGN } else { 0 };
        if exact.exponent < least {
            return self.round_tiny::<F>(exact);
        }
        let (kept, inexact) = self.drop_bits(exact.negative, exact.significand, drop);
        // A carry out of the fraction goes into the exponent, as it should.
        let exponent = exact.exponent.min(F::BIAS + 1) + F::BIAS - 1;
        let magnitude = ((exponent as u64) << F::FRACTION) + kept as u64;
        let overflow = magnitude >= F::INFINITY;
        // An overflow that is not masked has no result that could be inexact for its sake.
        if inexact || overflow && self.unmasked() & OVERFLOW == 0 {
            self.raise(PRECISION);
        }
        if overflow {
            self.raise(OVERFLOW);
            return sign | self.overflowed::<F>(exact.negative);
        }
        sign | magnitude
    }

    fn overflowed<F: Format>(&self, negative: bool) -> u64 {
        let to_infinity = match self.rounding {
            Rounding::Nearest => true,
            Rounding::Down => negative,
            Rounding::Up => !negative,
            Rounding::Zero => false,
        };
        if to_infinity { F::INFINITY } else { F::INFINITY - 1 }
    }

    /// Rounds what is below the normal numbers. Tininess is found after rounding: a result that would be normal if the
    /// exponent had no lower bound is not tiny.
    fn round_tiny<F: Format>(&mut self, exact: Finite) -> u64 {
        let least = 1 - F::BIAS;
        let drop = 127 - F::FRACTION;
        let sign = if exact.negative { F::SIGN } else { 0 };
        let (unbounded, unbounded_inexact) = self.drop_bits(exact.negative, exact.significand, drop);
        let tiny = exact.exponent < least - 1 || unbounded >> (F::FRACTION + 1) == 0;
        let shifted = shift_right_sticky(exact.significand, exact.exponent.abs_diff(least));
        let (kept, inexact) = self.drop_bits(exact.negative, shifted, drop);
        if tiny && self.unmasked() & UNDERFLOW != 0 {
            // What a handler would get is not denormal: only bits that no exponent saves are lost.
            self.raise(UNDERFLOW | if unbounded_inexact { PRECISION } else { 0 });
        } else if tiny && self.mxcsr & FLUSH_TO_ZERO != 0 {
            self.raise(UNDERFLOW | PRECISION);
            return sign;
        } else if inexact {
            self.raise(PRECISION | if tiny { UNDERFLOW } else { 0 });
        }
        sign | kept as u64
    }

    /// The zero that a sum of opposite numbers is.
    fn cancelled<F: Format>(&self) -> u64 {
        if self.rounding == Rounding::Down { F::SIGN } else { 0 }
    }

    /// The sum of numbers that are finite and not zero; 0 if they cancel out.
    fn sum(a: Finite, b: Finite) -> Option<Finite> {
        let (big, small) = if (a.exponent, a.significand) < (b.exponent, b.significand) { (b, a) } else { (a, b) };
        // Two bits of room: one for the carry, one below.
        let upper = big.significand >> 2;
        // Operands have fewer than 126 significant bits: nothing of the bigger one is lost.
        debug_assert_eq!(upper << 2, big.significand);
        let lower = shift_right_sticky(small.significand >> 2, big.exponent.abs_diff(small.exponent));
        let total = if big.negative == small.negative { upper + lower } else { upper - lower };
        (total != 0).then(|| Finite::normalised(big.negative, big.exponent + 2, total))
    }

    /// `a + b`.
    pub(super) fn add<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if let Some(nan) = self.nan::<F>(&[a, b]) {
            return nan;
        }
        if is_infinite::<F>(a) && is_infinite::<F>(b) && a != b {
            return self.invalid::<F>();
        }
        self.note_denormals::<F>(&[a, b]);
        if is_infinite::<F>(a) {
            return a;
        }
        if is_infinite::<F>(b) {
            return b;
        }
        match (is_zero::<F>(a), is_zero::<F>(b)) {
            (true, true) if a == b => a,
            (true, true) => self.cancelled::<F>(),
            // A denormal result is exact, but tiny.
            (true, false) => self.round::<F>(Finite::new::<F>(b)),
            (false, true) => self.round::<F>(Finite::new::<F>(a)),
            (false, false) => match Self::sum(Finite::new::<F>(a), Finite::new::<F>(b)) {
                Some(sum) => self.round::<F>(sum),
                None => self.cancelled::<F>(),
            },
        }
    }

    /// `a - b`.
    pub(super) fn subtract<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        // A NaN keeps its sign.
        let negated = if is_nan::<F>(b) { b } else { b ^ F::SIGN };
        self.add::<F>(a, negated)
    }

    fn product(a: Finite, b: Finite) -> Finite {
        // At most 53 significant bits each.
        let product = (a.significand >> 64) * (b.significand >> 64);
        Finite::normalised(a.negative != b.negative, a.exponent + b.exponent + 1, product)
    }

    /// `a * b`.
    pub(super) fn multiply<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if let Some(nan) = self.nan::<F>(&[a, b]) {
            return nan;
        }
        let sign = (a ^ b) & F::SIGN;
        let infinite = is_infinite::<F>(a) || is_infinite::<F>(b);
        let zero = is_zero::<F>(a) || is_zero::<F>(b);
        if infinite && zero {
            return self.invalid::<F>();
        }
        self.note_denormals::<F>(&[a, b]);
        if infinite {
            return sign | F::INFINITY;
        }
        if zero {
            return sign;
        }
        self.round::<F>(Self::product(Finite::new::<F>(a), Finite::new::<F>(b)))
    }

    /// `a / b`.
    pub(super) fn divide<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if let Some(nan) = self.nan::<F>(&[a, b]) {
            return nan;
        }
        let sign = (a ^ b) & F::SIGN;
        if is_infinite::<F>(a) && is_infinite::<F>(b) || is_zero::<F>(a) && is_zero::<F>(b) {
            return self.invalid::<F>();
        }
        if is_zero::<F>(b) && !is_infinite::<F>(a) {
            self.raise(ZERO_DIVIDE);
            return sign | F::INFINITY;
        }
        self.note_denormals::<F>(&[a, b]);
        if is_infinite::<F>(a) {
            return sign | F::INFINITY;
        }
        if is_infinite::<F>(b) || is_zero::<F>(a) {
            return sign;
        }
        let (a, b) = (Finite::new::<F>(a), Finite::new::<F>(b));
        // 53 bits below the highest but one, by 53 bits: at least 73 bits of quotient.
        let (dividend, divisor) = (a.significand >> 1, b.significand >> 75);
        let quotient = (dividend / divisor) << 1 | u128::from(dividend % divisor != 0);
        self.round::<F>(Finite::normalised(a.negative != b.negative, a.exponent - b.exponent + 127 - 75, quotient))
    }

    /// The square root.
    pub(super) fn square_root<F: Format>(&mut self, a: u64) -> u64 {
        let a = self.operand::<F>(a);
        if let Some(nan) = self.nan::<F>(&[a]) {
            return nan;
        }
        if is_zero::<F>(a) {
            return a;
        }
        if a & F::SIGN != 0 {
            return self.invalid::<F>();
        }
        self.note_denormals::<F>(&[a]);
        if is_infinite::<F>(a) {
            return a;
        }
        let a = Finite::new::<F>(a);
        // significand * 2^(exponent - 127), with an even power.
        let odd = (a.exponent - 127) & 1 != 0;
        let (square, power) =
            if odd { (a.significand >> 1, a.exponent - 126) } else { (a.significand >> 2, a.exponent - 125) };
        let root = square.isqrt();
        let sticky = u128::from(root * root != square);
        self.round::<F>(Finite::normalised(false, power / 2 + 126, root << 1 | sticky))
    }

    /// `a * b + c`, rounded once.
    pub(super) fn multiply_add<F: Format>(&mut self, a: u64, b: u64, c: u64) -> u64 {
        let (a, b, c) = (self.operand::<F>(a), self.operand::<F>(b), self.operand::<F>(c));
        let infinite = is_infinite::<F>(a) || is_infinite::<F>(b);
        let zero = is_zero::<F>(a) || is_zero::<F>(b);
        if let Some(nan) = self.nan::<F>(&[a, b, c]) {
            return nan;
        }
        let sign = (a ^ b) & F::SIGN;
        if infinite && zero || infinite && is_infinite::<F>(c) && (c & F::SIGN) != sign {
            return self.invalid::<F>();
        }
        self.note_denormals::<F>(&[a, b, c]);
        if infinite {
            return sign | F::INFINITY;
        }
        if is_infinite::<F>(c) {
            return c;
        }
        if zero {
            return match is_zero::<F>(c) {
                true if c == sign => c,
                true => self.cancelled::<F>(),
                false => self.round::<F>(Finite::new::<F>(c)),
            };
        }
        let product = Self::product(Finite::new::<F>(a), Finite::new::<F>(b));
        let sum = if is_zero::<F>(c) { Some(product) } else { Self::sum(product, Finite::new::<F>(c)) };
        match sum {
            Some(sum) => self.round::<F>(sum),
            None => self.cancelled::<F>(),
        }
    }

    /// How two numbers compare; `None` if one is a NaN. `quiet`: only signalling NaNs are invalid.
    pub(super) fn compare<F: Format>(&mut self, a: u64, b: u64, quiet: bool) -> Option<Ordering> {
        let (a, b) = (self.operand::<F>(a), self.operand::<F>(b));
        if is_nan::<F>(a) || is_nan::<F>(b) {
            if !quiet || is_signalling::<F>(a) || is_signalling::<F>(b) {
                self.raise(INVALID);
            }
            return None;
        }
        self.note_denormals::<F>(&[a, b]);
        let key = |bits: u64| {
            let magnitude = (bits & F::MAGNITUDE) as i64;
            if bits & F::SIGN != 0 { -magnitude } else { magnitude }
        };
        Some(key(a).cmp(&key(b)))
    }

    /// MIN: the second if they are equal or one is a NaN.
    pub(super) fn minimum<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let less = self.compare::<F>(a, b, false) == Some(Ordering::Less);
        self.operand::<F>(if less { a } else { b })
    }

    /// MAX: the second if they are equal or one is a NaN.
    pub(super) fn maximum<F: Format>(&mut self, a: u64, b: u64) -> u64 {
        let greater = self.compare::<F>(a, b, false) == Some(Ordering::Greater);
        self.operand::<F>(if greater { a } else { b })
    }

    /// From one format to another.
    pub(super) fn convert<F: Format, G: Format>(&mut self, a: u64) -> u64 {
        let a = self.operand::<F>(a);
        let sign = if a & F::SIGN != 0 { G::SIGN } else { 0 };
        if let Some(nan) = self.nan::<F>(&[a]) {
            // The most significant bits of the payload stay.
            let payload = u128::from(nan & (F::QUIET - 1)) << (127 - F::FRACTION) >> (127 - G::FRACTION);
            return sign | G::INFINITY | G::QUIET | payload as u64;
        }
        if is_infinite::<F>(a) {
            return sign | G::INFINITY;
        }
        if is_zero::<F>(a) {
            return sign;
        }
        self.note_denormals::<F>(&[a]);
        self.round::<G>(Finite::new::<F>(a))
    }

    /// From binary16: MXCSR has no say about denormals.
    pub(super) fn convert_from_half(&mut self, a: u64) -> u64 {
        let mut env = Self::new(self.mxcsr & !DENORMALS_ARE_ZEROS);
        let result = env.convert::<Half, Single>(a);
        self.raise(env.flags & !DENORMAL);
        result
    }

    /// To binary16: results are not flushed to zero.
    pub(super) fn convert_to_half(&mut self, a: u64) -> u64 {
        let mxcsr = self.mxcsr;
        self.mxcsr &= !FLUSH_TO_ZERO;
        let result = self.convert::<Single, Half>(a);
        self.mxcsr = mxcsr;
        result
    }

    /// From an integer.
    pub(super) fn integer_to_float<G: Format>(&mut self, value: i64) -> u64 {
        if value == 0 {
            return 0;
        }
        self.round::<G>(Finite::normalised(value < 0, 127, value.unsigned_abs().into()))
    }

    /// To an integer of `bits` bits: the integer indefinite if it does not fit.
    pub(super) fn float_to_integer<F: Format>(&mut self, a: u64, bits: u32) -> i64 {
        let indefinite = i64::MIN >> (64 - bits);
        let a = self.operand::<F>(a);
        if is_zero::<F>(a) {
            return 0;
        }
        let a_is_number = !is_nan::<F>(a) && !is_infinite::<F>(a);
        let number = Finite::new::<F>(a);
        if !a_is_number || number.exponent >= 64 {
            self.raise(INVALID);
            return indefinite;
        }
        let (magnitude, inexact) = self.integral(number);
        let value = if number.negative { -(magnitude as i128) } else { magnitude as i128 };
        let limit = 1_i128 << (bits - 1);
        if value < -limit || value >= limit {
            self.raise(INVALID);
            return indefinite;
        }
        if inexact {
            self.raise(PRECISION);
        }
        value as i64
    }

    /// The integer that a number below 2^64 is rounded to, and whether that is inexact.
    fn integral(&self, number: Finite) -> (u128, bool) {
        // Integer bits go to the upper half, and what is below them is at least 63 bits.
        let shifted = shift_right_sticky(number.significand, (63 - number.exponent) as u32);
        self.drop_bits(number.negative, shifted, 64)
    }

    /// ROUNDSS and its kin. `exact`: inexact results are no exception.
    pub(super) fn round_to_integral<F: Format>(&mut self, a: u64, exact: bool) -> u64 {
        let a = self.operand::<F>(a);
        if let Some(nan) = self.nan::<F>(&[a]) {
            return nan;
        }
        if is_zero::<F>(a) || is_infinite::<F>(a) {
            return a;
        }
        let number = Finite::new::<F>(a);
        if number.exponent >= F::FRACTION as i32 {
            return a;
        }
        let (magnitude, inexact) = self.integral(number);
        if inexact && !exact {
            self.raise(PRECISION);
        }
        let sign = a & F::SIGN;
        if magnitude == 0 {
            return sign;
        }
        // Exact: it has no more bits than the fraction.
        sign | self.round::<F>(Finite::normalised(false, 127, magnitude))
    }
}
