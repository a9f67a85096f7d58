//! Operands of one instruction, and whether it may be executed at all.

use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind, Register};

use super::float::Env;
use super::vector::{Vector, extend};
use crate::{Exception, Operands, Trap};

const CR0_PE: u64 = 1 << 0;
const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_OSXSAVE: u64 = 1 << 18;
const RFLAGS_VM: u64 = 1 << 17;
/// CF, PF, AF, ZF, SF, OF.
const STATUS_FLAGS: u64 = 0x8d5;
/// XCR0: SSE and AVX.
const XCR0_AVX: u64 = 6;
/// XCR0: AVX and all of AVX-512.
const XCR0_AVX512: u64 = 0xe6;
/// MXCSR: legacy SSE operands in memory need not be aligned.
const MISALIGNED: u32 = 1 << 17;
/// x87 status: an unmasked exception waits.
const EXCEPTION_SUMMARY: u16 = 1 << 7;
/// x87 status: which register is ST(0).
const TOP: u16 = 7 << 11;

/// An instruction and the processor that executes it.
pub(super) struct Access<'a, C> {
    pub(super) instruction: &'a Instruction,
    pub(super) cpu: &'a mut C,
    /// VEX encoding: upper parts of destinations are cleared.
    pub(super) vex: bool,
    /// It has an MMX register.
    pub(super) mmx: bool,
}

impl<'a, C: Operands> Access<'a, C> {
    /// What the instruction works on.
    pub(super) fn new(instruction: &'a Instruction, cpu: &'a mut C) -> Self {
        let mmx = instruction.op0_register().is_mm() || instruction.op1_register().is_mm();
        Self { instruction, cpu, vex: instruction.encoding() == EncodingKind::VEX, mmx }
    }

    /// An instruction with EVEX: undefined as long as AVX-512 is not enabled.
    pub(super) fn check_evex(&mut self) -> Result<(), Trap> {
        let enabled = self.cpu.cr4() & CR4_OSXSAVE != 0 && self.cpu.extended().xcr0 & XCR0_AVX512 == XCR0_AVX512;
        if enabled { Ok(()) } else { Err(Exception::UNDEFINED.into()) }
    }

    /// Whether control registers allow it; `only_mmx`: it has nothing to do with XMM registers or MXCSR.
    ///
    /// # Source
    /// AMD 26568 (APM volume 4), the exception tables of ADDPS and VADDPS; AMD 26569 (volume 5), of PADDB.
    pub(super) fn check(&mut self, only_mmx: bool) -> Result<(), Trap> {
        let (cr0, cr4) = (self.cpu.cr0(), self.cpu.cr4());
        let undefined = if self.vex {
            let real = cr0 & CR0_PE == 0 || *self.cpu.rflags() & RFLAGS_VM != 0;
            real || cr4 & CR4_OSXSAVE == 0 || self.cpu.extended().xcr0 & XCR0_AVX != XCR0_AVX
        } else {
            cr0 & CR0_EM != 0 || !only_mmx && cr4 & CR4_OSFXSR == 0
        };
        if undefined {
            return Err(Exception::UNDEFINED.into());
        }
        if cr0 & CR0_TS != 0 {
            return Err(Exception::NO_DEVICE.into());
        }
        if (self.mmx || only_mmx) && self.cpu.extended().fsw & EXCEPTION_SUMMARY != 0 {
            return Err(Exception::X87.into());
        }
        Ok(())
    }

    /// What an MMX instruction does to the x87 unit beside its result: all registers valid, TOP zero.
    pub(super) fn enter_mmx(&mut self) {
        let extended = self.cpu.extended();
        extended.fsw &= !TOP;
        extended.ftw = 0xff;
    }

    /// The operands that are the second source, the last but immediate bytes, and the first, which precedes it.
    pub(super) fn sources(&self) -> (u32, u32) {
        let mut second = self.instruction.op_count() - 1;
        if self.instruction.op_kind(second) == OpKind::Immediate8 {
            second -= 1;
        }
        (second.saturating_sub(1), second)
    }

    /// The immediate byte.
    pub(super) fn immediate(&self) -> u8 {
        self.instruction.immediate8()
    }

    /// An operand is in memory.
    pub(super) fn is_memory(&self, operand: u32) -> bool {
        self.instruction.op_kind(operand) == OpKind::Memory
    }

    /// Bytes of an operand.
    pub(super) fn size(&self, operand: u32) -> usize {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.instruction.op_register(operand).size(),
            _ => self.instruction.memory_size().size(),
        }
    }

    /// Bytes of the destination.
    pub(super) fn width(&self) -> usize {
        self.size(0)
    }

    /// A register, extended with zeros.
    pub(super) fn register(&mut self, register: Register) -> Vector {
        let number = register.number();
        if register.is_mm() {
            return extend(&self.cpu.extended().x87[number][..8]);
        }
        if register.is_xmm() {
            return extend(&self.cpu.extended().ymm[number][..16]);
        }
        if register.is_ymm() {
            return self.cpu.extended().ymm[number];
        }
        extend(&self.cpu.register(register).to_le_bytes())
    }

    /// An operand, extended with zeros. In memory it has as many bytes as the instruction reads, aligned if it must be.
    pub(super) fn operand(&mut self, operand: u32) -> Result<Vector, Trap> {
        if !self.is_memory(operand) {
            return Ok(self.register(self.instruction.op_register(operand)));
        }
        let misaligned = self.vex || self.is_sha() || self.cpu.extended().mxcsr & MISALIGNED != 0;
        let alignment = if self.size(operand) == 16 && !misaligned { 16 } else { 1 };
        self.load(alignment)
    }

    /// SHA: general-purpose instructions as AMD counts them, whose operands family 19h takes at any address.
    fn is_sha(&self) -> bool {
        matches!(
            self.instruction.mnemonic(),
            Mnemonic::Sha1rnds4
                | Mnemonic::Sha1nexte
                | Mnemonic::Sha1msg1
                | Mnemonic::Sha1msg2
                | Mnemonic::Sha256rnds2
                | Mnemonic::Sha256msg1
                | Mnemonic::Sha256msg2
        )
    }

    /// The operand in memory.
    pub(super) fn load(&mut self, alignment: u64) -> Result<Vector, Trap> {
        let mut vector = [0; 32];
        let size = self.instruction.memory_size().size().min(vector.len());
        self.cpu.load(self.instruction, &mut vector[..size], alignment)?;
        Ok(vector)
    }

    /// Both sources.
    pub(super) fn pair(&mut self) -> Result<(Vector, Vector), Trap> {
        let (first, second) = self.sources();
        // The first is never in memory.
        let first = self.register(self.instruction.op_register(first));
        Ok((first, self.operand(second)?))
    }

    /// Writes a vector register as the encoding has it: bits above are cleared with VEX and kept without.
    pub(super) fn set_vector(&mut self, register: Register, value: &Vector) {
        let (number, vex) = (register.number(), self.vex);
        let extended = self.cpu.extended();
        if register.is_mm() {
            extended.x87[number][..8].copy_from_slice(&value[..8]);
            extended.x87[number][8..].fill(0xff);
        } else if register.is_ymm() {
            extended.ymm[number] = *value;
        } else {
            extended.ymm[number][..16].copy_from_slice(&value[..16]);
            if vex {
                extended.ymm[number][16..].fill(0);
            }
        }
    }

    /// Writes the destination, a vector register or memory.
    pub(super) fn write(&mut self, value: &Vector) -> Result<(), Trap> {
        if self.is_memory(0) {
            let size = self.size(0);
            return self.cpu.store(self.instruction, &value[..size], 1);
        }
        self.set_vector(self.instruction.op0_register(), value);
        Ok(())
    }

    /// Writes the destination, a general register.
    pub(super) fn write_general(&mut self, value: u64) {
        let register = self.instruction.op0_register();
        let value = if register.size() == 4 { value & 0xffff_ffff } else { value };
        self.cpu.set_register(register, value);
    }

    /// Sets the status flags; those that are not named are cleared.
    pub(super) fn set_status(&mut self, flags: u64) {
        let rflags = self.cpu.rflags();
        *rflags = *rflags & !STATUS_FLAGS | flags;
    }

    /// The modes of MXCSR.
    pub(super) fn env(&mut self) -> Env {
        Env::new(self.cpu.extended().mxcsr)
    }

    /// Notes the exceptions that were met, and raises those that are not masked.
    pub(super) fn settle(&mut self, mut env: Env) -> Result<(), Trap> {
        let faults = env.faults();
        self.cpu.extended().mxcsr |= env.flags;
        if !faults {
            return Ok(());
        }
        // The x87 unit is in MMX mode before the conversion is tried.
        if self.mmx {
            self.enter_mmx();
        }
        let handled = self.cpu.cr4() & CR4_OSXMMEXCPT != 0;
        Err(if handled { Exception::SIMD } else { Exception::UNDEFINED }.into())
    }
}
