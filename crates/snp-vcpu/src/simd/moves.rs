//! Moves between vector registers, general registers and memory.

use iced_x86::{Code, OpKind};

use super::access::Access;
use super::lanes;
use super::vector::{Lane, Vector, ZERO, extend, get, set, sign_mask};
use crate::{Exception, Operands, Trap};

/// A move.
#[derive(Clone, Copy, Debug)]
pub(super) enum Movement {
    /// A whole register; in memory it may have to be aligned.
    Whole { aligned: bool },
    /// The low bytes, with zeros above; also from and to general registers.
    Low { size: usize },
    /// The low element; from register to register, the other elements stay.
    Scalar { size: usize },
    /// One half of an XMM register, from and to memory.
    Half { high: bool },
}

/// Moves of strings have the mnemonics of moves of scalars.
pub(super) fn is_string(code: Code) -> bool {
    matches!(code, Code::Movsd_m32_m32 | Code::Cmpsd_m32_m32)
}

/// Executes a move.
pub(super) fn execute<C: Operands>(access: &mut Access<'_, C>, what: Movement) -> Result<(), Trap> {
    let store = access.is_memory(0);
    match what {
        Movement::Whole { aligned } => {
            let size = if store { access.size(1) } else { access.size(0) };
            let alignment = if aligned { size as u64 } else { 1 };
            if store {
                let value = access.register(access.instruction.op1_register());
                return access.cpu.store(access.instruction, &value[..size], alignment);
            }
            let value = if access.is_memory(1) { access.load(alignment)? } else { access.operand(1)? };
            access.write(&value)
        }
        Movement::Low { size } => {
            let source = extend(&access.operand(1)?[..size]);
            if store || is_vector(access) {
                return access.write(&source);
            }
            access.write_general(get(&source, 0));
            Ok(())
        }
        Movement::Scalar { size } if store || access.is_memory(1) => {
            let source = extend(&access.operand(1)?[..size]);
            access.write(&source)
        }
        Movement::Scalar { size } => {
            let (mut result, source) = access.pair()?;
            result[..size].copy_from_slice(&source[..size]);
            access.write(&result)
        }
        Movement::Half { high } if store => {
            let value = access.register(access.instruction.op1_register());
            let from = usize::from(high) * 8;
            access.cpu.store(access.instruction, &value[from..from + 8], 1)
        }
        Movement::Half { high } => {
            let (mut result, source) = access.pair()?;
            set(&mut result, usize::from(high), get::<u64>(&source, 0));
            access.write(&result)
        }
    }
}

/// The destination is a vector register.
fn is_vector<C: Operands>(access: &Access<'_, C>) -> bool {
    access.instruction.op0_register().is_vector_register() || access.instruction.op0_register().is_mm()
}

/// MOVMSKPS, PMOVMSKB and their kin.
pub(super) fn sign_bits<C: Operands>(access: &mut Access<'_, C>, size: usize) -> Result<(), Trap> {
    let (source, width) = (access.operand(1)?, access.size(1));
    let mask = match size {
        1 => sign_mask::<u8>(&source, width),
        4 => sign_mask::<u32>(&source, width / 4),
        _ => sign_mask::<u64>(&source, width / 8),
    };
    access.write_general(mask);
    Ok(())
}

/// PEXTRx and EXTRACTPS.
pub(super) fn extract<C: Operands>(access: &mut Access<'_, C>, size: usize) -> Result<(), Trap> {
    let source = access.operand(1)?;
    let elements = if access.mmx { 8 } else { 16 } / size;
    let from = (usize::from(access.immediate()) & (elements - 1)) * size;
    let value = extend(&source[from..from + size]);
    if access.is_memory(0) {
        return access.cpu.store(access.instruction, &value[..size], 1);
    }
    access.write_general(get(&value, 0));
    Ok(())
}

/// VEXTRACTF128.
pub(super) fn extract_half<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let source = access.operand(1)?;
    let half: u128 = get(&source, usize::from(access.immediate() & 1));
    access.write(&extend(&half.to_le_bytes()))
}

/// INSERTPS: the element of a register is chosen, that in memory is there.
pub(super) fn insert_single<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let (a, b) = access.pair()?;
    let immediate = access.immediate();
    let index = if access.is_memory(access.sources().1) { 0 } else { usize::from(immediate >> 6) };
    access.write(&lanes::insert_single(&a, get(&b, index), immediate))
}

/// LDMXCSR.
pub(super) fn load_control<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let value = u32::from_bytes(&access.load(1)?[..4]);
    if value & !MXCSR_MASK != 0 {
        return Err(Exception::general_protection(0).into());
    }
    access.cpu.extended().mxcsr = value;
    Ok(())
}

/// The bits of MXCSR that may be set: those of all SSE processors, and AMD's for misaligned operands.
pub(crate) const MXCSR_MASK: u32 = 0x2_ffff;

/// STMXCSR.
pub(super) fn store_control<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let value = access.cpu.extended().mxcsr;
    access.cpu.store(access.instruction, &value.to_le_bytes(), 1)
}

/// VZEROUPPER and VZEROALL.
pub(super) fn zero<C: Operands>(access: &mut Access<'_, C>, all: bool) {
    let registers = if access.cpu.is_64_bit() { 16 } else { 8 };
    let from = if all { 0 } else { 16 };
    for register in &mut access.cpu.extended().ymm[..registers] {
        register[from..].fill(0);
    }
}

/// The field of `length` bits at `index`, both of 6 bits; a length of 0 is 64.
fn field(length: u8, index: u8) -> (u64, u32) {
    let length = u32::from(length & 0x3f);
    (if length == 0 { u64::MAX } else { (1 << length) - 1 }, u32::from(index & 0x3f))
}

/// EXTRQ. Bits 127:64 of the result are undefined; the model clears them.
pub(super) fn extract_field<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let value = access.register(access.instruction.op0_register());
    let control = match access.instruction.op1_kind() {
        OpKind::Register => access.register(access.instruction.op1_register()),
        _ => extend(&[access.instruction.immediate8(), access.instruction.immediate8_2nd()]),
    };
    let (mask, index) = field(control[0], control[1]);
    access.write(&extend(&(get::<u64>(&value, 0) >> index & mask).to_le_bytes()))
}

/// INSERTQ. Bits 127:64 of the result are undefined; the model clears them.
pub(super) fn insert_field<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let value: Vector = access.register(access.instruction.op0_register());
    let source = access.register(access.instruction.op1_register());
    let (mask, index) = match access.instruction.op_count() {
        2 => field(source[8], source[9]),
        _ => field(access.instruction.immediate8(), access.instruction.immediate8_2nd()),
    };
    let inserted = get::<u64>(&value, 0) & !(mask << index) | (get::<u64>(&source, 0) & mask) << index;
    let mut result = ZERO;
    set(&mut result, 0, inserted);
    access.write(&result)
}
