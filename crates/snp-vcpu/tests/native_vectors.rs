//! Every vector instruction, executed by this machine's own processor and by the model: registers, flags, MXCSR and memory
//! must be equal. Instructions that the host lacks are left out; on other hosts than x86-64 there is nothing to compare with.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

mod machine;

use std::collections::BTreeSet;

use iced_x86::code_asm::{CodeAssembler, eax, edx, qword_ptr, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi};
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpCodeOperandKind, OpKind,
    Register,
};
use machine::Machine;
use memmap2::{Mmap, MmapMut};
use snp_vcpu::execute_simd;

/// How often each instruction is executed with other operands.
const ROUNDS: usize = 30;
/// CF, PF, AF, ZF, SF, OF.
const STATUS_FLAGS: u64 = 0x8d5;
/// Where the operand in memory is.
const PLACE: u64 = 256;

/// What the stub loads before the instruction and stores after it.
#[repr(C, align(64))]
struct Frame {
    /// As XSAVE lays it out: x87, SSE, AVX.
    xsave: [u8; 832],
    /// RAX, RCX, RDX, RBX, RSI, RDI.
    general: [u64; 6],
    flags: u64,
    control: u64,
    memory: [u8; 512],
}

const GENERAL: [(Register, usize); 6] = [
    (Register::RAX, 0),
    (Register::RCX, 1),
    (Register::RDX, 2),
    (Register::RBX, 3),
    (Register::RSI, 6),
    (Register::RDI, 7),
];

/// A xorshift generator: the same operands in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

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

/// The stub and the frame.
struct Native {
    code: Mmap,
    frame: Box<Frame>,
}

impl Native {
    fn new() -> Self {
        let code = MmapMut::map_anon(4096).expect("memory").make_exec().expect("executable memory");
        let frame = Frame { xsave: [0; 832], general: [0; 6], flags: 2, control: 0x1f80, memory: [0; 512] };
        Self { code, frame: Box::new(frame) }
    }

    fn memory_address(&self) -> u64 {
        self.frame.memory.as_ptr() as u64
    }

    /// Makes a stub around the instruction.
    fn load(&mut self, instruction: Instruction) -> Result<(), iced_x86::IcedError> {
        let general = std::mem::offset_of!(Frame, general);
        let flags = std::mem::offset_of!(Frame, flags);
        let control = std::mem::offset_of!(Frame, control);
        let registers = [rax, rcx, rdx, rbx, rsi, rdi];
        let mut a = CodeAssembler::new(64)?;
        for register in [rbx, rbp, r12, r13, r14, r15] {
            a.push(register)?;
        }
        a.mov(r15, rdi)?;
        a.mov(eax, 7)?;
        a.mov(edx, 0)?;
        a.xrstor64(iced_x86::code_asm::ptr(r15))?;
        a.push(qword_ptr(r15 + flags))?;
        a.popfq()?;
        for (index, register) in registers.into_iter().enumerate() {
            a.mov(register, qword_ptr(r15 + (general + 8 * index)))?;
        }
        a.add_instruction(instruction)?;
        for (index, register) in registers.into_iter().enumerate() {
            a.mov(qword_ptr(r15 + (general + 8 * index)), register)?;
        }
        a.pushfq()?;
        a.pop(qword_ptr(r15 + flags))?;
        a.mov(eax, 7)?;
        a.mov(edx, 0)?;
        a.xsave64(iced_x86::code_asm::ptr(r15))?;
        a.fninit()?;
        a.ldmxcsr(iced_x86::code_asm::dword_ptr(r15 + control))?;
        a.vzeroupper()?;
        for register in [r15, r14, r13, r12, rbp, rbx] {
            a.pop(register)?;
        }
        a.ret()?;
        let bytes = a.assemble(self.code.as_ptr() as u64)?;
        let mut writable =
            std::mem::replace(&mut self.code, MmapMut::map_anon(1).expect("memory").make_read_only().expect("memory"))
                .make_mut()
                .expect("writable memory");
        writable[..bytes.len()].copy_from_slice(&bytes);
        self.code = writable.make_exec().expect("executable memory");
        Ok(())
    }

    fn run(&mut self) {
        // SAFETY: the mapping holds the stub that `load` assembled. It follows the C calling convention: callee-saved
        // registers are pushed and popped, RSP is balanced, the x87 unit and MXCSR are left as they are on entry. It writes
        // nothing but the frame that is passed; the instruction under test addresses `Frame::memory` only, within bounds
        // (`Case::new`).
        let stub: extern "C" fn(*mut Frame) = unsafe { std::mem::transmute(self.code.as_ptr()) };
        stub(&mut *self.frame);
    }
}

/// The state of the model as the frame has it, and the other way round.
fn machine_of(frame: &Frame, base: u64) -> Machine {
    let mut machine = Machine::new(base, frame.memory.len());
    machine.memory.copy_from_slice(&frame.memory);
    machine.rflags = frame.flags;
    for ((_, number), value) in GENERAL.into_iter().zip(frame.general) {
        machine.gpr[number] = value;
    }
    let word = |at: usize| u16::from_le_bytes([frame.xsave[at], frame.xsave[at + 1]]);
    let extended = &mut machine.extended;
    (extended.fcw, extended.fsw, extended.ftw) = (word(0), word(2), frame.xsave[4]);
    extended.mxcsr = u32::from(word(24)) | u32::from(word(26)) << 16;
    let top = usize::from(extended.fsw >> 11 & 7);
    for index in 0..8 {
        let from = 32 + 16 * index;
        extended.x87[(top + index) & 7].copy_from_slice(&frame.xsave[from..from + 10]);
    }
    for index in 0..16 {
        extended.ymm[index][..16].copy_from_slice(&frame.xsave[160 + 16 * index..176 + 16 * index]);
        extended.ymm[index][16..].copy_from_slice(&frame.xsave[576 + 16 * index..592 + 16 * index]);
    }
    machine
}

fn fill(frame: &mut Frame, base: u64, random: &mut Random) {
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
    for chunk in frame.memory.chunks_exact_mut(8) {
        chunk.copy_from_slice(&quadword(random).to_le_bytes());
    }
    let top = (random.below(8) as u16) << 11;
    frame.xsave[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    frame.xsave[2..4].copy_from_slice(&top.to_le_bytes());
    frame.xsave[4] = random.next() as u8;
    frame.xsave[5..24].fill(0);
    // All exceptions masked; rounding, DAZ, FTZ and some sticky flags at random.
    let modes = random.of(&[0, 0, 0x40, 0x8000, 0x8040]) | (random.below(4) as u32) << 13;
    let mxcsr = 0x1f80 | modes | if random.below(4) == 0 { random.below(64) as u32 } else { 0 };
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
fn case(code: Code, random: &mut Random) -> Instruction {
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
            let aligned = random.below(2) * 32;
            instruction.set_memory_displacement64(aligned);
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
        if (a - b).abs() <= b.abs() * (3.0 / 4096.0) {
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
        for _ in 0..16 {
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
            if let Err(trap) = done {
                return Some(format!("{code:?} {instruction} (round {round}): {trap:?}"));
            }
            native.run();
            let mut host = machine_of(&native.frame, base);
            host.rflags &= STATUS_FLAGS | 2;
            if approximate(instruction.mnemonic()) {
                forgive(&instruction, &host, &mut model);
            }
            if model != host {
                return Some(format!(
                    "{code:?} {instruction} (round {round}):\n{}",
                    differences(&before, &model, &host)
                ));
            }
        }
    }
    None
}

fn differences(before: &Machine, model: &Machine, host: &Machine) -> String {
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

#[test]
fn results_and_flags_are_those_of_the_host() {
    if !std::is_x86_feature_detected!("avx") || !std::is_x86_feature_detected!("xsave") {
        eprintln!("the host has no AVX: nothing to compare with");
        return;
    }
    let features = supported();
    let mut native = Native::new();
    let mut random = Random(0x5eed_0001);
    let (mut compared, mut wrong) = (0, Vec::new());
    let filter = std::env::var("ONLY").ok();
    for code in Code::values() {
        let ours = code.cpuid_features();
        let vector = matches!(code.encoding(), EncodingKind::Legacy | EncodingKind::VEX);
        if !vector || ours.is_empty() || !ours.iter().all(|feature| features.contains(feature)) {
            continue;
        }
        if filter.as_ref().is_some_and(|filter| !format!("{code:?}").contains(filter)) {
            continue;
        }
        if !code.op_code().mode64() || elsewhere(code.mnemonic()) {
            continue;
        }
        compared += 1;
        wrong.extend(compare(code, &mut native, &mut random));
    }
    println!("{compared} forms compared");
    for text in &wrong {
        println!("{text}");
    }
    assert!(wrong.is_empty(), "{} of {compared} differ", wrong.len());
}
