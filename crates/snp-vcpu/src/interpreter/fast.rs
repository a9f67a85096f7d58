//! Handlers of the commonest instructions of 64-bit code, one for each operation, width and form of operands.
//!
//! They do what the general handlers do, with operands that were taken apart when the instruction was decoded. The
//! differential test runs both against the machine's own processor.

use iced_x86::{Code, ConditionCode, Instruction, Mnemonic, OpKind};
use snp_memory::{HostPage, PAGE_SIZE};

use super::cpu::*;
use super::decoded::{Decoded, Handler};
use super::flags::{self, AF, CF, STATUS};
use super::{arithmetic, execute};
use crate::AccessKind;

const ADD: u8 = 0;
const OR: u8 = 1;
const ADC: u8 = 2;
const SBB: u8 = 3;
const AND: u8 = 4;
const SUB: u8 = 5;
const XOR: u8 = 6;
const CMP: u8 = 7;
const TEST: u8 = 8;
const MOV: u8 = 9;
const INC: u8 = 10;
const DEC: u8 = 11;

/// Where the operands are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    RegisterRegister,
    RegisterImmediate,
    RegisterMemory,
    MemoryRegister,
    MemoryImmediate,
    Register,
    Memory,
}

fn form(instruction: &Instruction) -> Option<Form> {
    let kind = |operand| match instruction.op_kind(operand) {
        OpKind::Register => 'r',
        OpKind::Memory => 'm',
        _ => 'i',
    };
    Some(match instruction.op_count() {
        1 if kind(0) == 'r' => Form::Register,
        1 if kind(0) == 'm' => Form::Memory,
        2 => match (kind(0), kind(1)) {
            ('r', 'r') => Form::RegisterRegister,
            ('r', 'i') => Form::RegisterImmediate,
            ('r', 'm') => Form::RegisterMemory,
            ('m', 'r') => Form::MemoryRegister,
            ('m', 'i') => Form::MemoryImmediate,
            _ => return None,
        },
        _ => return None,
    })
}

/// The width of operand 0 in bytes.
fn width(instruction: &Instruction) -> usize {
    match instruction.op_kind(0) {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    }
}

/// The fast handler, if there is one, and whether it is plain ([`Decoded::plain`]). Operands are general registers,
/// immediates and memory with 64-bit addresses.
pub(crate) fn handler(i: &Instruction) -> Option<(Handler, bool)> {
    if i.has_lock_prefix() || i.has_rep_prefix() || i.has_repne_prefix() {
        return None;
    }
    let operation = match i.mnemonic() {
        Mnemonic::Add => operate::<ADD>(i),
        Mnemonic::Or => operate::<OR>(i),
        Mnemonic::Adc => operate::<ADC>(i),
        Mnemonic::Sbb => operate::<SBB>(i),
        Mnemonic::And => operate::<AND>(i),
        Mnemonic::Sub => operate::<SUB>(i),
        Mnemonic::Xor => operate::<XOR>(i),
        Mnemonic::Cmp => operate::<CMP>(i),
        Mnemonic::Test => operate::<TEST>(i),
        Mnemonic::Mov => operate::<MOV>(i),
        Mnemonic::Inc => operate::<INC>(i),
        Mnemonic::Dec => operate::<DEC>(i),
        _ => None,
    };
    let plain = operation.or_else(|| extension(i)).or_else(|| shift(i)).or_else(|| other(i));
    plain.map(|handler| (handler, true)).or_else(|| transfer(i).map(|handler| (handler, false)))
}

fn operate<const OP: u8>(i: &Instruction) -> Option<Handler> {
    match width(i) {
        1 => sized::<OP, 1>(i),
        2 => sized::<OP, 2>(i),
        4 => sized::<OP, 4>(i),
        8 => sized::<OP, 8>(i),
        _ => None,
    }
}

fn sized<const OP: u8, const W: usize>(i: &Instruction) -> Option<Handler> {
    let unary = matches!(OP, INC | DEC);
    let handler: Handler = match form(i)? {
        Form::RegisterRegister if i.op1_register().size() == W => register_register::<OP, W>,
        Form::RegisterImmediate => register_immediate::<OP, W>,
        Form::RegisterMemory if i.memory_size().size() == W => register_memory::<OP, W>,
        Form::MemoryRegister if i.op1_register().size() == W => memory_register::<OP, W>,
        Form::MemoryImmediate => memory_immediate::<OP, W>,
        Form::Register if unary => register_immediate::<OP, W>,
        Form::Memory if unary => memory_immediate::<OP, W>,
        _ => return None,
    };
    Some(handler)
}

#[inline(always)]
const fn mask<const W: usize>() -> u64 {
    u64::MAX >> (64 - 8 * W)
}

#[inline(always)]
fn get<const W: usize>(cpu: &Cpu<'_>, register: u8) -> u64 {
    cpu.state.gpr[(register & 15) as usize] & mask::<W>()
}

/// Writes a register; 32 bits clear the upper half, narrower ones keep the rest.
#[inline(always)]
fn set<const W: usize>(cpu: &mut Cpu<'_>, register: u8, value: u64) {
    let place = &mut cpu.state.gpr[(register & 15) as usize];
    *place = if W >= 4 { value & mask::<W>() } else { *place & !mask::<W>() | value & mask::<W>() };
}

/// The result of an operation, with the flags set. Of CMP and TEST it is `a`.
#[inline(always)]
fn compute<const OP: u8, const W: usize>(rflags: &mut u64, a: u64, b: u64) -> u64 {
    let (mask, bits) = (mask::<W>(), 8 * W as u32);
    let carry = if matches!(OP, ADC | SBB) { *rflags & CF } else { 0 };
    let b = match OP {
        INC | DEC => 1,
        _ => b & mask,
    };
    let (result, new) = match OP {
        MOV => return b,
        ADD | ADC | INC => {
            let result = a.wrapping_add(b).wrapping_add(carry) & mask;
            (result, flags::add_flags(a, b, result, bits))
        }
        SUB | SBB | CMP | DEC => {
            let result = a.wrapping_sub(b).wrapping_sub(carry) & mask;
            (result, flags::sub_flags(a, b, result, bits))
        }
        OR => (a | b, flags::result_flags(a | b, bits)),
        XOR => (a ^ b, flags::result_flags(a ^ b, bits)),
        _ => (a & b, flags::result_flags(a & b, bits)),
    };
    let changed = if matches!(OP, INC | DEC) { STATUS & !CF } else { STATUS };
    *rflags = *rflags & !changed | new & changed;
    if matches!(OP, CMP | TEST) { a } else { result }
}

fn register_register<const OP: u8, const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let (a, b) = (get::<W>(cpu, d.first), get::<W>(cpu, d.second));
    let result = compute::<OP, W>(&mut cpu.state.rflags, a, b);
    if !matches!(OP, CMP | TEST) {
        set::<W>(cpu, d.first, result);
    }
    Ok(())
}

fn register_immediate<const OP: u8, const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let a = get::<W>(cpu, d.first);
    let result = compute::<OP, W>(&mut cpu.state.rflags, a, d.immediate);
    if !matches!(OP, CMP | TEST) {
        set::<W>(cpu, d.first, result);
    }
    Ok(())
}

fn register_memory<const OP: u8, const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let b = load::<W>(cpu, d)?;
    let a = get::<W>(cpu, d.first);
    let result = compute::<OP, W>(&mut cpu.state.rflags, a, b);
    if !matches!(OP, CMP | TEST) {
        set::<W>(cpu, d.first, result);
    }
    Ok(())
}

fn memory_register<const OP: u8, const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let b = get::<W>(cpu, d.second);
    memory_operand::<OP, W>(cpu, d, b)
}

fn memory_immediate<const OP: u8, const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    memory_operand::<OP, W>(cpu, d, d.immediate)
}

#[inline(always)]
fn memory_operand<const OP: u8, const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded, b: u64) -> Done {
    match OP {
        MOV => store::<W>(cpu, d, b),
        CMP | TEST => {
            let a = load::<W>(cpu, d)?;
            compute::<OP, W>(&mut cpu.state.rflags, a, b);
            Ok(())
        }
        _ => {
            let address = d.address(cpu);
            let offset = (address & 0xfff) as usize;
            if offset <= PAGE_SIZE - W
                && let Some(page) = cpu.tlb.find(AccessKind::Write, address, cpu.rights)
            {
                let a = read_page::<W>(page, offset);
                let result = compute::<OP, W>(&mut cpu.state.rflags, a, b);
                write_page::<W>(page, offset, result);
                return Ok(());
            }
            execute::integer(cpu, d)
        }
    }
}

#[inline(always)]
fn read_page<const W: usize>(page: &HostPage, offset: usize) -> u64 {
    match W {
        1 => page.load8(offset).into(),
        2 => page.load16(offset).into(),
        4 => page.load32(offset).into(),
        _ => page.load64(offset),
    }
}

#[inline(always)]
fn write_page<const W: usize>(page: &HostPage, offset: usize, value: u64) {
    match W {
        1 => page.store8(offset, value as u8),
        2 => page.store16(offset, value as u16),
        4 => page.store32(offset, value as u32),
        _ => page.store64(offset, value),
    }
}

/// Reads at a linear address.
#[inline(always)]
fn load_at<const W: usize>(cpu: &Cpu<'_>, address: u64) -> Option<u64> {
    let offset = (address & 0xfff) as usize;
    if offset > PAGE_SIZE - W {
        return None;
    }
    cpu.tlb.find(AccessKind::Read, address, cpu.rights).map(|page| read_page::<W>(page, offset))
}

/// Writes at a linear address. `false`: nothing was written, the general way must be taken.
#[inline(always)]
fn store_at<const W: usize>(cpu: &mut Cpu<'_>, address: u64, value: u64) -> bool {
    let offset = (address & 0xfff) as usize;
    if offset > PAGE_SIZE - W {
        return false;
    }
    match cpu.tlb.find(AccessKind::Write, address, cpu.rights) {
        Some(page) => {
            write_page::<W>(page, offset, value);
            true
        }
        None => false,
    }
}

/// Reads the memory operand.
#[inline(always)]
fn load<const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done<u64> {
    match load_at::<W>(cpu, d.address(cpu)) {
        Some(value) => Ok(value),
        None => load_slowly(cpu, d, W),
    }
}

#[inline(never)]
fn load_slowly(cpu: &mut Cpu<'_>, d: &Decoded, len: usize) -> Done<u64> {
    let address = cpu.operand_address(&d.instruction, len as u64, AccessKind::Read)?;
    cpu.read(address, len)
}

/// Writes the memory operand.
#[inline(always)]
fn store<const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded, value: u64) -> Done {
    if store_at::<W>(cpu, d.address(cpu), value) { Ok(()) } else { store_slowly(cpu, d, value, W) }
}

#[inline(never)]
fn store_slowly(cpu: &mut Cpu<'_>, d: &Decoded, value: u64, len: usize) -> Done {
    let address = cpu.operand_address(&d.instruction, len as u64, AccessKind::Write)?;
    cpu.write(address, value, len)
}

/// MOVZX, MOVSX, MOVSXD, LEA.
fn extension(i: &Instruction) -> Option<Handler> {
    let to = width(i);
    if i.mnemonic() == Mnemonic::Lea {
        let flat = i.memory_segment() as u32 <= iced_x86::Register::DS as u32;
        return match to {
            8 if flat => Some(lea::<8>),
            4 if flat => Some(lea::<4>),
            _ => None,
        };
    }
    let signed = match i.mnemonic() {
        Mnemonic::Movzx => false,
        Mnemonic::Movsx | Mnemonic::Movsxd => true,
        _ => return None,
    };
    let memory = i.op1_kind() == OpKind::Memory;
    let from = if memory { i.memory_size().size() } else { i.op1_register().size() };
    macro_rules! choose {
        ($($to:literal $from:literal),*) => {
            match (to, from, signed, memory) {
                $(
                    ($to, $from, false, false) => Some(extend_register::<$to, $from, false>),
                    ($to, $from, true, false) => Some(extend_register::<$to, $from, true>),
                    ($to, $from, false, true) => Some(extend_memory::<$to, $from, false>),
                    ($to, $from, true, true) => Some(extend_memory::<$to, $from, true>),
                )*
                _ => None,
            }
        };
    }
    choose!(4 1, 4 2, 8 1, 8 2, 8 4)
}

fn lea<const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let address = d.address(cpu);
    set::<W>(cpu, d.first, address);
    Ok(())
}

#[inline(always)]
fn extended<const FROM: usize, const SIGNED: bool>(value: u64) -> u64 {
    if SIGNED { arithmetic::extend(value, FROM) } else { value }
}

fn extend_register<const TO: usize, const FROM: usize, const SIGNED: bool>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let value = get::<FROM>(cpu, d.second);
    set::<TO>(cpu, d.first, extended::<FROM, SIGNED>(value));
    Ok(())
}

fn extend_memory<const TO: usize, const FROM: usize, const SIGNED: bool>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let value = load::<FROM>(cpu, d)?;
    set::<TO>(cpu, d.first, extended::<FROM, SIGNED>(value));
    Ok(())
}

/// SHL, SHR and SAR of a register by a number.
fn shift(i: &Instruction) -> Option<Handler> {
    let is_immediate = form(i) == Some(Form::RegisterImmediate);
    if !is_immediate {
        return None;
    }
    match (i.mnemonic(), width(i)) {
        (Mnemonic::Shl | Mnemonic::Sal, 8) => Some(shift_by::<SHL, 8>),
        (Mnemonic::Shl | Mnemonic::Sal, 4) => Some(shift_by::<SHL, 4>),
        (Mnemonic::Shr, 8) => Some(shift_by::<SHR, 8>),
        (Mnemonic::Shr, 4) => Some(shift_by::<SHR, 4>),
        (Mnemonic::Sar, 8) => Some(shift_by::<SAR, 8>),
        (Mnemonic::Sar, 4) => Some(shift_by::<SAR, 4>),
        _ => None,
    }
}

const SHL: u8 = 0;
const SHR: u8 = 1;
const SAR: u8 = 2;

fn shift_by<const OP: u8, const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let bits = 8 * W as u32;
    let count = d.immediate as u32 & (bits - 1);
    let a = get::<W>(cpu, d.first);
    let mnemonic = [Mnemonic::Shl, Mnemonic::Shr, Mnemonic::Sar][OP as usize];
    let (result, carry) = arithmetic::shift(mnemonic, a, count, bits);
    if count != 0 {
        let overflow = match OP {
            SAR => false,
            SHR => count == 1 && a >> (bits - 1) & 1 != 0,
            _ => (result >> (bits - 1) & 1 != 0) != carry,
        };
        let new = flags::result_flags(result, bits) | u64::from(carry) | u64::from(overflow) << 11;
        cpu.replace_flags(STATUS & !AF, new);
    }
    set::<W>(cpu, d.first, result);
    Ok(())
}

/// Near branches, calls, returns; PUSH and POP of registers.
fn transfer(i: &Instruction) -> Option<Handler> {
    if i.is_jcc_short_or_near() && i.op0_kind() == OpKind::NearBranch64 {
        return Some(jump_if);
    }
    let register = i.op0_kind() == OpKind::Register;
    match i.mnemonic() {
        Mnemonic::Jmp if i.op0_kind() == OpKind::NearBranch64 => Some(jump),
        Mnemonic::Call if i.op0_kind() == OpKind::NearBranch64 => Some(call),
        Mnemonic::Ret if i.code() == Code::Retnq => Some(ret),
        Mnemonic::Push if register && width(i) == 8 => Some(push),
        Mnemonic::Pop if register && width(i) == 8 => Some(pop),
        _ => None,
    }
}

fn jump_if(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    if !flags::condition(cpu.state.rflags, d.condition) {
        return Ok(());
    }
    jump(cpu, d)
}

fn jump(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    // A target that is not canonical is refused where it is fetched from, at the target itself: rare enough to go the
    // general way, which refuses it here.
    if !cpu.is_canonical(d.immediate) {
        return execute::integer(cpu, d);
    }
    cpu.next_rip = d.immediate;
    Ok(())
}

fn call(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let pointer = cpu.state.gpr[4].wrapping_sub(8);
    let back = cpu.next_rip;
    if !cpu.is_canonical(d.immediate) || !store_at::<8>(cpu, pointer, back) {
        return execute::integer(cpu, d);
    }
    cpu.state.gpr[4] = pointer;
    cpu.next_rip = d.immediate;
    Ok(())
}

fn ret(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    match load_at::<8>(cpu, cpu.state.gpr[4]) {
        Some(target) if cpu.is_canonical(target) => {
            cpu.state.gpr[4] = cpu.state.gpr[4].wrapping_add(8);
            cpu.next_rip = target;
            Ok(())
        }
        _ => execute::integer(cpu, d),
    }
}

fn push(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let pointer = cpu.state.gpr[4].wrapping_sub(8);
    let value = get::<8>(cpu, d.first);
    if !store_at::<8>(cpu, pointer, value) {
        return execute::integer(cpu, d);
    }
    cpu.state.gpr[4] = pointer;
    Ok(())
}

fn pop(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    match load_at::<8>(cpu, cpu.state.gpr[4]) {
        Some(value) => {
            cpu.state.gpr[4] = cpu.state.gpr[4].wrapping_add(8);
            set::<8>(cpu, d.first, value);
            Ok(())
        }
        None => execute::integer(cpu, d),
    }
}

/// NOP, CMOVcc, SETcc, IMUL.
fn other(i: &Instruction) -> Option<Handler> {
    match i.mnemonic() {
        Mnemonic::Nop => return Some(nop),
        Mnemonic::Imul => {
            return match (form(i)?, width(i)) {
                (Form::RegisterRegister, 8) => Some(multiply::<8>),
                (Form::RegisterRegister, 4) => Some(multiply::<4>),
                _ => None,
            };
        }
        _ => {}
    }
    if i.condition_code() == ConditionCode::None || i.is_jcc_short_or_near() {
        return None;
    }
    match (form(i)?, width(i)) {
        (Form::Register, 1) => Some(set_if),
        (Form::RegisterRegister, 8) => Some(move_if::<8>),
        (Form::RegisterRegister, 4) => Some(move_if::<4>),
        _ => None,
    }
}

fn nop(_cpu: &mut Cpu<'_>, _d: &Decoded) -> Done {
    Ok(())
}

fn set_if(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let holds = flags::condition(cpu.state.rflags, d.condition);
    set::<1>(cpu, d.first, holds.into());
    Ok(())
}

fn move_if<const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let from = if flags::condition(cpu.state.rflags, d.condition) { d.second } else { d.first };
    let value = get::<W>(cpu, from);
    set::<W>(cpu, d.first, value);
    Ok(())
}

fn multiply<const W: usize>(cpu: &mut Cpu<'_>, d: &Decoded) -> Done {
    let a = arithmetic::extend(get::<W>(cpu, d.first), W) as i64;
    let b = arithmetic::extend(get::<W>(cpu, d.second), W) as i64;
    let product = i128::from(a) * i128::from(b);
    let fits = product == i128::from(arithmetic::extend(product as u64, W) as i64);
    set::<W>(cpu, d.first, product as u64);
    cpu.replace_flags(CF | flags::OF, if fits { 0 } else { CF | flags::OF });
    Ok(())
}
