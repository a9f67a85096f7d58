//! Instructions that access memory element by element: gathers and masked moves.

use iced_x86::{Instruction, OpKind, Register};

use super::access::Access;
use super::arithmetic::{element, set_element};
use super::vector::{Vector, ZERO, get};
use crate::{Exception, Operands, Trap};

/// The instruction as if its operand in memory were `offset` further on, and without an index.
fn at(instruction: &Instruction, offset: u64, keep_index: bool) -> Instruction {
    let mut moved = *instruction;
    if !keep_index {
        moved.set_memory_index(Register::None);
        moved.set_memory_index_scale(1);
    }
    moved.set_memory_displacement64(instruction.memory_displacement64().wrapping_add(offset));
    moved
}

/// VPGATHERxx and VGATHERxx. A fault leaves the elements that were loaded before it, and a mask of the others.
///
/// # Source
/// AMD 26568 (APM volume 4), "VPGATHERDD" and its kin.
pub(super) fn gather<C: Operands>(access: &mut Access<'_, C>, size: usize, index_size: usize) -> Result<(), Trap> {
    let instruction = access.instruction;
    let [destination, index, mask] =
        [instruction.op0_register(), instruction.memory_index(), instruction.op2_register()];
    let numbers = [destination, index, mask].map(Register::number);
    if numbers[0] == numbers[1] || numbers[0] == numbers[2] || numbers[1] == numbers[2] {
        return Err(Exception::UNDEFINED.into());
    }
    let count = (destination.size() / size).min(index.size() / index_size);
    let indices = access.register(index);
    for number in 0..count {
        let mut chosen = access.register(mask);
        if chosen[(number + 1) * size - 1] & 0x80 != 0 {
            let offset = match index_size {
                4 => i64::from(get::<i32>(&indices, number)),
                _ => get(&indices, number),
            };
            let scaled = offset.wrapping_mul(instruction.memory_index_scale().into());
            let from = access.cpu.linear(&at(instruction, scaled as u64, false), size as u64)?;
            let mut bytes = [0; 8];
            access.cpu.load_linear(from, &mut bytes[..size])?;
            let mut result = access.register(destination);
            set_element(&mut result, size, number, u64::from_le_bytes(bytes));
            put(access, destination, &result);
        }
        set_element(&mut chosen, size, number, 0);
        put(access, mask, &chosen);
    }
    let mut result = access.register(destination);
    result[count * size..].fill(0);
    access.set_vector(destination, &result);
    access.set_vector(mask, &ZERO);
    Ok(())
}

/// Writes a register and keeps what is above.
fn put<C: Operands>(access: &mut Access<'_, C>, register: Register, value: &Vector) {
    let size = register.size();
    access.cpu.extended().ymm[register.number()][..size].copy_from_slice(&value[..size]);
}

/// VMASKMOVPS and its kin: elements whose mask is negative; others are neither accessed nor do they fault.
pub(super) fn masked_move<C: Operands>(access: &mut Access<'_, C>, size: usize) -> Result<(), Trap> {
    let instruction = access.instruction;
    let store = access.is_memory(0);
    let mask = access.register(instruction.op1_register());
    let source = if store { access.register(instruction.op2_register()) } else { ZERO };
    let width = instruction.op1_register().size();
    let mut result = ZERO;
    let chosen = (0..width / size).filter(|number| mask[(number + 1) * size - 1] & 0x80 != 0);
    let address = |access: &mut Access<'_, C>, number: usize| {
        access.cpu.linear(&at(instruction, (number * size) as u64, true), size as u64)
    };
    if store {
        // All or nothing.
        for number in chosen.clone() {
            let address = address(access, number)?;
            access.cpu.check_store(address, size)?;
        }
    }
    for number in chosen {
        let address = address(access, number)?;
        let mut bytes = element(&source, size, number).to_le_bytes();
        if store {
            access.cpu.store_linear(address, &bytes[..size])?;
        } else {
            access.cpu.load_linear(address, &mut bytes[..size])?;
            set_element(&mut result, size, number, u64::from_le_bytes(bytes));
        }
    }
    if store { Ok(()) } else { access.write(&result) }
}

/// MASKMOVDQU and MASKMOVQ: bytes whose mask is negative go to where rDI points.
pub(super) fn masked_bytes<C: Operands>(access: &mut Access<'_, C>) -> Result<(), Trap> {
    let instruction = access.instruction;
    let source = access.register(instruction.op1_register());
    let mask = access.register(instruction.op2_register());
    let mut place = *instruction;
    place.set_memory_base(match instruction.op0_kind() {
        OpKind::MemorySegDI => Register::DI,
        OpKind::MemorySegEDI => Register::EDI,
        _ => Register::RDI,
    });
    place.set_op0_kind(OpKind::Memory);
    let width = instruction.op1_register().size();
    if access.mmx {
        // Also if it faults.
        access.enter_mmx();
    }
    // All bytes must be writable, chosen or not.
    let start = access.cpu.linear(&place, width as u64)?;
    access.cpu.check_store(start, width)?;
    for (number, byte) in source[..width].iter().enumerate().filter(|(number, _)| mask[*number] & 0x80 != 0) {
        access.cpu.store_linear(start.wrapping_add(number as u64), &[*byte])?;
    }
    Ok(())
}
