//! Operands of one instruction.

use iced_x86::{Code, Instruction, OpCodeOperandKind, OpKind, Register};

use super::Plan;
use crate::layout::{CODE, DATA, DATA_HIGH};
use crate::random::Random;

/// What an instruction needs beside its operands.
#[derive(Default)]
pub(super) struct Needs {
    /// It branches: the generator chooses where to.
    pub(super) target: bool,
    /// The vector register whose elements are the indices of a gather, and their size in bytes.
    pub(super) indices: Option<(Register, usize)>,
}

/// An instruction with random operands, or `None` if there is no encoding of them.
pub(super) fn instruction(random: &mut Random, plan: &Plan, code: Code) -> Option<(Instruction, Needs)> {
    let info = code.op_code();
    let mut made = Instruction::default();
    made.set_code(code);
    let mut needs = Needs::default();
    // An instruction without a size prefix for them has its memory operand addressed in 64 bits.
    let kinds = info.op_kinds();
    for (index, kind) in kinds.iter().enumerate() {
        operand(random, plan, &mut made, index as u32, *kind, &mut needs)?;
    }
    if code.is_string_instruction() || implied_memory(code) {
        implied(random, &mut made, code);
    }
    let memory = (0..made.op_count()).any(|index| made.op_kind(index) == OpKind::Memory);
    if memory && info.can_use_lock_prefix() && made.op0_kind() == OpKind::Memory {
        made.set_has_lock_prefix(random.chance(15));
    } else if random.below(400) == 0 {
        made.set_has_lock_prefix(true);
    }
    if code.is_string_instruction() && random.chance(70) {
        if info.can_use_repne_prefix() && random.chance(50) {
            made.set_has_repne_prefix(true);
        } else if info.can_use_rep_prefix() {
            made.set_has_rep_prefix(true);
        }
    }
    Some((made, needs))
}

/// XLAT and MASKMOV have a memory operand that is no choice.
fn implied_memory(code: Code) -> bool {
    matches!(
        code,
        Code::Xlat_m8 | Code::Maskmovq_rDI_mm_mm | Code::Maskmovdqu_rDI_xmm_xmm | Code::VEX_Vmaskmovdqu_rDI_xmm_xmm
    )
}

fn operand(
    random: &mut Random,
    plan: &Plan,
    made: &mut Instruction,
    index: u32,
    kind: OpCodeOperandKind,
    needs: &mut Needs,
) -> Option<()> {
    use OpCodeOperandKind::*;
    let register = |made: &mut Instruction, register: Register| {
        made.set_op_kind(index, OpKind::Register);
        made.set_op_register(index, register);
    };
    let memory_or = |random: &mut Random| random.chance(45);
    match kind {
        r8_or_mem | r16_or_mem | r32_or_mem | r64_or_mem | mm_or_mem | xmm_or_mem | ymm_or_mem if memory_or(random) => {
            memory(random, plan, made, index, Option::None);
        }
        mem => memory(random, plan, made, index, Option::None),
        mem_vsib32x | mem_vsib64x | mem_vsib32y | mem_vsib64y => {
            let base = if matches!(kind, mem_vsib32x | mem_vsib64x) { Register::XMM0 } else { Register::YMM0 };
            let indices = base + random.below(16) as u32;
            memory(random, plan, made, index, Some(indices));
            needs.indices = Some((indices, if matches!(kind, mem_vsib32x | mem_vsib32y) { 4 } else { 8 }));
        }
        mem_offs => {
            made.set_op_kind(index, OpKind::Memory);
            made.set_memory_displ_size(8);
            let base = if random.chance(50) { DATA } else { DATA_HIGH };
            made.set_memory_displacement64(base + random.below(0x1000));
        }
        r8_or_mem | r8_reg | r8_opcode => {
            // AL to BL, AH to BH, SPL to DIL, R8L to R15L.
            register(made, Register::AL + random.below(20) as u32);
        }
        r16_or_mem | r16_reg | r16_reg_mem | r16_rm | r16_opcode => {
            register(made, sized(plan.general(random), Register::AX))
        }
        r32_or_mem | r32_reg | r32_reg_mem | r32_rm | r32_opcode | r32_vvvv => {
            register(made, sized(plan.general(random), Register::EAX));
        }
        r64_or_mem | r64_reg | r64_reg_mem | r64_rm | r64_opcode | r64_vvvv => register(made, plan.general(random)),
        seg_reg => register(made, Register::ES + random.below(6) as u32),
        mm_or_mem | mm_reg | mm_rm => register(made, Register::MM0 + random.below(8) as u32),
        xmm_or_mem | xmm_reg | xmm_rm | xmm_vvvv | xmm_is4 => register(made, Register::XMM0 + random.below(16) as u32),
        ymm_or_mem | ymm_reg | ymm_rm | ymm_vvvv | ymm_is4 => register(made, Register::YMM0 + random.below(16) as u32),
        cr_reg => {
            register(made, *random.pick(&[Register::CR0, Register::CR2, Register::CR3, Register::CR4, Register::CR8]))
        }
        dr_reg => register(made, Register::DR0 + random.below(8) as u32),
        es => register(made, Register::ES),
        cs => register(made, Register::CS),
        ss => register(made, Register::SS),
        ds => register(made, Register::DS),
        fs => register(made, Register::FS),
        gs => register(made, Register::GS),
        al => register(made, Register::AL),
        cl => register(made, Register::CL),
        ax => register(made, Register::AX),
        dx => register(made, Register::DX),
        eax => register(made, Register::EAX),
        rax => register(made, Register::RAX),
        st0 => register(made, Register::ST0),
        sti_opcode => register(made, Register::ST0 + random.below(8) as u32),
        imm8 | imm8_const_1 | imm8sex16 | imm8sex32 | imm8sex64 | imm16 | imm32 | imm32sex64 | imm64 => {
            immediate(random, made, index, kind);
        }
        br16_1 | br16_2 => branch(made, index, OpKind::NearBranch16, needs),
        br32_1 | br32_4 => branch(made, index, OpKind::NearBranch32, needs),
        br64_1 | br64_4 => branch(made, index, OpKind::NearBranch64, needs),
        // Set by `implied`.
        seg_rSI | es_rDI | seg_rDI | seg_rBX_al => {}
        _ => return Option::None,
    }
    Some(())
}

fn sized(register: Register, first: Register) -> Register {
    first + (register as u32 - Register::RAX as u32)
}

fn branch(made: &mut Instruction, index: u32, kind: OpKind, needs: &mut Needs) {
    made.set_op_kind(index, kind);
    made.set_near_branch64(CODE);
    needs.target = true;
}

fn immediate(random: &mut Random, made: &mut Instruction, index: u32, kind: OpCodeOperandKind) {
    use OpCodeOperandKind::*;
    let value = random.integer();
    let second = made.op_count() > index
        && (0..index).any(|at| made.op_kind(at) == OpKind::Immediate8 || made.op_kind(at) == OpKind::Immediate16);
    match kind {
        imm8 if second => {
            made.set_op_kind(index, OpKind::Immediate8_2nd);
            // The nesting level of ENTER: all, but mostly shallow ones.
            made.set_immediate8_2nd(if random.chance(70) { random.below(4) as u8 } else { value as u8 });
        }
        imm8 => {
            made.set_op_kind(index, OpKind::Immediate8);
            let interrupt = made.code() == Code::Int_imm8 && value as u8 == 0x80;
            made.set_immediate8(if interrupt { 3 } else { value as u8 });
        }
        imm8_const_1 => {
            made.set_op_kind(index, OpKind::Immediate8);
            made.set_immediate8(1);
        }
        imm8sex16 => {
            made.set_op_kind(index, OpKind::Immediate8to16);
            made.set_immediate8to16(i16::from(value as i8));
        }
        imm8sex32 => {
            made.set_op_kind(index, OpKind::Immediate8to32);
            made.set_immediate8to32(i32::from(value as i8));
        }
        imm8sex64 => {
            made.set_op_kind(index, OpKind::Immediate8to64);
            made.set_immediate8to64(i64::from(value as i8));
        }
        imm16 => {
            made.set_op_kind(index, OpKind::Immediate16);
            let frame = made.code() == Code::Enterq_imm16_imm8 || made.code() == Code::Enterw_imm16_imm8;
            made.set_immediate16(if frame && random.chance(80) { random.below(256) as u16 } else { value as u16 });
        }
        imm32 => {
            made.set_op_kind(index, OpKind::Immediate32);
            made.set_immediate32(value as u32);
        }
        imm32sex64 => {
            made.set_op_kind(index, OpKind::Immediate32to64);
            made.set_immediate32to64(i64::from(value as i32));
        }
        _ => {
            made.set_op_kind(index, OpKind::Immediate64);
            made.set_immediate64(value);
        }
    }
}

/// A memory operand: most of them lead into the data.
fn memory(random: &mut Random, plan: &Plan, made: &mut Instruction, index: u32, vector: Option<Register>) {
    made.set_op_kind(index, OpKind::Memory);
    let aligned = if random.chance(75) { !0x1f } else { !0 };
    let near = |random: &mut Random| match random.below(4) {
        0 => 0,
        1 => (random.below(256) as i64 - 128) & aligned,
        _ => (random.below(0x800) as i64 - 0x400) & aligned,
    };
    let absolute = |random: &mut Random| (DATA + random.below(0x1000)) & aligned as u64;
    let form = if vector.is_some() { random.below(85) } else { random.below(100) };
    match form {
        0..85 => {
            let mut base = if random.chance(96) { plan.pointer(random) } else { plan.general(random) };
            let short = random.chance(6);
            if short {
                base = sized(base, Register::EAX);
            }
            made.set_memory_base(base);
            let indexed = vector.or_else(|| {
                let register = random.chance(25).then(|| plan.index(random))?;
                Some(if short { sized(register, Register::EAX) } else { register })
            });
            if let Some(register) = indexed.filter(|register| !matches!(register, Register::RSP | Register::ESP)) {
                made.set_memory_index(register);
                made.set_memory_index_scale(1 << random.below(4));
            }
            let displacement = near(random);
            made.set_memory_displacement64(displacement as u64);
            made.set_memory_displ_size(match displacement {
                0 => 0,
                -128..=127 => 1,
                _ => {
                    if short {
                        4
                    } else {
                        8
                    }
                }
            });
        }
        85..92 => {
            made.set_memory_base(if random.chance(90) { Register::RIP } else { Register::EIP });
            made.set_memory_displ_size(if made.memory_base() == Register::RIP { 8 } else { 4 });
            made.set_memory_displacement64(absolute(random));
        }
        92..96 => {
            made.set_memory_displ_size(if random.chance(80) { 8 } else { 4 });
            made.set_memory_displacement64(absolute(random));
        }
        _ => {
            // FS and GS lead into the data.
            made.set_segment_prefix(if random.chance(50) { Register::FS } else { Register::GS });
            if random.chance(50) {
                made.set_memory_base(plan.index(random));
            }
            let displacement = near(random);
            made.set_memory_displacement64(displacement as u64);
            made.set_memory_displ_size(8);
            return;
        }
    }
    if random.chance(3) {
        made.set_segment_prefix(*random.pick(&[Register::ES, Register::CS, Register::SS, Register::DS, Register::FS]));
    }
}

/// The operands of string instructions and their like.
fn implied(random: &mut Random, made: &mut Instruction, code: Code) {
    use OpCodeOperandKind::*;
    let short = random.chance(10);
    for (index, kind) in code.op_code().op_kinds().iter().enumerate() {
        let kind = match (kind, short) {
            (seg_rSI, false) => OpKind::MemorySegRSI,
            (seg_rSI, true) => OpKind::MemorySegESI,
            (es_rDI, false) => OpKind::MemoryESRDI,
            (es_rDI, true) => OpKind::MemoryESEDI,
            (seg_rDI, false) => OpKind::MemorySegRDI,
            (seg_rDI, true) => OpKind::MemorySegEDI,
            (seg_rBX_al, _) => {
                made.set_op_kind(index as u32, OpKind::Memory);
                made.set_memory_base(if short { Register::EBX } else { Register::RBX });
                made.set_memory_index(Register::AL);
                continue;
            }
            _ => continue,
        };
        made.set_op_kind(index as u32, kind);
    }
}
