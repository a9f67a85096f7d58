//! Which group of instructions an instruction belongs to.

use iced_x86::{CpuidFeature, Instruction, Mnemonic};

use super::cpu::*;
use super::decoded::{Decoded, Handler};
use crate::{simd, x87, xsave};

/// The handler of an instruction: the one of its group.
pub(crate) fn handler(instruction: &Instruction) -> Handler {
    if instruction.is_invalid() {
        return undefined;
    }
    if is_xsave(instruction.mnemonic()) {
        return extended_areas;
    }
    if simd::is_avx512(instruction) {
        return vector;
    }
    if matches!(instruction.mnemonic(), Mnemonic::Wait | Mnemonic::Fisttp) {
        // Not of a feature of the x87.
        return floating_point;
    }
    let mut handler: Handler = integer;
    for feature in instruction.cpuid_features() {
        handler = match feature {
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 => floating_point,
            CpuidFeature::MMX
            | CpuidFeature::SSE
            | CpuidFeature::SSE2
            | CpuidFeature::SSE3
            | CpuidFeature::SSSE3
            | CpuidFeature::SSE4_1
            | CpuidFeature::SSE4_2
            | CpuidFeature::SSE4A
            | CpuidFeature::AVX
            | CpuidFeature::AVX2
            | CpuidFeature::FMA
            | CpuidFeature::F16C
            | CpuidFeature::AES
            | CpuidFeature::PCLMULQDQ
            | CpuidFeature::VAES
            | CpuidFeature::VPCLMULQDQ
            | CpuidFeature::SHA
            | CpuidFeature::GFNI => vector,
            _ => continue,
        };
    }
    handler
}

fn is_xsave(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Xsave
            | Mnemonic::Xsave64
            | Mnemonic::Xsaveopt
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xsavec
            | Mnemonic::Xsavec64
            | Mnemonic::Xsaves
            | Mnemonic::Xsaves64
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
            | Mnemonic::Xrstors
            | Mnemonic::Xrstors64
            | Mnemonic::Fxsave
            | Mnemonic::Fxsave64
            | Mnemonic::Fxrstor
            | Mnemonic::Fxrstor64
    )
}

/// General-purpose and system instructions.
pub(crate) fn integer(cpu: &mut Cpu<'_>, decoded: &Decoded) -> Done {
    let i = &decoded.instruction;
    let known = cpu.data(i)?
        || cpu.arithmetic(i)?
        || cpu.control(i)?
        || cpu.strings(i)?
        || cpu.system(i)?
        || cpu.descriptors(i)?
        || cpu.ports(i)?
        || cpu.secure_nested_paging(i)?;
    if known { Ok(()) } else { Err(unmodelled(i)) }
}

/// Some instructions of the general kind need SSE all the same: MOVNTI, fences, PAUSE, prefetches, CRC32, POPCNT.
fn vector(cpu: &mut Cpu<'_>, decoded: &Decoded) -> Done {
    let i = &decoded.instruction;
    if simd::execute(i, cpu)? { Ok(()) } else { integer(cpu, decoded) }
}

fn floating_point(cpu: &mut Cpu<'_>, decoded: &Decoded) -> Done {
    let i = &decoded.instruction;
    if x87::execute(i, cpu)? { Ok(()) } else { vector(cpu, decoded) }
}

fn extended_areas(cpu: &mut Cpu<'_>, decoded: &Decoded) -> Done {
    let i = &decoded.instruction;
    let keys = cpu.state.extended.pkru;
    if !xsave::execute(i, cpu)? {
        return Err(unmodelled(i));
    }
    if cpu.state.extended.pkru != keys {
        cpu.flush_tlb();
    }
    Ok(())
}

/// No instruction.
fn undefined(_cpu: &mut Cpu<'_>, decoded: &Decoded) -> Done {
    debug_assert!(decoded.instruction.is_invalid());
    Err(ud())
}
