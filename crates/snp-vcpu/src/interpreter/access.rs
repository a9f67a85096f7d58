//! Reading and writing memory: from a segment's offset to bytes.

use std::sync::atomic::Ordering;

use iced_x86::{Instruction, OpKind, Register};
use snp_memory::PAGE_SIZE;

use super::cpu::*;
use super::paging::VC_NESTED_FAULT;
use super::tlb::{Rights, Translation};
use crate::{AccessKind, Exception, Exit, Segments};

/// One side of an access that crosses a page boundary at most once: a page, or a device's guest-physical address.
type Side = Result<Translation, u64>;

const PAGE: u64 = PAGE_SIZE as u64;

impl Cpu<'_> {
    /// Reads up to eight bytes at a linear address, with these rights.
    #[inline(always)]
    pub(crate) fn read_as(&mut self, address: u64, len: usize, rights: Rights) -> Done<u64> {
        let offset = (address & 0xfff) as usize;
        if offset + len <= PAGE_SIZE
            && let Some(page) = self.tlb.find(AccessKind::Read, address, rights)
        {
            return Ok(match len {
                1 => page.load8(offset).into(),
                2 => page.load16(offset).into(),
                4 => page.load32(offset).into(),
                8 => page.load64(offset),
                _ => return self.read_slowly(address, len, rights),
            });
        }
        self.read_slowly(address, len, rights)
    }

    #[inline(never)]
    fn read_slowly(&mut self, address: u64, len: usize, rights: Rights) -> Done<u64> {
        let mut bytes = [0; 8];
        self.read_bytes_as(address, &mut bytes[..len], rights)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads data with the program's rights.
    #[inline(always)]
    pub(crate) fn read(&mut self, address: u64, len: usize) -> Done<u64> {
        self.read_as(address, len, self.rights)
    }

    /// Writes up to eight bytes at a linear address: all, or nothing.
    #[inline(always)]
    pub(crate) fn write_as(&mut self, address: u64, value: u64, len: usize, rights: Rights) -> Done {
        let offset = (address & 0xfff) as usize;
        if offset + len <= PAGE_SIZE
            && let Some(page) = self.tlb.find(AccessKind::Write, address, rights)
        {
            match len {
                1 => page.store8(offset, value as u8),
                2 => page.store16(offset, value as u16),
                4 => page.store32(offset, value as u32),
                8 => page.store64(offset, value),
                _ => return self.write_bytes_as(address, &value.to_le_bytes()[..len], rights),
            }
            return Ok(());
        }
        self.write_bytes_as(address, &value.to_le_bytes()[..len], rights)
    }

    /// Writes data with the program's rights.
    #[inline(always)]
    pub(crate) fn write(&mut self, address: u64, value: u64, len: usize) -> Done {
        self.write_as(address, value, len, self.rights)
    }

    /// Reads any number of bytes.
    #[inline(never)]
    pub(crate) fn read_bytes_as(&mut self, address: u64, into: &mut [u8], rights: Rights) -> Done {
        let mut done = 0;
        while done < into.len() {
            let at = self.wrap(address.wrapping_add(done as u64));
            let len = (into.len() - done).min((PAGE - at % PAGE) as usize);
            let part = &mut into[done..done + len];
            match self.side(at, len, AccessKind::Read, rights)? {
                Ok(found) => found.page.read((at % PAGE) as usize, part),
                Err(gpa) => self.read_device(gpa, part)?,
            }
            done += len;
        }
        Ok(())
    }

    /// Writes any number of bytes up to two pages: all, or nothing.
    #[inline(never)]
    pub(crate) fn write_bytes_as(&mut self, address: u64, data: &[u8], rights: Rights) -> Done {
        let address = self.wrap(address);
        let first = data.len().min((PAGE - address % PAGE) as usize);
        let near = self.side(address, first, AccessKind::Write, rights)?;
        let far = if first < data.len() {
            let at = self.wrap(address.wrapping_add(first as u64));
            Some(self.side(at, data.len() - first, AccessKind::Write, rights)?)
        } else {
            None
        };
        self.put(near, (address % PAGE) as usize, &data[..first])?;
        far.map_or(Ok(()), |far| self.put(far, 0, &data[first..]))
    }

    fn put(&mut self, side: Side, offset: usize, data: &[u8]) -> Done {
        match side {
            Ok(found) => {
                found.page.write(offset, data);
                self.note_code_write(&found);
                Ok(())
            }
            Err(gpa) => self.write_device(gpa, data),
        }
    }

    /// Tells those who decoded the page, ourselves first.
    fn note_code_write(&mut self, written: &Translation) {
        if let Some(code) = &written.code {
            code.fetch_add(1, Ordering::Release);
            self.end_block = true;
        }
    }

    fn side(&mut self, address: u64, len: usize, kind: AccessKind, rights: Rights) -> Done<Side> {
        self.watch(address, len as u64, kind);
        if let Some(page) = self.tlb.find(kind, address, rights) {
            return Ok(Ok(Translation { page: page.clone(), code: None }));
        }
        if self.mode.bits == 64 && !self.is_canonical(address) {
            return Err(gp());
        }
        self.translate(address, kind, rights)
    }

    /// Whether memory may be accessed so, without touching it.
    pub(crate) fn probe(&mut self, address: u64, len: usize, kind: AccessKind) -> Done {
        let address = self.wrap(address);
        let first = len.min((PAGE - address % PAGE) as usize);
        self.side(address, first, kind, self.rights)?.map(drop).ok();
        if first < len {
            let next = self.wrap(address.wrapping_add(first as u64));
            self.side(next, len - first, kind, self.rights)?.map(drop).ok();
        }
        Ok(())
    }

    /// Linear addresses have 32 bits outside of 64-bit mode.
    #[inline(always)]
    fn wrap(&self, address: u64) -> u64 {
        if self.mode.long { address } else { address & 0xffff_ffff }
    }

    /// What the hypervisor answered, or an exit that asks it.
    fn read_device(&mut self, gpa: u64, into: &mut [u8]) -> Done {
        for (index, part) in into.chunks_mut(8).enumerate() {
            let gpa = gpa + 8 * index as u64;
            match self.device(gpa, part.len(), None)? {
                Some(data) if data.len() >= part.len() => part.copy_from_slice(&data[..part.len()]),
                _ => part.fill(0xff),
            }
        }
        Ok(())
    }

    fn write_device(&mut self, gpa: u64, data: &[u8]) -> Done {
        for (index, part) in data.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            self.device(gpa + 8 * index as u64, part.len(), Some(bytes))?;
        }
        Ok(())
    }

    fn device(&mut self, gpa: u64, len: usize, data: Option<[u8; 8]>) -> Done<Option<Vec<u8>>> {
        if self.state.sev_es {
            return Err(Exception::vmm_communication(VC_NESTED_FAULT).into());
        }
        if let Some((answered, bytes)) = self.state.mmio.get(self.mmio_used)
            && *answered == gpa
        {
            let bytes = bytes.clone();
            self.mmio_used += 1;
            // What was answered is for this instruction only.
            self.end_block = true;
            return Ok(Some(bytes));
        }
        Err(Exit::Mmio { gpa, len: len as u8, data }.into())
    }

    /// Changes memory in one step: with LOCK as no other processor can come between, else as a read and a write.
    pub(crate) fn update(&mut self, address: u64, len: usize, locked: bool, change: impl Fn(u64) -> u64) -> Done<u64> {
        let address = self.wrap(address);
        let offset = (address % PAGE) as usize;
        if offset + len > PAGE_SIZE {
            // A split lock: not atomic against other processors. See docs/limitations.md.
            self.side(address, 1, AccessKind::Write, self.rights)?.map(drop).ok();
            let old = self.read(address, len)?;
            self.write(address, change(old), len)?;
            return Ok(old);
        }
        let found = match self.side(address, len, AccessKind::Write, self.rights)? {
            Ok(found) => found,
            Err(_) => {
                let old = self.read(address, len)?;
                self.write(address, change(old), len)?;
                return Ok(old);
            }
        };
        let load = || match len {
            1 => u64::from(found.page.load8(offset)),
            2 => u64::from(found.page.load16(offset)),
            4 => u64::from(found.page.load32(offset)),
            _ => found.page.load64(offset),
        };
        let mut old = load();
        if locked {
            while let Some(Err(now)) = found.page.compare_exchange(offset, len, old, change(old)) {
                old = now;
            }
        }
        if !locked || !(found.page.address() + offset).is_multiple_of(len) {
            found.page.write(offset, &change(old).to_le_bytes()[..len]);
        }
        self.note_code_write(&found);
        Ok(old)
    }

    /// Replaces 16 bytes if they are `old`; returns what was there.
    pub(crate) fn compare_exchange_16(&mut self, address: u64, old: u128, new: u128) -> Done<u128> {
        if !address.is_multiple_of(16) {
            return Err(gp());
        }
        // A write, whether or not something is replaced.
        self.probe(address, 16, AccessKind::Write)?;
        let mut bytes = [0; 16];
        self.read_bytes_as(address, &mut bytes, self.rights)?;
        let seen = u128::from_le_bytes(bytes);
        // Not one step against other processors: the host has no portable way. See docs/limitations.md.
        let put = if seen == old { new } else { seen };
        self.write_bytes_as(address, &put.to_le_bytes(), self.rights)?;
        Ok(seen)
    }

    /// The linear address of `offset` in a segment, for an access of `len` bytes.
    pub(crate) fn linear_in(&mut self, segment: usize, offset: u64, len: u64, kind: AccessKind) -> Done<u64> {
        let register = self.state.segments[segment];
        if self.mode.bits == 64 {
            let base = if segment >= Segments::FS { register.base } else { 0 };
            let address = base.wrapping_add(offset);
            let canonical =
                |address: u64| self.is_canonical(address) && self.is_canonical(address.wrapping_add(len - 1));
            // With FS and GS the offset as well, though only the sum is used: so do processors of family 19h.
            if canonical(address) && (base == 0 || canonical(offset)) {
                return Ok(address);
            }
            return Err(segment_fault(segment));
        }
        if !self.mode.is_real() {
            self.check_segment(segment, kind)?;
        }
        let offset = offset & 0xffff_ffff;
        let last = offset + (len - 1);
        let limit = u64::from(register.limit);
        let down = register.attrib & attribute::S != 0
            && register.attrib & attribute::CODE == 0
            && register.attrib & attribute::CONFORMING != 0;
        let outside = if down && !self.mode.is_real() {
            let top = if register.attrib & attribute::BIG != 0 { 0xffff_ffff } else { 0xffff };
            offset <= limit || last > top
        } else {
            last > limit
        };
        if outside {
            return Err(segment_fault(segment));
        }
        Ok(register.base.wrapping_add(offset) & 0xffff_ffff)
    }

    /// Protected mode: a null or unusable segment, a write to code or to read-only data, a read of execute-only code.
    fn check_segment(&self, segment: usize, kind: AccessKind) -> Done {
        let attrib = self.state.segments[segment].attrib;
        let code = attrib & attribute::CODE != 0;
        let flag = attrib & attribute::READ_WRITE != 0;
        let allowed = match kind {
            AccessKind::Execute => code,
            AccessKind::Read => !code || flag,
            AccessKind::Write => !code && flag,
        };
        if attrib & attribute::PRESENT == 0 || !allowed {
            return Err(segment_fault(segment));
        }
        Ok(())
    }

    /// The offset of the memory operand in its segment.
    #[inline]
    pub(crate) fn effective_address(&self, instruction: &Instruction) -> u64 {
        let mut address = instruction.memory_displacement64();
        let base = instruction.memory_base();
        match base {
            Register::None => {}
            // iced gives the address itself.
            Register::RIP | Register::EIP => return address,
            _ => address = address.wrapping_add(self.register(base)),
        }
        let index = instruction.memory_index();
        if index.is_gpr() {
            address = address.wrapping_add(self.register(index).wrapping_mul(instruction.memory_index_scale().into()));
        }
        address & self.address_mask(instruction)
    }

    /// The bits of the memory operand's address, by the size of what it is made from.
    #[inline]
    pub(crate) fn address_mask(&self, instruction: &Instruction) -> u64 {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let width = if base != Register::None {
            base.size()
        } else if index.is_gpr() {
            index.size()
        } else {
            0
        };
        let width = if width == 0 { instruction.memory_displ_size() as usize } else { width };
        match width {
            4 => 0xffff_ffff,
            2 => 0xffff,
            _ => u64::MAX,
        }
    }

    /// The linear address of the memory operand, for an access of `len` bytes.
    #[inline]
    pub(crate) fn operand_address(&mut self, instruction: &Instruction, len: u64, kind: AccessKind) -> Done<u64> {
        let offset = self.effective_address(instruction);
        self.linear_in(segment_index(instruction.memory_segment()), offset, len, kind)
    }

    /// Bytes of operand `index`.
    pub(crate) fn operand_len(&self, instruction: &Instruction, index: u32) -> usize {
        match instruction.op_kind(index) {
            OpKind::Register => instruction.op_register(index).size(),
            OpKind::Memory => instruction.memory_size().size(),
            OpKind::Immediate8 => 1,
            OpKind::Immediate16 | OpKind::Immediate8to16 => 2,
            OpKind::Immediate32 | OpKind::Immediate8to32 => 4,
            _ => 8,
        }
    }

    /// An operand's value, zero-extended; immediates are sign-extended.
    pub(crate) fn operand(&mut self, instruction: &Instruction, index: u32) -> Done<u64> {
        Ok(match instruction.op_kind(index) {
            OpKind::Register => self.any_register(instruction.op_register(index)),
            OpKind::Memory => {
                let len = instruction.memory_size().size();
                let address = self.operand_address(instruction, len as u64, AccessKind::Read)?;
                self.read(address, len)?
            }
            _ => instruction.immediate(index),
        })
    }

    fn any_register(&self, register: Register) -> u64 {
        if register.is_segment_register() { self.segment(register).1.selector.into() } else { self.register(register) }
    }

    /// Writes an operand.
    pub(crate) fn set_operand(&mut self, instruction: &Instruction, index: u32, value: u64) -> Done {
        match instruction.op_kind(index) {
            OpKind::Register => {
                self.set_register(instruction.op_register(index), value);
                Ok(())
            }
            _ => {
                let len = instruction.memory_size().size();
                let address = self.operand_address(instruction, len as u64, AccessKind::Write)?;
                self.write(address, value, len)
            }
        }
    }

    /// Reads operand 0, changes it, writes it back: with LOCK in one step. Returns what was there.
    pub(crate) fn update_operand(&mut self, instruction: &Instruction, change: impl Fn(u64) -> u64) -> Done<u64> {
        match instruction.op_kind(0) {
            OpKind::Register => {
                let register = instruction.op_register(0);
                let old = self.register(register);
                self.set_register(register, change(old));
                Ok(old)
            }
            _ => {
                let len = instruction.memory_size().size();
                let address = self.operand_address(instruction, len as u64, AccessKind::Write)?;
                self.update(address, len, instruction.has_lock_prefix(), change)
            }
        }
    }

    /// Pushes on the stack.
    pub(crate) fn push(&mut self, value: u64, len: usize) -> Done {
        let pointer = self.pushed(self.state.gpr[4], len as u64);
        let address = self.linear_in(Segments::SS, pointer, len as u64, AccessKind::Write)?;
        self.write(address, value, len)?;
        self.set_stack_pointer(pointer);
        Ok(())
    }

    /// The stack pointer after a push.
    pub(crate) fn pushed(&self, pointer: u64, len: u64) -> u64 {
        pointer.wrapping_sub(len) & self.mode.stack_mask
    }

    /// What lies at the top of the stack, `above` bytes further.
    pub(crate) fn peek(&mut self, above: u64, len: usize) -> Done<u64> {
        let pointer = self.state.gpr[4].wrapping_add(above) & self.mode.stack_mask;
        let address = self.linear_in(Segments::SS, pointer, len as u64, AccessKind::Read)?;
        self.read(address, len)
    }

    /// Takes bytes from the stack.
    pub(crate) fn pop(&mut self, len: usize) -> Done<u64> {
        let value = self.peek(0, len)?;
        self.drop_stack(len as u64);
        Ok(value)
    }

    pub(crate) fn drop_stack(&mut self, len: u64) {
        self.set_stack_pointer(self.state.gpr[4].wrapping_add(len) & self.mode.stack_mask);
    }

    /// Outside of 64-bit mode, the bits beyond the stack's width stay.
    pub(crate) fn set_stack_pointer(&mut self, pointer: u64) {
        let mask = self.mode.stack_mask;
        let full = &mut self.state.gpr[4];
        *full = *full & !mask | pointer & mask;
    }

    /// Reads a structure of the processor's own (a descriptor, a gate), with supervisor's rights.
    pub(crate) fn read_system(&mut self, address: u64, len: usize) -> Done<u64> {
        self.read_as(address, len, Rights::Supervisor)
    }

    pub(crate) fn write_system(&mut self, address: u64, value: u64, len: usize) -> Done {
        self.write_as(address, value, len, Rights::Supervisor)
    }
}

/// #SS(0) for the stack, #GP(0) for the others.
#[cold]
fn segment_fault(segment: usize) -> Fault {
    if segment == Segments::SS { Exception::stack(0).into() } else { gp() }
}
