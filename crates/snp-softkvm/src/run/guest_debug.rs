//! KVM_SET_GUEST_DEBUG: user space debugs a guest whose registers are KVM's.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c (`kvm_arch_vcpu_ioctl_set_guest_debug`), svm/svm.c (`db_interception`, `bp_interception`).

use snp_vcpu::DebugRegisters;

use super::{Flow, RunExit, Session};
use crate::registers::{DR6_FIXED, GuestDebug};

/// #DB and #BP.
pub(super) const DEBUG: u8 = 1;
pub(super) const BREAKPOINT: u8 = 3;
/// #UD.
const UNDEFINED: u8 = 6;
/// DR6.BS: a single step.
const DR6_BS: u64 = 1 << 14;

impl Session<'_> {
    /// What user space asked for; nothing, of a guest whose state it cannot see.
    pub(super) fn guest_debug(&self) -> GuestDebug {
        if self.protected { GuestDebug::default() } else { self.vcpu.inner.lock().registers.guest_debug }
    }

    /// User space's breakpoints take the place of the guest's.
    pub(super) fn begin_debugging(&mut self, debug: &GuestDebug) {
        let protected = self.protected;
        let state = &mut self.running.state;
        // KVM looks at every #UD of a guest whose registers it has: it may be a hypercall of the other vendor's.
        state.intercepts = debug.intercepts() | if protected { 0 } else { 1 << UNDEFINED };
        if state.is_intercepted(DEBUG) {
            let own = state.debug_registers();
            state.hidden_debug = Some(own);
            let (dr, dr7) = debug.breakpoints().unwrap_or((own.dr, own.dr7));
            state.set_debug_registers(&DebugRegisters { dr, dr6: DR6_FIXED, dr7 });
        }
    }

    /// The guest has its debug registers again. Returns what the processor's say.
    pub(super) fn end_debugging(&mut self) -> DebugRegisters {
        let state = &mut self.running.state;
        let met = state.debug_registers();
        if let Some(own) = state.hidden_debug.take() {
            state.set_debug_registers(&own);
        }
        met
    }

    /// KVM_EXIT_DEBUG: an exception that user space wants.
    pub(super) fn debug_exit(&self, vector: u8, met: &DebugRegisters) -> Flow {
        Flow::Exit(RunExit::Debug { exception: vector.into(), pc: self.linear_rip(), dr6: met.dr6, dr7: met.dr7 })
    }

    /// KVM_EXIT_DEBUG after an instruction: KVM_GUESTDBG_SINGLESTEP.
    pub(super) fn stepped(&self, met: &DebugRegisters) -> Flow {
        self.debug_exit(DEBUG, &DebugRegisters { dr6: met.dr6 | DR6_BS, ..*met })
    }

    /// RIP with the base of CS.
    pub(super) fn linear_rip(&self) -> u64 {
        let state = &self.running.state;
        state.segments[snp_vcpu::Segments::CS].base.wrapping_add(state.rip)
    }
}
