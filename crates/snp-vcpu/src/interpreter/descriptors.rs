//! Instructions on descriptors and their tables.
//!
//! # Source
//! AMD 24594 (APM volume 3), "LGDT", "SGDT", "LLDT", "LTR", "LAR", "LSL", "VERR", "VERW", "ARPL".

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::cpu::*;
use super::flags::{self, ZF};
use super::segments::Descriptor;
use crate::{AccessKind, Exception};

impl Cpu<'_> {
    /// Descriptor tables, LDT and TSS, and what asks about selectors. `false`: none of these.
    pub(crate) fn descriptors(&mut self, i: &Instruction) -> Done<bool> {
        match i.mnemonic() {
            Mnemonic::Lgdt | Mnemonic::Lidt => self.load_table(i)?,
            Mnemonic::Sgdt | Mnemonic::Sidt => self.store_table(i)?,
            Mnemonic::Lldt => {
                self.want_protected()?;
                self.want_cpl0()?;
                let selector = self.operand(i, 0)? as u16;
                self.load_ldt(selector)?;
            }
            Mnemonic::Ltr => {
                self.want_protected()?;
                self.want_cpl0()?;
                let selector = self.operand(i, 0)? as u16;
                self.load_task(selector)?;
            }
            Mnemonic::Sldt | Mnemonic::Str => {
                self.want_protected()?;
                self.refuse_umip()?;
                let ldt = i.mnemonic() == Mnemonic::Sldt;
                let selector = if ldt { self.state.ldtr.selector } else { self.state.tr.selector };
                self.store_word(i, selector.into())?;
            }
            Mnemonic::Lar | Mnemonic::Lsl => self.ask(i)?,
            Mnemonic::Verr | Mnemonic::Verw => self.verify(i)?,
            Mnemonic::Arpl => {
                self.want_protected()?;
                let source = self.register(i.op1_register()) & 3;
                let old = self.operand(i, 0)?;
                let raised = old & 3 < source;
                if raised {
                    self.set_operand(i, 0, old & !3 | source)?;
                }
                self.set_flag(ZF, raised);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn want_protected(&self) -> Done {
        if self.mode.is_real() { Err(ud()) } else { Ok(()) }
    }

    /// CR4.UMIP keeps user programs from learning where tables are.
    pub(super) fn refuse_umip(&self) -> Done {
        if self.state.cr4 & CR4_UMIP != 0 && self.state.cpl == 3 { Err(gp()) } else { Ok(()) }
    }

    /// Sixteen bits into memory, or as wide as the register is.
    pub(super) fn store_word(&mut self, i: &Instruction, value: u64) -> Done {
        if i.op0_kind() == OpKind::Memory {
            let address = self.operand_address(i, 2, AccessKind::Write)?;
            return self.write(address, value & 0xffff, 2);
        }
        self.set_register(i.op0_register(), value);
        Ok(())
    }

    fn load_table(&mut self, i: &Instruction) -> Done {
        self.want_cpl0()?;
        let wide = self.mode.bits == 64;
        let len = if wide { 10 } else { 6 };
        let address = self.operand_address(i, len, AccessKind::Read)?;
        let limit = self.read(address, 2)?;
        let mut base = self.read(address.wrapping_add(2), if wide { 8 } else { 4 })?;
        if matches!(i.code(), Code::Lgdt_m1632_16 | Code::Lidt_m1632_16) {
            base &= 0xff_ffff;
        }
        if wide && !self.is_canonical(base) {
            return Err(gp());
        }
        let table = if i.mnemonic() == Mnemonic::Lgdt { &mut self.state.gdtr } else { &mut self.state.idtr };
        (table.limit, table.base) = (limit as u32, base);
        Ok(())
    }

    fn store_table(&mut self, i: &Instruction) -> Done {
        self.refuse_umip()?;
        let table = if i.mnemonic() == Mnemonic::Sgdt { self.state.gdtr } else { self.state.idtr };
        let wide = self.mode.bits == 64;
        let len = if wide { 10 } else { 6 };
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&(table.limit as u16).to_le_bytes());
        bytes[2..].copy_from_slice(&table.base.to_le_bytes());
        let address = self.operand_address(i, len, AccessKind::Write)?;
        self.write_bytes_as(address, &bytes[..len as usize], self.rights)
    }

    /// A descriptor that the program asks about; `None` where it may not know.
    fn visible_descriptor(&mut self, selector: u16) -> Done<Option<Descriptor>> {
        if selector & 0xfffc == 0 {
            return Ok(None);
        }
        let descriptor = match self.descriptor(selector, Exception::general_protection) {
            Ok(descriptor) => descriptor,
            Err(fault) => match *fault {
                crate::Trap::Exception(exception) if exception.vector == 13 => return Ok(None),
                other => return Err(Box::new(other)),
            },
        };
        let privileged = descriptor.dpl() >= self.state.cpl.max(selector as u8 & 3);
        let open = descriptor.is_code() && descriptor.is_conforming();
        Ok((privileged || open).then_some(descriptor))
    }

    /// LAR and LSL.
    fn ask(&mut self, i: &Instruction) -> Done {
        self.want_protected()?;
        let selector = self.operand(i, 1)? as u16;
        let rights = i.mnemonic() == Mnemonic::Lar;
        let found = self.visible_descriptor(selector)?.filter(|descriptor| {
            let legacy = !self.mode.long;
            !descriptor.is_system()
                || match descriptor.kind() {
                    2 | 9 | 11 => true,
                    1 | 3 => legacy,
                    12 => rights,
                    4 | 5 => rights && legacy,
                    _ => false,
                }
        });
        if let Some(descriptor) = found {
            let value = if rights { descriptor.0 >> 32 & 0x00ff_ff00 } else { descriptor.limit().into() };
            self.set_register(i.op0_register(), value);
        }
        self.set_flag(flags::ZF, found.is_some());
        Ok(())
    }

    fn verify(&mut self, i: &Instruction) -> Done {
        self.want_protected()?;
        let selector = self.operand(i, 0)? as u16;
        let writes = i.mnemonic() == Mnemonic::Verw;
        let good = self.visible_descriptor(selector)?.is_some_and(|descriptor| {
            let flag = descriptor.attrib() & attribute::READ_WRITE != 0;
            !descriptor.is_system()
                && if writes { !descriptor.is_code() && flag } else { !descriptor.is_code() || flag }
        });
        self.set_flag(flags::ZF, good);
        Ok(())
    }
}
