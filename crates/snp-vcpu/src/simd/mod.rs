//! MMX, SSE to SSE4.2, SSE4a, AVX, AVX2, FMA, F16C, AES, PCLMULQDQ, GFNI and SHA instructions.
//!
//! [`table`] says what each mnemonic does; legacy, VEX and MMX forms share a row, and [`access`] makes the difference: where
//! operands are, how memory is aligned, what becomes of the upper half of a YMM register.

mod access;
mod approximate;
mod arithmetic;
mod convert;
mod crypto;
mod float;
mod fused;
mod lanes;
mod masked;
mod moves;
mod strings;
mod table;
mod vector;

use iced_x86::{CpuidFeature, EncodingKind, Instruction, OpKind, Register};

use self::access::Access;
use self::table::Operation;
use crate::{Exception, Operands, Trap};

pub(crate) use self::moves::MXCSR_MASK;

/// Executes an instruction of this room; `false`: it is not one.
///
/// RIP stays where it is: the caller moves on.
///
/// # Errors
/// The fault. Registers and memory are then as they were, but for MXCSR's flags when it is #XF, and for what a gather or a
/// masked move did before it.
pub fn execute(instruction: &Instruction, cpu: &mut impl Operands) -> Result<bool, Trap> {
    let Some(operation) = table::operation(instruction.mnemonic()) else {
        if is_avx512(instruction) {
            Access::new(instruction, cpu).check_evex()?;
        }
        return Ok(false);
    };
    if moves::is_string(instruction.code()) {
        return Ok(false);
    }
    let mut access = Access::new(instruction, cpu);
    // Some mnemonics have a form with EVEX.
    if instruction.encoding() == EncodingKind::EVEX {
        return access.check_evex().map(|()| false);
    }
    let operation = match access.mmx {
        true => table::mmx(instruction.mnemonic()).unwrap_or(operation),
        false => operation,
    };
    access.check(matches!(operation, Operation::EmptyMmx) || access.mmx && !has_xmm(instruction))?;
    let done = perform(&mut access, operation);
    // A conversion with an MMX register has begun when #XF keeps its result back.
    let begun = matches!(&done, Ok(()) | Err(Trap::Exception(Exception::SIMD)));
    if access.mmx && begun {
        access.enter_mmx();
    }
    done.map(|()| true)
}

/// AVX-512: EVEX, and the instructions on opmask registers, which have VEX.
pub(crate) fn is_avx512(instruction: &Instruction) -> bool {
    use CpuidFeature::{AVX512BW, AVX512DQ, AVX512F};
    let masks = |feature: &CpuidFeature| matches!(feature, AVX512F | AVX512DQ | AVX512BW);
    instruction.encoding() == EncodingKind::EVEX || instruction.cpuid_features().iter().any(masks)
}

fn has_xmm(instruction: &Instruction) -> bool {
    instruction.op0_register().is_xmm() || instruction.op1_register().is_xmm()
}

fn perform<C: Operands>(access: &mut Access<'_, C>, operation: Operation) -> Result<(), Trap> {
    match operation {
        Operation::Binary(f) => {
            let (a, b) = access.pair()?;
            access.write(&f(&a, &b))
        }
        Operation::BinaryImmediate(f) => {
            let (a, b) = access.pair()?;
            access.write(&f(&a, &b, access.immediate()))
        }
        Operation::Unary(f) => {
            let source = access.operand(1)?;
            access.write(&f(&source))
        }
        Operation::UnaryImmediate(f) => {
            let source = access.operand(1)?;
            access.write(&f(&source, access.immediate()))
        }
        Operation::Permute(by_vector, by_immediate) => {
            if access.instruction.op_kind(2) == OpKind::Immediate8 {
                return perform(access, Operation::UnaryImmediate(by_immediate));
            }
            perform(access, Operation::Binary(by_vector))
        }
        Operation::Shift(f) => shift(access, f),
        Operation::Ternary(f) => {
            let (a, b, c) = ternary(access)?;
            access.write(&f(&a, &b, &c))
        }
        Operation::TestBits(f) => {
            let (a, b) = (access.operand(0)?, access.operand(1)?);
            let (zero, carry) = f(&a, &b);
            access.set_status(u64::from(zero) << 6 | u64::from(carry));
            Ok(())
        }
        Operation::Move(what) => moves::execute(access, what),
        Operation::SignMask(size) => moves::sign_bits(access, size),
        Operation::Extract(size) => moves::extract(access, size),
        Operation::ExtractHalf => moves::extract_half(access),
        Operation::InsertSingle => moves::insert_single(access),
        Operation::ExtractField => moves::extract_field(access),
        Operation::InsertField => moves::insert_field(access),
        Operation::LoadControl => moves::load_control(access),
        Operation::StoreControl => moves::store_control(access),
        Operation::Zero(all) => {
            moves::zero(access, all);
            Ok(())
        }
        Operation::EmptyMmx => {
            access.enter_mmx();
            access.cpu.extended().ftw = 0;
            Ok(())
        }
        Operation::String { explicit, index } => strings::execute(access, explicit, index),
        Operation::Gather(size, index_size) => masked::gather(access, size, index_size),
        Operation::MaskedMove(size) => masked::masked_move(access, size),
        Operation::MaskedBytes => masked::masked_bytes(access),
        _ => floating(access, operation),
    }
}

fn floating<C: Operands>(access: &mut Access<'_, C>, operation: Operation) -> Result<(), Trap> {
    match operation {
        Operation::Float(shape, f) => arithmetic::each(access, shape, |env, _, a, b| f(env, a, b)),
        Operation::FloatAlternate(shape, even, odd) => {
            arithmetic::each(
                access,
                shape,
                |env, index, a, b| {
                    if index & 1 == 0 { even(env, a, b) } else { odd(env, a, b) }
                },
            )
        }
        Operation::FloatHorizontal(shape, f) => arithmetic::horizontal(access, shape, f),
        Operation::Compare(shape) => arithmetic::compare(access, shape),
        Operation::CompareFlags(shape, quiet) => arithmetic::compare_flags(access, shape, quiet),
        Operation::Round(shape) => arithmetic::round(access, shape),
        Operation::Dot(shape) => arithmetic::dot(access, shape),
        Operation::Fused(shape, order, negated, addend) => fused::execute(access, shape, order, negated, addend),
        Operation::Convert(what) => convert::execute(access, what),
        Operation::Narrow => convert::narrow(access),
        Operation::FromGeneral(shape) => convert::from_general(access, shape),
        Operation::ToGeneral(shape, truncating) => convert::to_general(access, shape, truncating),
        _ => unreachable!("perform has the others"),
    }
}

/// Shifts by an immediate byte or by the low 64 bits of the second source.
fn shift<C: Operands>(access: &mut Access<'_, C>, f: fn(&vector::Vector, u64) -> vector::Vector) -> Result<(), Trap> {
    let instruction = access.instruction;
    let last = instruction.op_count() - 1;
    if instruction.op_kind(last) == OpKind::Immediate8 {
        // Legacy forms shift the destination.
        let source = access.register(instruction.op_register(last - 1));
        return access.write(&f(&source, access.immediate().into()));
    }
    let (source, count) = access.pair()?;
    access.write(&f(&source, vector::get(&count, 0)))
}

/// The sources of instructions that have three.
fn ternary<C: Operands>(access: &mut Access<'_, C>) -> Result<(vector::Vector, vector::Vector, vector::Vector), Trap> {
    let instruction = access.instruction;
    if !access.vex {
        let (a, b) = access.pair()?;
        return Ok((a, b, access.register(Register::XMM0)));
    }
    let a = access.register(instruction.op1_register());
    let b = access.operand(2)?;
    Ok((a, b, access.register(instruction.op3_register())))
}
