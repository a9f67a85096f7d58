//! FXSAVE, FXRSTOR and the XSAVE family, compared with the host's processor.

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction, OpKind, Register};
use snp_vcpu::execute_xsave;

use crate::compare::{differences, fill};
use crate::host::{Native, PLACE, Random, STATUS_FLAGS, machine_of};
use crate::machine::Machine;

const ROUNDS: usize = 500;

const SAVES: [Code; 8] = [
    Code::Fxsave_m512byte,
    Code::Fxsave64_m512byte,
    Code::Xsave_mem,
    Code::Xsave64_mem,
    Code::Xsaveopt_mem,
    Code::Xsaveopt64_mem,
    Code::Xsavec_mem,
    Code::Xsavec64_mem,
];

const RESTORES: [Code; 4] = [Code::Fxrstor_m512byte, Code::Fxrstor64_m512byte, Code::Xrstor_mem, Code::Xrstor64_mem];

/// The instruction with `[rsi]`.
pub(crate) fn instruction(code: Code) -> Instruction {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    instruction.set_op0_kind(OpKind::Memory);
    instruction.set_memory_base(Register::RSI);
    let mut encoder = Encoder::new(64);
    encoder.encode(&instruction, 0).expect("encodable");
    let decoded = Decoder::with_ip(64, &encoder.take_buffer(), 0, DecoderOptions::NONE).decode();
    assert_eq!(decoded.code(), code);
    decoded
}

/// An x87 environment without pending exceptions, and MXCSR with all exceptions masked.
fn legacy(area: &mut [u8], random: &mut Random) {
    let mut put =
        |at: usize, value: u64, size: usize| area[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    let (control, status) = (random.next() & 0xf3f | 0x40, random.next() & 0x7f7f);
    // The summary and its copy follow from the flags and their masks.
    let pending = status & !control & 0x3f != 0;
    put(0, control, 2);
    put(2, status | if pending { 0x8080 } else { 0 }, 2);
    put(4, random.below(256), 2);
    put(6, random.below(0x800), 2);
    put(8, random.next() >> 17, 8);
    put(16, random.next() >> 17, 8);
    put(24, random.next() & 0xe07f | 0x1f80, 4);
}

/// Runs the instruction on the host, again while the host saves more components than the model: a processor may hold that a
/// component in its initial state is in use, as it does after some interrupts (Intel SDM 1, "Processor Tracking of XSAVE-Managed
/// State": "may"), and saves it then. It must come to the model's result, which saves what is not in its initial state.
fn run_as_tracked(native: &mut Native, code: Code, model: &Machine, base: u64) -> Machine {
    const TRIES: u32 = 100;
    let before = (*native.frame).clone();
    let saved = |machine: &Machine| machine.memory[PLACE as usize + 512];
    for _ in 0..TRIES {
        *native.frame = before.clone();
        assert_eq!(native.run(), 0, "{code:?}");
        let host = machine_of(&native.frame, base);
        if !SAVES.contains(&code) || saved(&host) == saved(model) || saved(&host) & saved(model) != saved(model) {
            return host;
        }
    }
    machine_of(&native.frame, base)
}

#[test]
fn areas_are_those_of_the_host() {
    if !["xsave", "xsavec", "xsaveopt", "avx"].iter().all(|name| detected(name)) {
        eprintln!("the host has no XSAVEC: nothing to compare with");
        return;
    }
    let mut native = Native::new();
    let mut random = Random(0x5eed_0002);
    let base = native.memory_address();
    let mut wrong = Vec::new();
    'codes: for code in SAVES.into_iter().chain(RESTORES) {
        let instruction = instruction(code);
        native.load(instruction).expect("assembled");
        for round in 0..ROUNDS {
            fill(&mut native.frame, base, &mut random);
            for chunk in native.frame.memory.chunks_exact_mut(8) {
                chunk.copy_from_slice(&random.next().to_le_bytes());
            }
            legacy(&mut native.frame.xsave, &mut random);
            native.frame.xsave[512] = random.below(8) as u8;
            native.frame.general[0] = random.of(&[7, 0, 1, 2, 3, 4, 5, 6, !0, random.0]);
            native.frame.general[2] = random.of(&[0, !0, random.0]);
            if RESTORES.contains(&code) {
                let area = &mut native.frame.memory[PLACE as usize..];
                legacy(area, &mut random);
                let xstate_bv = random.below(8);
                let compacted = 1 << 63 | xstate_bv | random.below(8);
                let xcomp_bv = random.of(&[0, compacted]);
                area[512..576].fill(0);
                area[512..520].copy_from_slice(&xstate_bv.to_le_bytes());
                area[520..528].copy_from_slice(&xcomp_bv.to_le_bytes());
            }
            let before = machine_of(&native.frame, base);
            let mut model = before.clone();
            assert_eq!(execute_xsave(&instruction, &mut model), Ok(true), "{code:?}");
            let mut host = run_as_tracked(&mut native, code, &model, base);
            host.rflags &= STATUS_FLAGS | 2;
            // The stub cannot see selectors, nor pointers without a pending exception.
            (model.extended.fcs, model.extended.fds) = (0, 0);
            if model.extended.fsw & 0x80 == 0 {
                (model.extended.fop, model.extended.fip, model.extended.fdp) = (0, 0, 0);
            }
            if model != host {
                let bytes = (0..model.memory.len()).filter(|at| model.memory[*at] != host.memory[*at]);
                let bytes: Vec<_> = bytes
                    .map(|at| {
                        let place = at as i64 - PLACE as i64;
                        (place, before.memory[at], model.memory[at], host.memory[at])
                    })
                    .collect();
                let areas = [&before, &model, &host].map(|machine| machine.extended.clone());
                wrong.push(format!(
                    "{code:?} (round {round}): bytes {bytes:x?}\n{:x?}\n{}\n{:x?}",
                    native.frame.general,
                    differences(&before, &model, &host),
                    areas.map(|e| (e.fcw, e.fsw, e.ftw, e.fop, e.fip, e.fdp, e.mxcsr)),
                ));
                continue 'codes;
            }
        }
    }
    for text in &wrong {
        println!("{text}");
    }
    assert!(wrong.is_empty(), "{} differ", wrong.len());
}

fn detected(name: &str) -> bool {
    match name {
        "xsave" => std::is_x86_feature_detected!("xsave"),
        "xsavec" => std::is_x86_feature_detected!("xsavec"),
        "xsaveopt" => std::is_x86_feature_detected!("xsaveopt"),
        _ => std::is_x86_feature_detected!("avx"),
    }
}
