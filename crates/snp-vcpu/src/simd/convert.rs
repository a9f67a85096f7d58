//! Conversions between integers and floating-point formats.

use super::access::Access;
use super::arithmetic::{element, set_element};
use super::float::{Double, Env, Rounding, Single};
use super::table::Shape;
use super::vector::{Vector, ZERO};
use crate::{Operands, Trap};

/// A conversion element by element.
#[derive(Clone, Copy)]
pub(super) struct Conversion {
    /// Bytes of an element before and after.
    sizes: (usize, usize),
    function: fn(&mut Env, u64) -> u64,
    truncating: bool,
    /// Elements beyond those converted stay as they were in the destination.
    merging: bool,
}

impl Conversion {
    /// Of elements of `from` bytes to elements of `to`.
    pub(super) const fn new(from: usize, to: usize, function: fn(&mut Env, u64) -> u64) -> Self {
        Self { sizes: (from, to), function, truncating: false, merging: false }
    }

    /// Rounded to zero, whatever MXCSR says.
    pub(super) const fn truncating(self) -> Self {
        Self { truncating: true, ..self }
    }

    /// The destination keeps what is beyond.
    pub(super) const fn merging(self) -> Self {
        Self { merging: true, ..self }
    }
}

/// Converts as many elements as fit both operands.
pub(super) fn execute<C: Operands>(access: &mut Access<'_, C>, what: Conversion) -> Result<(), Trap> {
    let source = access.operand(1)?;
    let (from, to) = what.sizes;
    // MMX registers have two elements, as have the forms that read them from memory.
    let two = access.mmx || what.merging;
    let count = if two { 2 } else { access.size(0).max(access.size(1)) / from.max(to) };
    let mut result: Vector = if what.merging { access.operand(0)? } else { ZERO };
    let rounding = if to == 2 { half_rounding(access.immediate()) } else { what.truncating.then_some(Rounding::Zero) };
    let mut env = access.env();
    for index in 0..count {
        let value = env.rounded(rounding, |env| (what.function)(env, element(&source, from, index)));
        set_element(&mut result, to, index, value);
    }
    // What is written to memory is written before flags are noted: a store may fault, and that counts more.
    if access.is_memory(0) {
        if !env.faults() {
            access.write(&result)?;
            return access.settle(env);
        }
        let size = access.size(0);
        let address = access.cpu.linear(access.instruction, size as u64)?;
        access.cpu.check_store(address, size)?;
    }
    access.settle(env)?;
    access.write(&result)
}

/// The rounding of VCVTPS2PH; `None`: MXCSR's.
fn half_rounding(immediate: u8) -> Option<Rounding> {
    (immediate & 4 == 0).then(|| Rounding::of(immediate.into()))
}

/// CVTSD2SS.
pub(super) fn narrow<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let (mut result, source) = access.pair()?;
    let mut env = access.env();
    let value = env.convert::<Double, Single>(element(&source, 8, 0));
    set_element(&mut result, 4, 0, value);
    access.settle(env)?;
    access.write(&result)
}

/// CVTSI2SS and CVTSI2SD.
pub(super) fn from_general<C: Operands>(access: &mut Access<'_, C>, shape: Shape) -> Result<(), Trap> {
    let (mut result, source) = access.pair()?;
    let bits = element(&source, 8, 0);
    let value = if access.size(access.sources().1) == 4 { i64::from(bits as i32) } else { bits as i64 };
    let mut env = access.env();
    let converted = match shape {
        Shape::PackedSingle | Shape::ScalarSingle => env.integer_to_float::<Single>(value),
        Shape::PackedDouble | Shape::ScalarDouble => env.integer_to_float::<Double>(value),
    };
    set_element(&mut result, shape.size(), 0, converted);
    access.settle(env)?;
    access.write(&result)
}

/// CVTSS2SI and its kin.
pub(super) fn to_general<C: Operands>(access: &mut Access<'_, C>, shape: Shape, truncating: bool) -> Result<(), Trap> {
    let source = access.operand(1)?;
    let number = element(&source, shape.size(), 0);
    let bits = 8 * access.width() as u32;
    let mut env = access.env();
    let value = env.rounded(truncating.then_some(Rounding::Zero), |env| match shape {
        Shape::PackedSingle | Shape::ScalarSingle => env.float_to_integer::<Single>(number, bits),
        Shape::PackedDouble | Shape::ScalarDouble => env.float_to_integer::<Double>(number, bits),
    });
    access.settle(env)?;
    access.write_general(value as u64);
    Ok(())
}
