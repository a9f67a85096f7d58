//! An instruction as it is executed: decoded, with its handler chosen.

use iced_x86::{Instruction, OpKind, Register};

use super::cpu::*;
use super::{execute, fast};
use crate::Segments;

/// What executes an instruction. It finds its operands in the [`Decoded`], and the address after it in `Cpu::next_rip`.
pub(crate) type Handler = for<'a, 'b, 'c> fn(&'a mut Cpu<'b>, &'c Decoded) -> Done;

/// No register.
pub(crate) const NONE: u8 = 0xff;

/// A decoded instruction.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    pub(crate) run: Handler,
    /// An immediate, sign-extended, or the target of a near branch.
    pub(crate) immediate: u64,
    pub(crate) displacement: u64,
    /// General registers of the first and the second operand, for the fast handlers.
    pub(crate) first: u8,
    pub(crate) second: u8,
    /// General registers of the memory operand; [`NONE`] if there is none.
    pub(crate) base: u8,
    pub(crate) index: u8,
    pub(crate) scale: u8,
    /// FS or GS, or [`NONE`] for the segments whose base is 0 in 64-bit mode.
    pub(crate) segment: u8,
    /// It neither looks at RIP and the counters of instructions, nor goes elsewhere.
    pub(crate) plain: bool,
    /// Of conditional instructions: the condition as Jcc numbers it.
    pub(crate) condition: u8,
    pub(crate) instruction: Instruction,
}

impl Decoded {
    /// `bits`: the default size of the code.
    pub(crate) fn new(mut instruction: Instruction, bits: u32) -> Self {
        if bits == 64 && !matches!(instruction.segment_prefix(), Register::FS | Register::GS) {
            // Ignored in 64-bit mode: #SS or #GP goes by the base register.
            instruction.set_segment_prefix(Register::None);
        }
        let mut decoded = Self {
            run: execute::handler(&instruction),
            immediate: 0,
            displacement: 0,
            first: NONE,
            second: NONE,
            base: NONE,
            index: NONE,
            scale: 0,
            segment: NONE,
            plain: false,
            condition: (instruction.condition_code() as u8).wrapping_sub(1),
            instruction,
        };
        if bits == 64 {
            decoded.prepare();
        }
        decoded
    }

    /// Takes the operands apart for a fast handler, if there is one for all of them.
    fn prepare(&mut self) {
        let instruction = &self.instruction;
        for operand in 0..instruction.op_count() {
            match instruction.op_kind(operand) {
                OpKind::Register => {
                    let register = instruction.op_register(operand);
                    if !register.is_gpr() || is_high_byte(register) {
                        return;
                    }
                    *(if operand == 0 { &mut self.first } else { &mut self.second }) = number(register) as u8;
                }
                OpKind::NearBranch64 => self.immediate = instruction.near_branch_target(),
                OpKind::Memory => {}
                _ if instruction.try_immediate(operand).is_ok() => self.immediate = instruction.immediate(operand),
                _ => return,
            }
        }
        if uses_memory(instruction) && !self.prepare_memory() {
            return;
        }
        if let Some((handler, plain)) = fast::handler(&self.instruction) {
            (self.run, self.plain) = (handler, plain);
        }
    }

    /// `false`: an address that only the general way makes.
    fn prepare_memory(&mut self) -> bool {
        let instruction = &self.instruction;
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let wide = |register: Register| register == Register::None || register.is_gpr64();
        if base == Register::RIP {
            self.displacement = instruction.memory_displacement64();
        } else if wide(base) && wide(index) && (base != Register::None || index != Register::None) {
            self.displacement = instruction.memory_displacement64();
            self.base = if base == Register::None { NONE } else { number(base) as u8 };
            self.index = if index == Register::None { NONE } else { number(index) as u8 };
        } else {
            return false;
        }
        self.scale = instruction.memory_index_scale().trailing_zeros() as u8;
        let segment = segment_index(instruction.memory_segment());
        if segment >= Segments::FS {
            self.segment = segment as u8;
        }
        true
    }

    /// The linear address of the memory operand that [`Decoded::prepare`] took apart. It may be no canonical one, which
    /// no translation has.
    #[inline(always)]
    pub(crate) fn address(&self, cpu: &Cpu<'_>) -> u64 {
        let mut address = self.displacement;
        if self.base != NONE {
            address = address.wrapping_add(cpu.state.gpr[(self.base & 15) as usize]);
        }
        if self.index != NONE {
            address = address.wrapping_add(cpu.state.gpr[(self.index & 15) as usize] << (self.scale & 3));
        }
        // An offset that is not canonical itself remains, see `Cpu::linear_in`.
        if self.segment != NONE && cpu.is_canonical(address) {
            address = address.wrapping_add(cpu.state.segments[usize::from(self.segment)].base);
        }
        address
    }
}

fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

fn uses_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
}
