//! System instructions: control and debug registers, model-specific registers, what hypervisors intercept.
//!
//! Which instructions a guest's hypervisor intercepts is KVM's choice: it makes the difference between an exit, or #VC in
//! guests with encrypted state, and an instruction that is just executed.
//!
//! # Source
//! AMD 24594 (APM volume 3), chapter "System Instruction Reference"; AMD 24593 (volume 2), "System-Control Registers" and
//! "Automatic Exits and Non-Automatic Exits". Interceptions: Linux 7.3, arch/x86/kvm/svm.

use iced_x86::{Instruction, Mnemonic, Register};

use super::cpu::*;
use super::flags::{self, CF, IF, STATUS};
use crate::{AccessKind, Exception, Exit, Segments};

/// Exit codes, which are #VC's error codes.
mod intercept {
    pub(super) const READ_DR7: u32 = 0x27;
    pub(super) const WRITE_DR7: u32 = 0x37;
    pub(super) const RDPMC: u32 = 0x6f;
    pub(super) const CPUID: u32 = 0x72;
    pub(super) const INVD: u32 = 0x76;
    pub(super) const VMMCALL: u32 = 0x81;
    pub(super) const WBINVD: u32 = 0x89;
    pub(super) const MONITOR: u32 = 0x8a;
    pub(super) const MWAIT: u32 = 0x8b;
}

/// CR0: the bits that there are.
const CR0_BITS: u64 = 0xe005_003f;
const CR0_ET: u64 = 1 << 4;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
/// CR4: the bits that there are, without CET.
const CR4_BITS: u64 = 0x0077_1fff;
const CR4_CET: u64 = 1 << 23;
/// What translations depend on.
const CR4_PAGING: u64 = CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE;

impl Cpu<'_> {
    /// Everything else that is no vector instruction. `false`: none of these.
    pub(crate) fn system(&mut self, i: &Instruction) -> Done<bool> {
        match i.mnemonic() {
            Mnemonic::Cpuid => {
                return self.intercepted(intercept::CPUID, Exit::Cpuid { next_rip: self.next_rip });
            }
            Mnemonic::Hlt => {
                // An automatic exit: also guests with encrypted state leave without #VC.
                self.want_cpl0()?;
                return Err(Exit::Halt { next_rip: self.next_rip }.into());
            }
            // The other vendor's.
            Mnemonic::Vmcall => return Err(ud()),
            Mnemonic::Vmmcall => {
                return self.intercepted(intercept::VMMCALL, Exit::Hypercall { next_rip: self.next_rip });
            }
            Mnemonic::Cli => {
                self.want_iopl()?;
                self.set_flag(IF, false);
            }
            Mnemonic::Sti => {
                self.want_iopl()?;
                // The shadow is of the STI that enables.
                self.state.interrupt_shadow = !self.flag(IF);
                self.set_flag(IF, true);
                self.end_block = true;
            }
            Mnemonic::Clac | Mnemonic::Stac => {
                self.want_cpl0()?;
                self.set_flag(flags::AC, i.mnemonic() == Mnemonic::Stac);
                self.update_rights();
            }
            Mnemonic::Clts => {
                self.want_cpl0()?;
                self.state.cr0 &= !CR0_TS;
            }
            Mnemonic::Lmsw => {
                self.want_cpl0()?;
                let value = self.operand(i, 0)?;
                // PE can be set, not cleared.
                let low = value & 0xf | self.state.cr0 & CR0_PE;
                self.set_cr0(self.state.cr0 & !0xf | low)?;
            }
            Mnemonic::Smsw => {
                self.refuse_umip()?;
                self.store_word(i, self.state.cr0)?;
            }
            Mnemonic::Invlpg => {
                self.want_cpl0()?;
                let offset = self.effective_address(i);
                let segment = segment_index(i.memory_segment());
                let base =
                    if self.is_64_bit() && segment < Segments::FS { 0 } else { self.state.segments[segment].base };
                let address = base.wrapping_add(offset);
                self.tlb.flush_page(address);
                self.end_block = true;
            }
            Mnemonic::Invpcid => {
                self.want_cpl0()?;
                let kind = self.register(i.op0_register());
                let address = self.operand_address(i, 16, AccessKind::Read)?;
                let reserved = self.read(address, 8)? >> 12;
                if kind > 3 || reserved != 0 {
                    return Err(gp());
                }
                self.flush_tlb();
            }
            Mnemonic::Invd => return self.host_caches(intercept::INVD, "invd"),
            Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => return self.host_caches(intercept::WBINVD, "wbinvd"),
            Mnemonic::Monitor | Mnemonic::Monitorx => return self.wait_for_memory(intercept::MONITOR, "monitor"),
            Mnemonic::Mwait | Mnemonic::Mwaitx => return self.wait_for_memory(intercept::MWAIT, "mwait"),
            Mnemonic::Swapgs => {
                if !self.is_64_bit() {
                    return Err(ud());
                }
                self.want_cpl0()?;
                let base = &mut self.state.segments[Segments::GS].base;
                std::mem::swap(base, &mut self.state.kernel_gs_base);
            }
            Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => return Err(ud()),
            Mnemonic::Rdtsc | Mnemonic::Rdtscp => self.read_tsc(i)?,
            Mnemonic::Rdpmc => {
                let exit = Exit::Instruction { name: "rdpmc", next_rip: self.next_rip };
                if self.state.cpl != 0 && self.state.cr4 & CR4_PCE == 0 {
                    return Err(gp());
                }
                return self.intercepted(intercept::RDPMC, exit);
            }
            Mnemonic::Rdpid => self.set_register(i.op0_register(), self.state.tsc_aux.into()),
            Mnemonic::Rdmsr => return self.rdmsr(),
            Mnemonic::Wrmsr => return self.wrmsr(),
            Mnemonic::Rdfsbase | Mnemonic::Rdgsbase | Mnemonic::Wrfsbase | Mnemonic::Wrgsbase => self.bases(i)?,
            Mnemonic::Rdrand | Mnemonic::Rdseed => {
                let value = self.random();
                let register = i.op0_register();
                self.set_register(register, value & super::arithmetic::mask(register.size()));
                self.replace_flags(STATUS, CF);
            }
            Mnemonic::Xgetbv | Mnemonic::Xsetbv => self.xcr(i)?,
            Mnemonic::Rdpkru | Mnemonic::Wrpkru => self.protection_keys(i)?,
            // Nested virtualisation is not offered: EFER.SVME cannot be used by guests.
            Mnemonic::Vmrun
            | Mnemonic::Vmload
            | Mnemonic::Vmsave
            | Mnemonic::Stgi
            | Mnemonic::Clgi
            | Mnemonic::Invlpga
            | Mnemonic::Skinit => return Err(ud()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn want_iopl(&self) -> Done {
        let iopl = (self.state.rflags >> 12 & 3) as u8;
        let allowed = !self.mode.protected || self.state.cpl <= iopl;
        if allowed { Ok(()) } else { Err(gp()) }
    }

    fn host_caches(&self, code: u32, name: &'static str) -> Done<bool> {
        self.want_cpl0()?;
        self.intercepted(code, Exit::Instruction { name, next_rip: self.next_rip })
    }

    fn wait_for_memory(&self, code: u32, name: &'static str) -> Done<bool> {
        if self.state.cpl != 0 {
            return Err(ud());
        }
        self.intercepted(code, Exit::Instruction { name, next_rip: self.next_rip })
    }

    fn read_tsc(&mut self, i: &Instruction) -> Done {
        if self.state.cr4 & CR4_TSD != 0 && self.state.cpl != 0 {
            return Err(gp());
        }
        let tsc = self.state.tsc;
        self.state.gpr[0] = tsc & 0xffff_ffff;
        self.state.gpr[2] = tsc >> 32;
        if i.mnemonic() == Mnemonic::Rdtscp {
            self.state.gpr[1] = self.state.tsc_aux.into();
        }
        Ok(())
    }

    fn bases(&mut self, i: &Instruction) -> Done {
        if self.state.cr4 & CR4_FSGSBASE == 0 || !self.is_64_bit() {
            return Err(ud());
        }
        let fs = matches!(i.mnemonic(), Mnemonic::Rdfsbase | Mnemonic::Wrfsbase);
        let segment = if fs { Segments::FS } else { Segments::GS };
        let register = i.op0_register();
        if matches!(i.mnemonic(), Mnemonic::Rdfsbase | Mnemonic::Rdgsbase) {
            self.set_register(register, self.state.segments[segment].base);
            return Ok(());
        }
        let base = self.register(register);
        if !self.is_canonical(base) {
            return Err(gp());
        }
        self.state.segments[segment].base = base;
        Ok(())
    }

    /// The next number of the seeded generator (SplitMix64).
    fn random(&mut self) -> u64 {
        self.state.random = self.state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn xcr(&mut self, i: &Instruction) -> Done {
        if self.state.cr4 & CR4_OSXSAVE == 0 {
            return Err(ud());
        }
        let index = self.state.gpr[1] as u32;
        let supported = self.state.extended.supported_xcr0;
        if i.mnemonic() == Mnemonic::Xgetbv {
            let value = match index {
                0 => self.state.extended.xcr0,
                // XINUSE, as XSAVEC sees it.
                1 => self.state.extended.xcr0 & crate::xsave::in_use(&self.state.extended),
                _ => return Err(gp()),
            };
            self.state.gpr[0] = value & 0xffff_ffff;
            self.state.gpr[2] = value >> 32;
            return Ok(());
        }
        self.want_cpl0()?;
        let value = self.state.gpr[0] & 0xffff_ffff | self.state.gpr[2] << 32;
        let lonely_avx = value & 4 != 0 && value & 2 == 0;
        if index != 0 || value & 1 == 0 || lonely_avx || value & !supported != 0 {
            return Err(gp());
        }
        self.state.extended.xcr0 = value;
        Ok(())
    }

    fn protection_keys(&mut self, i: &Instruction) -> Done {
        if self.state.cr4 & CR4_PKE == 0 {
            return Err(ud());
        }
        let [rax, rcx, rdx] = [0, 1, 2].map(|register| self.state.gpr[register] as u32);
        if rcx != 0 {
            return Err(gp());
        }
        if i.mnemonic() == Mnemonic::Rdpkru {
            self.state.gpr[0] = self.state.extended.pkru.into();
            self.state.gpr[2] = 0;
            return Ok(());
        }
        if rdx != 0 {
            return Err(gp());
        }
        self.state.extended.pkru = rax;
        self.flush_tlb();
        Ok(())
    }

    pub(crate) fn read_cr(&mut self, register: Register) -> Done<u64> {
        self.want_cpl0()?;
        match register {
            Register::CR0 => Ok(self.state.cr0),
            Register::CR2 => Ok(self.state.cr2),
            Register::CR3 => Ok(self.state.cr3),
            Register::CR4 => Ok(self.state.cr4),
            Register::CR8 => Ok(self.state.cr8),
            _ => Err(ud()),
        }
    }

    pub(crate) fn write_cr(&mut self, register: Register, value: u64) -> Done {
        self.want_cpl0()?;
        match register {
            Register::CR0 => self.set_cr0(value),
            Register::CR2 => {
                self.state.cr2 = value;
                Ok(())
            }
            Register::CR3 => self.set_cr3(value),
            Register::CR4 => self.set_cr4(value),
            Register::CR8 => {
                if value >> 4 != 0 {
                    return Err(gp());
                }
                self.state.cr8 = value;
                // A lower priority may let an interrupt in.
                self.end_block = true;
                Ok(())
            }
            _ => Err(ud()),
        }
    }

    fn set_cr0(&mut self, value: u64) -> Done {
        let state = &mut *self.state;
        let (pg, pe) = (value & CR0_PG != 0, value & CR0_PE != 0);
        if value >> 32 != 0 || value & (CR0_NW | CR0_CD) == CR0_NW || pg && !pe {
            return Err(gp());
        }
        let was_paging = state.cr0 & CR0_PG != 0;
        if pg && !was_paging && state.efer & EFER_LME != 0 {
            let long_code = state.segments[Segments::CS].attrib & attribute::LONG != 0;
            if state.cr4 & CR4_PAE == 0 || long_code {
                return Err(gp());
            }
            state.efer |= EFER_LMA;
        }
        if !pg && was_paging {
            if self.mode.bits == 64 || state.cr4 & CR4_PCIDE != 0 {
                return Err(gp());
            }
            state.efer &= !EFER_LMA;
        }
        let changed = state.cr0 ^ value;
        state.cr0 = value & CR0_BITS | CR0_ET;
        if changed & (CR0_PG | CR0_PE | CR0_WP) != 0 {
            self.flush_tlb();
        }
        self.update_mode();
        Ok(())
    }

    fn set_cr3(&mut self, value: u64) -> Done {
        const NO_FLUSH: u64 = 1 << 63;
        let mut value = value;
        if self.mode.long {
            if self.state.cr4 & CR4_PCIDE != 0 {
                value &= !NO_FLUSH;
            }
            if value & !(self.physical_mask() | self.c_bit()) != 0 {
                return Err(gp());
            }
        }
        self.state.cr3 = value;
        self.flush_tlb();
        Ok(())
    }

    fn set_cr4(&mut self, value: u64) -> Done {
        if value & CR4_CET != 0 {
            return Err(Box::new(crate::Trap::Unmodelled("CR4.CET: shadow stacks".into())));
        }
        let changed = self.state.cr4 ^ value;
        let in_long = self.mode.long && (value & CR4_PAE == 0 || changed & CR4_LA57 != 0);
        let pcid = value & !self.state.cr4 & CR4_PCIDE != 0 && (!self.mode.long || self.state.cr3 & 0xfff != 0);
        if value & !CR4_BITS != 0 || in_long || pcid {
            return Err(gp());
        }
        self.state.cr4 = value;
        if changed & CR4_PAGING != 0 {
            self.flush_tlb();
        }
        self.update_mode();
        Ok(())
    }

    /// DR4 and DR5 are other names of DR6 and DR7, unless CR4.DE forbids them.
    fn debug_register(&self, register: Register) -> Done<usize> {
        let number = register as usize - Register::DR0 as usize;
        match number {
            4 | 5 if self.state.cr4 & CR4_DE == 0 => Ok(number + 2),
            0..=3 | 6 | 7 => Ok(number),
            _ => Err(ud()),
        }
    }

    fn want_debug_access(&mut self) -> Done {
        const GD: u64 = 1 << 13;
        self.want_cpl0()?;
        if self.state.dr7 & GD != 0 {
            self.state.dr6 |= GD;
            if self.state.hidden_debug.is_none() {
                self.state.dr7 &= !GD;
            }
            return Err(Exception::DEBUG.into());
        }
        Ok(())
    }

    /// KVM intercepts DR7 of guests with encrypted state, unless the processor swaps it (DebugSwap).
    fn intercepts_dr7(&self) -> bool {
        self.state.sev_es && !self.state.sev_features.has(snp_abi::SevFeatures::DEBUG_SWAP)
    }

    pub(crate) fn read_dr(&mut self, register: Register) -> Done<u64> {
        let number = self.debug_register(register)?;
        self.want_debug_access()?;
        let registers = self.state.hidden_debug.unwrap_or(self.state.debug_registers());
        match number {
            6 => Ok(registers.dr6),
            7 if self.intercepts_dr7() => Err(Exception::vmm_communication(intercept::READ_DR7).into()),
            7 => Ok(registers.dr7),
            _ => Ok(registers.dr[number]),
        }
    }

    pub(crate) fn write_dr(&mut self, register: Register, value: u64) -> Done {
        let number = self.debug_register(register)?;
        self.want_debug_access()?;
        if number >= 6 && value >> 32 != 0 {
            return Err(gp());
        }
        if number == 7 && self.intercepts_dr7() {
            return Err(Exception::vmm_communication(intercept::WRITE_DR7).into());
        }
        let mut registers = self.state.hidden_debug.unwrap_or(self.state.debug_registers());
        match number {
            6 => registers.dr6 = value & 0xe00f | 0xffff_0ff0,
            7 => registers.dr7 = value & 0xffff_2fff | 0x400,
            _ => registers.dr[number] = value,
        }
        match &mut self.state.hidden_debug {
            Some(hidden) => *hidden = registers,
            None => self.state.set_debug_registers(&registers),
        }
        if number == 7 {
            // Watched pages may not be accessed without a look.
            self.flush_tlb();
        }
        self.end_block = true;
        Ok(())
    }
}
