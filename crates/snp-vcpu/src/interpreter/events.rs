//! Exceptions and interrupts: from a vector to the first instruction of its handler.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Exceptions and Interrupts": "Real-Mode …", "Legacy Protected-Mode …" and "Long-Mode Interrupt
//! Control Transfers", "#DF—Double-Fault Exception"; "Event Injection".

use snp_abi::Segment;

use super::cpu::*;
use super::flags;
use super::segments::Descriptor;
use super::tlb::Rights;
use crate::{AccessKind, Exception, Exit, Segments, Trap};

/// EVENTINJ: the fields.
const INJECT_VALID: u64 = 1 << 31;
const INJECT_ERROR: u64 = 1 << 11;

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) vector: u8,
    pub(crate) error: Option<u32>,
    pub(crate) kind: EventKind,
}

/// Where an event comes from; the numbers are EVENTINJ's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Interrupt = 0,
    Nmi = 2,
    Exception = 3,
    /// INT n, INT3 and INTO: gates are checked against the CPL.
    Software = 4,
}

impl Event {
    pub(crate) fn exception(exception: &Exception) -> Self {
        Self { vector: exception.vector, error: exception.error, kind: EventKind::Exception }
    }

    /// From the VMCB's EVENTINJ, if it is valid.
    fn from_injection(field: u64) -> Option<Self> {
        if field & INJECT_VALID == 0 {
            return None;
        }
        let kind = match field >> 8 & 7 {
            0 => EventKind::Interrupt,
            2 => EventKind::Nmi,
            3 => EventKind::Exception,
            _ => EventKind::Software,
        };
        let error = (field & INJECT_ERROR != 0).then_some((field >> 32) as u32);
        Some(Self { vector: field as u8, error, kind })
    }

    fn injection(self) -> u64 {
        let error = self.error.map_or(0, |error| INJECT_ERROR | u64::from(error) << 32);
        INJECT_VALID | error | (self.kind as u64) << 8 | u64::from(self.vector)
    }

    /// EXT: the event was not the program's own doing.
    fn external(self) -> u32 {
        u32::from(self.kind != EventKind::Software)
    }
}

/// A gate of the IDT.
struct Gate {
    selector: u16,
    offset: u64,
    /// Interrupt stack table, in long mode.
    ist: u8,
    /// Bits of one item on the handler's stack.
    bits: u32,
    clears_if: bool,
}

/// How two exceptions in a row combine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

fn class(vector: u8) -> Class {
    match vector {
        0 | 10..=13 | 21 | 29 => Class::Contributory,
        14 => Class::PageFault,
        8 => Class::DoubleFault,
        _ => Class::Benign,
    }
}

impl Cpu<'_> {
    /// Delivers what the hypervisor injects.
    pub(crate) fn deliver_injected(&mut self) -> Done {
        let Some(event) = Event::from_injection(self.state.event_inj) else { return Ok(()) };
        self.state.event_inj = 0;
        self.deliver(event, self.state.rip)
    }

    /// Delivers an exception whose instruction is at RIP.
    pub(crate) fn raise(&mut self, exception: &Exception) -> Done {
        if let Some(address) = exception.address {
            self.state.cr2 = address;
        }
        self.deliver(Event::exception(exception), self.state.rip)
    }

    /// Delivers an event; whatever faults on the way is delivered in its place. RIP becomes that of the handler, which
    /// returns to `return_rip`.
    ///
    /// What the hypervisor must resolve first is injected again when the processor runs on.
    pub(crate) fn deliver(&mut self, first: Event, return_rip: u64) -> Done {
        let mut event = first;
        let mut return_rip = return_rip;
        loop {
            let fault = match self.enter_handler(event, return_rip) {
                Ok(()) => {
                    self.state.interrupt_shadow = false;
                    if event.kind == EventKind::Nmi {
                        self.state.nmi_blocked = true;
                    }
                    self.update_mode();
                    return Ok(());
                }
                Err(fault) => fault,
            };
            let exception = match *fault {
                Trap::Exception(exception) => exception,
                other => {
                    self.state.event_inj = event.injection();
                    self.state.rip = return_rip;
                    return Err(Box::new(other));
                }
            };
            if event.kind == EventKind::Software {
                // The instruction itself faults: it has not begun.
                return_rip = self.state.rip;
            }
            if let Some(address) = exception.address {
                self.state.cr2 = address;
            }
            let before = if event.kind == EventKind::Exception { class(event.vector) } else { Class::Benign };
            let double = match (before, class(exception.vector)) {
                (Class::DoubleFault, Class::Contributory | Class::PageFault) => return Err(Exit::Shutdown.into()),
                (Class::Contributory, Class::Contributory) => true,
                (Class::PageFault, Class::Contributory | Class::PageFault) => true,
                _ => false,
            };
            event = if double {
                Event { vector: 8, error: Some(0), kind: EventKind::Exception }
            } else {
                Event::exception(&exception)
            };
        }
    }

    fn enter_handler(&mut self, event: Event, return_rip: u64) -> Done {
        if !self.mode.protected {
            return self.enter_real(event, return_rip);
        }
        let gate = self.gate(event)?;
        let error = u32::from(gate.selector & 0xfffc) | event.external();
        if gate.selector & 0xfffc == 0 {
            return Err(Exception::general_protection(event.external()).into());
        }
        let code =
            self.descriptor(gate.selector, Exception::general_protection).map_err(|fault| with_ext(fault, event))?;
        let long = self.mode.long;
        let is_64 = code.attrib() & attribute::LONG != 0;
        if !code.is_code() || code.dpl() > self.state.cpl || long && (!is_64 || code.attrib() & attribute::BIG != 0) {
            return Err(Exception::general_protection(error).into());
        }
        if !code.is_present() {
            return Err(Exception::not_present(error).into());
        }
        let cpl = if code.is_conforming() { self.state.cpl } else { code.dpl() };
        if long {
            self.enter_long(event, &gate, code, cpl, return_rip)
        } else {
            self.enter_protected(event, &gate, code, cpl, return_rip)
        }
    }

    fn enter_real(&mut self, event: Event, return_rip: u64) -> Done {
        let at = 4 * u64::from(event.vector);
        if at + 3 > u64::from(self.state.idtr.limit) {
            return Err(Exception::general_protection(0).into());
        }
        let entry = self.read_system(self.state.idtr.base + at, 4)?;
        let cs = self.state.segments[Segments::CS].selector;
        let frame = [self.state.rflags, cs.into(), return_rip];
        let mut pointer = self.state.gpr[4];
        for value in frame {
            pointer = self.pushed(pointer, 2);
            let address = self.linear_in(Segments::SS, pointer, 2, AccessKind::Write)?;
            self.write_system(address, value & 0xffff, 2)?;
        }
        self.set_stack_pointer(pointer);
        self.state.rflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        self.load_segment(Segments::CS, (entry >> 16) as u16)?;
        self.state.rip = entry & 0xffff;
        Ok(())
    }

    /// The gate of a vector, checked.
    fn gate(&mut self, event: Event) -> Done<Gate> {
        let error = u32::from(event.vector) * 8 + 2 + event.external();
        let size = if self.mode.long { 16 } else { 8 };
        let at = u64::from(event.vector) * size;
        if at + size - 1 > u64::from(self.state.idtr.limit) {
            return Err(Exception::general_protection(error).into());
        }
        let address = self.state.idtr.base.wrapping_add(at);
        let low = self.read_system(address, 8)?;
        let upper = if self.mode.long { self.read_system(address + 8, 8)? } else { 0 };
        let kind = low >> 40 & 0x1f;
        let (bits, clears_if) = match (kind, self.mode.long) {
            (0xe, true) => (64, true),
            (0xf, true) => (64, false),
            (0xe, false) => (32, true),
            (0xf, false) => (32, false),
            (0x6, false) => (16, true),
            (0x7, false) => (16, false),
            (0x5, false) => return Err(Box::new(Trap::Unmodelled("a task gate".into()))),
            _ => return Err(Exception::general_protection(error).into()),
        };
        if event.kind == EventKind::Software && ((low >> 45 & 3) as u8) < self.state.cpl {
            return Err(Exception::general_protection(error & !1).into());
        }
        if low >> 47 & 1 == 0 {
            return Err(Exception::not_present(error).into());
        }
        let mut offset = low & 0xffff | low >> 32 & 0xffff_0000 | upper << 32;
        if bits == 16 {
            offset &= 0xffff;
        }
        Ok(Gate { selector: (low >> 16) as u16, offset, ist: (low >> 32 & 7) as u8, bits, clears_if })
    }

    /// RFLAGS as they are pushed: faults return with RF set, so that the breakpoint on them is not met again.
    fn pushed_rflags(&self, event: Event) -> u64 {
        let fault = event.kind == EventKind::Exception && !matches!(event.vector, 1 | 3 | 4 | 8);
        self.state.rflags | if fault { flags::RF } else { 0 }
    }

    fn handler_rflags(&self, gate: &Gate) -> u64 {
        let cleared = flags::TF | flags::NT | flags::RF | flags::VM | if gate.clears_if { flags::IF } else { 0 };
        self.state.rflags & !cleared
    }

    /// The rights of pushes on a handler's stack.
    fn handler_rights(&self, cpl: u8) -> Rights {
        match () {
            () if cpl == 3 => Rights::User,
            () if self.state.cr4 & CR4_SMAP != 0 && self.state.rflags & flags::AC == 0 => Rights::Strict,
            () => Rights::Supervisor,
        }
    }

    fn enter_long(&mut self, event: Event, gate: &Gate, code: Descriptor, cpl: u8, return_rip: u64) -> Done {
        if !self.is_canonical(gate.offset) {
            return Err(gp());
        }
        let changes = cpl < self.state.cpl;
        let top = match (gate.ist, changes) {
            (0, false) => self.state.gpr[4],
            (0, true) => self.task_stack_64(4 + 8 * u64::from(cpl), event)?,
            (ist, _) => self.task_stack_64(0x24 + 8 * u64::from(ist - 1), event)?,
        };
        let ss = self.state.segments[Segments::SS].selector;
        let cs = self.state.segments[Segments::CS].selector;
        let mut frame: Vec<u64> = Vec::with_capacity(6);
        frame.extend(event.error.map(u64::from));
        frame.extend([return_rip, cs.into(), self.pushed_rflags(event), self.state.gpr[4], ss.into()]);
        let pointer = (top & !0xf).wrapping_sub(8 * frame.len() as u64);
        if !self.is_canonical(pointer) || !self.is_canonical(top.wrapping_sub(1)) {
            return Err(Exception::stack(event.external()).into());
        }
        let bytes: Vec<u8> = frame.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.write_bytes_as(pointer, &bytes, self.handler_rights(cpl))?;
        self.set_accessed(gate.selector, code)?;
        self.state.rflags = self.handler_rflags(gate);
        self.state.gpr[4] = pointer;
        if changes {
            let attrib = u16::from(cpl) << attribute::DPL_SHIFT;
            self.state.segments[Segments::SS] = Segment { selector: cpl.into(), attrib, limit: 0, base: 0 };
        }
        self.set_code_segment(gate.selector, code, cpl);
        self.state.rip = gate.offset;
        Ok(())
    }

    /// A stack pointer of the 64-bit TSS.
    fn task_stack_64(&mut self, at: u64, event: Event) -> Done<u64> {
        let tr = self.state.tr;
        if at + 7 > u64::from(tr.limit) {
            return Err(Exception::invalid_tss(u32::from(tr.selector & 0xfffc) | event.external()).into());
        }
        let pointer = self.read_system(tr.base.wrapping_add(at), 8)?;
        if !self.is_canonical(pointer) {
            return Err(Exception::stack(event.external()).into());
        }
        Ok(pointer)
    }

    fn enter_protected(&mut self, event: Event, gate: &Gate, code: Descriptor, cpl: u8, return_rip: u64) -> Done {
        let from_8086 = self.mode.virtual_8086;
        if from_8086 && cpl != 0 {
            return Err(Exception::general_protection(u32::from(gate.selector & 0xfffc)).into());
        }
        if gate.offset > code.limit().into() {
            return Err(gp());
        }
        let before = *self.segments_and_stack();
        let len = (gate.bits / 8) as usize;
        let mut frame: Vec<u64> = Vec::with_capacity(11);
        let changes = cpl < self.state.cpl;
        if from_8086 {
            let order = [Segments::GS, Segments::FS, Segments::DS, Segments::ES];
            frame.extend(order.map(|index| u64::from(before.0[index].selector)));
        }
        if changes {
            frame.extend([u64::from(before.0[Segments::SS].selector), before.1]);
        }
        let cs = before.0[Segments::CS].selector;
        frame.extend([self.pushed_rflags(event), cs.into(), return_rip]);
        frame.extend(event.error.map(u64::from));
        let (old_mode, old_cpl, old_flags) = (self.mode, self.state.cpl, self.state.rflags);
        if changes {
            let (ss, esp) = self.task_stack(cpl, event)?;
            self.state.rflags &= !flags::VM;
            let loaded = self.load_stack_segment(ss, cpl, Exception::invalid_tss);
            if let Err(fault) = loaded {
                self.state.rflags = old_flags;
                self.state.segments.registers = before.0;
                self.update_mode();
                return Err(with_ext(fault, event));
            }
            self.state.gpr[4] = esp;
            self.update_mode();
        }
        let pushed = self.push_frame(&frame, len, self.handler_rights(cpl));
        let pointer = match pushed {
            Ok(pointer) => pointer,
            Err(fault) => {
                self.state.segments.registers = before.0;
                self.state.gpr[4] = before.1;
                (self.mode, self.state.cpl, self.state.rflags) = (old_mode, old_cpl, old_flags);
                self.update_mode();
                return Err(fault);
            }
        };
        self.set_stack_pointer(pointer);
        self.set_accessed(gate.selector, code)?;
        self.state.rflags = self.handler_rflags(gate);
        if from_8086 {
            for index in [Segments::ES, Segments::DS, Segments::FS, Segments::GS] {
                self.state.segments[index] = Segment::default();
            }
        }
        self.set_code_segment(gate.selector, code, cpl);
        self.state.rip = gate.offset;
        Ok(())
    }

    fn segments_and_stack(&self) -> Box<([Segment; 6], u64)> {
        Box::new((self.state.segments.registers, self.state.gpr[4]))
    }

    fn push_frame(&mut self, frame: &[u64], len: usize, rights: Rights) -> Done<u64> {
        let mut pointer = self.state.gpr[4];
        for value in frame {
            pointer = self.pushed(pointer, len as u64);
            let address = self.linear_in(Segments::SS, pointer, len as u64, AccessKind::Write)?;
            self.write_as(address, *value, len, rights)?;
        }
        Ok(pointer)
    }

    /// SS and ESP for a privilege level, from a 16- or 32-bit TSS.
    pub(crate) fn task_stack(&mut self, cpl: u8, event: Event) -> Done<(u16, u64)> {
        let tr = self.state.tr;
        let wide = tr.attrib & 8 != 0;
        let (at, len) = if wide { (4 + 8 * u64::from(cpl), 4) } else { (2 + 4 * u64::from(cpl), 2) };
        if at + len + 1 > u64::from(tr.limit) {
            return Err(Exception::invalid_tss(u32::from(tr.selector & 0xfffc) | event.external()).into());
        }
        let pointer = self.read_system(tr.base + at, len as usize)?;
        let selector = self.read_system(tr.base + at + len, 2)?;
        Ok((selector as u16, pointer))
    }
}

/// Faults on the way to a handler say so in their error code.
fn with_ext(mut fault: Fault, event: Event) -> Fault {
    if let Trap::Exception(exception) = &mut *fault
        && matches!(exception.vector, 10..=13)
    {
        exception.error = exception.error.map(|error| error | event.external());
    }
    fault
}
