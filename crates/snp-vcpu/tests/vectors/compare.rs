//! Every vector instruction, executed by this machine's own processor and by the model: registers, flags, MXCSR and memory
//! must be equal. Instructions that the host lacks are left out.

use std::collections::BTreeSet;

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpCodeOperandKind, OpKind,
    Register,
};
use libc::{SIGFPE, SIGILL, SIGSEGV};
use snp_vcpu::{Exception, Trap, execute_simd};

use crate::host::{Frame, Native, PLACE, Random, STATUS_FLAGS, machine_of};
use crate::machine::Machine;

/// How often each instruction is executed with other operands.
const ROUNDS: usize = 25;

const SINGLES: [u32; 30] = [
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007f_ffff,
    0x807f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x0080_0001,
    0x3f80_0000,
    0xbf80_0000,
    0x3f80_0001,
    0x3f7f_ffff,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_0000,
    0x7f80_0001,
    0xff80_0001,
    0x7fbf_ffff,
    0xffff_ffff,
    0x3f00_0000,
    0x4f00_0000,
    0xcf00_0000,
    0x4eff_ffff,
    0x5f00_0000,
    0x3fc0_0000,
    0x4020_0000,
];

const DOUBLES: [u64; 32] = [
    0,
    1 << 63,
    1,
    1 << 63 | 1,
    0xf_ffff_ffff_ffff,
    0x800f_ffff_ffff_ffff,
    0x10_0000_0000_0000,
    0x8010_0000_0000_0000,
    0x10_0000_0000_0001,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x3ff0_0000_0000_0001,
    0x3fef_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff,
    0xffef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0xfff0_0000_0000_0001,
    0x7ff7_ffff_ffff_ffff,
    !0,
    0x3fe0_0000_0000_0000,
    0x41e0_0000_0000_0000,
    0xc1e0_0000_0000_0000,
    0x41df_ffff_ffc0_0000,
    0xc3e0_0000_0000_0000,
    0x43e0_0000_0000_0000,
    0x3810_0000_0000_0000,
    0x380f_ffff_ffff_ffff,
    0x47ef_ffff_f000_0000,
];

/// A quadword that makes trouble.
fn quadword(random: &mut Random) -> u64 {
    let single = |random: &mut Random| match random.below(4) {
        0 => random.next() as u32,
        // Close to another in size.
        1 => 0x3f00_0000 + (random.next() as u32 & 0x80ff_ffff),
        _ => random.of(&SINGLES),
    };
    match random.below(8) {
        0 => random.next(),
        1 => random.of(&DOUBLES),
        2 => random.of(&DOUBLES).wrapping_add(random.below(5)).wrapping_sub(2),
        3 => 0x3fe0_0000_0000_0000 + (random.next() & 0x803f_ffff_ffff_ffff),
        // Short strings of few letters.
        4 => random.next() & 0x0303_0303_0303_0303,
        5 => random.of(&DOUBLES) ^ (random.below(2) << 63) ^ random.below(1 << 30),
        _ => u64::from(single(random)) << 32 | u64::from(single(random)),
    }
}

pub(crate) fn fill(frame: &mut Frame, base: u64, random: &mut Random) {
    for chunk in frame.xsave[160..416].chunks_exact_mut(8) {
        chunk.copy_from_slice(&quadword(random).to_le_bytes());
    }
    for chunk in frame.xsave[576..832].chunks_exact_mut(8) {
        chunk.copy_from_slice(&quadword(random).to_le_bytes());
    }
    for chunk in frame.xsave[32..160].chunks_exact_mut(16) {
        chunk[..8].copy_from_slice(&quadword(random).to_le_bytes());
        chunk[8..10].copy_from_slice(&(random.next() as u16).to_le_bytes());
        chunk[10..].fill(0);
    }
    for chunk in frame.memory[..512].chunks_exact_mut(8) {
        chunk.copy_from_slice(&quadword(random).to_le_bytes());
    }
    let top = (random.below(8) as u16) << 11;
    frame.xsave[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    frame.xsave[2..4].copy_from_slice(&top.to_le_bytes());
    frame.xsave[4] = random.next() as u8;
    frame.xsave[5..24].fill(0);
    // Most often with all exceptions masked; rounding, DAZ, FTZ and some sticky flags at random.
    let modes = random.of(&[0, 0, 0x40, 0x8000, 0x8040]) | (random.below(4) as u32) << 13;
    let masks = if random.below(4) == 0 { random.next() as u32 & 0x1f80 } else { 0x1f80 };
    // AMD's mode that lets operands be misaligned.
    let misaligned = if random.below(8) == 0 && amd() { 1 << 17 } else { 0 };
    let mxcsr = misaligned | masks | modes | if random.below(4) == 0 { random.below(64) as u32 } else { 0 };
    frame.xsave[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    frame.xsave[512..576].fill(0);
    frame.xsave[512] = 7;
    for value in &mut frame.general {
        *value = match random.below(4) {
            0 => random.below(40).wrapping_sub(20),
            _ => quadword(random),
        };
    }
    frame.general[4] = base + PLACE;
    frame.general[5] = base + PLACE;
    frame.flags = 2 | random.next() & STATUS_FLAGS;
}

/// The host is of the family of processors that is modelled.
fn amd() -> bool {
    std::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Auth")
}

fn supported() -> BTreeSet<CpuidFeature> {
    let mut features = BTreeSet::from([CpuidFeature::MMX, CpuidFeature::SSE, CpuidFeature::SSE2]);
    macro_rules! detect {
        ($($name:tt $feature:ident),*) => {$(
            if std::is_x86_feature_detected!($name) {
                features.insert(CpuidFeature::$feature);
            }
        )*};
    }
    detect!(
        "sse3" SSE3, "ssse3" SSSE3, "sse4.1" SSE4_1, "sse4.2" SSE4_2, "sse4a" SSE4A, "avx" AVX, "avx2" AVX2, "fma" FMA,
        "f16c" F16C, "aes" AES, "pclmulqdq" PCLMULQDQ, "sha" SHA, "vaes" VAES, "vpclmulqdq" VPCLMULQDQ
    );
    features
}

/// A form of an instruction with operands at random, as the decoder gives it back.
pub(crate) fn case(code: Code, random: &mut Random) -> Instruction {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let op_code = code.op_code();
    let vector = |random: &mut Random, first: Register| first + random.below(16) as u32;
    let in_memory = random.below(2) == 0;
    for operand in 0..op_code.op_count() {
        use OpCodeOperandKind as Kind;
        let kind = op_code.op_kind(operand);
        let memory = match kind {
            Kind::mem | Kind::mem_vsib32x | Kind::mem_vsib64x | Kind::mem_vsib32y | Kind::mem_vsib64y => true,
            Kind::xmm_or_mem | Kind::ymm_or_mem | Kind::mm_or_mem | Kind::r32_or_mem | Kind::r64_or_mem => in_memory,
            Kind::r16_or_mem | Kind::r8_or_mem => true,
            _ => false,
        };
        if memory {
            instruction.set_op_kind(operand, OpKind::Memory);
            instruction.set_memory_base(Register::RSI);
            let place = if random.below(8) == 0 { random.below(64) } else { random.below(2) * 32 };
            instruction.set_memory_displacement64(place);
            instruction.set_memory_displ_size(1);
            instruction.set_memory_index(match kind {
                Kind::mem_vsib32x | Kind::mem_vsib64x => Register::XMM7,
                Kind::mem_vsib32y | Kind::mem_vsib64y => Register::YMM7,
                _ => Register::None,
            });
            continue;
        }
        let register = match kind {
            Kind::imm8 if operand > 0 && instruction.op_kind(operand - 1) == OpKind::Immediate8 => {
                instruction.set_op_kind(operand, OpKind::Immediate8_2nd);
                instruction.set_immediate8_2nd(random.next() as u8);
                continue;
            }
            Kind::imm8 => {
                instruction.set_op_kind(operand, OpKind::Immediate8);
                instruction.set_immediate8(random.next() as u8);
                continue;
            }
            Kind::seg_rDI => {
                instruction.set_op_kind(operand, OpKind::MemorySegRDI);
                continue;
            }
            Kind::xmm_reg | Kind::xmm_rm | Kind::xmm_vvvv | Kind::xmm_is4 | Kind::xmm_or_mem => {
                vector(random, Register::XMM0)
            }
            Kind::ymm_reg | Kind::ymm_rm | Kind::ymm_vvvv | Kind::ymm_is4 | Kind::ymm_or_mem => {
                vector(random, Register::YMM0)
            }
            Kind::mm_reg | Kind::mm_rm | Kind::mm_or_mem => Register::MM0 + random.below(8) as u32,
            Kind::r32_reg | Kind::r32_rm | Kind::r32_or_mem => {
                random.of(&[Register::EAX, Register::ECX, Register::EBX])
            }
            Kind::r64_reg | Kind::r64_rm | Kind::r64_or_mem => {
                random.of(&[Register::RAX, Register::RCX, Register::RBX])
            }
            _ => panic!("{code:?}: an operand of kind {kind:?}"),
        };
        instruction.set_op_register(operand, register);
    }
    let mut encoder = iced_x86::Encoder::new(64);
    encoder.encode(&instruction, 0).unwrap_or_else(|error| panic!("{code:?}: {error}"));
    let bytes = encoder.take_buffer();
    let decoded = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE).decode();
    if decoded.is_invalid() {
        // A gather whose registers must differ and do not.
        return case(code, random);
    }
    assert_eq!(decoded.mnemonic(), code.mnemonic());
    decoded
}

/// Instructions of SSE that have nothing to do with vectors.
fn elsewhere(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Crc32, Lfence, Mfence, Movnti, Prefetchnta, Prefetcht0, Prefetcht1, Prefetcht2, Sfence};
    let others = [Crc32, Lfence, Mfence, Movnti, Prefetchnta, Prefetcht0, Prefetcht1, Prefetcht2, Sfence];
    others.contains(&mnemonic)
}

fn approximate(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Rcpps, Rcpss, Rsqrtps, Rsqrtss, Vrcpps, Vrcpss, Vrsqrtps, Vrsqrtss};
    matches!(mnemonic, Rcpps | Rcpss | Rsqrtps | Rsqrtss | Vrcpps | Vrcpss | Vrsqrtps | Vrsqrtss)
}

/// Makes results of approximations that are close enough equal.
fn forgive(instruction: &Instruction, native: &Machine, model: &mut Machine) {
    let number = instruction.op0_register().number();
    for (mine, theirs) in
        model.extended.ymm[number].chunks_exact_mut(4).zip(native.extended.ymm[number].chunks_exact(4))
    {
        let (a, b) = (f32::from_le_bytes((&*mine).try_into().unwrap()), f32::from_le_bytes(theirs.try_into().unwrap()));
        // The smallest normal number and zero are neighbours here.
        if (a - b).abs() <= b.abs() * (3.0 / 4096.0) + f32::MIN_POSITIVE {
            mine.copy_from_slice(theirs);
        }
    }
}

/// Those that were compared, and what differs.
fn compare(code: Code, native: &mut Native, random: &mut Random) -> Option<String> {
    let base = native.memory_address();
    for round in 0..ROUNDS {
        let instruction = case(code, random);
        // Making code writable and executable again is slow: a form is used several times.
        native.load(instruction).unwrap_or_else(|error| panic!("{code:?}: {error}"));
        for _ in 0..40 {
            fill(&mut native.frame, base, random);
            if instruction.memory_index().is_vector_register() {
                for (at, size) in [(160 + 16 * 7, 16), (576 + 16 * 7, 16)] {
                    let index = if matches!(
                        code.op_code().op_kind(1),
                        OpCodeOperandKind::mem_vsib32x | OpCodeOperandKind::mem_vsib32y
                    ) {
                        4
                    } else {
                        8
                    };
                    for lane in native.frame.xsave[at..at + size].chunks_exact_mut(index) {
                        let value = random.below(200) as i64 - 100;
                        lane.copy_from_slice(&value.to_le_bytes()[..index]);
                    }
                }
            }
            if matches!(instruction.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr) {
                for word in native.frame.memory.chunks_exact_mut(4) {
                    word.copy_from_slice(&(random.next() as u32 & 0xffff | 0x1f80).to_le_bytes());
                }
            }
            let before = machine_of(&native.frame, base);
            let mut model = before.clone();
            let done = execute_simd(&instruction, &mut model);
            if done == Ok(false) {
                return Some(format!("{code:?}: not there"));
            }
            let signal = match &done {
                Ok(_) => 0,
                Err(Trap::Exception(Exception::SIMD)) => SIGFPE,
                Err(Trap::Exception(Exception::UNDEFINED)) => SIGILL,
                Err(_) => SIGSEGV,
            };
            let happened = native.run();
            let mut host = machine_of(&native.frame, base);
            host.rflags &= STATUS_FLAGS | 2;
            if approximate(instruction.mnemonic()) {
                forgive(&instruction, &host, &mut model);
            }
            if model != host || signal != happened {
                return Some(format!(
                    "{code:?} {instruction} (round {round}): {done:?}, signal {happened}\n{}",
                    differences(&before, &model, &host)
                ));
            }
        }
    }
    None
}

pub(crate) fn differences(before: &Machine, model: &Machine, host: &Machine) -> String {
    let mut text = String::new();
    let mut line = |name: String, before: String, model: String, host: String| {
        if model != host {
            text += &format!("  {name}: {before}\n    model {model}\n    host  {host}\n");
        }
    };
    let hex = |bytes: &[u8]| {
        bytes
            .chunks(8)
            .rev()
            .map(|chunk| chunk.iter().rev().map(|b| format!("{b:02x}")).collect::<String>())
            .collect::<Vec<_>>()
            .join(" ")
    };
    for index in 0..16 {
        line(
            format!("ymm{index}"),
            hex(&before.extended.ymm[index]),
            hex(&model.extended.ymm[index]),
            hex(&host.extended.ymm[index]),
        );
        line(
            format!("gpr{index}"),
            format!("{:x}", before.gpr[index]),
            format!("{:x}", model.gpr[index]),
            format!("{:x}", host.gpr[index]),
        );
    }
    for index in 0..8 {
        line(
            format!("x87 {index}"),
            hex(&before.extended.x87[index]),
            hex(&model.extended.x87[index]),
            hex(&host.extended.x87[index]),
        );
    }
    let word = |value: u64| format!("{value:04x}");
    let of = |machine: &Machine| {
        [machine.rflags, machine.extended.mxcsr.into(), machine.extended.fsw.into(), machine.extended.ftw.into()]
    };
    for (index, name) in ["rflags", "mxcsr", "fsw", "ftw"].into_iter().enumerate() {
        line(name.into(), word(of(before)[index]), word(of(model)[index]), word(of(host)[index]));
    }
    line("memory".into(), hex(&before.memory[256..352]), hex(&model.memory[256..352]), hex(&host.memory[256..352]));
    // The operands, when a result differs.
    for index in 0..16 {
        text += &format!("  before ymm{index}: {}\n", hex(&before.extended.ymm[index]));
    }
    text += &format!("  before memory: {}\n", hex(&before.memory[256..352]));
    text += &format!("  before mxcsr: {:x}\n", before.extended.mxcsr);
    text
}

/// The forms that the host has.
pub(crate) fn forms() -> Vec<Code> {
    let features = supported();
    let ours = |code: &Code| {
        let vector = matches!(code.encoding(), EncodingKind::Legacy | EncodingKind::VEX);
        let needs = code.cpuid_features();
        vector
            && !needs.is_empty()
            && needs.iter().all(|feature| features.contains(feature))
            && code.op_code().mode64()
            && !elsewhere(code.mnemonic())
    };
    Code::values().filter(ours).collect()
}

#[test]
fn results_and_flags_are_those_of_the_host() {
    if !std::is_x86_feature_detected!("avx") || !std::is_x86_feature_detected!("xsave") {
        eprintln!("the host has no AVX: nothing to compare with");
        return;
    }
    let mut native = Native::new();
    let mut random = Random(0x5eed_0001);
    let forms = forms();
    let wrong: Vec<String> = forms.iter().filter_map(|code| compare(*code, &mut native, &mut random)).collect();
    println!("{} forms compared", forms.len());
    for text in &wrong {
        println!("{text}");
    }
    assert!(wrong.is_empty(), "{} of {} differ", wrong.len(), forms.len());
}
