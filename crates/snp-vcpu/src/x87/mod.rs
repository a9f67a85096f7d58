//! x87 instructions.
//!
//! An instruction works on a copy of the registers ([`unit::Unit`]), which takes their place when it has completed: a fault
//! of its memory operand leaves no trace. Arithmetic is exact and then rounded once ([`float`], [`arithmetic`]); the
//! transcendental functions ([`transcendental`]) are computed with about 110 bits and may differ from a processor's in the
//! last bit.
//!
//! # Source
//! AMD 24592 (APM volume 1), "x87 Floating-Point Programming"; AMD 26569 (APM volume 5), "x87 Floating-Point Instruction
//! Reference"; AMD 24593 (APM volume 2), "x87 Environment".

mod arithmetic;
mod environment;
mod float;
mod memory;
mod transcendental;
mod unit;
mod wide;

use std::cmp::Ordering;

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use crate::{Exception, Operands, Trap};
use float::status::*;
use float::{Class, Control, F80, Outcome};
use unit::Unit;

const CR0_MP: u64 = 1 << 1;
const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const CR0_NE: u64 = 1 << 5;

/// Executes an x87 instruction. `Ok(false)`: it is none, nothing was done.
pub(crate) fn execute(instruction: &Instruction, cpu: &mut impl Operands) -> Result<bool, Trap> {
    let mnemonic = instruction.mnemonic();
    if mnemonic == Mnemonic::Wait {
        if cpu.cr0() & (CR0_MP | CR0_TS) == CR0_MP | CR0_TS {
            return Err(Exception::NO_DEVICE.into());
        }
        pending(cpu)?;
        return Ok(true);
    }
    let Some(kind) = kind(mnemonic) else { return Ok(false) };
    if cpu.cr0() & (CR0_EM | CR0_TS) != 0 {
        return Err(Exception::NO_DEVICE.into());
    }
    if kind != Kind::ControlNoWait {
        pending(cpu)?;
    }
    let mut unit = Unit::of(cpu.extended());
    match kind {
        Kind::Control | Kind::ControlNoWait => environment::execute(instruction, cpu, &mut unit)?,
        Kind::Compute => {
            let pointer = pointer(instruction, cpu)?;
            compute(instruction, cpu, &mut unit)?;
            let extended = cpu.extended();
            (extended.fip, extended.fcs, extended.fop) = (instruction.ip(), 0, 0);
            if let Some(pointer) = pointer {
                (extended.fdp, extended.fds) = (pointer, 0);
            }
        }
    }
    unit.put_back(cpu.extended());
    Ok(true)
}

/// The pending exception, if there is one.
fn pending(cpu: &mut impl Operands) -> Result<(), Trap> {
    if cpu.extended().fsw & ES == 0 {
        return Ok(());
    }
    if cpu.cr0() & CR0_NE == 0 {
        return Err(Trap::Unmodelled("an x87 exception with CR0.NE clear, which FERR# would report".into()));
    }
    Err(Exception::X87.into())
}

fn pointer(instruction: &Instruction, cpu: &mut impl Operands) -> Result<Option<u64>, Trap> {
    if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Memory {
        return Ok(None);
    }
    cpu.linear(instruction, instruction.memory_size().size() as u64).map(Some)
}

/// What an instruction is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Computes or moves numbers: sets the instruction and data pointers.
    Compute,
    /// Changes control or status.
    Control,
    /// Likewise, and does not wait for a pending exception.
    ControlNoWait,
}

fn kind(mnemonic: Mnemonic) -> Option<Kind> {
    use Mnemonic::*;
    Some(match mnemonic {
        Fnclex | Fninit | Fnstcw | Fnstsw | Fnstenv | Fnsave | Fneni | Fndisi | Fnsetpm => Kind::ControlNoWait,
        Fldcw | Fldenv | Frstor => Kind::Control,
        F2xm1 | Fabs | Fadd | Faddp | Fbld | Fbstp | Fchs | Fcmovb | Fcmovbe | Fcmove | Fcmovnb | Fcmovnbe
        | Fcmovne | Fcmovnu | Fcmovu | Fcom | Fcomi | Fcomip | Fcomp | Fcompp | Fcos | Fdecstp | Fdiv | Fdivp
        | Fdivr | Fdivrp | Ffree | Ffreep | Fiadd | Ficom | Ficomp | Fidiv | Fidivr | Fild | Fimul | Fincstp | Fist
        | Fistp | Fisttp | Fisub | Fisubr | Fld | Fld1 | Fldl2e | Fldl2t | Fldlg2 | Fldln2 | Fldpi | Fldz | Fmul
        | Fmulp | Fnop | Fpatan | Fprem | Fprem1 | Fptan | Frndint | Fscale | Fsin | Fsincos | Fsqrt | Fst | Fstp
        | Fstpnce | Fsub | Fsubp | Fsubr | Fsubrp | Ftst | Fucom | Fucomi | Fucomip | Fucomp | Fucompp | Fxam
        | Fxch | Fxtract | Fyl2x | Fyl2xp1 => Kind::Compute,
        _ => return None,
    })
}

/// The number of the stack register that an operand names.
fn stack_register(instruction: &Instruction, operand: u32) -> usize {
    (instruction.op_register(operand) as usize).wrapping_sub(Register::ST0 as usize) & 7
}

fn compute(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) -> Result<(), Trap> {
    use Mnemonic::*;
    match instruction.mnemonic() {
        Fadd | Faddp | Fiadd | Fsub | Fsubp | Fisub | Fsubr | Fsubrp | Fisubr | Fmul | Fmulp | Fimul | Fdiv | Fdivp
        | Fidiv | Fdivr | Fdivrp | Fidivr => binary(instruction, cpu, unit)?,
        Fcom | Fcomp | Fcompp | Ficom | Ficomp | Fucom | Fucomp | Fucompp | Ftst => compare(instruction, cpu, unit)?,
        Fcomi | Fcomip | Fucomi | Fucomip => compare_flags(instruction, cpu, unit),
        Fcmovb | Fcmovbe | Fcmove | Fcmovnb | Fcmovnbe | Fcmovne | Fcmovnu | Fcmovu => move_if(instruction, cpu, unit),
        Fld | Fild | Fbld => load(instruction, cpu, unit)?,
        Fstpnce => {
            // No check of empty registers: there is no exception, and nothing is copied.
            unit.status &= !C1;
            if !unit.is_empty(0) {
                unit.set(stack_register(instruction, 0), unit.get(0));
            }
            unit.pop();
        }
        Fst | Fstp if instruction.op0_kind() == OpKind::Register => {
            store_register(unit, stack_register(instruction, 0), instruction.mnemonic() != Fst);
        }
        Fst | Fstp | Fist | Fistp | Fisttp | Fbstp => memory::store(instruction, cpu, unit)?,
        Fxch => exchange(unit, stack_register(instruction, 1)),
        Fincstp => step(unit, 1),
        Fdecstp => step(unit, 7),
        Ffree => {
            unit.status &= !C1;
            unit.free(stack_register(instruction, 0));
        }
        Ffreep => {
            unit.status &= !C1;
            unit.free(stack_register(instruction, 0));
            unit.pop();
        }
        Fxam => examine(unit),
        Fld1 | Fldl2e | Fldl2t | Fldlg2 | Fldln2 | Fldpi | Fldz => constant(instruction.code(), unit),
        Fxtract => extract(unit),
        Fprem | Fprem1 => remainder(unit, instruction.mnemonic() == Fprem1),
        Fscale => scale(unit),
        Fabs | Fchs | Fsqrt | Frndint => unary(instruction.code(), unit),
        F2xm1 | Fcos | Fsin | Fsincos | Fptan | Fpatan | Fyl2x | Fyl2xp1 => {
            transcendental::execute(instruction.mnemonic(), unit);
        }
        // FNOP.
        _ => {}
    }
    Ok(())
}

fn step(unit: &mut Unit, by: usize) {
    unit.status &= !C1;
    unit.turn(by);
}

/// An operation on `(destination, source)`.
type Binary = fn(F80, F80, Control) -> Outcome<F80>;

fn operation(mnemonic: Mnemonic) -> Binary {
    use Mnemonic::*;
    // A NaN keeps its sign: only the sign of numbers is changed for a subtraction.
    fn subtract(a: F80, b: F80, control: Control) -> Outcome<F80> {
        arithmetic::special(a, b).unwrap_or_else(|| arithmetic::add(a, b.negated(), control))
    }
    match mnemonic {
        Fadd | Faddp | Fiadd => arithmetic::add,
        Fsub | Fsubp | Fisub => subtract,
        Fsubr | Fsubrp | Fisubr => |a, b, control| subtract(b, a, control),
        Fmul | Fmulp | Fimul => arithmetic::multiply,
        Fdiv | Fdivp | Fidiv => arithmetic::divide,
        _ => |a, b, control| arithmetic::divide(b, a, control),
    }
}

fn binary(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) -> Result<(), Trap> {
    use Mnemonic::{Faddp, Fdivp, Fdivrp, Fmulp, Fsubp, Fsubrp};
    let mnemonic = instruction.mnemonic();
    let pops = matches!(mnemonic, Faddp | Fdivp | Fdivrp | Fmulp | Fsubp | Fsubrp);
    let (destination, source, denormal) = if instruction.op0_kind() == OpKind::Memory {
        let (value, denormal) = memory::load(instruction, cpu)?;
        (0, (!unit.is_empty(0)).then_some(value), denormal)
    } else {
        let (to, from) = (stack_register(instruction, 0), stack_register(instruction, 1));
        (to, (!unit.is_empty(to) && !unit.is_empty(from)).then(|| unit.get(from)), false)
    };
    let done = match source {
        None => {
            let goes_on = unit.underflow();
            if goes_on {
                unit.set(destination, F80::INDEFINITE);
            }
            goes_on
        }
        Some(source) => {
            let value = unit.get(destination);
            let mut outcome = operation(mnemonic)(value, source, unit.rounding());
            outcome.exceptions |= memory_denormal(outcome.exceptions, value, source, denormal);
            unit.give(destination, outcome)
        }
    };
    if done && pops {
        unit.pop();
    }
    Ok(())
}

/// The denormal exception of a memory operand, which is normal once it is widened: not if there is something worse.
fn memory_denormal(exceptions: u16, value: F80, source: F80, denormal: bool) -> u16 {
    let nan = value.is_nan() || source.is_nan();
    if denormal && exceptions & (IE | ZE) == 0 && !nan { DE } else { 0 }
}

/// C3, C2 and C0 after a comparison.
fn codes(order: Option<Ordering>) -> u16 {
    match order {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => C0,
        Some(Ordering::Equal) => C3,
        None => C3 | C2 | C0,
    }
}

fn compare(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) -> Result<(), Trap> {
    use Mnemonic::*;
    let mnemonic = instruction.mnemonic();
    let quiet = matches!(mnemonic, Fucom | Fucomp | Fucompp);
    let pops = match mnemonic {
        Fcomp | Ficomp | Fucomp => 1,
        Fcompp | Fucompp => 2,
        _ => 0,
    };
    let (source, denormal) = match mnemonic {
        Ftst => (Some(F80::zero(false)), false),
        Fcompp | Fucompp => ((!unit.is_empty(1)).then(|| unit.get(1)), false),
        _ if instruction.op0_kind() == OpKind::Memory => {
            let (value, denormal) = memory::load(instruction, cpu)?;
            (Some(value), denormal)
        }
        _ => {
            let index = stack_register(instruction, instruction.op_count() - 1);
            ((!unit.is_empty(index)).then(|| unit.get(index)), false)
        }
    };
    let done = match source.filter(|_| !unit.is_empty(0)) {
        None => {
            let goes_on = unit.underflow();
            unit.set_codes(codes(None));
            goes_on
        }
        Some(source) => {
            let value = unit.get(0);
            let mut exceptions = arithmetic::compare_exceptions(value, source, quiet);
            exceptions |= memory_denormal(exceptions, value, source, denormal);
            let done = unit.note(exceptions, false);
            unit.set_codes(codes(arithmetic::compare(value, source)));
            done
        }
    };
    if done {
        (0..pops).for_each(|_| unit.pop());
    }
    Ok(())
}

fn compare_flags(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) {
    const CF: u64 = 1 << 0;
    const PF: u64 = 1 << 2;
    const ZF: u64 = 1 << 6;
    /// OF, SF and AF, which are cleared.
    const OTHERS: u64 = 1 << 11 | 1 << 7 | 1 << 4;
    use Mnemonic::{Fcomip, Fucomi, Fucomip};
    let mnemonic = instruction.mnemonic();
    let index = stack_register(instruction, 1);
    let (done, order) = if unit.is_empty(0) || unit.is_empty(index) {
        (unit.underflow(), None)
    } else {
        let (a, b) = (unit.get(0), unit.get(index));
        let exceptions = arithmetic::compare_exceptions(a, b, matches!(mnemonic, Fucomi | Fucomip));
        let kept = unit.status & C1;
        let done = unit.note(exceptions, false);
        unit.status |= kept;
        (done, arithmetic::compare(a, b))
    };
    let flags = match order {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => CF,
        Some(Ordering::Equal) => ZF,
        None => ZF | PF | CF,
    };
    let rflags = cpu.rflags();
    *rflags = *rflags & !(CF | PF | ZF | OTHERS) | flags;
    if done && matches!(mnemonic, Fcomip | Fucomip) {
        unit.pop();
    }
}

fn move_if(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) {
    use Mnemonic::*;
    let flags = *cpu.rflags();
    let (carry, parity, zero) = (flags & 1 != 0, flags >> 2 & 1 != 0, flags >> 6 & 1 != 0);
    let holds = match instruction.mnemonic() {
        Fcmovb => carry,
        Fcmove => zero,
        Fcmovbe => carry || zero,
        Fcmovu => parity,
        Fcmovnb => !carry,
        Fcmovne => !zero,
        Fcmovnbe => !carry && !zero,
        _ => !parity,
    };
    let index = stack_register(instruction, 1);
    if unit.is_empty(0) || unit.is_empty(index) {
        if unit.underflow() {
            unit.set(0, F80::INDEFINITE);
        }
    } else if holds {
        unit.set(0, unit.get(index));
    }
}

fn load(instruction: &Instruction, cpu: &mut impl Operands, unit: &mut Unit) -> Result<(), Trap> {
    let outcome = if instruction.op0_kind() == OpKind::Memory {
        memory::load_new(instruction, cpu)?
    } else {
        let index = stack_register(instruction, 0);
        if unit.is_empty(index) {
            // Also if the stack is full.
            if unit.underflow() {
                unit.push(F80::INDEFINITE);
            }
            return Ok(());
        }
        Outcome::exact(unit.get(index))
    };
    unit.give_new(outcome);
    Ok(())
}

/// FST and FSTP to a register.
fn store_register(unit: &mut Unit, index: usize, pops: bool) {
    let done = if unit.is_empty(0) {
        let goes_on = unit.underflow();
        if goes_on {
            unit.set(index, F80::INDEFINITE);
        }
        goes_on
    } else {
        unit.give(index, Outcome::exact(unit.get(0)))
    };
    if done && pops {
        unit.pop();
    }
}

fn exchange(unit: &mut Unit, index: usize) {
    unit.status &= !C1;
    let empty = [unit.is_empty(0), unit.is_empty(index)];
    if empty != [false; 2] && !unit.underflow() {
        return;
    }
    let of = |unit: &Unit, place: usize, empty| if empty { F80::INDEFINITE } else { unit.get(place) };
    let (first, second) = (of(unit, 0, empty[0]), of(unit, index, empty[1]));
    unit.set(0, second);
    unit.set(index, first);
}

fn examine(unit: &mut Unit) {
    let value = unit.get(0);
    let codes = if unit.is_empty(0) {
        C3 | C0
    } else {
        match value.class() {
            Class::Unsupported => 0,
            Class::Quiet | Class::Signaling => C0,
            Class::Normal => C2,
            Class::Infinity => C2 | C0,
            Class::Zero => C3,
            Class::Denormal => C3 | C2,
        }
    };
    unit.set_codes(codes);
    unit.status &= !C1;
    if value.negative {
        unit.status |= C1;
    }
}

/// Constants are rounded as the control word says, to 64 bits.
fn constant(code: Code, unit: &mut Unit) {
    use float::Rounding::{Down, Nearest, Truncate, Up};
    // The significand truncated, whether it would be rounded up to the nearest, and the exponent.
    let (significand, nearest_up, exponent) = match code {
        Code::Fldl2t => (0xd49a_784b_cd1b_8afe, false, 0x4000),
        Code::Fldl2e => (0xb8aa_3b29_5c17_f0bb, true, 0x3fff),
        Code::Fldpi => (0xc90f_daa2_2168_c234, true, 0x4000),
        Code::Fldlg2 => (0x9a20_9a84_fbcf_f798, true, 0x3ffd),
        Code::Fldln2 => (0xb172_17f7_d1cf_79ab, true, 0x3ffe),
        Code::Fld1 => return unit.give_new(Outcome::exact(F80::ONE)),
        _ => return unit.give_new(Outcome::exact(F80::zero(false))),
    };
    let up = match unit.rounding().rounding() {
        Nearest => nearest_up,
        Up => true,
        Down | Truncate => false,
    };
    let value = F80 { negative: false, exponent, significand: significand + u64::from(up) };
    unit.give_new(Outcome::exact(value));
}

fn unary(code: Code, unit: &mut Unit) {
    if unit.is_empty(0) {
        if unit.underflow() {
            unit.set(0, F80::INDEFINITE);
        }
        return;
    }
    let value = unit.get(0);
    let outcome = match code {
        Code::Fabs => Outcome::exact(F80 { negative: false, ..value }),
        Code::Fchs => Outcome::exact(value.negated()),
        Code::Fsqrt => arithmetic::square_root(value, unit.rounding()),
        _ => arithmetic::round_to_integer(value, unit.rounding()),
    };
    unit.give(0, outcome);
}

fn scale(unit: &mut Unit) {
    if unit.is_empty(0) || unit.is_empty(1) {
        if unit.underflow() {
            unit.set(0, F80::INDEFINITE);
        }
        return;
    }
    let outcome = arithmetic::scale(unit.get(0), unit.get(1), unit.rounding());
    unit.give(0, outcome);
}

fn remainder(unit: &mut Unit, nearest: bool) {
    unit.status &= !C2;
    if unit.is_empty(0) || unit.is_empty(1) {
        if unit.underflow() {
            unit.set(0, F80::INDEFINITE);
        }
        return;
    }
    let (outcome, codes) = arithmetic::remainder(unit.get(0), unit.get(1), nearest, unit.rounding());
    if unit.give(0, outcome)
        && let Some(codes) = codes
    {
        unit.set_codes(codes & !C1);
        unit.status |= codes & C1;
    }
}

fn extract(unit: &mut Unit) {
    if unit.is_empty(0) || !unit.is_empty(7) {
        let goes_on = if unit.is_empty(0) { unit.underflow() } else { unit.overflow() };
        if goes_on {
            unit.set(0, F80::INDEFINITE);
            unit.push(F80::INDEFINITE);
        }
        return;
    }
    let (exponent, significand) = arithmetic::extract(unit.get(0));
    if unit.give(0, exponent) {
        unit.push(significand);
    }
}
