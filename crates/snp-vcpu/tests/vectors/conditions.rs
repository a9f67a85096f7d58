//! When vector instructions may not be executed, and what faults leave behind.

use iced_x86::code_asm::{
    CodeAssembler, dword_ptr, eax, k1, k2, k3, mm0, mm1, ptr, qword_ptr, rsi, xmm0, xmm1, xmm2, xmm3, xmmword_ptr,
    ymm0, ymm1, ymm2, ymmword_ptr, zmm0, zmm1, zmm2,
};
use iced_x86::{Code, Decoder, DecoderOptions, IcedError, Instruction, MemoryOperand, Mnemonic, Register};
use snp_vcpu::{Exception, Trap, execute_simd, execute_xsave};

use crate::areas::instruction;
use crate::compare::{case, forms};
use crate::host::Random;
use crate::machine::{CR0, CR4, Machine};

const BASE: u64 = 0x1_0000;
const MEMORY: usize = 0x1000;
const CR0_PE: u64 = 1 << 0;
const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const OSFXSR: u64 = 1 << 9;
const OSXMMEXCPT: u64 = 1 << 10;
const OSXSAVE: u64 = 1 << 18;
const PENDING: u16 = 1 << 7;

fn one(assemble: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Instruction {
    let mut assembler = CodeAssembler::new(64).expect("64-bit code");
    assemble(&mut assembler).expect("an instruction");
    assembler.instructions()[0]
}

/// RSI and RDI point to the memory.
fn machine() -> Machine {
    let mut machine = Machine::new(BASE, MEMORY);
    (machine.gpr[6], machine.gpr[7]) = (BASE, BASE);
    machine
}

fn exception(instruction: &Instruction, machine: &mut Machine) -> Option<Exception> {
    match execute_simd(instruction, machine) {
        Ok(true) => None,
        Err(Trap::Exception(exception)) => Some(exception),
        other => panic!("{instruction}: {other:?}"),
    }
}

/// AMD 26568, the exception tables of ADDPS and VADDPS; AMD 26569, of PADDB and EMMS.
#[test]
fn control_registers_decide() {
    let legacy = [
        one(|a| a.addps(xmm0, xmm1)),
        one(|a| a.stmxcsr(dword_ptr(rsi))),
        one(|a| a.aesenc(xmm0, xmm1)),
        one(|a| a.cvtpi2ps(xmm0, mm1)),
    ];
    let vex = [one(|a| a.vaddps(xmm0, xmm1, xmm2)), one(|a| a.vzeroupper()), one(|a| a.vpand(ymm0, ymm1, ymm2))];
    let mmx = [one(|a| a.paddb(mm0, mm1)), one(|a| a.emms()), one(|a| a.pshufw(mm0, mm1, 0))];
    let (none, undefined, no_device) = (None, Some(Exception::UNDEFINED), Some(Exception::NO_DEVICE));
    // CR0, CR4, XCR0, RFLAGS; legacy, VEX, MMX.
    let table = [
        (CR0, CR4, 7, 2, none, none, none),
        (CR0 | CR0_TS, CR4, 7, 2, no_device, no_device, no_device),
        (CR0 | CR0_EM, CR4, 7, 2, undefined, none, undefined),
        (CR0 | CR0_EM | CR0_TS, CR4, 7, 2, undefined, no_device, undefined),
        (CR0, CR4 & !OSFXSR, 7, 2, undefined, none, none),
        (CR0, CR4 & !OSXSAVE, 7, 2, none, undefined, none),
        (CR0 | CR0_TS, CR4 & !OSXSAVE, 7, 2, no_device, undefined, no_device),
        (CR0, CR4, 3, 2, none, undefined, none),
        (CR0, CR4, 5, 2, none, undefined, none),
        (CR0 & !CR0_PE, CR4, 7, 2, none, undefined, none),
        (CR0, CR4, 7, 1 << 17 | 2, none, undefined, none),
    ];
    for (cr0, cr4, xcr0, rflags, for_legacy, for_vex, for_mmx) in table {
        for (group, expected) in [(&legacy[..], for_legacy), (&vex, for_vex), (&mmx, for_mmx)] {
            for instruction in group {
                let mut machine = Machine { cr0, cr4, rflags, ..machine() };
                machine.extended.xcr0 = xcr0;
                let found = exception(instruction, &mut machine);
                assert_eq!(found, expected, "{instruction}: {cr0:#x} {cr4:#x} {xcr0} {rflags:#x}");
            }
        }
    }
}

/// AVX-512 is undefined until XCR0 has it; then it is not this room's.
#[test]
fn evex_is_undefined_until_enabled() {
    let evex = one(|a| a.vaddps(zmm0, zmm1, zmm2));
    let code = Code::EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32;
    let shared = Instruction::with3(code, Register::XMM16, Register::XMM1, Register::XMM2).expect("an instruction");
    let masks = one(|a| a.kandw(k1, k2, k3));
    for instruction in [evex, shared, masks] {
        let mut machine = machine();
        assert_eq!(execute_simd(&instruction, &mut machine), Err(Exception::UNDEFINED.into()));
        machine.extended.xcr0 = 0xe7;
        assert_eq!(execute_simd(&instruction, &mut machine), Ok(false));
    }
}

#[test]
fn pending_x87_exceptions_come_before_mmx() {
    let with_registers = [one(|a| a.paddb(mm0, mm1)), one(|a| a.emms()), one(|a| a.movq2dq(xmm0, mm1))];
    let without = [one(|a| a.cvtpi2pd(xmm0, qword_ptr(rsi))), one(|a| a.addps(xmm0, xmm1))];
    for (instructions, expected) in [(&with_registers[..], Some(Exception::X87)), (&without[..], None)] {
        for instruction in instructions {
            let mut machine = machine();
            machine.extended.fsw = PENDING | 1;
            assert_eq!(exception(instruction, &mut machine), expected, "{instruction}");
        }
    }
}

/// Whatever faults while its operand is read or written has changed nothing; gathers are an exception.
#[test]
fn page_faults_change_nothing() {
    let mut random = Random(7);
    let mut tried = 0;
    for code in forms() {
        for _ in 0..8 {
            let instruction = case(code, &mut random);
            if instruction.memory_index() != Register::None {
                continue;
            }
            let mut machine = machine();
            for byte in machine.extended.ymm.as_flattened_mut() {
                *byte = random.next() as u8;
            }
            machine.extended.mxcsr |= 1 << 17;
            machine.gpr[6] = 0xffff_0000;
            machine.gpr[7] = 0xffff_0000;
            let before = machine.clone();
            let Err(trap) = execute_simd(&instruction, &mut machine) else { continue };
            let Trap::Exception(exception) = trap else { panic!("{instruction}: {trap:?}") };
            // MASKMOVQ enters MMX mode also if it faults.
            if exception != Exception::SIMD && instruction.mnemonic() != iced_x86::Mnemonic::Maskmovq {
                assert!(matches!(exception.vector, 13 | 14), "{instruction}: {exception:?}");
                if instruction.mnemonic() == Mnemonic::Maskmovq {
                    // It has begun: the x87 registers are MMX registers.
                    machine.extended.ftw = before.extended.ftw;
                }
                assert_eq!(machine, before, "{instruction}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

/// MXCSR.MM is AMD's: operands need not be aligned, those of aligned moves excepted.
#[test]
fn misaligned_operands() {
    let (add, aligned_move, unaligned_move) =
        (one(|a| a.addps(xmm0, ptr(rsi))), one(|a| a.movaps(xmm0, ptr(rsi))), one(|a| a.movups(xmm0, ptr(rsi))));
    let fault = Some(Exception::general_protection(0));
    for (mxcsr, instruction, expected) in [
        (0x1f80, add, fault),
        (0x2_1f80, add, None),
        (0x1f80, aligned_move, fault),
        (0x2_1f80, aligned_move, fault),
        (0x1f80, unaligned_move, None),
        (0x1f80, one(|a| a.vaddps(xmm0, xmm1, xmmword_ptr(rsi))), None),
        (0x1f80, one(|a| a.vmovaps(xmm0, xmmword_ptr(rsi))), fault),
        (0x1f80, one(|a| a.vmovntdq(ymmword_ptr(rsi), ymm1)), fault),
        (0x1f80, one(|a| a.pcmpistri(xmm0, ptr(rsi), 0)), None),
    ] {
        let mut machine = machine();
        machine.gpr[6] = BASE + 1;
        machine.extended.mxcsr = mxcsr;
        assert_eq!(exception(&instruction, &mut machine), expected, "{instruction} {mxcsr:#x}");
    }
}

/// #XF needs CR4.OSXMMEXCPT; without it, it is #UD. The flags say why, the destination is as it was.
#[test]
fn unmasked_exceptions() {
    let divide = one(|a| a.divps(xmm0, xmm1));
    for (cr4, expected) in [(CR4, Exception::SIMD), (CR4 & !OSXMMEXCPT, Exception::UNDEFINED)] {
        let mut machine = Machine { cr4, ..machine() };
        machine.extended.ymm[0][..4].copy_from_slice(&1_f32.to_le_bytes());
        machine.extended.mxcsr = 0x1f80 & !(1 << 9);
        let before = machine.clone();
        assert_eq!(exception(&divide, &mut machine), Some(expected));
        // The other three elements are 0 / 0, which is found as well.
        assert_eq!(machine.extended.mxcsr, before.extended.mxcsr | 5);
        machine.extended.mxcsr = before.extended.mxcsr;
        assert_eq!(machine, before);
    }
}

#[test]
fn reserved_bits_of_mxcsr() {
    let load = one(|a| a.ldmxcsr(dword_ptr(rsi)));
    for (value, expected) in [
        (0x2_ffff_u32, None),
        (1 << 16, Some(Exception::general_protection(0))),
        (1 << 18, Some(Exception::general_protection(0))),
    ] {
        let mut machine = machine();
        machine.memory[..4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(exception(&load, &mut machine), expected, "{value:#x}");
    }
}

/// A gather that faults keeps what it has, and its mask says what is missing.
#[test]
fn gathers_go_on_after_a_fault() {
    let place = MemoryOperand::with_base_index_scale(Register::RSI, Register::XMM2, 4);
    let code = Code::VEX_Vpgatherdd_xmm_vm32x_xmm;
    let gather = Instruction::with3(code, Register::XMM1, place, Register::XMM3).expect("a gather");
    let mut machine = machine();
    machine.memory[..4].copy_from_slice(&0x1111_1111_u32.to_le_bytes());
    machine.memory[8..12].copy_from_slice(&0x2222_2222_u32.to_le_bytes());
    // Elements 0 and 1 are there, element 2 is beyond the memory.
    for (index, value) in [0_u32, 2, MEMORY as u32, 0].into_iter().enumerate() {
        machine.extended.ymm[2][4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    }
    machine.extended.ymm[3] = [0xff; 32];
    machine.extended.ymm[1] = [0xee; 32];
    let fault = exception(&gather, &mut machine).expect("a fault");
    assert_eq!((fault.vector, fault.address), (14, Some(BASE + 4 * MEMORY as u64)));
    assert_eq!(machine.extended.ymm[1][..12], *b"\x11\x11\x11\x11\x22\x22\x22\x22\xee\xee\xee\xee");
    assert_eq!(machine.extended.ymm[3][..16], *b"\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    // With the index repaired, it does the rest.
    machine.extended.ymm[2][8..12].fill(0);
    assert_eq!(exception(&gather, &mut machine), None);
    let expected = *b"\x11\x11\x11\x11\x22\x22\x22\x22\x11\x11\x11\x11\x11\x11\x11\x11";
    assert_eq!((&machine.extended.ymm[1][..16], &machine.extended.ymm[1][16..]), (&expected[..], &[0; 16][..]));
    assert_eq!(machine.extended.ymm[3], [0; 32]);
}

/// Elements that are masked out do not fault. (Bytes of MASKMOVDQU do: `cargo xtask differential`.)
#[test]
fn masked_moves_touch_what_is_wanted() {
    let load = one(|a| a.vmaskmovps(ymm1, ymm2, ymmword_ptr(rsi)));
    let store = one(|a| a.vpmaskmovq(ymmword_ptr(rsi), ymm2, ymm1));
    for (instruction, wanted) in [(load, 8), (store, 8)] {
        for (mask, faults) in [(wanted, false), (wanted + 8, true)] {
            let mut machine = machine();
            // Eight bytes before the end.
            machine.gpr[6] = BASE + MEMORY as u64 - 8;
            machine.gpr[7] = machine.gpr[6];
            machine.extended.ymm[2][..mask].fill(0x80);
            assert_eq!(exception(&instruction, &mut machine).is_some(), faults, "{instruction}");
        }
    }
}

#[test]
fn upper_halves() {
    for (instruction, upper) in [
        (one(|a| a.addps(xmm1, xmm2)), 0xee),
        (one(|a| a.movss(xmm1, dword_ptr(rsi))), 0xee),
        (one(|a| a.vaddps(xmm1, xmm2, xmm3)), 0),
        (one(|a| a.vmovd(xmm1, eax)), 0),
        (one(|a| a.vzeroupper()), 0),
    ] {
        let mut machine = machine();
        machine.extended.ymm[1] = [0xee; 32];
        assert_eq!(exception(&instruction, &mut machine), None);
        assert_eq!(machine.extended.ymm[1][16..], [upper; 16], "{instruction}");
    }
}

/// PKRU at 980h in the standard format, packed behind AVX in the compacted one.
#[test]
fn places_of_components() {
    for (code, place) in [(Code::Xsave64_mem, 0x980), (Code::Xsavec64_mem, 0x340)] {
        let mut machine = machine();
        machine.extended.xcr0 = 0x207;
        machine.extended.pkru = 0x5555_5554;
        machine.extended.ymm[3] = [7; 32];
        (machine.gpr[0], machine.gpr[2]) = (!0 >> 32, 0);
        assert_eq!(execute_xsave(&instruction(code), &mut machine), Ok(true));
        assert_eq!(machine.memory[place..place + 8], 0x5555_5554_u64.to_le_bytes());
        assert_eq!(machine.memory[576 + 48..576 + 64], [7; 16]);
        assert_eq!(machine.memory[512..520], 0x206_u64.to_le_bytes());

        let mut other = Machine { extended: snp_vcpu::Extended::default(), ..machine.clone() };
        other.extended.xcr0 = 0x207;
        assert_eq!(execute_xsave(&instruction(Code::Xrstor64_mem), &mut other), Ok(true));
        assert_eq!(other, machine);
    }
}

#[test]
fn xsave_may_be_refused() {
    let (xsave, xrstor) = (instruction(Code::Xsave_mem), instruction(Code::Xrstor_mem));
    let (xsaves, xrstors) = (instruction(Code::Xsaves_mem), instruction(Code::Xrstors_mem));
    let (fxsave, fxrstor) = (instruction(Code::Fxsave_m512byte), instruction(Code::Fxrstor_m512byte));
    let refused = Exception::general_protection(0);
    let (undefined, no_device) = (Exception::UNDEFINED, Exception::NO_DEVICE);
    type Change = fn(&mut Machine);
    let cases: [(&[Instruction], Change, Exception); 16] = [
        (&[xsave, xrstor, xsaves, xrstors], |m| m.cr4 &= !OSXSAVE, undefined),
        (&[xsave, xrstor, xsaves, xrstors], |m| m.cr0 |= CR0_TS, no_device),
        (&[fxsave, fxrstor], |m| m.cr0 |= CR0_TS, no_device),
        (&[fxsave, fxrstor], |m| m.cr0 |= CR0_EM, no_device),
        (&[xsaves, xrstors], |m| m.cpl = 3, refused),
        (&[xsave, xrstor, xsaves, xrstors], |m| m.gpr[6] += 16, refused),
        (&[fxsave, fxrstor], |m| m.gpr[6] += 8, refused),
        // MXCSR.
        (&[xrstor, fxrstor], |m| m.memory[26] = 1, refused),
        // The header: a component that is not enabled; of the compacted format without its bit; reserved bytes.
        (&[xrstor], |m| m.memory[512] = 0x10, refused),
        (&[xrstor], |m| m.memory[520] = 1, refused),
        (&[xrstor], |m| m.memory[528] = 1, refused),
        (&[xrstors], |_| (), refused),
        (&[xrstor, xrstors], |m| (m.memory[527], m.memory[521]) = (0x80, 0x10), refused),
        (&[xrstor, xrstors], |m| (m.memory[527], m.memory[512]) = (0x80, 1), refused),
        (&[xrstor, xrstors], |m| (m.memory[527], m.memory[575]) = (0x80, 1), refused),
        (&[xrstor, xsave], |m| m.gpr[6] = 0xffff_0000, Exception::page_fault(4, 0xffff_0200)),
    ];
    for (number, (instructions, change, expected)) in cases.into_iter().enumerate() {
        for instruction in instructions {
            let mut machine = Machine { cpl: 0, ..machine() };
            machine.gpr[0] = 7;
            change(&mut machine);
            let before = machine.clone();
            let found = execute_xsave(instruction, &mut machine);
            let Err(Trap::Exception(found)) = found else { panic!("{number}: {instruction}: {found:?}") };
            assert_eq!(found.vector, expected.vector, "{number}: {instruction}");
            assert_eq!(found.error.is_some(), expected.error.is_some());
            assert_eq!(machine, before, "{number}: {instruction}");
        }
    }
}

/// State that the model does not have is not dropped in silence.
#[test]
fn restoring_what_is_not_modelled_is_said() {
    let mut machine = machine();
    machine.extended.xcr0 = 0xe7;
    machine.gpr[0] = 0xe7;
    machine.memory[512] = 0x20;
    let before = machine.clone();
    let found = execute_xsave(&instruction(Code::Xrstor_mem), &mut machine);
    assert!(matches!(&found, Err(Trap::Unmodelled(what)) if what.contains("0x20")), "{found:?}");
    assert_eq!(machine, before);
    // Saving it is: it is in its initial state.
    assert_eq!(execute_xsave(&instruction(Code::Xsave_mem), &mut machine), Ok(true));
    assert_eq!(machine.memory[512], 0);
}

/// FXSAVE without OSFXSR leaves SSE alone; with EFER.FFXSR, at CPL 0, the XMM registers.
#[test]
fn fast_fxsave() {
    const FFXSR: u64 = 1 << 14;
    for (cr4, efer, cpl, mxcsr, xmm) in [
        (CR4, 0xd01, 0, true, true),
        (CR4, 0xd01 | FFXSR, 0, true, false),
        (CR4, 0xd01 | FFXSR, 3, true, true),
        (CR4 & !OSFXSR, 0xd01, 0, false, false),
    ] {
        let mut machine = Machine { cr4, efer, cpl, ..machine() };
        machine.memory.fill(0xaa);
        machine.extended.ymm[15] = [5; 32];
        assert_eq!(execute_xsave(&instruction(Code::Fxsave64_m512byte), &mut machine), Ok(true));
        assert_eq!(machine.memory[24..28] != [0xaa; 4], mxcsr);
        assert_eq!(machine.memory[400..416] == [5; 16], xmm);
        assert_eq!(machine.memory[416..], [0xaa; MEMORY - 416]);
    }
}

/// Outside of 64-bit mode there are eight registers.
#[test]
fn registers_beyond_the_eighth() {
    for (long, last) in [(true, 15), (false, 7)] {
        let mut machine = Machine { long, ..machine() };
        machine.extended.ymm = [[9; 32]; 16];
        assert_eq!(execute_xsave(&instruction(Code::Fxsave_m512byte), &mut machine), Ok(true));
        assert_eq!(machine.memory[160..416].iter().rposition(|byte| *byte == 9), Some(16 * last + 15));
        assert_eq!(exception(&one(|a| a.vzeroall()), &mut machine), None);
        assert_eq!(machine.extended.ymm.iter().rposition(|ymm| *ymm == [0; 32]), Some(last));
    }
}

/// Whatever the decoder makes of bytes at random is executed, refused, or not of this room.
#[test]
fn random_bytes_do_no_harm() {
    let mut random = Random(11);
    let mut done = 0;
    for _ in 0..200_000 {
        let bitness = random.of(&[16, 32, 64, 64]);
        let mut bytes: [u8; 15] = std::array::from_fn(|_| random.next() as u8);
        let prefixes: &[&[u8]] = &[
            &[0x0f],
            &[0x66, 0x0f],
            &[0xf2, 0x0f],
            &[0xf3, 0x0f],
            &[0x66, 0x0f, 0x38],
            &[0xc5],
            &[0xc4],
            &[0x0f, 0xae],
            &[0x62],
            &[],
        ];
        let prefix = random.of(prefixes);
        bytes[..prefix.len()].copy_from_slice(prefix);
        if prefix == [0xc4] {
            // The maps that exist.
            bytes[1] = bytes[1] & 0xe0 | (random.below(3) as u8 + 1);
        }
        let decoded = Decoder::with_ip(bitness, &bytes, 0, DecoderOptions::NONE).decode();
        if decoded.is_invalid() {
            continue;
        }
        let mut machine = Machine { long: bitness == 64, ..machine() };
        for register in &mut machine.gpr {
            *register = BASE + random.below(MEMORY as u64);
        }
        machine.extended.mxcsr = random.next() as u32 & 0x2_ffff;
        machine.extended.xcr0 = random.of(&[3, 7, 0x207, 0x2e7]);
        for result in [execute_simd(&decoded, &mut machine), execute_xsave(&decoded, &mut machine)] {
            done += u32::from(result == Ok(true));
        }
    }
    assert!(done > 10_000, "{done}");
}
