//! RDMSR and WRMSR of the registers that belong to the state; all others are the hypervisor's.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Model-Specific Registers (MSRs)", "SEV_STATUS MSR", "GHCB". Which accesses leave the guest:
//! Linux 7.3, arch/x86/kvm/svm/svm.c and sev.c, the MSR permission map.

use snp_abi::SevFeatures;

use super::cpu::*;
use crate::{Exit, Segments};

/// VMEXIT_MSR.
const MSR: u32 = 0x7c;

const TSC: u32 = 0x10;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const PAT: u32 = 0x277;
const XSS: u32 = 0xda0;
const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;
const GHCB: u32 = 0xc001_0130;
const SEV_STATUS: u32 = 0xc001_0131;

/// EFER: SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE, AIBRSE.
const EFER_BITS: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15 | 1 << 21;
/// XSS: user and supervisor shadow stacks.
const XSS_BITS: u64 = 0x1800;

impl Cpu<'_> {
    pub(super) fn rdmsr(&mut self) -> Done<bool> {
        self.want_cpl0()?;
        let index = self.state.gpr[1] as u32;
        let Some(value) = self.msr(index) else {
            return self.intercepted(MSR, Exit::ReadMsr { index, next_rip: self.next_rip });
        };
        self.state.gpr[0] = value & 0xffff_ffff;
        self.state.gpr[2] = value >> 32;
        Ok(true)
    }

    pub(super) fn wrmsr(&mut self) -> Done<bool> {
        self.want_cpl0()?;
        let index = self.state.gpr[1] as u32;
        let value = self.state.gpr[0] & 0xffff_ffff | self.state.gpr[2] << 32;
        if !self.set_msr(index, value)? {
            return self.intercepted(MSR, Exit::WriteMsr { index, value, next_rip: self.next_rip });
        }
        Ok(true)
    }

    /// One that needs no hypervisor.
    fn msr(&self, index: u32) -> Option<u64> {
        let state = &*self.state;
        Some(match index {
            // In guests with encrypted state the hypervisor is asked for it.
            TSC if !state.sev_es => state.tsc,
            SYSENTER_CS => state.sysenter_cs,
            SYSENTER_ESP => state.sysenter_esp,
            SYSENTER_EIP => state.sysenter_eip,
            PAT => state.g_pat,
            XSS => state.xss,
            // KVM hides EFER.SVME, without which nothing runs, where it may.
            EFER if !state.sev_es => state.efer & !EFER_SVME,
            EFER => state.efer,
            STAR => state.star,
            LSTAR => state.lstar,
            CSTAR => state.cstar,
            SFMASK => state.sfmask,
            FS_BASE => state.segments[Segments::FS].base,
            GS_BASE => state.segments[Segments::GS].base,
            KERNEL_GS_BASE => state.kernel_gs_base,
            TSC_AUX => state.tsc_aux.into(),
            GHCB if state.sev_es => state.ghcb,
            SEV_STATUS if state.sev => self.sev_status(),
            _ => return None,
        })
    }

    /// SEV_STATUS: what the guest runs with.
    fn sev_status(&self) -> u64 {
        let state = &*self.state;
        let features = state.sev_features.0;
        let snp = state.sev_features.has(SevFeatures::SNP_ACTIVE);
        // SEV_FEATURES' bits from SNPActive on stand two bits further in SEV_STATUS.
        let shifted = if state.sev_es { features << 2 } else { 0 };
        let shifted = if snp { shifted } else { shifted & !(1 << 2) };
        1 | u64::from(state.sev_es) << 1 | shifted
    }

    /// `false`: the hypervisor's.
    fn set_msr(&mut self, index: u32, value: u64) -> Done<bool> {
        let canonical = self.is_canonical(value);
        let address = matches!(index, SYSENTER_ESP | SYSENTER_EIP | LSTAR | CSTAR | FS_BASE | GS_BASE | KERNEL_GS_BASE);
        if address && !canonical {
            return Err(gp());
        }
        match index {
            TSC if !self.state.sev_es => self.state.tsc = value,
            SYSENTER_CS => self.state.sysenter_cs = value & 0xffff_ffff,
            SYSENTER_ESP => self.state.sysenter_esp = value,
            SYSENTER_EIP => self.state.sysenter_eip = value,
            PAT => {
                let good = |byte: u64| matches!(byte & 0xff, 0 | 1 | 4..=7);
                if !(0..8).all(|entry| good(value >> (8 * entry))) {
                    return Err(gp());
                }
                self.state.g_pat = value;
            }
            XSS => {
                if value & !XSS_BITS != 0 {
                    return Err(gp());
                }
                if value != 0 {
                    return Err(Box::new(crate::Trap::Unmodelled("XSS with shadow stacks".into())));
                }
                self.state.xss = value;
            }
            EFER => self.set_efer(value)?,
            STAR => self.state.star = value,
            LSTAR => self.state.lstar = value,
            CSTAR => self.state.cstar = value,
            SFMASK => self.state.sfmask = value & 0xffff_ffff,
            FS_BASE => self.state.segments[Segments::FS].base = value,
            GS_BASE => self.state.segments[Segments::GS].base = value,
            KERNEL_GS_BASE => self.state.kernel_gs_base = value,
            TSC_AUX => {
                if value >> 32 != 0 {
                    return Err(gp());
                }
                self.state.tsc_aux = value as u32;
            }
            GHCB if self.state.sev_es => self.state.ghcb = value,
            SEV_STATUS if self.state.sev => return Err(gp()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_efer(&mut self, value: u64) -> Done {
        let paging = self.state.cr0 & CR0_PG != 0;
        let changed = (self.state.efer ^ value) & EFER_LME != 0;
        if value & !EFER_BITS != 0 || paging && changed {
            return Err(gp());
        }
        let kept = EFER_LMA | if self.state.sev_es { 0 } else { EFER_SVME };
        self.state.efer = value & !kept | self.state.efer & kept;
        self.flush_tlb();
        self.update_mode();
        Ok(())
    }
}
