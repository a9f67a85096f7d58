//! Fused multiply-add.

use super::access::Access;
use super::arithmetic::{element, elements, set_element, sign};
use super::float::{Double, Env, Single, is_nan};
use super::table::Shape;
use super::vector::ZERO;
use crate::{Operands, Trap};

/// Which operands are multiplied: the digits of the mnemonic.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// First by third, plus second.
    O132,
    /// Second by first, plus third.
    O213,
    /// Second by third, plus first.
    O231,
}

/// What becomes of the addend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addend {
    /// It is added.
    Plus,
    /// It is subtracted.
    Minus,
    /// Subtracted from even elements, added to odd ones.
    MinusPlus,
    /// Added to even elements, subtracted from odd ones.
    PlusMinus,
}

impl Addend {
    fn negated(self, index: usize) -> bool {
        match self {
            Self::Plus => false,
            Self::Minus => true,
            Self::MinusPlus => index & 1 == 0,
            Self::PlusMinus => index & 1 != 0,
        }
    }
}

/// Executes a fused multiply-add.
pub(super) fn execute<C: Operands>(
    access: &mut Access<'_, C>,
    shape: Shape,
    order: Order,
    negated: bool,
    addend: Addend,
) -> Result<(), Trap> {
    let third = access.operand(2)?;
    let first = access.register(access.instruction.op0_register());
    let second = access.register(access.instruction.op1_register());
    let (a, b, c) = match order {
        Order::O132 => (first, third, second),
        Order::O213 => (second, first, third),
        Order::O231 => (second, third, first),
    };
    let (mut env, size) = (access.env(), shape.size());
    let mut result = if shape.scalar() { first } else { ZERO };
    for index in 0..elements(access, shape) {
        let numbers = [&a, &b, &c].map(|vector| element(vector, size, index));
        let value = one(&mut env, shape, numbers, negated, addend.negated(index));
        set_element(&mut result, size, index, value);
    }
    access.settle(env)?;
    access.write(&result)
}

/// One element. NaNs keep their signs.
fn one(env: &mut Env, shape: Shape, [a, b, c]: [u64; 3], product: bool, addend: bool) -> u64 {
    let single = matches!(shape, Shape::PackedSingle | Shape::ScalarSingle);
    let negate = |number: u64, wanted: bool| {
        let nan = if single { is_nan::<Single>(number) } else { is_nan::<Double>(number) };
        if wanted && !nan { number ^ sign(shape) } else { number }
    };
    let (a, c) = (negate(a, product), negate(c, addend));
    if single { env.multiply_add::<Single>(a, b, c) } else { env.multiply_add::<Double>(a, b, c) }
}
