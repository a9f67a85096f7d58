//! RCPPS, RSQRTPS and their scalar forms.
//!
//! These results are the processor's own affair within a relative error of 1.5 · 2^-12. The model rounds the exact value to
//! 12 bits of fraction, to the nearest, whatever MXCSR says; no exceptions.
//!
//! # Source
//! AMD 26568 (APM volume 4), "RCPPS" and "RSQRTPS".

use super::float::{Double, Env, Format, Single, is_nan};

/// Bits of the fraction that are dropped.
const DROPPED: u32 = 23 - 12;
/// All exceptions masked, to the nearest, denormal results are zeros.
const MXCSR: u32 = 0x9f80;

/// Operands that have an answer of their own: NaNs, infinities, zeros and denormals.
fn special(bits: u64) -> Option<u64> {
    let sign = bits & Single::SIGN;
    if is_nan::<Single>(bits) {
        return Some(bits | Single::QUIET);
    }
    if bits & Single::INFINITY == 0 {
        return Some(sign | Single::INFINITY);
    }
    None
}

/// A double as a single of 12 bits of fraction.
fn shorten(bits: u64) -> u64 {
    let mut env = Env::new(MXCSR);
    let single = env.convert::<Double, Single>(bits);
    let (magnitude, sign) = (single & Single::MAGNITUDE, single & Single::SIGN);
    sign | (magnitude + (1 << (DROPPED - 1))) >> DROPPED << DROPPED
}

/// About 1 / x.
pub(super) fn reciprocal(bits: u64) -> u64 {
    if let Some(answer) = special(bits) {
        return answer;
    }
    let mut env = Env::new(MXCSR);
    let x = env.convert::<Single, Double>(bits);
    shorten(env.divide::<Double>(Double::ONE, x))
}

/// About 1 / √x.
pub(super) fn reciprocal_root(bits: u64) -> u64 {
    if let Some(answer) = special(bits) {
        return answer;
    }
    if bits & Single::SIGN != 0 {
        return Single::DEFAULT_NAN;
    }
    let mut env = Env::new(MXCSR);
    let x = env.convert::<Single, Double>(bits);
    let root = env.square_root::<Double>(x);
    shorten(env.divide::<Double>(Double::ONE, root))
}
