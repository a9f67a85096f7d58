//! Transfers of control: near and far branches, software interrupts and their returns, system calls.
//!
//! # Source
//! AMD 24594 (APM volume 3), "CALL (Far)", "RET (Far)", "JMP (Far)", "IRET", "SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT", "LOOPcc".

use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use snp_abi::Segment;

use super::cpu::*;
use super::events::{Event, EventKind};
use super::flags;
use super::segments::Descriptor;
use crate::{AccessKind, Exception, Segments, Trap};

impl Cpu<'_> {
    /// Goes to an offset of the code segment.
    pub(crate) fn jump(&mut self, target: u64) -> Done {
        let fits = if self.is_64_bit() {
            self.is_canonical(target)
        } else {
            target <= self.state.segments[Segments::CS].limit.into() || self.mode.is_real() && target <= 0xffff
        };
        if !fits {
            return Err(gp());
        }
        self.next_rip = target;
        self.end_block = true;
        Ok(())
    }

    /// Bytes of a near branch's operand.
    fn branch_len(&self, instruction: &Instruction) -> usize {
        match instruction.op_kind(0) {
            OpKind::NearBranch16 => 2,
            OpKind::NearBranch32 => 4,
            OpKind::NearBranch64 => 8,
            _ => self.operand_len(instruction, 0),
        }
    }

    pub(crate) fn near_target(&mut self, instruction: &Instruction) -> Done<u64> {
        match instruction.op_kind(0) {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => Ok(instruction.near_branch_target()),
            _ => self.operand(instruction, 0),
        }
    }

    /// Branches, calls and returns, software interrupts, system calls. `false`: none of these.
    pub(crate) fn control(&mut self, instruction: &Instruction) -> Done<bool> {
        match instruction.mnemonic() {
            Mnemonic::Jmp => {
                if is_far(instruction) {
                    let (selector, offset) = self.far_target(instruction)?;
                    self.far_jump(selector, offset)?;
                } else {
                    let target = self.near_target(instruction)?;
                    self.jump(target)?;
                }
            }
            Mnemonic::Call => {
                if is_far(instruction) {
                    self.far_call(instruction)?;
                } else {
                    let target = self.near_target(instruction)?;
                    let len = self.branch_len(instruction);
                    let back = self.next_rip;
                    if let Err(fault) = self.check_jump(target) {
                        // A stack that cannot be written counts more than a target that is none.
                        let pointer = self.pushed(self.state.gpr[4], len as u64);
                        let top = self.linear_in(Segments::SS, pointer, len as u64, AccessKind::Write)?;
                        self.probe(top, len, AccessKind::Write)?;
                        return Err(fault);
                    }
                    self.push(back, len)?;
                    self.jump(target)?;
                }
            }
            Mnemonic::Ret => {
                let len = stack_operand(instruction);
                let target = self.peek(0, len)?;
                self.jump(target)?;
                let extra = if instruction.op_count() == 1 { instruction.immediate16().into() } else { 0 };
                self.drop_stack(len as u64 + extra);
            }
            Mnemonic::Retf => self.far_return(instruction)?,
            Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne => self.count_loop(instruction)?,
            Mnemonic::Jcxz | Mnemonic::Jecxz | Mnemonic::Jrcxz => {
                let mask = match instruction.mnemonic() {
                    Mnemonic::Jcxz => 0xffff,
                    Mnemonic::Jecxz => 0xffff_ffff,
                    _ => u64::MAX,
                };
                if self.state.gpr[1] & mask == 0 {
                    self.jump(instruction.near_branch_target())?;
                }
                self.end_block = true;
            }
            Mnemonic::Int => self.software_interrupt(instruction.immediate8())?,
            Mnemonic::Int3 if self.state.is_intercepted(3) => return Err(Exception::BREAKPOINT.into()),
            Mnemonic::Int3 => self.software_interrupt(3)?,
            Mnemonic::Into => {
                if self.flag(flags::OF) {
                    self.software_interrupt(4)?;
                }
            }
            Mnemonic::Int1 => return Err(Exception::DEBUG.into()),
            Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => self.interrupt_return(instruction)?,
            Mnemonic::Syscall => self.syscall()?,
            Mnemonic::Sysret | Mnemonic::Sysretq => self.sysret(instruction.mnemonic() == Mnemonic::Sysretq)?,
            Mnemonic::Sysenter => self.sysenter()?,
            Mnemonic::Sysexit | Mnemonic::Sysexitq => self.sysexit(instruction.mnemonic() == Mnemonic::Sysexitq)?,
            Mnemonic::Bound => self.bound(instruction)?,
            mnemonic if instruction.is_jcc_short_or_near() => {
                let _ = mnemonic;
                if flags::condition(self.state.rflags, instruction.condition_code() as u8 - 1) {
                    self.jump(instruction.near_branch_target())?;
                }
                self.end_block = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn check_jump(&self, target: u64) -> Done {
        let limit = u64::from(self.state.segments[Segments::CS].limit);
        let fits = if self.is_64_bit() { self.is_canonical(target) } else { target <= limit };
        if fits { Ok(()) } else { Err(gp()) }
    }

    fn count_loop(&mut self, instruction: &Instruction) -> Done {
        let mask = match instruction.code() {
            Code::Loop_rel8_16_CX
            | Code::Loop_rel8_32_CX
            | Code::Loope_rel8_16_CX
            | Code::Loope_rel8_32_CX
            | Code::Loopne_rel8_16_CX
            | Code::Loopne_rel8_32_CX => 0xffff,
            Code::Loop_rel8_64_RCX
            | Code::Loop_rel8_16_RCX
            | Code::Loope_rel8_64_RCX
            | Code::Loope_rel8_16_RCX
            | Code::Loopne_rel8_64_RCX
            | Code::Loopne_rel8_16_RCX => u64::MAX,
            _ => 0xffff_ffff,
        };
        let count = self.state.gpr[1].wrapping_sub(1) & mask;
        let taken = count != 0
            && match instruction.mnemonic() {
                Mnemonic::Loope => self.flag(flags::ZF),
                Mnemonic::Loopne => !self.flag(flags::ZF),
                _ => true,
            };
        if taken {
            self.jump(instruction.near_branch_target())?;
        }
        self.state.gpr[1] = match mask {
            0xffff => self.state.gpr[1] & !0xffff | count,
            _ => count,
        };
        self.end_block = true;
        Ok(())
    }

    fn bound(&mut self, instruction: &Instruction) -> Done {
        let len = self.operand_len(instruction, 0);
        let address = self.operand_address(instruction, 2 * len as u64, AccessKind::Read)?;
        let sign = |value: u64| if len == 2 { i64::from(value as i16) } else { i64::from(value as i32) };
        let index = sign(self.operand(instruction, 0)?);
        let lower = sign(self.read(address, len)?);
        let upper = sign(self.read(address + len as u64, len)?);
        if index < lower || index > upper { Err(Exception::BOUND.into()) } else { Ok(()) }
    }

    fn software_interrupt(&mut self, vector: u8) -> Done {
        if self.mode.virtual_8086 && vector != 3 && self.state.rflags & flags::IOPL != flags::IOPL {
            return Err(gp());
        }
        let back = self.next_rip;
        self.deliver(Event { vector, error: None, kind: EventKind::Software }, back)?;
        self.next_rip = self.state.rip;
        self.end_block = true;
        Ok(())
    }

    fn far_target(&mut self, instruction: &Instruction) -> Done<(u16, u64)> {
        match instruction.op_kind(0) {
            OpKind::FarBranch16 => Ok((instruction.far_branch_selector(), instruction.far_branch16().into())),
            OpKind::FarBranch32 => Ok((instruction.far_branch_selector(), instruction.far_branch32().into())),
            _ => {
                let size = instruction.memory_size().size();
                let address = self.operand_address(instruction, size as u64, AccessKind::Read)?;
                let offset = self.read(address, size - 2)?;
                let selector = self.read(address + (size - 2) as u64, 2)?;
                Ok((selector as u16, offset))
            }
        }
    }

    /// The code segment that a far branch may go to without a gate.
    fn branch_descriptor(&mut self, selector: u16) -> Done<Descriptor> {
        let error = u32::from(selector & 0xfffc);
        if error == 0 {
            return Err(gp());
        }
        let descriptor = self.descriptor(selector, Exception::general_protection)?;
        if descriptor.is_system() && matches!(descriptor.kind(), 1 | 3 | 4 | 5 | 9 | 11 | 12) {
            return Err(Box::new(Trap::Unmodelled("a far branch through a call gate, a task gate or a TSS".into())));
        }
        let cpl = self.state.cpl;
        let allowed = if descriptor.is_conforming() {
            descriptor.dpl() <= cpl
        } else {
            descriptor.dpl() == cpl && selector as u8 & 3 <= cpl
        };
        let impossible = self.mode.long
            && descriptor.attrib() & (attribute::LONG | attribute::BIG) == attribute::LONG | attribute::BIG;
        if !descriptor.is_code() || !allowed || impossible {
            return Err(Exception::general_protection(error).into());
        }
        if !descriptor.is_present() {
            return Err(Exception::not_present(error).into());
        }
        Ok(descriptor)
    }

    fn far_jump(&mut self, selector: u16, offset: u64) -> Done {
        if self.mode.is_real() {
            if offset > 0xffff && self.mode.bits == 16 {
                return Err(gp());
            }
            self.load_segment(Segments::CS, selector)?;
        } else {
            let descriptor = self.branch_descriptor(selector)?;
            self.check_offset(descriptor, offset)?;
            self.set_accessed(selector, descriptor)?;
            self.set_code_segment(selector, descriptor, self.state.cpl);
        }
        self.next_rip = offset;
        self.end_block = true;
        Ok(())
    }

    fn check_offset(&self, descriptor: Descriptor, offset: u64) -> Done {
        let is_64 = self.mode.long && descriptor.attrib() & attribute::LONG != 0;
        let fits = if is_64 { self.is_canonical(offset) } else { offset <= descriptor.limit().into() };
        if fits { Ok(()) } else { Err(gp()) }
    }

    fn far_call(&mut self, instruction: &Instruction) -> Done {
        let (selector, offset) = self.far_target(instruction)?;
        let len = match instruction.op_kind(0) {
            OpKind::FarBranch16 => 2,
            OpKind::FarBranch32 => 4,
            _ => instruction.memory_size().size() - 2,
        };
        let back = self.next_rip;
        let cs = u64::from(self.state.segments[Segments::CS].selector);
        let descriptor = if self.mode.is_real() { None } else { Some(self.branch_descriptor(selector)?) };
        if let Some(descriptor) = descriptor {
            self.check_offset(descriptor, offset)?;
        }
        let first = self.pushed(self.state.gpr[4], len as u64);
        let second = self.pushed(first, len as u64);
        let upper = self.linear_in(Segments::SS, first, len as u64, AccessKind::Write)?;
        let lower = self.linear_in(Segments::SS, second, len as u64, AccessKind::Write)?;
        self.write(upper, cs, len)?;
        self.write(lower, back, len)?;
        self.far_jump(selector, offset)?;
        self.set_stack_pointer(second);
        Ok(())
    }

    fn far_return(&mut self, instruction: &Instruction) -> Done {
        let len = stack_operand(instruction);
        let extra = if instruction.op_count() == 1 { u64::from(instruction.immediate16()) } else { 0 };
        let offset = self.peek(0, len)?;
        let selector = self.peek(len as u64, len)? as u16;
        if self.mode.is_real() {
            self.far_jump(selector, offset)?;
            self.drop_stack(2 * len as u64 + extra);
            return Ok(());
        }
        self.return_to(selector, offset, len, 2 * len as u64 + extra, extra, None)
    }

    /// Returns from a far call or an interrupt, to the same privilege level or an outer one: SS and the stack pointer are
    /// taken from the stack if it changes, or `always`.
    fn return_to(
        &mut self,
        selector: u16,
        offset: u64,
        len: usize,
        taken: u64,
        extra: u64,
        interrupted: Option<u64>,
    ) -> Done {
        let error = u32::from(selector & 0xfffc);
        let rpl = selector as u8 & 3;
        if error == 0 {
            return Err(gp());
        }
        let descriptor = self.descriptor(selector, Exception::general_protection)?;
        let dpl_fits = if descriptor.is_conforming() { descriptor.dpl() <= rpl } else { descriptor.dpl() == rpl };
        if !descriptor.is_code() || rpl < self.state.cpl || !dpl_fits {
            return Err(Exception::general_protection(error).into());
        }
        if !descriptor.is_present() {
            return Err(Exception::not_present(error).into());
        }
        self.check_offset(descriptor, offset)?;
        let outer = rpl > self.state.cpl;
        let pops_stack = outer || interrupted.is_some() && self.mode.bits == 64;
        let old_cpl = self.state.cpl;
        let stack = if pops_stack {
            let pointer = self.peek(taken, len)?;
            let ss = self.peek(taken + len as u64, len)? as u16;
            Some((ss, pointer))
        } else {
            None
        };
        let before = self.state.segments.registers;
        self.set_accessed(selector, descriptor)?;
        self.set_code_segment(selector, descriptor, rpl);
        if let Some((ss, pointer)) = stack {
            let loaded = self.load_stack_segment(ss, rpl, Exception::general_protection);
            if let Err(fault) = loaded {
                self.state.segments.registers = before;
                self.state.cpl = old_cpl;
                self.update_mode();
                return Err(fault);
            }
            self.update_mode();
            self.set_stack_pointer(pointer.wrapping_add(extra));
        } else {
            self.drop_stack(taken);
        }
        if outer {
            self.drop_inner_segments();
        }
        if let Some(rflags) = interrupted {
            self.return_flags(rflags, len, old_cpl);
        }
        self.next_rip = if len == 2 { offset & 0xffff } else { offset };
        self.end_block = true;
        Ok(())
    }

    /// Data segments that the outer level may not use become null.
    fn drop_inner_segments(&mut self) {
        for index in [Segments::ES, Segments::DS, Segments::FS, Segments::GS] {
            let attrib = self.state.segments[index].attrib;
            let conforming =
                attrib & (attribute::CODE | attribute::CONFORMING) == attribute::CODE | attribute::CONFORMING;
            let dpl = (attrib >> attribute::DPL_SHIFT & 3) as u8;
            if attrib & attribute::PRESENT != 0 && !conforming && dpl < self.state.cpl {
                let register = &mut self.state.segments[index];
                (register.selector, register.attrib) = (0, 0);
                if !self.mode.long {
                    (register.base, register.limit) = (0, 0);
                }
            }
        }
    }

    /// The flags that a return at that privilege level may change.
    pub(crate) fn return_flags(&mut self, value: u64, len: usize, cpl: u8) {
        let mut mask = flags::STATUS | flags::TF | flags::DF | flags::NT | flags::RF | flags::AC | flags::ID;
        let iopl = (self.state.rflags >> 12 & 3) as u8;
        if cpl <= iopl {
            mask |= flags::IF;
        }
        if cpl == 0 {
            mask |= flags::IOPL | flags::VIF | flags::VIP;
        }
        if len == 2 {
            mask &= 0xffff;
        }
        let kept = self.state.rflags & !mask;
        self.set_rflags(kept | value & mask);
    }

    fn interrupt_return(&mut self, instruction: &Instruction) -> Done {
        let len = match instruction.mnemonic() {
            Mnemonic::Iret => 2,
            Mnemonic::Iretd => 4,
            _ => 8,
        };
        let step = len as u64;
        let (offset, selector) = (self.peek(0, len)?, self.peek(step, len)? as u16);
        let rflags = self.peek(2 * step, len)?;
        if self.mode.is_real() {
            if self.mode.virtual_8086 && self.state.rflags & flags::IOPL != flags::IOPL {
                return Err(gp());
            }
            let protected = self.mode.virtual_8086;
            self.far_jump(selector, offset)?;
            self.drop_stack(3 * step);
            if protected {
                let kept = self.state.rflags & (flags::IOPL | flags::VM);
                self.return_flags(rflags, len, 3);
                let value = self.state.rflags & !(flags::IOPL | flags::VM | flags::IF) | kept | rflags & flags::IF;
                self.set_rflags(value);
            } else {
                self.return_flags(rflags, len, 0);
            }
            self.state.nmi_blocked = false;
            return Ok(());
        }
        if self.flag(flags::NT) {
            if self.mode.long {
                return Err(gp());
            }
            return Err(Box::new(Trap::Unmodelled("a return to another task (IRET with NT set)".into())));
        }
        if !self.mode.long && len == 4 && rflags & flags::VM != 0 && self.state.cpl == 0 {
            return self.return_to_8086(offset, selector, rflags);
        }
        self.return_to(selector, offset, len, 3 * step, 0, Some(rflags))?;
        self.state.nmi_blocked = false;
        Ok(())
    }

    fn return_to_8086(&mut self, offset: u64, selector: u16, rflags: u64) -> Done {
        let mut values = [0; 6];
        for (index, value) in values.iter_mut().enumerate() {
            *value = self.peek(12 + 4 * index as u64, 4)?;
        }
        let [esp, ss, es, ds, fs, gs] = values;
        self.state.rflags = rflags | flags::FIXED;
        self.state.cpl = 3;
        self.update_mode();
        let loads = [
            (Segments::CS, selector.into()),
            (Segments::SS, ss),
            (Segments::ES, es),
            (Segments::DS, ds),
            (Segments::FS, fs),
            (Segments::GS, gs),
        ];
        for (index, selector) in loads {
            self.load_segment(index, selector as u16)?;
        }
        self.state.gpr[4] = esp;
        self.next_rip = offset & 0xffff;
        self.state.nmi_blocked = false;
        self.update_mode();
        Ok(())
    }

    fn syscall(&mut self) -> Done {
        if self.state.efer & EFER_SCE == 0 {
            return Err(ud());
        }
        if !self.mode.protected || self.mode.virtual_8086 {
            return Err(ud());
        }
        let selector = (self.state.star >> 32) as u16 & 0xfffc;
        if self.mode.long {
            let bits = self.mode.bits;
            self.state.gpr[1] = self.next_rip;
            self.state.gpr[11] = self.state.rflags & !flags::RF;
            let target = if bits == 64 { self.state.lstar } else { self.state.cstar };
            self.flat_code(selector, 0, 0xa9b);
            self.flat_stack(selector.wrapping_add(8), 0);
            let cleared = self.state.sfmask | flags::RF;
            self.state.cpl = 0;
            self.set_rflags(self.state.rflags & !cleared);
            self.next_rip = target;
        } else {
            self.state.gpr[1] = self.next_rip & 0xffff_ffff;
            let target = self.state.star & 0xffff_ffff;
            self.flat_code(selector, 0, 0xc9b);
            self.flat_stack(selector.wrapping_add(8), 0);
            self.state.cpl = 0;
            self.set_rflags(self.state.rflags & !(flags::VM | flags::IF | flags::RF));
            self.next_rip = target;
        }
        self.update_mode();
        Ok(())
    }

    fn sysret(&mut self, wide: bool) -> Done {
        if self.state.efer & EFER_SCE == 0 {
            return Err(ud());
        }
        self.want_cpl0()?;
        if !self.mode.protected {
            return Err(gp());
        }
        let base = (self.state.star >> 48) as u16;
        if self.mode.long {
            if wide {
                if !self.is_canonical(self.state.gpr[1]) {
                    return Err(gp());
                }
                self.flat_code(base.wrapping_add(16) | 3, 3, 0xafb);
                self.next_rip = self.state.gpr[1];
            } else {
                self.flat_code(base | 3, 3, 0xcfb);
                self.next_rip = self.state.gpr[1] & 0xffff_ffff;
            }
            let allowed = !(flags::RF | flags::VM) & 0x003f_7fd7;
            self.state.cpl = 3;
            // AMD processors load only the selector of SS; its attributes are as user code expects them anyway.
            self.flat_stack(base.wrapping_add(8) | 3, 3);
            self.set_rflags(self.state.gpr[11] & allowed);
        } else {
            self.flat_code(base | 3, 3, 0xcfb);
            self.next_rip = self.state.gpr[1] & 0xffff_ffff;
            self.state.cpl = 3;
            self.flat_stack(base.wrapping_add(8) | 3, 3);
            self.set_rflags(self.state.rflags | flags::IF);
        }
        self.update_mode();
        Ok(())
    }

    fn sysenter(&mut self) -> Done {
        if self.mode.long {
            // Not in long mode on AMD processors.
            return Err(ud());
        }
        let selector = self.state.sysenter_cs as u16 & 0xfffc;
        if !self.mode.protected || selector == 0 {
            return Err(gp());
        }
        self.flat_code(selector, 0, 0xc9b);
        self.flat_stack(selector.wrapping_add(8), 0);
        self.state.cpl = 0;
        self.state.gpr[4] = self.state.sysenter_esp & 0xffff_ffff;
        self.set_rflags(self.state.rflags & !(flags::VM | flags::IF | flags::RF));
        self.next_rip = self.state.sysenter_eip & 0xffff_ffff;
        self.update_mode();
        Ok(())
    }

    fn sysexit(&mut self, _wide: bool) -> Done {
        if self.mode.long {
            return Err(ud());
        }
        let selector = self.state.sysenter_cs as u16 & 0xfffc;
        if !self.mode.protected || selector == 0 {
            return Err(gp());
        }
        self.want_cpl0()?;
        self.flat_code(selector.wrapping_add(16) | 3, 3, 0xcfb);
        self.flat_stack(selector.wrapping_add(24) | 3, 3);
        self.state.cpl = 3;
        self.state.gpr[4] = self.state.gpr[1] & 0xffff_ffff;
        self.next_rip = self.state.gpr[2] & 0xffff_ffff;
        self.update_mode();
        Ok(())
    }

    /// CS as a system call makes it: base 0, the whole address space, nothing read from a table.
    fn flat_code(&mut self, selector: u16, cpl: u8, attrib: u16) {
        self.state.segments[Segments::CS] = Segment { selector, attrib, limit: u32::MAX, base: 0 };
        self.state.cpl = cpl;
    }

    fn flat_stack(&mut self, selector: u16, cpl: u8) {
        let attrib = 0xc93 | u16::from(cpl) << attribute::DPL_SHIFT;
        self.state.segments[Segments::SS] = Segment { selector, attrib, limit: u32::MAX, base: 0 };
    }
}

fn is_far(instruction: &Instruction) -> bool {
    matches!(instruction.op_kind(0), OpKind::FarBranch16 | OpKind::FarBranch32)
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect()
}

/// Bytes of one item that RET, RETF, PUSH and POP move.
fn stack_operand(instruction: &Instruction) -> usize {
    match instruction.code() {
        Code::Retnw | Code::Retnw_imm16 | Code::Retfw | Code::Retfw_imm16 => 2,
        Code::Retnd | Code::Retnd_imm16 | Code::Retfd | Code::Retfd_imm16 => 4,
        _ => 8,
    }
}
