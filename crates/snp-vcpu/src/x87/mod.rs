//! x87 instructions.

use iced_x86::Instruction;

use crate::{Operands, Trap};

/// Executes an x87 instruction. `Ok(false)`: it is none, nothing was done.
pub(crate) fn execute(_instruction: &Instruction, _cpu: &mut impl Operands) -> Result<bool, Trap> {
    Ok(false)
}
