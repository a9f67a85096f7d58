//! Moving data: registers, memory, stack, flags.
//!
//! # Source
//! AMD 24594 (APM volume 3), chapter "General-Purpose Instruction Reference".

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::arithmetic::{extend, mask};
use super::cpu::*;
use super::flags::{self, AF, CF, DF, PF, SF, STATUS, ZF};
use crate::{AccessKind, Segments};

impl Cpu<'_> {
    /// Moves. `false`: none of these.
    pub(crate) fn data(&mut self, i: &Instruction) -> Done<bool> {
        match i.mnemonic() {
            Mnemonic::Mov => self.mov(i)?,
            Mnemonic::Movzx => {
                let value = self.operand(i, 1)?;
                self.set_register(i.op0_register(), value);
            }
            // Reads the 32 bits that its form with other operand sizes reads, and takes half of them.
            Mnemonic::Movsxd if i.code() == Code::Movsxd_r16_rm16 && i.op1_kind() == OpKind::Memory => {
                let address = self.operand_address(i, 4, AccessKind::Read)?;
                let value = self.read(address, 4)?;
                self.set_register(i.op0_register(), value);
            }
            Mnemonic::Movsx | Mnemonic::Movsxd => {
                let value = extend(self.operand(i, 1)?, self.operand_len(i, 1));
                self.set_register(i.op0_register(), value);
            }
            Mnemonic::Movbe => {
                let len = self.operand_len(i, 0);
                let value = self.operand(i, 1)?.swap_bytes() >> (64 - 8 * len);
                self.set_operand(i, 0, value)?;
            }
            Mnemonic::Movnti => {
                let value = self.operand(i, 1)?;
                self.set_operand(i, 0, value)?;
            }
            Mnemonic::Bswap => {
                let register = i.op0_register();
                let value = self.register(register);
                let swapped = if register.size() == 8 { value.swap_bytes() } else { value.swap_bytes() >> 32 };
                // Of 16 bits: undefined; the processors give zero.
                self.set_register(register, if register.size() == 2 { 0 } else { swapped });
            }
            Mnemonic::Lea => {
                let address = self.effective_address(i);
                self.set_register(i.op0_register(), address);
            }
            Mnemonic::Xchg => self.exchange(i)?,
            Mnemonic::Xadd => {
                let (len, register) = (self.operand_len(i, 0), i.op1_register());
                let b = self.register(register);
                let sum = |a: u64| a.wrapping_add(b) & mask(len);
                let a = self.update_operand(i, sum)?;
                if i.op0_kind() == OpKind::Register {
                    // XADD of a register with itself leaves the sum.
                    self.set_register(register, a);
                    self.set_register(i.op0_register(), sum(a));
                } else {
                    self.set_register(register, a);
                }
                self.replace_flags(STATUS, flags::add_flags(a, b, sum(a), 8 * len as u32));
            }
            Mnemonic::Cmpxchg => self.compare_exchange(i)?,
            Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b => self.compare_exchange_pair(i)?,
            Mnemonic::Push => self.push_operand(i)?,
            Mnemonic::Pop => self.pop_operand(i)?,
            Mnemonic::Pusha | Mnemonic::Pushad => self.push_all(if i.mnemonic() == Mnemonic::Pusha { 2 } else { 4 })?,
            Mnemonic::Popa | Mnemonic::Popad => self.pop_all(if i.mnemonic() == Mnemonic::Popa { 2 } else { 4 })?,
            Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Pushfq => self.push_flags(i)?,
            Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq => self.pop_flags(i)?,
            Mnemonic::Enter => self.enter(i)?,
            // Nothing to write back, but the line must be there.
            Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => {
                let address = self.operand_address(i, 1, AccessKind::Read)?;
                self.probe(address, 1, AccessKind::Read)?;
            }
            Mnemonic::Leave => self.leave(i)?,
            Mnemonic::Lahf => {
                let low = self.state.rflags & 0xd5 | 2;
                self.set_register(Register::AH, low);
            }
            Mnemonic::Sahf => {
                let ah = self.register(Register::AH);
                let mask = SF | ZF | AF | PF | CF;
                self.replace_flags(mask, ah & mask);
            }
            Mnemonic::Cbw => self.set_sized(0, extend(self.state.gpr[0], 1), 2),
            Mnemonic::Cwde => self.set_sized(0, extend(self.state.gpr[0], 2), 4),
            Mnemonic::Cdqe => self.set_sized(0, extend(self.state.gpr[0], 4), 8),
            Mnemonic::Cwd => self.set_sized(2, (extend(self.state.gpr[0], 2) as i64 >> 63) as u64, 2),
            Mnemonic::Cdq => self.set_sized(2, (extend(self.state.gpr[0], 4) as i64 >> 63) as u64, 4),
            Mnemonic::Cqo => self.set_sized(2, (self.state.gpr[0] as i64 >> 63) as u64, 8),
            Mnemonic::Clc => self.set_flag(CF, false),
            Mnemonic::Stc => self.set_flag(CF, true),
            Mnemonic::Cmc => self.state.rflags ^= CF,
            Mnemonic::Cld => self.set_flag(DF, false),
            Mnemonic::Std => self.set_flag(DF, true),
            Mnemonic::Salc => {
                let value = if self.flag(CF) { 0xff } else { 0 };
                self.set_register(Register::AL, value);
            }
            Mnemonic::Xlatb => {
                let address = self.effective_address_of_xlat(i);
                let address = self.linear_in(segment_index(i.memory_segment()), address, 1, AccessKind::Read)?;
                let value = self.read(address, 1)?;
                self.set_register(Register::AL, value);
            }
            Mnemonic::Lds | Mnemonic::Les | Mnemonic::Lfs | Mnemonic::Lgs | Mnemonic::Lss => self.load_far(i)?,
            _ => return Ok(self.conditional(i)? || self.does_nothing(i)),
        }
        Ok(true)
    }

    /// CMOVcc and SETcc.
    fn conditional(&mut self, i: &Instruction) -> Done<bool> {
        let condition = i.condition_code();
        if condition == iced_x86::ConditionCode::None || i.is_jcc_short_or_near() {
            return Ok(false);
        }
        let holds = flags::condition(self.state.rflags, condition as u8 - 1);
        if i.op_count() == 1 {
            if i.op_kind(0) != OpKind::Register && i.op_kind(0) != OpKind::Memory {
                return Ok(false);
            }
            self.set_operand(i, 0, holds.into())?;
        } else if i.op_count() == 2 {
            // The source is read whether or not it is used, and a 32-bit destination is extended.
            let value = self.operand(i, 1)?;
            let register = i.op0_register();
            let old = self.register(register);
            self.set_register(register, if holds { value } else { old });
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Hints and fences, which have nothing to order here.
    fn does_nothing(&self, i: &Instruction) -> bool {
        matches!(
            i.mnemonic(),
            Mnemonic::Nop
                | Mnemonic::Pause
                | Mnemonic::Endbr64
                | Mnemonic::Endbr32
                | Mnemonic::Lfence
                | Mnemonic::Mfence
                | Mnemonic::Sfence
                | Mnemonic::Prefetchnta
                | Mnemonic::Prefetcht0
                | Mnemonic::Prefetcht1
                | Mnemonic::Prefetcht2
                | Mnemonic::Prefetchw
                | Mnemonic::Prefetch
                | Mnemonic::Prefetchwt1
                | Mnemonic::Cldemote
                | Mnemonic::Serialize
                | Mnemonic::Reservednop
        )
    }

    fn mov(&mut self, i: &Instruction) -> Done {
        let (to, from) = (i.op0_register(), i.op1_register());
        if i.op0_kind() == OpKind::Register {
            if to.is_segment_register() {
                let selector = self.operand(i, 1)? as u16;
                if to == Register::CS {
                    return Err(ud());
                }
                self.load_segment(segment_index(to), selector)?;
                self.end_block = true;
                if to == Register::SS {
                    self.state.interrupt_shadow = true;
                    self.update_mode();
                }
                return Ok(());
            }
            if to.is_cr() {
                let value = self.register(from);
                return self.write_cr(to, value);
            }
            if to.is_dr() {
                let value = self.register(from);
                return self.write_dr(to, value);
            }
        }
        if i.op1_kind() == OpKind::Register {
            if from.is_segment_register() {
                let selector = self.segment(from).1.selector;
                if i.op0_kind() == OpKind::Memory {
                    let address = self.operand_address(i, 2, AccessKind::Write)?;
                    return self.write(address, selector.into(), 2);
                }
                self.set_register(to, selector.into());
                return Ok(());
            }
            if from.is_cr() {
                let value = self.read_cr(from)?;
                self.set_register(to, value);
                return Ok(());
            }
            if from.is_dr() {
                let value = self.read_dr(from)?;
                self.set_register(to, value);
                return Ok(());
            }
        }
        let value = self.operand(i, 1)?;
        self.set_operand(i, 0, value)
    }

    fn exchange(&mut self, i: &Instruction) -> Done {
        let (memory, register) = if i.op0_kind() == OpKind::Memory { (0, 1) } else { (1, 0) };
        let register = i.op_register(register);
        let value = self.register(register);
        if i.op_kind(memory) == OpKind::Memory {
            let len = i.memory_size().size();
            let address = self.operand_address(i, len as u64, AccessKind::Write)?;
            // Locked with or without the prefix.
            let old = self.update(address, len, true, |_| value)?;
            self.set_register(register, old);
        } else {
            let other = i.op_register(memory);
            let old = self.register(other);
            self.set_register(other, value);
            self.set_register(register, old);
        }
        Ok(())
    }

    fn compare_exchange(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let expected = self.state.gpr[0] & mask(len);
        let new = self.register(i.op1_register());
        let old = if i.op0_kind() == OpKind::Register {
            let old = self.register(i.op0_register());
            if old == expected {
                self.set_register(i.op0_register(), new);
            }
            old
        } else {
            // The processor writes in either case.
            self.update_operand(i, |old| if old == expected { new } else { old })?
        };
        if old != expected {
            self.set_sized(0, old, len);
        }
        let flags = flags::sub_flags(expected, old, expected.wrapping_sub(old) & mask(len), 8 * len as u32);
        self.replace_flags(STATUS, flags);
        Ok(())
    }

    fn compare_exchange_pair(&mut self, i: &Instruction) -> Done {
        let gpr = self.state.gpr;
        let low = |value: u64| value & 0xffff_ffff;
        let equal = if i.mnemonic() == Mnemonic::Cmpxchg8b {
            let expected = low(gpr[0]) | gpr[2] << 32;
            let new = low(gpr[3]) | gpr[1] << 32;
            let address = self.operand_address(i, 8, AccessKind::Write)?;
            let old = self.update(address, 8, i.has_lock_prefix(), |old| if old == expected { new } else { old })?;
            if old != expected {
                (self.state.gpr[0], self.state.gpr[2]) = (low(old), old >> 32);
            }
            old == expected
        } else {
            let expected = u128::from(gpr[0]) | u128::from(gpr[2]) << 64;
            let new = u128::from(gpr[3]) | u128::from(gpr[1]) << 64;
            let address = self.aligned(i, 16, 16, AccessKind::Write).map_err(Fault::from)?;
            let old = self.compare_exchange_16(address, expected, new)?;
            if old != expected {
                (self.state.gpr[0], self.state.gpr[2]) = (old as u64, (old >> 64) as u64);
            }
            old == expected
        };
        self.set_flag(ZF, equal);
        Ok(())
    }

    fn push_operand(&mut self, i: &Instruction) -> Done {
        let len = (-i.stack_pointer_increment()) as usize;
        if i.op0_kind() == OpKind::Register && i.op0_register().is_segment_register() {
            let selector = self.segment(i.op0_register()).1.selector;
            return self.push(selector.into(), len);
        }
        let value = self.operand(i, 0)?;
        self.push(value, len)
    }

    fn pop_operand(&mut self, i: &Instruction) -> Done {
        let len = i.stack_pointer_increment() as usize;
        let value = self.peek(0, len)?;
        if i.op0_kind() == OpKind::Register {
            let register = i.op0_register();
            if register.is_segment_register() {
                self.load_segment(segment_index(register), value as u16)?;
                self.drop_stack(len as u64);
                self.end_block = true;
                if register == Register::SS {
                    self.state.interrupt_shadow = true;
                    self.update_mode();
                }
                return Ok(());
            }
            self.drop_stack(len as u64);
            self.set_register(register, value);
            return Ok(());
        }
        // An address with RSP in it is made with the pointer after the pop.
        let before = self.state.gpr[4];
        self.drop_stack(len as u64);
        let done = self.set_operand(i, 0, value);
        if done.is_err() {
            self.state.gpr[4] = before;
        }
        done
    }

    fn push_all(&mut self, len: usize) -> Done {
        let values = self.state.gpr;
        let mut pointer = values[4];
        for value in &values[..8] {
            pointer = self.pushed(pointer, len as u64);
            let address = self.linear_in(Segments::SS, pointer, len as u64, AccessKind::Write)?;
            self.write(address, value & mask(len), len)?;
        }
        self.set_stack_pointer(pointer);
        Ok(())
    }

    fn pop_all(&mut self, len: usize) -> Done {
        let mut values = [0; 8];
        for (index, value) in values.iter_mut().enumerate() {
            *value = self.peek((index * len) as u64, len)?;
        }
        for (index, value) in values.into_iter().rev().enumerate() {
            if index != 4 {
                self.set_sized(index, value, len);
            }
        }
        self.drop_stack(8 * len as u64);
        Ok(())
    }

    fn push_flags(&mut self, i: &Instruction) -> Done {
        if self.mode.virtual_8086 && self.state.rflags & flags::IOPL != flags::IOPL {
            return Err(gp());
        }
        let len = (-i.stack_pointer_increment()) as usize;
        self.push(self.state.rflags & !(flags::RF | flags::VM), len)
    }

    fn pop_flags(&mut self, i: &Instruction) -> Done {
        if self.mode.virtual_8086 && self.state.rflags & flags::IOPL != flags::IOPL {
            return Err(gp());
        }
        let len = i.stack_pointer_increment() as usize;
        let value = self.pop(len)?;
        let privileged = if self.mode.virtual_8086 { 3 } else { self.state.cpl };
        // POPF leaves VIF and VIP, and clears RF.
        let kept = self.state.rflags & (flags::VIF | flags::VIP | flags::VM);
        let iopl = self.state.rflags & flags::IOPL;
        self.return_flags(value & !(flags::RF | flags::VIF | flags::VIP), len, privileged);
        let iopl = if privileged == 0 { self.state.rflags & flags::IOPL } else { iopl };
        let others = self.state.rflags & !(flags::VIF | flags::VIP | flags::VM | flags::IOPL);
        self.set_rflags(others | kept | iopl);
        Ok(())
    }

    fn enter(&mut self, i: &Instruction) -> Done {
        let (size, level) = (u64::from(i.immediate16()), i.immediate8_2nd() & 31);
        let len = match i.code() {
            Code::Enterw_imm16_imm8 => 2,
            Code::Enterd_imm16_imm8 => 4,
            _ => 8,
        };
        let step = len as u64;
        let mut pointer = self.pushed(self.state.gpr[4], step);
        let put = |cpu: &mut Self, pointer: u64, value: u64| {
            let address = cpu.linear_in(Segments::SS, pointer, step, AccessKind::Write)?;
            cpu.require_alignment(address, step)?;
            cpu.write(address, value & mask(len), len)
        };
        put(self, pointer, self.state.gpr[5])?;
        let frame = pointer;
        if level > 0 {
            let mut from = self.state.gpr[5];
            for _ in 1..level {
                from = self.pushed(from, step);
                let address = self.linear_in(Segments::SS, from, step, AccessKind::Read)?;
                self.require_alignment(address, step)?;
                let value = self.read(address, len)?;
                pointer = self.pushed(pointer, step);
                put(self, pointer, value)?;
            }
            pointer = self.pushed(pointer, step);
            put(self, pointer, frame)?;
        }
        let pointer = self.pushed(pointer, size);
        // The new top of the stack must be writable, although nothing is written.
        let address = self.linear_in(Segments::SS, pointer, step, AccessKind::Write)?;
        self.require_alignment(address, step)?;
        self.probe(address, len, AccessKind::Write)?;
        self.set_sized(5, frame, len);
        self.set_stack_pointer(pointer);
        Ok(())
    }

    fn leave(&mut self, i: &Instruction) -> Done {
        let len = match i.code() {
            Code::Leavew => 2,
            Code::Leaved => 4,
            _ => 8,
        };
        let pointer = self.state.gpr[5] & self.mode.stack_mask;
        let address = self.linear_in(Segments::SS, pointer, len as u64, AccessKind::Read)?;
        let value = self.read(address, len)?;
        self.set_stack_pointer(pointer.wrapping_add(len as u64) & self.mode.stack_mask);
        self.set_sized(5, value, len);
        Ok(())
    }

    fn effective_address_of_xlat(&self, i: &Instruction) -> u64 {
        let base = self.register(i.memory_base());
        let sum = base.wrapping_add(self.state.gpr[0] & 0xff);
        sum & mask(i.memory_base().size())
    }

    fn load_far(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let address = self.operand_address(i, len as u64 + 2, AccessKind::Read)?;
        let offset = self.read(address, len)?;
        let selector = self.read(address.wrapping_add(len as u64), 2)? as u16;
        let segment = match i.mnemonic() {
            Mnemonic::Lds => Segments::DS,
            Mnemonic::Les => Segments::ES,
            Mnemonic::Lfs => Segments::FS,
            Mnemonic::Lgs => Segments::GS,
            _ => Segments::SS,
        };
        self.load_segment(segment, selector)?;
        self.set_register(i.op0_register(), offset);
        self.end_block = true;
        Ok(())
    }
}
