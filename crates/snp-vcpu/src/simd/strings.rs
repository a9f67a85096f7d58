//! PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM.
//!
//! # Source
//! AMD 26568 (APM volume 4), "String Compare Instructions" and "PCMPESTRI".

use iced_x86::{Mnemonic, Register};

use super::access::Access;
use super::vector::{Vector, ZERO, get, set};
use crate::{Operands, Trap};

const CARRY: u64 = 1 << 0;
const ZERO_FLAG: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

/// A string: its elements, and how many there are.
struct Text {
    elements: Vec16,
    length: usize,
}

type Vec16 = [i32; 16];

/// Executes a string comparison.
pub(super) fn execute<C: Operands>(access: &mut Access<'_, C>, explicit: bool, index: bool) -> Result<(), Trap> {
    let first = access.operand(0)?;
    // Not aligned, whatever the encoding.
    let second = if access.is_memory(1) { access.load(1)? } else { access.operand(1)? };
    let control = access.immediate();
    let count = if control & 1 != 0 { 8 } else { 16 };
    let lengths = if explicit { Some(explicit_lengths(access)) } else { None };
    let a = text(&first, control, lengths.map(|lengths| lengths.0));
    let b = text(&second, control, lengths.map(|lengths| lengths.1));
    let result = polarise(compare(&a, &b, control, count), &b, control, count);

    let flag = |set: bool, flag: u64| if set { flag } else { 0 };
    access.set_status(
        flag(result != 0, CARRY)
            | flag(b.length < count, ZERO_FLAG)
            | flag(a.length < count, SIGN)
            | flag(result & 1 != 0, OVERFLOW),
    );
    let last = control & 0x40 != 0;
    if index {
        let position = match (result, last) {
            (0, _) => count as u32,
            (_, false) => result.trailing_zeros(),
            (_, true) => 31 - result.leading_zeros(),
        };
        access.cpu.set_register(Register::ECX, position.into());
    } else {
        access.set_vector(Register::XMM0, &mask(result, last, count));
    }
    Ok(())
}

/// What EAX and EDX, or RAX and RDX, say: the magnitude counts.
fn explicit_lengths<C: Operands>(access: &Access<'_, C>) -> (u64, u64) {
    let wide = matches!(
        access.instruction.mnemonic(),
        Mnemonic::Pcmpestri64 | Mnemonic::Pcmpestrm64 | Mnemonic::Vpcmpestri64 | Mnemonic::Vpcmpestrm64
    );
    let length = |register: Register| {
        let value = access.cpu.register(register);
        if wide { (value as i64).unsigned_abs() } else { (value as i32).unsigned_abs().into() }
    };
    (length(Register::RAX), length(Register::RDX))
}

/// A source as a string. Without a length, it ends before the first zero.
fn text(source: &Vector, control: u8, length: Option<u64>) -> Text {
    let count = if control & 1 != 0 { 8 } else { 16 };
    let mut elements = [0; 16];
    for (index, element) in elements[..count].iter_mut().enumerate() {
        *element = match control & 3 {
            0 => get::<u8>(source, index).into(),
            1 => get::<u16>(source, index).into(),
            2 => get::<i8>(source, index).into(),
            _ => get::<i16>(source, index).into(),
        };
    }
    let length = match length {
        Some(length) => length.min(count as u64) as usize,
        None => elements[..count].iter().position(|element| *element == 0).unwrap_or(count),
    };
    Text { elements, length }
}

/// The aggregation: a bit for each element of the second string.
fn compare(a: &Text, b: &Text, control: u8, count: usize) -> u32 {
    let valid = &a.elements[..a.length];
    let holds = |index: usize| {
        let present = index < b.length;
        let element = b.elements[index];
        match control >> 2 & 3 {
            // Equal to any.
            0 => present && valid.contains(&element),
            // In a range.
            1 => present && valid.chunks_exact(2).any(|range| (range[0]..=range[1]).contains(&element)),
            // Equal to the one at the same place; both may be missing.
            2 => match (index < a.length, present) {
                (true, true) => a.elements[index] == element,
                (first, second) => first == second,
            },
            // The first string begins here, as far as it can be seen.
            _ => (0..count - index).all(|offset| {
                let at = index + offset;
                offset >= a.length || at < b.length && a.elements[offset] == b.elements[at]
            }),
        }
    };
    (0..count).fold(0, |bits, index| bits | u32::from(holds(index)) << index)
}

fn polarise(result: u32, b: &Text, control: u8, count: usize) -> u32 {
    match control >> 4 & 3 {
        1 => !result & ((1 << count) - 1),
        3 => result ^ ((1 << b.length) - 1),
        _ => result,
    }
}

/// The mask for XMM0: bits, or whole elements.
fn mask(result: u32, expanded: bool, count: usize) -> Vector {
    let mut vector = ZERO;
    if !expanded {
        set(&mut vector, 0, result);
        return vector;
    }
    for index in (0..count).filter(|index| result >> index & 1 != 0) {
        if count == 8 {
            set(&mut vector, index, u16::MAX);
        } else {
            set(&mut vector, index, u8::MAX);
        }
    }
    vector
}
