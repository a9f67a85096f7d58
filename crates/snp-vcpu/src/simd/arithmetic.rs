//! Floating-point instructions on the elements of vectors.

use std::cmp::Ordering;

use super::access::Access;
use super::float::{Double, Env, Format, Rounding, Single};
use super::table::Shape;
use super::vector::{Vector, ZERO, get, set};
use crate::{Operands, Trap};

/// A function of two numbers.
pub(super) type Function = fn(&mut Env, u64, u64) -> u64;

/// CF.
const CARRY: u64 = 1 << 0;
/// PF.
const PARITY: u64 = 1 << 2;
/// ZF.
const EQUAL: u64 = 1 << 6;

/// Element `index`.
pub(super) fn element(vector: &Vector, size: usize, index: usize) -> u64 {
    match size {
        2 => get::<u16>(vector, index).into(),
        4 => get::<u32>(vector, index).into(),
        _ => get(vector, index),
    }
}

/// Replaces element `index`.
pub(super) fn set_element(vector: &mut Vector, size: usize, index: usize, value: u64) {
    match size {
        2 => set(vector, index, value as u16),
        4 => set(vector, index, value as u32),
        _ => set(vector, index, value),
    }
}

/// The elements that the instruction computes.
pub(super) fn elements<C: Operands>(access: &Access<'_, C>, shape: Shape) -> usize {
    if shape.scalar() { 1 } else { access.width() / shape.size() }
}

/// `f` of every pair of elements; a scalar instruction keeps the others of the first source.
pub(super) fn each<C: Operands>(
    access: &mut Access<'_, C>,
    shape: Shape,
    f: impl Fn(&mut Env, usize, u64, u64) -> u64,
) -> Result<(), Trap> {
    let (a, b) = access.pair()?;
    let (mut env, size) = (access.env(), shape.size());
    let mut result = if shape.scalar() { a } else { ZERO };
    for index in 0..elements(access, shape) {
        let value = f(&mut env, index, element(&a, size, index), element(&b, size, index));
        set_element(&mut result, size, index, value);
    }
    access.settle(env)?;
    access.write(&result)
}

/// HADDPS and its kin: neighbours of the first source below those of the second, in every 128 bits.
pub(super) fn horizontal<C: Operands>(access: &mut Access<'_, C>, shape: Shape, f: Function) -> Result<(), Trap> {
    let (a, b) = access.pair()?;
    let (mut env, size) = (access.env(), shape.size());
    let mut result = ZERO;
    let block = 16 / size;
    for index in 0..elements(access, shape) {
        let (base, within) = (index / block * block, index % block);
        let source = if within < block / 2 { &a } else { &b };
        let from = base + 2 * within % block;
        let value = f(&mut env, element(source, size, from), element(source, size, from + 1));
        set_element(&mut result, size, index, value);
    }
    access.settle(env)?;
    access.write(&result)
}

/// DPPS and DPPD: products, sums of pairs, sums of those; each step raises its exceptions before the next begins.
pub(super) fn dot<C: Operands>(access: &mut Access<'_, C>, shape: Shape) -> Result<(), Trap> {
    let (a, b) = access.pair()?;
    let (size, immediate, count) = (shape.size(), access.immediate(), elements(access, shape));
    let (multiply, add): (Function, Function) = match shape {
        Shape::PackedSingle => (Env::multiply::<Single>, Env::add::<Single>),
        _ => (Env::multiply::<Double>, Env::add::<Double>),
    };
    let block = 16 / size;
    let mut env = access.env();
    let mut terms = [0; 8];
    for (index, term) in terms[..count].iter_mut().enumerate() {
        if immediate >> (4 + index % block) & 1 != 0 {
            *term = multiply(&mut env, element(&a, size, index), element(&b, size, index));
        }
    }
    access.settle(env)?;
    // The first term of a block collects its sum.
    let mut distance = 1;
    while distance < block {
        let mut env = access.env();
        for index in (0..count).step_by(2 * distance) {
            terms[index] = add(&mut env, terms[index], terms[index + distance]);
        }
        access.settle(env)?;
        distance *= 2;
    }
    let mut result = ZERO;
    for index in (0..count).filter(|index| immediate >> (index % block) & 1 != 0) {
        set_element(&mut result, size, index, terms[index / block * block]);
    }
    access.write(&result)
}

/// What holds if a predicate is true: less, equal, greater, unordered, from bit 3 down. The predicates of the upper sixteen
/// differ in which NaNs are invalid.
const PREDICATES: [u8; 16] = [
    0b0100, 0b1000, 0b1100, 0b0001, 0b1011, 0b0111, 0b0011, 0b1110, 0b0101, 0b1001, 0b1101, 0b0000, 0b1010, 0b0110,
    0b0010, 0b1111,
];

fn ordering(env: &mut Env, shape: Shape, quiet: bool, a: u64, b: u64) -> Option<Ordering> {
    match shape {
        Shape::PackedSingle | Shape::ScalarSingle => env.compare::<Single>(a, b, quiet),
        Shape::PackedDouble | Shape::ScalarDouble => env.compare::<Double>(a, b, quiet),
    }
}

/// CMPPS and its kin.
///
/// # Source
/// AMD 26568 (APM volume 4), "VCMPPS": the table of comparison operators.
pub(super) fn compare<C: Operands>(access: &mut Access<'_, C>, shape: Shape) -> Result<(), Trap> {
    let predicate = access.immediate() & if access.vex { 0x1f } else { 7 };
    let quiet = matches!(predicate & 3, 0 | 3) != (predicate >= 16);
    let holds = PREDICATES[usize::from(predicate & 15)];
    each(access, shape, |env, _, a, b| {
        let bit = match ordering(env, shape, quiet, a, b) {
            Some(Ordering::Less) => 3,
            Some(Ordering::Equal) => 2,
            Some(Ordering::Greater) => 1,
            None => 0,
        };
        if holds >> bit & 1 != 0 { u64::MAX } else { 0 }
    })
}

/// COMISS and its kin.
pub(super) fn compare_flags<C: Operands>(access: &mut Access<'_, C>, shape: Shape, quiet: bool) -> Result<(), Trap> {
    let (a, b) = access.pair()?;
    let (mut env, size) = (access.env(), shape.size());
    let order = ordering(&mut env, shape, quiet, element(&a, size, 0), element(&b, size, 0));
    access.settle(env)?;
    access.set_status(match order {
        Some(Ordering::Less) => CARRY,
        Some(Ordering::Equal) => EQUAL,
        Some(Ordering::Greater) => 0,
        None => CARRY | PARITY | EQUAL,
    });
    Ok(())
}

/// ROUNDPS and its kin.
pub(super) fn round<C: Operands>(access: &mut Access<'_, C>, shape: Shape) -> Result<(), Trap> {
    const BY_MXCSR: u8 = 1 << 2;
    const NO_PRECISION: u8 = 1 << 3;
    let immediate = access.immediate();
    let exact = immediate & NO_PRECISION != 0;
    let rounding = (immediate & BY_MXCSR == 0).then(|| Rounding::of(immediate.into()));
    each(access, shape, |env, _, _, b| {
        env.rounded(rounding, |env| match shape {
            Shape::PackedSingle | Shape::ScalarSingle => env.round_to_integral::<Single>(b, exact),
            Shape::PackedDouble | Shape::ScalarDouble => env.round_to_integral::<Double>(b, exact),
        })
    })
}

/// The sign bit of an element.
pub(super) fn sign(shape: Shape) -> u64 {
    match shape {
        Shape::PackedSingle | Shape::ScalarSingle => Single::SIGN,
        Shape::PackedDouble | Shape::ScalarDouble => Double::SIGN,
    }
}
