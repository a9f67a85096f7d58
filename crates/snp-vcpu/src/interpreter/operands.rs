//! What the rooms of extended state see of the processor.

use iced_x86::{Instruction, Register};

use super::cpu::*;
use crate::{AccessKind, Extended, Operands, Trap};

impl Operands for Cpu<'_> {
    fn extended(&mut self) -> &mut Extended {
        &mut self.state.extended
    }

    fn register(&self, register: Register) -> u64 {
        Cpu::register(self, register)
    }

    fn set_register(&mut self, register: Register, value: u64) {
        Cpu::set_register(self, register, value);
    }

    fn load(&mut self, instruction: &Instruction, into: &mut [u8], alignment: u64) -> Result<(), Trap> {
        let address = self.aligned(instruction, into.len() as u64, alignment, AccessKind::Read)?;
        self.load_linear(address, into)
    }

    fn store(&mut self, instruction: &Instruction, data: &[u8], alignment: u64) -> Result<(), Trap> {
        let address = self.aligned(instruction, data.len() as u64, alignment, AccessKind::Write)?;
        self.store_linear(address, data)
    }

    fn linear(&mut self, instruction: &Instruction, len: u64) -> Result<u64, Trap> {
        self.operand_address(instruction, len, AccessKind::Read).map_err(|fault| *fault)
    }

    fn load_linear(&mut self, address: u64, into: &mut [u8]) -> Result<(), Trap> {
        self.read_bytes_as(address, into, self.rights).map_err(|fault| *fault)
    }

    fn store_linear(&mut self, address: u64, data: &[u8]) -> Result<(), Trap> {
        self.write_bytes_as(address, data, self.rights).map_err(|fault| *fault)
    }

    fn check_store(&mut self, address: u64, len: usize) -> Result<(), Trap> {
        self.probe(address, len, AccessKind::Write).map_err(|fault| *fault)
    }

    fn rflags(&mut self) -> &mut u64 {
        &mut self.state.rflags
    }

    fn cr0(&self) -> u64 {
        self.state.cr0
    }

    fn cr4(&self) -> u64 {
        self.state.cr4
    }

    fn xss(&self) -> u64 {
        self.state.xss
    }

    fn efer(&self) -> u64 {
        self.state.efer
    }

    fn cpl(&self) -> u8 {
        self.state.cpl
    }

    fn is_64_bit(&self) -> bool {
        Cpu::is_64_bit(self)
    }
}

impl Cpu<'_> {
    /// The linear address of an operand that must be aligned.
    pub(super) fn aligned(
        &mut self,
        instruction: &Instruction,
        len: u64,
        alignment: u64,
        kind: AccessKind,
    ) -> Result<u64, Trap> {
        // Of an address that is wrong in more than one way, its alignment counts.
        if alignment > 1 && self.is_64_bit() {
            let segment = self.state.segments[segment_index(instruction.memory_segment())];
            let base = if instruction.segment_prefix() == Register::None { 0 } else { segment.base };
            if !base.wrapping_add(self.effective_address(instruction)).is_multiple_of(alignment) {
                return Err(*gp());
            }
        }
        let address = self.operand_address(instruction, len, kind).map_err(|fault| *fault)?;
        if address.is_multiple_of(alignment) { Ok(address) } else { Err(*gp()) }
    }
}
