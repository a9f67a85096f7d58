//! Why a processor stopped.

use std::sync::atomic::AtomicBool;

use crate::Exception;
use crate::memory::AccessKind;

/// How far a processor may run.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// At most so many instructions.
    pub instructions: u64,
    /// It stops with [`Exit::Kicked`] soon after this is set. It is not cleared.
    pub kick: &'a AtomicBool,
    /// It stops with [`Exit::InterruptWindow`] before an instruction at which an interrupt would be taken.
    pub interrupt_window: bool,
    /// It stops with [`Exit::Breakpoint`] before an instruction at one of these linear addresses, but for the first.
    pub breakpoints: &'a [u64],
}

/// A #VMEXIT, as the hypervisor sees it.
///
/// `next_rip` is where the instruction ends: a hypervisor that has done what the instruction asks for sets RIP to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    /// The limit of instructions was reached.
    Limit,
    /// `Limits::kick` was set.
    Kicked,
    /// An interrupt would be taken now.
    InterruptWindow,
    /// A breakpoint of `Limits::breakpoints`.
    Breakpoint,
    /// HLT.
    Halt {
        /// After the instruction.
        next_rip: u64,
    },
    /// IN, OUT, INS or OUTS. Not in guests with encrypted state: #VC there.
    Port(PortAccess),
    /// CPUID. Not in guests with encrypted state.
    Cpuid {
        /// After the instruction.
        next_rip: u64,
    },
    /// RDMSR of an MSR that is not in [`State`](crate::State). Not in guests with encrypted state.
    ReadMsr {
        /// ECX.
        index: u32,
        /// After the instruction.
        next_rip: u64,
    },
    /// WRMSR of such an MSR. Not in guests with encrypted state.
    WriteMsr {
        /// ECX.
        index: u32,
        /// EDX:EAX.
        value: u64,
        /// After the instruction.
        next_rip: u64,
    },
    /// VMMCALL or VMCALL. Not in guests with encrypted state.
    Hypercall {
        /// After the instruction.
        next_rip: u64,
    },
    /// VMGEXIT: the request is in the GHCB MSR (`State::ghcb`) or in the page that it names. RIP is after the instruction.
    Vmgexit,
    /// A nested page fault: memory that is not there, or not as the guest accesses it.
    NestedFault(NestedFaultExit),
    /// An access to an address behind which there is a device. The hypervisor appends the answer to `State::mmio` and runs
    /// the instruction again.
    Mmio {
        /// Guest-physical address.
        gpa: u64,
        /// 1 to 8 bytes.
        len: u8,
        /// What is written; `None` for a read.
        data: Option<[u8; 8]>,
    },
    /// An exception of `State::intercepts`, before it changed anything: RIP is at the instruction, or past it for a trap. DR6 is
    /// as #DB leaves it, CR2 is not.
    Exception(Exception),
    /// Triple fault.
    Shutdown,
    /// INVD, WBINVD, MONITOR, MWAIT, XSETBV, RDPMC … in guests whose hypervisor intercepts them: the mnemonic.
    Instruction {
        /// The mnemonic, in lower case.
        name: &'static str,
        /// After the instruction.
        next_rip: u64,
    },
    /// The model does not have what the guest does: what and where, in words.
    Unmodelled(String),
}

/// What a port instruction wants.
///
/// OUT and OUTS exit after their item was read: registers are advanced, and RIP is past the instruction, or still on it if a
/// REP prefix asks for more items. IN exits before: the hypervisor writes RAX and sets RIP to `next_rip`. INS exits before as
/// well: the hypervisor appends the bytes of one to `count` items to [`State::port_input`](crate::State::port_input) and runs
/// the instruction again, which takes them one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// Bytes of one item: 1, 2 or 4.
    pub size: u8,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// How many items INS still asks for, up to the end of the page that it writes; else 1.
    pub count: u64,
    /// What OUT or OUTS writes.
    pub data: u32,
    /// After the instruction.
    pub next_rip: u64,
}

/// A nested page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFaultExit {
    /// Guest-physical address.
    pub gpa: u64,
    /// Read, write or fetch.
    pub kind: AccessKind,
    /// The access had the C-bit.
    pub private: bool,
    /// It was a walk of the guest's page tables.
    pub table: bool,
    /// The RMP refused it.
    pub rmp: bool,
    /// The RMP refused it for its VMPL permissions.
    pub vmpl: bool,
}
