//! Flags that the manual leaves undefined, by instruction: the only results that are not compared.
//!
//! # Source
//! AMD 24594 (APM volume 3), "rFLAGS Affected" of each instruction in "General-Purpose Instruction Reference".

use iced_x86::{Instruction, Mnemonic, OpKind};

/// RFLAGS.CF.
pub const CF: u64 = 1 << 0;
/// RFLAGS.PF.
pub const PF: u64 = 1 << 2;
/// RFLAGS.AF.
pub const AF: u64 = 1 << 4;
/// RFLAGS.ZF.
pub const ZF: u64 = 1 << 6;
/// RFLAGS.SF.
pub const SF: u64 = 1 << 7;
/// RFLAGS.OF.
pub const OF: u64 = 1 << 11;

/// A row: what the manual leaves undefined after these instructions, and where it says so.
struct Row {
    mnemonics: &'static [Mnemonic],
    flags: u64,
    /// The section of APM volume 3.
    section: &'static str,
}

/// Instructions after which flags are always undefined.
const ALWAYS: &[Row] = &[
    Row {
        mnemonics: &[Mnemonic::And, Mnemonic::Or, Mnemonic::Xor, Mnemonic::Test],
        flags: AF,
        section: "AND, OR, XOR, TEST",
    },
    Row {
        mnemonics: &[Mnemonic::Andn, Mnemonic::Blsi, Mnemonic::Blsr, Mnemonic::Blsmsk, Mnemonic::Bzhi],
        flags: AF | PF,
        section: "ANDN, BLSI, BLSR, BLSMSK, BZHI",
    },
    Row { mnemonics: &[Mnemonic::Bextr], flags: AF | PF | SF, section: "BEXTR (register form)" },
    Row { mnemonics: &[Mnemonic::Bsf, Mnemonic::Bsr], flags: CF | PF | AF | SF | OF, section: "BSF, BSR" },
    Row {
        mnemonics: &[Mnemonic::Bt, Mnemonic::Btc, Mnemonic::Btr, Mnemonic::Bts],
        flags: PF | AF | SF | OF,
        section: "BT, BTC, BTR, BTS",
    },
    Row { mnemonics: &[Mnemonic::Tzcnt, Mnemonic::Lzcnt], flags: PF | AF | SF | OF, section: "TZCNT, LZCNT" },
    Row { mnemonics: &[Mnemonic::Div, Mnemonic::Idiv], flags: CF | PF | AF | ZF | SF | OF, section: "DIV, IDIV" },
    Row { mnemonics: &[Mnemonic::Mul, Mnemonic::Imul], flags: PF | AF | ZF | SF, section: "MUL, IMUL" },
];

/// Shifts: AF is undefined if the count is not 0, OF if it is not 0 or 1, and CF if it is beyond the operand.
const SHIFTS: Row = Row {
    mnemonics: &[Mnemonic::Shl, Mnemonic::Sal, Mnemonic::Shr, Mnemonic::Sar, Mnemonic::Shld, Mnemonic::Shrd],
    flags: AF,
    section: "SAL SHL, SAR, SHR, SHLD, SHRD",
};

/// Rotations: OF is undefined if the count is not 0 or 1.
const ROTATIONS: Row = Row {
    mnemonics: &[Mnemonic::Rol, Mnemonic::Ror, Mnemonic::Rcl, Mnemonic::Rcr],
    flags: 0,
    section: "RCL, RCR, ROL, ROR",
};

/// The flags that an instruction leaves undefined, at the worst.
pub fn undefined(instruction: &Instruction) -> u64 {
    let mnemonic = instruction.mnemonic();
    if let Some(row) = ALWAYS.iter().find(|row| row.mnemonics.contains(&mnemonic)) {
        return row.flags;
    }
    let rotation = ROTATIONS.mnemonics.contains(&mnemonic);
    if !rotation && !SHIFTS.mnemonics.contains(&mnemonic) {
        return 0;
    }
    let bits = operand_bits(instruction);
    let last = instruction.op_count() - 1;
    let counts = match instruction.op_kind(last) {
        OpKind::Immediate8 => {
            let count = u32::from(instruction.immediate8()) & if bits == 64 { 63 } else { 31 };
            count..=count
        }
        _ => 0..=if bits == 64 { 63 } else { 31 },
    };
    let row = if rotation { &ROTATIONS } else { &SHIFTS };
    let mut flags = if *counts.end() == 0 { 0 } else { row.flags };
    if *counts.end() > 1 {
        flags |= OF;
    }
    if !rotation && *counts.end() >= bits {
        flags |= CF;
    }
    flags
}

/// Whether an instruction that iced says to write flags may leave them as they are: shifts by 0, REP with nothing to do.
pub fn may_leave_flags(instruction: &Instruction) -> bool {
    let mnemonic = instruction.mnemonic();
    let shift = SHIFTS.mnemonics.contains(&mnemonic) || ROTATIONS.mnemonics.contains(&mnemonic);
    shift || instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

fn operand_bits(instruction: &Instruction) -> u32 {
    match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size() as u32 * 8,
        _ => instruction.memory_size().size() as u32 * 8,
    }
}

/// The table in words: the flags that the instructions of a section of the manual leave undefined, but for the conditions of
/// shifts and rotations.
pub fn sections() -> impl Iterator<Item = (&'static str, u64)> {
    ALWAYS.iter().chain([&SHIFTS, &ROTATIONS]).map(|row| (row.section, row.flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Catalogue, Generator, iced_flags};

    /// iced has a table of its own: we never leave out a flag that it has as defined.
    #[test]
    fn no_flag_is_left_out_that_another_table_has_as_defined() {
        let catalogue = Catalogue::of_this_machine();
        let mut generator = Generator::new(&catalogue);
        for seed in 0..20_000 {
            for item in generator.case(seed).items {
                let (ours, theirs) = (undefined(&item.instruction), iced_flags(item.instruction.rflags_undefined()));
                // iced has flags of counts in a register as written, if the count may be 0.
                let shift = may_leave_flags(&item.instruction);
                // BT and its kin: ZF is undefined in AMD's manual, unaffected in Intel's, which iced follows.
                let bits =
                    matches!(item.instruction.mnemonic(), Mnemonic::Bt | Mnemonic::Btc | Mnemonic::Btr | Mnemonic::Bts);
                let ours = if bits { ours & !ZF } else { ours };
                assert!(shift || ours & !theirs == 0, "{} {ours:#x} {theirs:#x}", item.instruction);
            }
        }
    }

    #[test]
    fn every_row_has_its_section() {
        assert!(sections().all(|(section, _)| !section.is_empty()));
        assert_eq!(sections().count(), ALWAYS.len() + 2);
    }
}
