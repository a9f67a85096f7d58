//! A processor model: an interpreter that runs a guest from its VMSA, or from the registers that KVM gave it.
//!
//! [`State`] is the architectural state of one virtual processor, loaded from a VMSA and stored back to it. A [`Processor`]
//! runs it against a [`GuestMemory`], which answers for nested paging and the RMP, until there is an [`Exit`]: what a
//! hypervisor would learn by #VMEXIT. It knows no KVM: whoever
//! calls it is the hypervisor.
//!
//! The model does no I/O and has no clock: time is counted in instructions. The same state, memory and limits give the same
//! exit.
//!
//! # Source
//! AMD 24592, 24593, 24594, 26568 and 26569 (APM volumes 1 to 5); AMD 56421 (GHCB) for what the exits mean.

mod exception;
mod exit;
mod extended;
mod flat;
mod interpreter;
mod memory;
mod operands;
mod simd;
mod state;
mod x87;
mod xsave;

pub use exception::{Exception, Trap};
pub use exit::{Exit, Limits, NestedFaultExit, PortAccess};
pub use extended::Extended;
pub use flat::FlatMemory;
pub use interpreter::Interpreter;
pub use memory::{Access, AccessKind, GuestMemory, MappedPage, NestedFault, Pvalidate, RmpAdjust, RmpResult};
pub use operands::Operands;
pub use simd::execute as execute_simd;
pub use state::{DebugRegisters, Segments, State};
pub use xsave::execute as execute_xsave;

/// An engine that runs a processor's state.
pub trait Processor: std::fmt::Debug + Send {
    /// Runs until something happens that the hypervisor must know. The state is then as the guest left it: a faulting
    /// instruction has not begun, one that exits for the hypervisor's help ([`Exit::Port`], [`Exit::Cpuid`] …) has not
    /// either, and `next_rip` in the exit says where it ends.
    fn run(&mut self, state: &mut State, memory: &dyn GuestMemory, limits: &Limits<'_>) -> Exit;
}
