//! String instructions: one item, or with a REP prefix as many as fit a bound, so that events are not kept waiting.
//!
//! # Source
//! AMD 24594 (APM volume 3), "MOVS", "STOS", "LODS", "SCAS", "CMPS", "INS", "OUTS"; "Repeat Prefixes".

use iced_x86::{Instruction, Mnemonic, OpKind};
use snp_memory::PAGE_SIZE;

use super::arithmetic::mask;
use super::cpu::*;
use super::flags::{self, DF, STATUS, ZF};
use crate::{AccessKind, Segments};

const RAX: usize = 0;
const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;

/// The most items of one execution of an instruction with REP; it is begun again for the others.
const ITEMS: u64 = 512;

/// What a string instruction works on.
#[derive(Clone, Copy)]
pub(super) struct Strings {
    /// Bytes of an item.
    pub(super) size: usize,
    /// Bytes of an address.
    width: usize,
    /// The segment of the source.
    segment: usize,
    pub(super) repeated: bool,
}

impl Strings {
    pub(super) fn of(i: &Instruction) -> Self {
        let kinds = [i.op0_kind(), i.op1_kind()];
        let any = |wanted: &[OpKind]| kinds.iter().any(|kind| wanted.contains(kind));
        let width = match () {
            () if any(&[OpKind::MemorySegSI, OpKind::MemorySegDI, OpKind::MemoryESDI]) => 2,
            () if any(&[OpKind::MemorySegESI, OpKind::MemorySegEDI, OpKind::MemoryESEDI]) => 4,
            () => 8,
        };
        let segment = segment_index(i.memory_segment());
        let repeated = i.has_rep_prefix() || i.has_repne_prefix();
        Self { size: i.memory_size().size(), width, segment, repeated }
    }
}

impl Cpu<'_> {
    /// MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS. `false`: none of these.
    pub(crate) fn strings(&mut self, i: &Instruction) -> Done<bool> {
        if !i.is_string_instruction() {
            return Ok(false);
        }
        let strings = Strings::of(i);
        if strings.repeated && self.string_count(strings) == 0 {
            if matches!(i.mnemonic(), Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd)
                || matches!(i.mnemonic(), Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd)
            {
                self.may_use_port(self.state.gpr[2] as u16, strings.size as u64)?;
            }
            return Ok(true);
        }
        match i.mnemonic() {
            Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => self.ins(i, strings)?,
            Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => return Err(self.outs(i, strings)),
            _ => self.repeat(i, strings)?,
        }
        Ok(true)
    }

    fn repeat(&mut self, i: &Instruction, strings: Strings) -> Done {
        // A single step is one item.
        let stepped = self.flag(flags::TF);
        if strings.repeated && !stepped && self.bulk(i, strings) {
            self.again_while_counted(strings);
            return Ok(());
        }
        for _ in 0..if stepped { 1 } else { ITEMS } {
            let compares = self.string_item(i, strings)?;
            if !strings.repeated {
                return Ok(());
            }
            let left = self.count_item(strings);
            let wanted = if i.has_repne_prefix() { 0 } else { ZF };
            if left == 0 || compares && self.state.rflags & ZF != wanted {
                return Ok(());
            }
            if self.mmio_used != 0 {
                // What the hypervisor answered was for this item.
                break;
            }
        }
        self.again_while_counted(strings);
        Ok(())
    }

    /// The instruction is begun again if items are left.
    pub(super) fn again_while_counted(&mut self, strings: Strings) {
        if strings.repeated && self.string_count(strings) != 0 {
            self.next_rip = self.state.rip;
            self.end_block = true;
        }
    }

    pub(super) fn string_count(&self, strings: Strings) -> u64 {
        self.state.gpr[RCX] & mask(strings.width)
    }

    /// One item less; returns how many are left.
    pub(super) fn count_item(&mut self, strings: Strings) -> u64 {
        let left = self.string_count(strings).wrapping_sub(1);
        self.set_address(RCX, left, strings);
        left
    }

    /// Writes a register that counts or points: 16 bits keep the rest.
    fn set_address(&mut self, register: usize, value: u64, strings: Strings) {
        self.set_sized(register, value & mask(strings.width), strings.width);
    }

    pub(super) fn source(&mut self, strings: Strings) -> Done<u64> {
        let offset = self.state.gpr[RSI] & mask(strings.width);
        self.linear_in(strings.segment, offset, strings.size as u64, AccessKind::Read)
    }

    pub(super) fn destination(&mut self, strings: Strings, kind: AccessKind) -> Done<u64> {
        let offset = self.state.gpr[RDI] & mask(strings.width);
        self.linear_in(Segments::ES, offset, strings.size as u64, kind)
    }

    pub(super) fn advance(&mut self, register: usize, strings: Strings, items: u64) {
        let distance = (strings.size as u64).wrapping_mul(items);
        let old = self.state.gpr[register];
        let new = if self.flag(DF) { old.wrapping_sub(distance) } else { old.wrapping_add(distance) };
        self.set_address(register, new, strings);
    }

    pub(super) fn advance_source(&mut self, strings: Strings) {
        self.advance(RSI, strings, 1);
    }

    pub(super) fn advance_destination(&mut self, strings: Strings) {
        self.advance(RDI, strings, 1);
    }

    /// One item; whether the instruction compares.
    fn string_item(&mut self, i: &Instruction, strings: Strings) -> Done<bool> {
        let size = strings.size;
        match i.mnemonic() {
            Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => {
                // The source is read before the destination's address is looked at.
                let from = self.source(strings)?;
                let value = self.read(from, size)?;
                let to = self.destination(strings, AccessKind::Write)?;
                self.write(to, value, size)?;
                self.advance(RSI, strings, 1);
                self.advance(RDI, strings, 1);
            }
            Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => {
                let to = self.destination(strings, AccessKind::Write)?;
                self.write(to, self.state.gpr[RAX] & mask(size), size)?;
                self.advance(RDI, strings, 1);
            }
            Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => {
                let from = self.source(strings)?;
                let value = self.read(from, size)?;
                self.set_sized(RAX, value, size);
                self.advance(RSI, strings, 1);
            }
            Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq => {
                let at = self.destination(strings, AccessKind::Read)?;
                let (a, b) = (self.state.gpr[RAX] & mask(size), self.read(at, size)?);
                self.compare(a, b, size);
                self.advance(RDI, strings, 1);
                return Ok(true);
            }
            Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq => {
                // Processors touch the second operand first: it is the one whose fault is told if both have one.
                let to = self.destination(strings, AccessKind::Read)?;
                let b = self.read(to, size)?;
                let from = self.source(strings)?;
                let a = self.read(from, size)?;
                self.compare(a, b, size);
                self.advance(RSI, strings, 1);
                self.advance(RDI, strings, 1);
                return Ok(true);
            }
            _ => return Err(unmodelled(i)),
        }
        Ok(false)
    }

    fn compare(&mut self, a: u64, b: u64, size: usize) {
        let flags = flags::sub_flags(a, b, a.wrapping_sub(b) & mask(size), 8 * size as u32);
        self.replace_flags(STATUS, flags);
    }

    /// Many items at once: REP MOVS and REP STOS forwards, in pages that are known. `false`: nothing was done.
    fn bulk(&mut self, i: &Instruction, strings: Strings) -> bool {
        let moves = match i.mnemonic() {
            Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => true,
            Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => false,
            _ => return false,
        };
        if self.flag(DF) || self.mode.bits != 64 || strings.width != 8 {
            return false;
        }
        let to = self.state.gpr[RDI];
        let from = self.state.gpr[RSI].wrapping_add(if strings.segment >= Segments::FS {
            self.state.segments[strings.segment].base
        } else {
            0
        });
        let room = |address: u64| ((PAGE_SIZE as u64 - (address & 0xfff)) / strings.size as u64).min(PAGE_SIZE as u64);
        let items = self.string_count(strings).min(room(to)).min(if moves { room(from) } else { u64::MAX });
        let len = items as usize * strings.size;
        if items < 2 {
            return false;
        }
        let Some(target) = self.tlb.find(AccessKind::Write, to, self.rights) else { return false };
        let at = (to & 0xfff) as usize;
        let mut bytes = [0; PAGE_SIZE];
        if moves {
            let Some(source) = self.tlb.find(AccessKind::Read, from, self.rights) else { return false };
            let start = (from & 0xfff) as usize;
            if source.is(target) && start < at && at < start + len {
                // Items are written that are read later.
                return false;
            }
            source.read(start, &mut bytes[..len]);
        } else {
            let item = self.state.gpr[RAX].to_le_bytes();
            for place in bytes[..len].chunks_exact_mut(strings.size) {
                place.copy_from_slice(&item[..strings.size]);
            }
        }
        target.write(at, &bytes[..len]);
        if moves {
            self.advance(RSI, strings, items);
        }
        self.advance(RDI, strings, items);
        let left = self.string_count(strings) - items;
        self.set_address(RCX, left, strings);
        true
    }
}
