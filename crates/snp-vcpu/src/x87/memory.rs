//! Numbers in memory: formats that FLD, FILD and FBLD read, and FST, FIST and FBSTP write.

use iced_x86::{Instruction, MemorySize, Mnemonic};

use super::float::status::{DE, IE, OE, PE, UE};
use super::float::*;
use super::unit::Unit;
use crate::{Operands, Trap};

/// A memory operand as a register would have it, and whether it is a denormal of its own format. NaNs stay signaling.
pub(super) fn load(instruction: &Instruction, cpu: &mut impl Operands) -> Result<(F80, bool), Trap> {
    let mut bytes = [0; 10];
    let size = instruction.memory_size().size().min(10);
    cpu.load(instruction, &mut bytes[..size], 1)?;
    let bits = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    Ok(match instruction.memory_size() {
        MemorySize::Float32 => Interchange::SINGLE.widen(bits),
        MemorySize::Float64 => Interchange::DOUBLE.widen(bits),
        MemorySize::Int16 => (F80::integer(i64::from(bits as i16)), false),
        MemorySize::Int32 => (F80::integer(i64::from(bits as i32)), false),
        MemorySize::Int64 => (F80::integer(bits as i64), false),
        MemorySize::Bcd => (from_decimal(&bytes), false),
        _ => (F80::from_bytes(&bytes), false),
    })
}

/// The same for a load, which is an operation of its own but for 80 bits: it quiets NaNs and reports denormals.
pub(super) fn load_new(instruction: &Instruction, cpu: &mut impl Operands) -> Result<Outcome<F80>, Trap> {
    let (value, denormal) = load(instruction, cpu)?;
    let converts = matches!(instruction.memory_size(), MemorySize::Float32 | MemorySize::Float64);
    Ok(match value.class() {
        Class::Signaling if converts => Outcome::with(value.quieted(), IE),
        _ => Outcome::with(value, if denormal { DE } else { 0 }),
    })
}

/// Packed BCD: 18 digits and a sign.
fn from_decimal(bytes: &[u8; 10]) -> F80 {
    let magnitude = bytes[..9].iter().rev().fold(0_u64, |value, byte| {
        value.wrapping_mul(100).wrapping_add(u64::from(byte >> 4) * 10 + u64::from(byte & 15))
    });
    F80 { negative: bytes[9] & 0x80 != 0, ..F80::integer(magnitude as i64) }
}

fn to_decimal(magnitude: u64, negative: bool) -> [u8; 10] {
    let mut rest = magnitude;
    let mut bytes = [0; 10];
    for byte in &mut bytes[..9] {
        *byte = (rest % 10) as u8 | ((rest / 10 % 10) as u8) << 4;
        rest /= 100;
    }
    bytes[9] = u8::from(negative) << 7;
    bytes
}

const DECIMAL_INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// What a store writes, in the first bytes of ten.
fn stored(instruction: &Instruction, value: F80, control: Control) -> Outcome<[u8; 10]> {
    let wide = |outcome: Outcome<u64>| {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&outcome.value.to_le_bytes());
        Outcome { value: bytes, exceptions: outcome.exceptions, up: outcome.up }
    };
    match instruction.memory_size() {
        MemorySize::Float32 => wide(Interchange::SINGLE.narrow(value, control)),
        MemorySize::Float64 => wide(Interchange::DOUBLE.narrow(value, control)),
        MemorySize::Bcd => decimal(value, control),
        size @ (MemorySize::Int16 | MemorySize::Int32 | MemorySize::Int64) => {
            let bits = size.size() as u32 * 8;
            let truncates = instruction.mnemonic() == Mnemonic::Fisttp;
            let rounding = if truncates { Rounding::Truncate } else { control.rounding() };
            let finite = matches!(value.class(), Class::Zero | Class::Denormal | Class::Normal);
            let integer = if finite { to_integer(value, bits, rounding) } else { None };
            wide(match integer {
                Some(outcome) => {
                    Outcome { value: outcome.value as u64, exceptions: outcome.exceptions, up: outcome.up }
                }
                None => Outcome::with(1 << (bits - 1), IE),
            })
        }
        _ => Outcome::exact(value.to_bytes()),
    }
}

fn decimal(value: F80, control: Control) -> Outcome<[u8; 10]> {
    const LIMIT: u128 = 1_000_000_000_000_000_000;
    let finite = matches!(value.class(), Class::Zero | Class::Denormal | Class::Normal);
    let integer = if finite { magnitude(value, control.rounding()) } else { None };
    match integer.filter(|(magnitude, ..)| *magnitude < LIMIT) {
        Some((magnitude, inexact, up)) => Outcome {
            value: to_decimal(magnitude as u64, value.negative),
            exceptions: if inexact { PE } else { 0 },
            up,
        },
        None => Outcome::with(DECIMAL_INDEFINITE, IE),
    }
}

/// What is written for an empty register.
fn indefinite(instruction: &Instruction) -> [u8; 10] {
    stored(instruction, F80::INDEFINITE, Control(0x37f)).value
}

/// FST, FIST, FISTTP, FBSTP and those that pop.
pub(super) fn store(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) -> Result<(), Trap> {
    let outcome = if unit.is_empty(0) {
        unit.underflow().then(|| indefinite(instruction))
    } else {
        let outcome = stored(instruction, unit.get(0), unit.rounding());
        // Memory has no room for a wrapped exponent: unmasked overflow and underflow keep the result back.
        let kept_back = outcome.exceptions & (OE | UE) & !unit.control != 0;
        let exceptions = if kept_back { outcome.exceptions & !PE } else { outcome.exceptions };
        let written = unit.note(exceptions, outcome.up && !kept_back);
        (written && !kept_back).then_some(outcome.value)
    };
    let size = instruction.memory_size().size().min(10);
    if outcome.is_none() {
        // Memory that may not be written counts more than the exception.
        let address = cpu.linear(instruction, size as u64)?;
        cpu.check_store(address, size)?;
    }
    if let Some(bytes) = outcome {
        cpu.store(instruction, &bytes[..size], 1)?;
        if !matches!(instruction.mnemonic(), Mnemonic::Fst | Mnemonic::Fist) {
            unit.pop();
        }
    }
    Ok(())
}
