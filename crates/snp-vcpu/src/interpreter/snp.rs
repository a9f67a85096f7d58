//! Instructions of SEV-ES and SEV-SNP guests: VMGEXIT, PVALIDATE, RMPADJUST.
//!
//! # Source
//! AMD 24594 (APM volume 3), "VMGEXIT", "PVALIDATE", "RMPADJUST", "RMPQUERY".

use iced_x86::{Instruction, Mnemonic};
use snp_abi::{Vmpl, VmplPermissions};

use super::cpu::*;
use super::flags;
use crate::{Access, AccessKind, Exit, Pvalidate, RmpAdjust, RmpResult};

/// EAX: the input is bad.
const FAIL_INPUT: u64 = 1;
/// EAX: the VMPL may not.
const FAIL_PERMISSION: u64 = 2;
/// EAX: the entry has another size.
const FAIL_SIZEMISMATCH: u64 = 6;

impl Cpu<'_> {
    /// VMGEXIT, PVALIDATE, RMPADJUST. `false`: none of these.
    pub(crate) fn secure_nested_paging(&mut self, i: &Instruction) -> Done<bool> {
        match i.mnemonic() {
            Mnemonic::Vmgexit => {
                if !self.state.sev_es {
                    // Without SEV-ES it is VMMCALL with a prefix.
                    return Err(Exit::Hypercall { next_rip: self.next_rip }.into());
                }
                self.state.rip = self.next_rip;
                Err(Exit::Vmgexit.into())
            }
            Mnemonic::Pvalidate => self.pvalidate().map(|()| true),
            Mnemonic::Rmpadjust => self.rmpadjust().map(|()| true),
            Mnemonic::Rmpquery | Mnemonic::Rmpupdate | Mnemonic::Psmash => Err(ud()),
            _ => Ok(false),
        }
    }

    fn want_snp(&self) -> Done {
        if !self.state.snp() || !self.mode.protected || self.mode.virtual_8086 {
            return Err(ud());
        }
        self.want_cpl0()
    }

    fn pvalidate(&mut self) -> Done {
        self.want_snp()?;
        let [address, size, validate] = [0, 1, 2].map(|register| self.state.gpr[register]);
        let (size, validate) = (size as u32, validate as u32);
        let (gpa, _) = self.physical(self.wrap_address(address), AccessKind::Read)?;
        if size > 1 || validate > 1 {
            self.answer(RmpResult::Input, AccessKind::Write, gpa)?;
            return Ok(());
        }
        let gpa = gpa & !0xfff;
        let request = Pvalidate { gpa, large: size == 1, validate: validate == 1 };
        let result = self.memory.pvalidate(&request);
        self.answer(result, AccessKind::Write, gpa)?;
        if let RmpResult::Done { changed } = result {
            self.set_flag(flags::CF, !changed);
        }
        Ok(())
    }

    fn rmpadjust(&mut self) -> Done {
        self.want_snp()?;
        if self.mode.bits != 64 {
            return Err(ud());
        }
        let [address, size, attributes] = [0, 1, 2].map(|register| self.state.gpr[register]);
        let (gpa, _) = self.physical(address, AccessKind::Read)?;
        let target = Vmpl(attributes as u8);
        let bad = size > 1 || target.0 > 3 || attributes >> 17 != 0 || attributes >> 12 & 0xf != 0;
        if bad {
            return self.answer(RmpResult::Input, AccessKind::Write, gpa);
        }
        let request = RmpAdjust {
            gpa: gpa & !0xfff,
            large: size == 1,
            target,
            permissions: VmplPermissions((attributes >> 8) as u8),
            vmsa: attributes >> 16 & 1 != 0,
            executing: self.state.vmpl,
        };
        let result = self.memory.rmpadjust(&request);
        self.answer(result, AccessKind::Write, gpa)
    }

    /// EAX and the status flags, or the nested page fault.
    fn answer(&mut self, result: RmpResult, kind: AccessKind, gpa: u64) -> Done {
        let code = match result {
            RmpResult::Done { .. } => 0,
            RmpResult::Input => FAIL_INPUT,
            RmpResult::Permission => FAIL_PERMISSION,
            RmpResult::SizeMismatch => FAIL_SIZEMISMATCH,
            RmpResult::Fault(fault) => {
                let access =
                    Access { gpa: gpa & !0xfff, kind, private: true, user: false, table: false, vmpl: self.vmpl() };
                return Err(self.nested_fault(fault, &access, gpa));
            }
        };
        self.state.gpr[0] = code;
        // The flags tell of EAX; CF is PVALIDATE's own.
        self.replace_flags(
            flags::STATUS,
            if code == 0 { flags::ZF | flags::PF } else { flags::result_flags(code, 32) },
        );
        Ok(())
    }

    fn wrap_address(&self, address: u64) -> u64 {
        if self.mode.long { address } else { address & 0xffff_ffff }
    }
}
