//! Loading segment registers.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Segmented Virtual Memory"; AMD 24594 (volume 3), "MOV", "POP", "LDS", "LLDT", "LTR".

use snp_abi::Segment;

use super::cpu::*;
use crate::{Exception, Segments};

/// A descriptor of a table: eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor(pub(crate) u64);

impl Descriptor {
    /// In the VMSA's form.
    pub(crate) fn attrib(self) -> u16 {
        (self.0 >> 40 & 0xff) as u16 | ((self.0 >> 52 & 0xf) << 8) as u16
    }

    pub(crate) fn kind(self) -> u8 {
        (self.0 >> 40 & 0xf) as u8
    }

    pub(crate) fn is_system(self) -> bool {
        self.attrib() & attribute::S == 0
    }

    pub(crate) fn is_code(self) -> bool {
        !self.is_system() && self.attrib() & attribute::CODE != 0
    }

    pub(crate) fn is_conforming(self) -> bool {
        self.attrib() & attribute::CONFORMING != 0
    }

    pub(crate) fn is_present(self) -> bool {
        self.attrib() & attribute::PRESENT != 0
    }

    pub(crate) fn dpl(self) -> u8 {
        (self.0 >> 45 & 3) as u8
    }

    /// Base, low 32 bits.
    pub(crate) fn base(self) -> u64 {
        self.0 >> 16 & 0xff_ffff | (self.0 >> 56) << 24
    }

    pub(crate) fn limit(self) -> u32 {
        let limit = (self.0 & 0xffff | self.0 >> 32 & 0xf_0000) as u32;
        if self.0 >> 55 & 1 != 0 { limit << 12 | 0xfff } else { limit }
    }

    /// As a segment register holds it.
    pub(crate) fn segment(self, selector: u16) -> Segment {
        Segment { selector, attrib: self.attrib(), limit: self.limit(), base: self.base() }
    }
}

/// The accessed bit of a descriptor, in its fifth byte.
const ACCESSED: u64 = 1 << 40;

impl Cpu<'_> {
    /// The linear address of a descriptor, or the fault that `fault` makes of the selector.
    pub(crate) fn descriptor_address(&self, selector: u16, len: u64, fault: fn(u32) -> Exception) -> Done<u64> {
        let table = if selector & 4 != 0 { self.state.ldtr } else { self.state.gdtr };
        let at = u64::from(selector & 0xfff8);
        let usable = selector & 4 == 0 || table.attrib & attribute::PRESENT != 0;
        if !usable || at + len - 1 > u64::from(table.limit) {
            return Err(fault(u32::from(selector & 0xfffc)).into());
        }
        let address = table.base.wrapping_add(at);
        Ok(if self.mode.long { address } else { address & 0xffff_ffff })
    }

    pub(crate) fn descriptor(&mut self, selector: u16, fault: fn(u32) -> Exception) -> Done<Descriptor> {
        let address = self.descriptor_address(selector, 8, fault)?;
        Ok(Descriptor(self.read_system(address, 8)?))
    }

    /// The second half of a system descriptor in long mode: bits 63:32 of its base.
    pub(crate) fn upper_base(&mut self, selector: u16, fault: fn(u32) -> Exception) -> Done<u64> {
        if !self.mode.long {
            return Ok(0);
        }
        let address = self.descriptor_address(selector, 16, fault)?;
        let upper = self.read_system(address + 8, 8)?;
        if upper >> 40 & 0x1f != 0 {
            return Err(fault(u32::from(selector & 0xfffc)).into());
        }
        Ok(upper << 32)
    }

    /// Loads ES, SS, DS, FS or GS.
    pub(crate) fn load_segment(&mut self, index: usize, selector: u16) -> Done {
        if self.mode.is_real() {
            let register = &mut self.state.segments[index];
            register.selector = selector;
            register.base = u64::from(selector) << 4;
            if self.mode.virtual_8086 {
                register.limit = 0xffff;
                register.attrib = 0xf3;
            }
            return Ok(());
        }
        if index == Segments::SS {
            return self.load_stack_segment(selector, self.state.cpl, Exception::general_protection);
        }
        if selector & 0xfffc == 0 {
            // A null selector: the segment is unusable. AMD processors keep base and limit.
            let register = &mut self.state.segments[index];
            register.selector = selector;
            register.attrib = 0;
            if !self.mode.long {
                (register.base, register.limit) = (0, 0);
            } else {
                register.base = 0;
            }
            return Ok(());
        }
        let descriptor = self.descriptor(selector, Exception::general_protection)?;
        let error = u32::from(selector & 0xfffc);
        let readable = !descriptor.is_code() || descriptor.attrib() & attribute::READ_WRITE != 0;
        let conforming = descriptor.is_code() && descriptor.is_conforming();
        let privileged = descriptor.dpl() >= self.state.cpl.max(selector as u8 & 3);
        if descriptor.is_system() || !readable || !conforming && !privileged {
            return Err(Exception::general_protection(error).into());
        }
        if !descriptor.is_present() {
            return Err(Exception::not_present(error).into());
        }
        self.set_accessed(selector, descriptor)?;
        self.state.segments[index] = Descriptor(descriptor.0 | ACCESSED).segment(selector);
        Ok(())
    }

    /// Loads SS for a privilege level; `fault` makes the exception of a bad selector.
    pub(crate) fn load_stack_segment(&mut self, selector: u16, cpl: u8, fault: fn(u32) -> Exception) -> Done {
        let error = u32::from(selector & 0xfffc);
        if selector & 0xfffc == 0 {
            // 64-bit mode needs no stack segment below CPL 3.
            if self.mode.bits == 64 && cpl < 3 && selector as u8 & 3 == cpl {
                let register = &mut self.state.segments[Segments::SS];
                *register = Segment { selector, attrib: u16::from(cpl) << attribute::DPL_SHIFT, limit: 0, base: 0 };
                self.update_mode();
                return Ok(());
            }
            return Err(fault(0).into());
        }
        let descriptor = self.descriptor(selector, fault)?;
        let writable =
            !descriptor.is_system() && !descriptor.is_code() && descriptor.attrib() & attribute::READ_WRITE != 0;
        if !writable || descriptor.dpl() != cpl || selector as u8 & 3 != cpl {
            return Err(fault(error).into());
        }
        if !descriptor.is_present() {
            return Err(Exception::stack(error).into());
        }
        self.set_accessed(selector, descriptor)?;
        self.state.segments[Segments::SS] = Descriptor(descriptor.0 | ACCESSED).segment(selector);
        self.update_mode();
        Ok(())
    }

    /// Sets the accessed bit in the descriptor's table.
    pub(crate) fn set_accessed(&mut self, selector: u16, descriptor: Descriptor) -> Done {
        if descriptor.0 & ACCESSED != 0 {
            return Ok(());
        }
        let address = self.descriptor_address(selector, 8, Exception::general_protection)?;
        self.write_system(address + 5, (descriptor.0 | ACCESSED) >> 40 & 0xff, 1)
    }

    /// Makes CS of a code segment, at a privilege level.
    pub(crate) fn set_code_segment(&mut self, selector: u16, descriptor: Descriptor, cpl: u8) {
        let selector = selector & !3 | u16::from(cpl);
        self.state.segments[Segments::CS] = Descriptor(descriptor.0 | ACCESSED).segment(selector);
        self.state.cpl = cpl;
        self.update_mode();
    }

    /// LLDT.
    pub(crate) fn load_ldt(&mut self, selector: u16) -> Done {
        if selector & 0xfffc == 0 {
            self.state.ldtr = Segment { selector, attrib: 0, limit: 0, base: 0 };
            return Ok(());
        }
        let error = u32::from(selector & 0xfffc);
        let descriptor = self.system_descriptor(selector)?;
        if descriptor.kind() != 2 {
            return Err(Exception::general_protection(error).into());
        }
        if !descriptor.is_present() {
            return Err(Exception::not_present(error).into());
        }
        let upper = self.upper_base(selector, Exception::general_protection)?;
        let mut segment = descriptor.segment(selector);
        segment.base |= upper;
        self.state.ldtr = segment;
        Ok(())
    }

    /// LTR: the TSS becomes busy.
    pub(crate) fn load_task(&mut self, selector: u16) -> Done {
        let error = u32::from(selector & 0xfffc);
        if error == 0 {
            return Err(gp());
        }
        let descriptor = self.system_descriptor(selector)?;
        let available = descriptor.kind() == 9 || descriptor.kind() == 1 && !self.mode.long;
        if !available {
            return Err(Exception::general_protection(error).into());
        }
        if !descriptor.is_present() {
            return Err(Exception::not_present(error).into());
        }
        let upper = self.upper_base(selector, Exception::general_protection)?;
        let address = self.descriptor_address(selector, 8, Exception::general_protection)?;
        let busy = Descriptor(descriptor.0 | 1 << 41);
        self.write_system(address + 5, busy.0 >> 40 & 0xff, 1)?;
        let mut segment = busy.segment(selector);
        segment.base |= upper;
        self.state.tr = segment;
        Ok(())
    }

    /// A system descriptor of the GDT.
    fn system_descriptor(&mut self, selector: u16) -> Done<Descriptor> {
        let error = u32::from(selector & 0xfffc);
        if selector & 4 != 0 {
            return Err(Exception::general_protection(error).into());
        }
        let descriptor = self.descriptor(selector, Exception::general_protection)?;
        if !descriptor.is_system() {
            return Err(Exception::general_protection(error).into());
        }
        Ok(descriptor)
    }
}
