//! MMX, SSE to SSE4.2, AVX, AVX2, FMA, F16C, AES, PCLMULQDQ and SHA instructions.

use iced_x86::Instruction;

use crate::{Operands, Trap};

/// Executes an instruction of this room; `false`: it is not one.
///
/// RIP stays where it is: the caller moves on.
///
/// # Errors
/// The fault. Registers and memory are then as they were, but for MXCSR's flags when it is #XF, and for what a gather got
/// so far.
pub fn execute(_instruction: &Instruction, _cpu: &mut impl Operands) -> Result<bool, Trap> {
    Ok(false)
}
