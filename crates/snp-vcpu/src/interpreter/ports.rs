//! IN, OUT, INS, OUTS: always the hypervisor's.
//!
//! # Source
//! AMD 24593 (APM volume 2), "I/O-Permission Bitmap"; AMD 24594 (volume 3), "IN", "INS", "OUT", "OUTS".

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::arithmetic::mask;
use super::cpu::*;
use super::flags;
use super::strings::Strings;
use crate::exit::PortAccess;
use crate::{AccessKind, Exception, Exit};

/// VMEXIT_IOIO.
const IOIO: u32 = 0x7b;

impl Cpu<'_> {
    /// IN and OUT. `false`: none of these.
    pub(crate) fn ports(&mut self, i: &Instruction) -> Done<bool> {
        let input = match i.mnemonic() {
            Mnemonic::In => true,
            Mnemonic::Out => false,
            _ => return Ok(false),
        };
        let (port, data) = if input { (1, 0) } else { (0, 1) };
        let size = i.op_register(data).size();
        let port = match i.op_kind(port) {
            OpKind::Immediate8 => i.immediate8().into(),
            _ => self.state.gpr[2] as u16,
        };
        self.may_use_port(port, size as u64)?;
        if self.state.sev_es {
            return Err(Exception::vmm_communication(IOIO).into());
        }
        let data = if input { 0 } else { (self.state.gpr[0] & mask(size)) as u32 };
        if !input {
            self.state.rip = self.next_rip;
        }
        Err(Exit::Port(PortAccess {
            port,
            size: size as u8,
            input,
            string: false,
            count: 1,
            data,
            next_rip: self.next_rip,
        })
        .into())
    }

    /// OUTS: one item, read and left behind.
    pub(super) fn outs(&mut self, i: &Instruction, strings: Strings) -> Fault {
        self.outs_item(i, strings).err().unwrap_or_else(|| unreachable!("OUTS always exits"))
    }

    fn outs_item(&mut self, _i: &Instruction, strings: Strings) -> Done {
        let port = self.state.gpr[2] as u16;
        self.may_use_port(port, strings.size as u64)?;
        if self.state.sev_es {
            return Err(Exception::vmm_communication(IOIO).into());
        }
        let from = self.source(strings)?;
        let data = self.read(from, strings.size)? as u32;
        self.advance_source(strings);
        let next_rip = self.next_rip;
        if !strings.repeated || self.count_item(strings) == 0 {
            self.state.rip = next_rip;
        }
        let size = strings.size as u8;
        Err(Exit::Port(PortAccess { port, size, input: false, string: true, count: 1, data, next_rip }).into())
    }

    /// INS: the items that the hypervisor has read, or an exit that asks for them.
    pub(super) fn ins(&mut self, _i: &Instruction, strings: Strings) -> Done {
        let port = self.state.gpr[2] as u16;
        let size = strings.size;
        self.may_use_port(port, size as u64)?;
        if self.state.sev_es {
            return Err(Exception::vmm_communication(IOIO).into());
        }
        let to = self.destination(strings, AccessKind::Write)?;
        if self.state.port_input.len() < size {
            // The page must be there before the port is read.
            self.probe(to, size, AccessKind::Write)?;
            let count = if strings.repeated { self.string_count(strings) } else { 1 };
            let up = self.state.rflags & flags::DF == 0;
            let room = if up { (0x1000 - (to & 0xfff)) / size as u64 } else { 1 };
            return Err(Exit::Port(PortAccess {
                port,
                size: size as u8,
                input: true,
                string: true,
                count: count.min(room.max(1)),
                data: 0,
                next_rip: self.next_rip,
            })
            .into());
        }
        while self.state.port_input.len() >= size {
            let to = self.destination(strings, AccessKind::Write)?;
            let mut item = [0; 8];
            for (place, byte) in item.iter_mut().zip(self.state.port_input.iter().take(size)) {
                *place = *byte;
            }
            self.write(to, u64::from_le_bytes(item), size)?;
            self.state.port_input.drain(..size);
            self.advance_destination(strings);
            if !strings.repeated || self.count_item(strings) == 0 {
                self.state.port_input.clear();
                return Ok(());
            }
        }
        self.again_while_counted(strings);
        Ok(())
    }

    /// Whether the program may use a port: its privilege against IOPL, else the bitmap of the TSS.
    pub(super) fn may_use_port(&mut self, port: u16, len: u64) -> Done {
        if !self.mode.protected {
            return Ok(());
        }
        let iopl = (self.state.rflags >> 12 & 3) as u8;
        if !self.mode.virtual_8086 && self.state.cpl <= iopl {
            return Ok(());
        }
        let tr = self.state.tr;
        let wide = tr.attrib & 8 != 0;
        if !wide || tr.limit < 0x67 {
            return Err(gp());
        }
        let map = self.read_system(tr.base.wrapping_add(0x66), 2)?;
        let at = map + u64::from(port / 8);
        if at + 1 > u64::from(tr.limit) {
            return Err(gp());
        }
        let bits = self.read_system(tr.base.wrapping_add(at), 2)? >> (port % 8);
        if bits & ((1 << len) - 1) != 0 { Err(gp()) } else { Ok(()) }
    }
}
