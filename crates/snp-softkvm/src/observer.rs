//! Who watches guests run.

use std::fmt::Debug;

use snp_abi::{Gpa, RmpEntry};
use snp_asp::{PermissionChange, RmpAnswer};
use snp_vcpu::{Exit, State};

use crate::run::RunExit;

/// Watches the guests of a VM: for traces and debuggers. Every method does nothing unless it is implemented. They are called
/// on the thread of the vCPU, which stands still meanwhile; none may call into the same VM.
pub trait Observer: Debug + Send + Sync {
    /// Whether [`Observer::instruction`] shall be called: the processor then stops after every instruction.
    fn wants_instructions(&self) -> bool {
        false
    }

    /// The next instruction is about to be executed.
    fn instruction(&self, vcpu: u32, state: &State) {
        let _ = (vcpu, state);
    }

    /// The processor left the guest. Not called when it only reached a limit or was kicked.
    fn exit(&self, vcpu: u32, state: &State, exit: &Exit) {
        let _ = (vcpu, state, exit);
    }

    /// KVM_RUN returns to user space with this exit.
    fn user_exit(&self, vcpu: u32, exit: &RunExit) {
        let _ = (vcpu, exit);
    }

    /// The guest asked by the GHCB protocol, and was answered. `request` and `answer` are in words.
    fn ghcb(&self, vcpu: u32, request: &str, answer: &str) {
        let _ = (vcpu, request, answer);
    }

    /// An RMP entry of the guest's was looked at or changed.
    fn rmp(&self, change: &RmpChange) {
        let _ = change;
    }

    /// VMRUN refused a VMSA: what is wrong with it.
    fn entry_refused(&self, vcpu: u32, findings: &[snp_vmsa::check::Finding]) {
        let _ = (vcpu, findings);
    }

    /// Something the model does not have: what and where, in words. KVM_RUN ends with KVM_EXIT_INTERNAL_ERROR.
    fn unmodelled(&self, vcpu: u32, what: &str) {
        let _ = (vcpu, what);
    }
}

/// Why an RMP entry was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmpCause {
    /// KVM gave the guest a page that it touched for the first time.
    Fault,
    /// PVALIDATE.
    Pvalidate {
        /// EDX bit 0.
        validate: bool,
    },
    /// RMPADJUST.
    Rmpadjust(PermissionChange),
}

/// What happened to an RMP entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmpChange {
    /// The vCPU's index.
    pub vcpu: u32,
    /// Why.
    pub cause: RmpCause,
    /// The guest-physical address.
    pub gpa: Gpa,
    /// The entry before.
    pub before: RmpEntry,
    /// And after.
    pub after: RmpEntry,
    /// What the instruction answered, if it was one.
    pub answer: Option<RmpAnswer>,
}
