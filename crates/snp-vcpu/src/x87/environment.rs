//! Control and status: FLDCW to FRSTOR.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::float::status::*;
use super::unit::Unit;
use crate::{Extended, Operands, Trap};

const CR0_PE: u64 = 1;
const RFLAGS_VM: u64 = 1 << 17;
/// Ten bytes for each of eight registers, behind the environment.
const REGISTERS: usize = 80;

/// Executes a control instruction.
pub(super) fn execute(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) -> Result<(), Trap> {
    use Mnemonic::*;
    match instruction.mnemonic() {
        Fninit => initialise(cpu.extended(), unit),
        Fnclex => unit.status &= !(EXCEPTIONS | SF | ES | B),
        Fnstcw => cpu.store(instruction, &unit.control.to_le_bytes(), 1)?,
        Fnstsw if instruction.op0_kind() == OpKind::Memory => {
            cpu.store(instruction, &unit.status.to_le_bytes(), 1)?;
        }
        Fnstsw => cpu.set_register(Register::AX, u64::from(unit.status)),
        Fldcw => {
            let mut word = [0; 2];
            cpu.load(instruction, &mut word, 1)?;
            set_control(unit, u16::from_le_bytes(word));
        }
        Fnstenv => {
            let (bytes, len) = environment(instruction, cpu, unit);
            cpu.store(instruction, &bytes[..len], 1)?;
            unit.control |= EXCEPTIONS;
            unit.summarise();
        }
        Fldenv => {
            let mut bytes = [0; 28];
            let len = environment_len(instruction);
            cpu.load(instruction, &mut bytes[..len], 1)?;
            load_environment(&bytes[..len], cpu, unit);
        }
        Fnsave => {
            let (bytes, len) = environment(instruction, cpu, unit);
            let mut image = [0; 28 + REGISTERS];
            image[..len].copy_from_slice(&bytes[..len]);
            for index in 0..8 {
                image[len + 10 * index..][..10].copy_from_slice(&unit.get(index).to_bytes());
            }
            cpu.store(instruction, &image[..len + REGISTERS], 1)?;
            initialise(cpu.extended(), unit);
        }
        Frstor => {
            let mut image = [0; 28 + REGISTERS];
            let len = environment_len(instruction);
            cpu.load(instruction, &mut image[..len + REGISTERS], 1)?;
            load_environment(&image[..len], cpu, unit);
            let tags = unit.tags;
            for index in 0..8 {
                let bytes = image[len + 10 * index..][..10].try_into().expect("ten bytes");
                unit.set(index, super::F80::from_bytes(bytes));
            }
            unit.tags = tags;
        }
        // FNENI, FNDISI and FNSETPM do nothing since the 80387.
        _ => {}
    }
    Ok(())
}

fn initialise(extended: &mut Extended, unit: &mut Unit) {
    unit.initialise();
    (extended.fop, extended.fip, extended.fcs, extended.fdp, extended.fds) = (0, 0, 0, 0, 0);
}

/// Bit 6 reads as one, reserved bits as zero.
fn set_control(unit: &mut Unit, word: u16) {
    unit.control = word & 0x1f3f | 0x40;
    unit.summarise();
}

/// 14 bytes with 16-bit operands, else 28.
fn environment_len(instruction: &Instruction) -> usize {
    use iced_x86::Code::{Fldenv_m14byte, Fnsave_m94byte, Fnstenv_m14byte, Frstor_m94byte};
    match instruction.code() {
        Fldenv_m14byte | Fnsave_m94byte | Fnstenv_m14byte | Frstor_m94byte => 14,
        _ => 28,
    }
}

/// Real and virtual-8086 mode have linear addresses instead of selectors.
fn is_real(cpu: &mut impl Operands) -> bool {
    cpu.cr0() & CR0_PE == 0 || *cpu.rflags() & RFLAGS_VM != 0
}

/// The environment as it is stored.
///
/// # Source
/// AMD 24593 (APM volume 2), "x87 Floating-Point State Environment Images".
fn environment(instruction: &Instruction, cpu: &mut impl Operands, unit: &Unit) -> ([u8; 28], usize) {
    let (len, real) = (environment_len(instruction), is_real(cpu));
    let extended = cpu.extended();
    let (fip, fdp) = (extended.fip as u32, extended.fdp as u32);
    let (fop, fcs, fds) = (u32::from(extended.fop & 0x7ff), u32::from(extended.fcs), u32::from(extended.fds));
    let words = [u32::from(unit.control), u32::from(unit.status), u32::from(unit.tag_word())];
    let mut bytes = [0; 28];
    if len == 28 {
        let pointers = if real {
            [fip & 0xffff, fip >> 16 << 12 | fop, fdp & 0xffff, fdp >> 16 << 12]
        } else {
            [fip, fop << 16 | fcs, fdp, fds]
        };
        // The upper halves of the first three read as ones, as does that of FDS.
        let ones = |word: u32| word | 0xffff_0000;
        let [fip, code, fdp, data] = pointers;
        let data = if real { data } else { ones(data) };
        for (at, word) in words.map(ones).into_iter().chain([fip, code, fdp, data]).enumerate() {
            bytes[4 * at..][..4].copy_from_slice(&word.to_le_bytes());
        }
    } else {
        let pointers =
            if real { [fip, (fip >> 16 & 15) << 12 | fop, fdp, (fdp >> 16 & 15) << 12] } else { [fip, fcs, fdp, fds] };
        for (at, word) in words.into_iter().chain(pointers).enumerate() {
            bytes[2 * at..][..2].copy_from_slice(&(word as u16).to_le_bytes());
        }
    }
    (bytes, len)
}

fn load_environment(bytes: &[u8], cpu: &mut impl Operands, unit: &mut Unit) {
    let real = is_real(cpu);
    let size = bytes.len() / 7;
    let word = |at: usize| {
        let mut word = [0; 4];
        word[..size].copy_from_slice(&bytes[size * at..][..size]);
        u32::from_le_bytes(word)
    };
    unit.status = word(1) as u16;
    unit.set_tag_word(word(2) as u16);
    set_control(unit, word(0) as u16);
    let extended = cpu.extended();
    let [ip, code, dp, data] = [3, 4, 5, 6].map(word);
    (extended.fcs, extended.fds, extended.fop) = (0, 0, 0);
    match (real, size) {
        (true, _) => {
            extended.fip = u64::from(ip & 0xffff | code >> 12 << 16);
            extended.fop = (code & 0x7ff) as u16;
            extended.fdp = u64::from(dp & 0xffff | data >> 12 << 16);
        }
        (false, 4) => {
            (extended.fip, extended.fcs) = (u64::from(ip), code as u16);
            extended.fop = (code >> 16 & 0x7ff) as u16;
            (extended.fdp, extended.fds) = (u64::from(dp), data as u16);
        }
        (false, _) => {
            (extended.fip, extended.fcs) = (u64::from(ip), code as u16);
            (extended.fdp, extended.fds) = (u64::from(dp), data as u16);
        }
    }
}
