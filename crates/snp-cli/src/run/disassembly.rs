//! Instructions as text.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};
use snp_softkvm::{Machine, Vcpu};
use snp_vcpu::{Segments, State};

/// The longest instruction.
const LONGEST: usize = 15;

/// The instruction that a vCPU in that state would execute, if its memory is there.
pub(super) fn next(machine: &Machine, vcpu: &Vcpu, state: &State) -> Option<Instruction> {
    let mut bytes = [0; LONGEST];
    let linear = state.segments[Segments::CS].base.wrapping_add(state.rip);
    let len = vcpu.peek(&machine.process, state, linear, &mut bytes);
    let mut decoder = Decoder::with_ip(bitness(state), &bytes[..len], state.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// 64, 32 or 16, by EFER.LMA, CS.L and CS.D.
fn bitness(state: &State) -> u32 {
    const LMA: u64 = 1 << 10;
    let attributes = state.segments[Segments::CS].attrib;
    match (state.efer & LMA != 0 && attributes & 1 << 9 != 0, attributes & 1 << 10 != 0) {
        (true, _) => 64,
        (false, true) => 32,
        (false, false) => 16,
    }
}

/// In Intel's notation, numbers as in C.
pub(super) fn text(instruction: Option<&Instruction>) -> String {
    let Some(instruction) = instruction else { return "?".into() };
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}
