//! Alignment checks: programs at CPL 3 with RFLAGS.AC and CR0.AM. So few have them that they are stepped through, and their
//! operands looked at before each instruction.
//!
//! # Source
//! AMD 24593 (APM volume 2), "#AC—Alignment-Check Exception", with the table of alignments by data type.

use iced_x86::{Code, EncodingKind, Instruction, Mnemonic, OpKind};

use super::cpu::*;
use super::flags;
use super::strings::Strings;
use crate::{AccessKind, Exception, Segments};

const CR0_AM: u64 = 1 << 18;
const FSW_ES: u16 = 1 << 7;

impl Cpu<'_> {
    /// Whether data must be aligned.
    #[inline(always)]
    pub(crate) fn checks_alignment(&self) -> bool {
        self.state.rflags & flags::AC != 0 && self.state.cpl == 3 && self.state.cr0 & CR0_AM != 0
    }

    /// #AC if an address that is found in the middle of an instruction is not aligned.
    #[inline]
    pub(crate) fn require_alignment(&self, address: u64, alignment: u64) -> Done {
        if self.checks_alignment() { aligned(address, alignment) } else { Ok(()) }
    }

    /// #AC if an operand is not aligned. What faults with more weight is left to the instruction itself.
    #[cold]
    pub(crate) fn check_alignment(&mut self, i: &Instruction) -> Done {
        if i.is_invalid() || i.is_privileged() || self.is_x87_pending(i) {
            return Ok(());
        }
        if i.is_string_instruction() {
            return self.check_strings(i);
        }
        if matches!(i.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu) {
            let short = i.op0_kind() == OpKind::MemorySegEDI;
            let offset = self.state.gpr[7] & if short { 0xffff_ffff } else { u64::MAX };
            let Ok(address) = self.linear_in(segment_index(i.memory_segment()), offset, 1, AccessKind::Read) else {
                return Ok(());
            };
            let misaligned = aligned(address, 8);
            if misaligned.is_err() && i.mnemonic() == Mnemonic::Maskmovq {
                // It has made the x87 registers MMX registers when it faults.
                let extended = &mut self.state.extended;
                (extended.fsw, extended.ftw) = (extended.fsw & !(7 << 11), 0xff);
            }
            return misaligned;
        }
        let memory = (0..i.op_count()).any(|index| i.op_kind(index) == OpKind::Memory);
        let alignment = alignment(i);
        if memory && alignment > 1 {
            let len = (i.memory_size().size() as u64).max(1);
            let Ok(address) = self.operand_address(i, len, AccessKind::Read) else { return Ok(()) };
            aligned(address, alignment)?;
        }
        self.check_stack(i)
    }

    fn is_x87_pending(&self, i: &Instruction) -> bool {
        use iced_x86::CpuidFeature::{FPU, FPU287, FPU387, MMX};
        if matches!(i.mnemonic(), Mnemonic::Fnstcw | Mnemonic::Fnstsw | Mnemonic::Fnstenv | Mnemonic::Fnsave) {
            return false;
        }
        let features = i.cpuid_features();
        let mmx = (0..i.op_count()).any(|index| i.op_register(index).is_mm());
        self.state.extended.fsw & FSW_ES != 0
            && (mmx || features.iter().any(|feature| matches!(feature, FPU | FPU287 | FPU387 | MMX)))
    }

    fn check_strings(&mut self, i: &Instruction) -> Done {
        let strings = Strings::of(i);
        let ports = matches!(i.mnemonic(), Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd);
        let ports = ports || matches!(i.mnemonic(), Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd);
        if ports || strings.repeated && self.string_count(strings) == 0 {
            return Ok(());
        }
        let has = |kinds: [OpKind; 2]| (0..2).any(|index| kinds.contains(&i.op_kind(index)));
        let from = has([OpKind::MemorySegRSI, OpKind::MemorySegESI]).then(|| self.source(strings));
        let to = has([OpKind::MemoryESRDI, OpKind::MemoryESEDI]).then(|| self.destination(strings, AccessKind::Read));
        // In the order in which they are touched: CMPS begins with its second operand.
        let compares = from.is_some() && i.op0_kind() != OpKind::MemoryESRDI && i.op0_kind() != OpKind::MemoryESEDI;
        let touched = if compares { [to, from] } else { [from, to] };
        for address in touched.into_iter().flatten() {
            let Ok(address) = address else { return Ok(()) };
            aligned(address, strings.size as u64)?;
            if self.probe(address, strings.size, AccessKind::Read).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What PUSH, POP and their like find on the stack.
    fn check_stack(&mut self, i: &Instruction) -> Done {
        let pointer = self.state.gpr[4];
        let moved = i64::from(i.stack_pointer_increment());
        let (at, len) = match i.code() {
            Code::Leaveq => (self.state.gpr[5], 8),
            Code::Leaved => (self.state.gpr[5], 4),
            Code::Leavew => (self.state.gpr[5], 2),
            // What is pushed; the new top is checked when all is.
            Code::Enterq_imm16_imm8 => (pointer, 8),
            Code::Enterd_imm16_imm8 => (pointer, 4),
            Code::Enterw_imm16_imm8 => (pointer, 2),
            Code::Retnq | Code::Retnq_imm16 => (pointer, 8),
            Code::Retnd | Code::Retnd_imm16 => (pointer, 4),
            Code::Retnw | Code::Retnw_imm16 => (pointer, 2),
            _ if !i.is_stack_instruction() || moved == 0 => return Ok(()),
            _ if moved < 0 => (pointer.wrapping_add_signed(moved), moved.unsigned_abs()),
            _ => (pointer, moved.unsigned_abs()),
        };
        let Ok(address) = self.linear_in(Segments::SS, at, 1, AccessKind::Read) else { return Ok(()) };
        aligned(address, if len.is_power_of_two() { len } else { 1 })
    }
}

/// #AC unless an address is a multiple of that.
fn aligned(address: u64, alignment: u64) -> Done {
    if address.is_multiple_of(alignment) { Ok(()) } else { Err(Exception::alignment().into()) }
}

/// What an instruction's memory operand must be a multiple of; 1 for those that need not be aligned, or that raise #GP if
/// they are not.
fn alignment(i: &Instruction) -> u64 {
    use Mnemonic::*;
    if i.is_vsib() {
        return 1;
    }
    match i.mnemonic() {
        // Where a bit lies is known when it is looked for.
        Bt | Bts | Btr | Btc if i.op1_kind() == OpKind::Register => return 1,
        Vmaskmovps | Vmaskmovpd | Vpmaskmovd | Vpmaskmovq => return 1,
        Lea | Nop | Invlpg | Clflush | Clflushopt | Clwb | Prefetch | Prefetchw | Prefetchnta | Prefetcht0
        | Prefetcht1 | Prefetcht2 => return 1,
        Fxsave | Fxsave64 | Fxrstor | Fxrstor64 | Cmpxchg16b => return 1,
        _ => {}
    }
    let size = if i.code() == Code::Movsxd_r16_rm16 { 4 } else { i.memory_size().size() as u64 };
    match size {
        // Environments with 16-bit operands, and with 32-bit operands.
        14 | 94 => 2,
        28 | 108 => 4,
        // Extended precision, BCD, and pointers of 16:64 bits.
        10 => 8,
        6 => 4,
        16.. if raises_gp(i) => 1,
        2 | 4 | 8 | 16 => size,
        // As two halves.
        32 => 16,
        _ => 1,
    }
}

/// Vectors of which the instruction itself wants alignment.
fn raises_gp(i: &Instruction) -> bool {
    use Mnemonic::*;
    if i.encoding() == EncodingKind::VEX {
        return matches!(i.mnemonic(), Vmovaps | Vmovapd | Vmovdqa | Vmovntps | Vmovntpd | Vmovntdq | Vmovntdqa);
    }
    !matches!(
        i.mnemonic(),
        Movups | Movupd | Movdqu | Lddqu | Pcmpistri | Pcmpistrm | Pcmpestri | Pcmpestrm | Pcmpestri64 | Pcmpestrm64
    )
}
