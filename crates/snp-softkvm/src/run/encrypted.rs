//! A VMSA as the state of a processor, and back.
//!
//! # Source
//! AMD 24593 (APM volume 2), "VMSA Layout, State Save Area for SEV-ES and SEV-SNP". The x87 registers are taken to lie in the
//! order of the stack, as in an XSAVE area and as KVM puts them there.

use snp_abi::{Segment, SevFeatures, Vmsa};
use snp_vcpu::{Extended, Segments, State};

/// General registers in the order of instructions.
macro_rules! general {
    ($vmsa:expr) => {
        [
            $vmsa.rax, $vmsa.rcx, $vmsa.rdx, $vmsa.rbx, $vmsa.rsp, $vmsa.rbp, $vmsa.rsi, $vmsa.rdi, $vmsa.r8, $vmsa.r9,
            $vmsa.r10, $vmsa.r11, $vmsa.r12, $vmsa.r13, $vmsa.r14, $vmsa.r15,
        ]
    };
}

/// The VALID bit of EVENTINJ.
const EVENT_VALID: u64 = 1 << 31;

/// VMRUN: loads a VMSA. What it does not hold stays: the time-stamp counter, random numbers, the GHCB MSR.
pub(super) fn load(state: &mut State, vmsa: &Vmsa) {
    state.gpr = general!(vmsa);
    state.rip = vmsa.rip;
    state.rflags = vmsa.rflags;
    state.cpl = vmsa.cpl;
    state.segments = Segments { registers: [vmsa.es, vmsa.cs, vmsa.ss, vmsa.ds, vmsa.fs, vmsa.gs] };
    state.gdtr = vmsa.gdtr;
    state.idtr = vmsa.idtr;
    state.ldtr = vmsa.ldtr;
    state.tr = vmsa.tr;
    state.cr0 = vmsa.cr0;
    state.cr2 = vmsa.cr2;
    state.cr3 = vmsa.cr3;
    state.cr4 = vmsa.cr4;
    state.efer = vmsa.efer;
    state.dr6 = vmsa.dr6;
    state.dr7 = vmsa.dr7;
    if vmsa.sev_features.has(SevFeatures::DEBUG_SWAP) {
        state.dr = [vmsa.dr0, vmsa.dr1, vmsa.dr2, vmsa.dr3];
    }
    load_extended(&mut state.extended, vmsa);
    state.xss = vmsa.xss;
    state.star = vmsa.star;
    state.lstar = vmsa.lstar;
    state.cstar = vmsa.cstar;
    state.sfmask = vmsa.sfmask;
    state.kernel_gs_base = vmsa.kernel_gs_base;
    state.sysenter_cs = vmsa.sysenter_cs;
    state.sysenter_esp = vmsa.sysenter_esp;
    state.sysenter_eip = vmsa.sysenter_eip;
    state.g_pat = vmsa.g_pat;
    state.tsc_aux = vmsa.tsc_aux;
    state.sev_features = vmsa.sev_features;
    state.virtual_tom = vmsa.virtual_tom;
    state.vmpl = vmsa.vmpl;
    state.event_inj = if vmsa.event_inj & EVENT_VALID != 0 { vmsa.event_inj } else { 0 };
}

/// #VMEXIT: stores a state into a VMSA; fields that are not the processor's to change stay.
pub(super) fn store(state: &State, vmsa: &mut Vmsa) {
    general!(*vmsa) = state.gpr;
    vmsa.rip = state.rip;
    vmsa.rflags = state.rflags;
    vmsa.cpl = state.cpl;
    [vmsa.es, vmsa.cs, vmsa.ss, vmsa.ds, vmsa.fs, vmsa.gs] = state.segments.registers;
    keep_table(&mut vmsa.gdtr, state.gdtr);
    keep_table(&mut vmsa.idtr, state.idtr);
    vmsa.ldtr = state.ldtr;
    vmsa.tr = state.tr;
    vmsa.cr0 = state.cr0;
    vmsa.cr2 = state.cr2;
    vmsa.cr3 = state.cr3;
    vmsa.cr4 = state.cr4;
    vmsa.efer = state.efer;
    vmsa.dr6 = state.dr6;
    vmsa.dr7 = state.dr7;
    if vmsa.sev_features.has(SevFeatures::DEBUG_SWAP) {
        [vmsa.dr0, vmsa.dr1, vmsa.dr2, vmsa.dr3] = state.dr;
    }
    store_extended(&state.extended, vmsa);
    vmsa.xss = state.xss;
    vmsa.star = state.star;
    vmsa.lstar = state.lstar;
    vmsa.cstar = state.cstar;
    vmsa.sfmask = state.sfmask;
    vmsa.kernel_gs_base = state.kernel_gs_base;
    vmsa.sysenter_cs = state.sysenter_cs;
    vmsa.sysenter_esp = state.sysenter_esp;
    vmsa.sysenter_eip = state.sysenter_eip;
    vmsa.g_pat = state.g_pat;
    vmsa.tsc_aux = state.tsc_aux;
    vmsa.event_inj = state.event_inj;
}

/// Of a descriptor table only base and limit count.
fn keep_table(place: &mut Segment, table: Segment) {
    place.limit = table.limit;
    place.base = table.base;
}

/// TOP of the x87 status word.
fn top(fsw: u16) -> usize {
    usize::from(fsw >> 11 & 7)
}

fn load_extended(extended: &mut Extended, vmsa: &Vmsa) {
    extended.fcw = vmsa.x87_fcw;
    extended.fsw = vmsa.x87_fsw;
    extended.ftw = vmsa.x87_ftw as u8;
    extended.fop = vmsa.x87_fop;
    extended.fip = vmsa.x87_rip;
    extended.fcs = vmsa.x87_cs;
    extended.fdp = vmsa.x87_dp;
    extended.fds = vmsa.x87_ds;
    extended.mxcsr = vmsa.mxcsr;
    for place in 0..8 {
        let register = &mut extended.x87[(top(vmsa.x87_fsw) + place) & 7];
        register[..8].copy_from_slice(&vmsa.fpreg_x87[8 * place..][..8]);
        register[8..].copy_from_slice(&vmsa.fpreg_x87[64 + 2 * place..][..2]);
    }
    for (index, register) in extended.ymm.iter_mut().enumerate() {
        register[..16].copy_from_slice(&vmsa.fpreg_xmm[16 * index..][..16]);
        register[16..].copy_from_slice(&vmsa.fpreg_ymm[16 * index..][..16]);
    }
    extended.xcr0 = vmsa.xcr0;
    extended.pkru = vmsa.pkru;
}

fn store_extended(extended: &Extended, vmsa: &mut Vmsa) {
    vmsa.x87_fcw = extended.fcw;
    vmsa.x87_fsw = extended.fsw;
    vmsa.x87_ftw = extended.ftw.into();
    vmsa.x87_fop = extended.fop;
    vmsa.x87_rip = extended.fip;
    vmsa.x87_cs = extended.fcs;
    vmsa.x87_dp = extended.fdp;
    vmsa.x87_ds = extended.fds;
    vmsa.mxcsr = extended.mxcsr;
    for place in 0..8 {
        let register = &extended.x87[(top(extended.fsw) + place) & 7];
        vmsa.fpreg_x87[8 * place..][..8].copy_from_slice(&register[..8]);
        vmsa.fpreg_x87[64 + 2 * place..][..2].copy_from_slice(&register[8..]);
    }
    for (index, register) in extended.ymm.iter().enumerate() {
        vmsa.fpreg_xmm[16 * index..][..16].copy_from_slice(&register[..16]);
        vmsa.fpreg_ymm[16 * index..][..16].copy_from_slice(&register[16..]);
    }
    vmsa.xcr0 = extended.xcr0;
    vmsa.pkru = extended.pkru;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    proptest! {
        /// Whatever a VMSA holds is there again after it was loaded and stored, over whatever was there.
        #[test]
        fn every_field_survives(bytes in prop::collection::vec(any::<u8>(), 4096)) {
            let mut vmsa = Vmsa::read_from_bytes(&bytes).unwrap();
            vmsa.x87_ftw &= 0xff;
            vmsa.event_inj |= EVENT_VALID;
            let before = vmsa;
            let mut state = State::default();
            load(&mut state, &vmsa);
            store(&state, &mut vmsa);
            prop_assert!(vmsa.as_bytes() == before.as_bytes());
            // Only what is not the processor's state may come from elsewhere.
            let mut other = Vmsa { sev_features: before.sev_features, ..Vmsa::default() };
            store(&state, &mut other);
            let mut again = State::default();
            load(&mut again, &Vmsa { vmpl: before.vmpl, virtual_tom: before.virtual_tom, gdtr: before.gdtr, idtr: before.idtr, ..other });
            prop_assert_eq!(again, state);
        }
    }
}
