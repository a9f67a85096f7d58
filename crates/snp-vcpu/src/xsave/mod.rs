//! FXSAVE, FXRSTOR and the XSAVE family.

use iced_x86::Instruction;

use crate::{Operands, Trap};

/// Executes an instruction of this room; `false`: it is not one.
///
/// RIP stays where it is: the caller moves on.
///
/// # Errors
/// The fault, with registers as they were.
pub fn execute(_instruction: &Instruction, _cpu: &mut impl Operands) -> Result<bool, Trap> {
    Ok(false)
}
