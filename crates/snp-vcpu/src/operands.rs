//! What instructions on extended state need of the processor around them.

use iced_x86::{Instruction, Register};

use crate::{Extended, Trap};

/// A processor, to those of its instructions that live in rooms of their own: SSE, AVX, x87, XSAVE.
pub trait Operands {
    /// x87, SSE and AVX state.
    fn extended(&mut self) -> &mut Extended;

    /// A general register of any width (AL, AH, AX, EAX, RAX …), zero-extended.
    fn register(&self, register: Register) -> u64;

    /// Writes a general register of any width; 32 bits clear the upper half.
    fn set_register(&mut self, register: Register, value: u64);

    /// Reads the instruction's memory operand, of `into.len()` bytes. `alignment` in bytes: #GP if it is not kept; 1 for
    /// none. (Instructions with VEX want none, but for the MOVA and MOVNT forms.)
    ///
    /// # Errors
    /// The fault, with nothing changed.
    fn load(&mut self, instruction: &Instruction, into: &mut [u8], alignment: u64) -> Result<(), Trap>;

    /// Writes the instruction's memory operand: all of `data`, or nothing.
    ///
    /// # Errors
    /// The fault, with nothing changed.
    fn store(&mut self, instruction: &Instruction, data: &[u8], alignment: u64) -> Result<(), Trap>;

    /// The linear address of the instruction's memory operand (of `len` bytes, checked against its segment).
    ///
    /// # Errors
    /// #GP or #SS.
    fn linear(&mut self, instruction: &Instruction, len: u64) -> Result<u64, Trap>;

    /// Reads at a linear address with the rights of the program: for gathers and masked moves.
    ///
    /// # Errors
    /// The fault.
    fn load_linear(&mut self, address: u64, into: &mut [u8]) -> Result<(), Trap>;

    /// Writes at a linear address.
    ///
    /// # Errors
    /// The fault, with nothing changed.
    fn store_linear(&mut self, address: u64, data: &[u8]) -> Result<(), Trap>;

    /// Whether the program may write at a linear address, without writing: for stores that an exception may keep back, and
    /// for masked ones.
    ///
    /// # Errors
    /// The fault.
    fn check_store(&mut self, address: u64, len: usize) -> Result<(), Trap>;

    /// RFLAGS.
    fn rflags(&mut self) -> &mut u64;

    /// CR0.
    fn cr0(&self) -> u64;

    /// CR4.
    fn cr4(&self) -> u64;

    /// XSS.
    fn xss(&self) -> u64;

    /// EFER.
    fn efer(&self) -> u64;

    /// The current privilege level.
    fn cpl(&self) -> u8;

    /// The processor is in 64-bit mode.
    fn is_64_bit(&self) -> bool;
}
