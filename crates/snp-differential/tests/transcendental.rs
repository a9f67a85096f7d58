//! Functions whose last bits each processor has its own way with: the model must be as near as they promise.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use iced_x86::{Code, Instruction};
use snp_differential::case::{Case, Outcome};
use snp_differential::generate::{Catalogue, Generator};
use snp_differential::layout::Images;
use snp_differential::model::Model;
use snp_differential::native::Native;
use snp_differential::random::Random;

const CASES: u64 = 3000;
/// Units in the last place that the processor and the model may differ: AMD promises one for the processor (AMD 24592,
/// "Transcendental Results"), and the model rounds once.
const UNITS: u128 = 2;

/// A number of 80 bits as an integer that counts units in the last place.
fn place(bytes: &[u8; 10]) -> i128 {
    let magnitude = bytes[..8].iter().rev().fold(0_i128, |value, byte| value << 8 | i128::from(*byte));
    let exponent = i128::from(u16::from_le_bytes([bytes[8], bytes[9]]) & 0x7fff);
    // The integer bit is part of the significand: exponents count 2^63 units each.
    let units = (exponent << 63) + (magnitude & i128::from(i64::MAX));
    if bytes[9] & 0x80 != 0 { -units } else { units }
}

/// An 80-bit number of this exponent.
fn number(random: &mut Random, exponent: u16, negative: bool) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&(random.bits() | 1 << 63).to_le_bytes());
    bytes[8..].copy_from_slice(&(exponent | u16::from(negative) << 15).to_le_bytes());
    bytes
}

/// Runs a function on both sides, with operands of these exponents, and compares the registers that it leaves.
fn check(code: Code, exponents: [std::ops::Range<u64>; 2], signed: [bool; 2]) {
    if let Some(reason) = Native::unsupported() {
        println!("skipped: {reason}");
        return;
    }
    let catalogue = Catalogue::of_this_machine();
    let images = Images::new(1);
    let mut generator = Generator::new(&catalogue);
    let mut random = Random::new(code as u64);
    let cases: Vec<Case> = (0..CASES)
        .map(|seed| {
            let mut case = generator.given(seed, &[Instruction::with(code)]);
            let registers = &mut case.registers;
            (registers.fcw, registers.fsw, registers.ftw) = (0x37f, 0, 3);
            registers.rflags &= !(1 << 18);
            for operand in 0..2 {
                let range = &exponents[operand];
                let exponent = (range.start + random.below(range.end - range.start)) as u16;
                let negative = signed[operand] && random.chance(50);
                registers.x87[operand] = number(&mut random, exponent, negative);
            }
            case
        })
        .collect();
    let natives = Native::new().unwrap().run(&cases, &images).unwrap();
    let mut model = Model::new(&images);
    let mut worst = 0;
    for (case, native) in cases.iter().zip(natives) {
        let native: Outcome = native.expect("the child lives");
        let model = model.run(case, &images).unwrap();
        let (native, model) = (&native.registers, &model.registers);
        // C1 tells which way the last bit went.
        const C1: u16 = 1 << 9;
        assert_eq!(
            (native.fsw & !C1, native.ftw),
            (model.fsw & !C1, model.ftw),
            "{code:?} of {:x?}",
            case.registers.x87
        );
        for (register, (native, model)) in native.x87.iter().zip(&model.x87).enumerate() {
            let apart = place(native).abs_diff(place(model));
            let operands = &case.registers.x87[..2];
            assert!(apart <= UNITS, "{code:?} of {operands:x?}: register {register} {native:x?}, model {model:x?}");
            worst = worst.max(apart);
        }
    }
    println!("{code:?}: at most {worst} units in the last place apart");
}

/// Of numbers between 2^-40 and 1/2: beyond, a processor's own approximation of π shows.
const ANGLES: std::ops::Range<u64> = 0x3fd7..0x3ffe;
const ANY: std::ops::Range<u64> = 0x3fbf..0x403f;

#[test]
fn circular_functions_are_near() {
    for code in [Code::Fsin, Code::Fcos, Code::Fsincos, Code::Fptan] {
        check(code, [ANGLES, ANY], [true, true]);
    }
}

#[test]
fn the_arc_tangent_is_near() {
    check(Code::Fpatan, [ANY, ANY], [true, true]);
}

#[test]
fn powers_and_logarithms_are_near() {
    check(Code::F2xm1, [0x3fbf..0x3fff, ANY], [true, true]);
    check(Code::Fyl2x, [ANY, ANY], [false, true]);
    // Less than 1 - sqrt(2)/2.
    check(Code::Fyl2xp1, [0x3fbf..0x3ffd, ANY], [true, true]);
}
