//! What an exit to user space leaves to be done when KVM_RUN is called again.

use snp_vcpu::State;

use super::vmgexit::Asked;
use super::{Flow, Session};

/// The rest of an instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Completion {
    /// Nothing.
    #[default]
    None,
    /// IN: RAX gets `size` bytes, and the guest goes on at `next_rip`, unless user space moved RIP.
    In { size: u8, rip: u64, next_rip: u64 },
    /// INS: so many bytes are there for the instruction.
    Ins { bytes: usize },
    /// An access to memory that no slot has.
    Mmio { gpa: u64, len: usize, write: bool },
    /// VMMCALL: RAX gets the answer.
    Hypercall { long: bool, next_rip: u64 },
    /// RDMSR or WRMSR.
    Msr { write: bool, next_rip: u64 },
    /// A request of the guest's by its GHCB.
    Ghcb(Asked),
}

impl Session<'_> {
    /// Finishes what the last exit began.
    pub(super) fn complete(&mut self) -> Flow {
        let completion = std::mem::take(&mut self.running.completion);
        let state = &mut self.running.state;
        match completion {
            Completion::None => {}
            Completion::Ghcb(asked) => return self.complete_ghcb(asked),
            Completion::In { size, rip, next_rip } => {
                let mut data = [0; 4];
                self.area.port_data(&mut data[..usize::from(size)]);
                if state.rip == rip {
                    finish_in(state, size, u32::from_le_bytes(data), next_rip);
                }
            }
            Completion::Ins { bytes } => {
                let mut data = vec![0; bytes];
                self.area.port_data(&mut data);
                state.port_input.clear();
                state.port_input.extend(data);
            }
            Completion::Mmio { gpa, len, write } => {
                let bytes = if write { Vec::new() } else { self.area.mmio_data()[..len].to_vec() };
                state.mmio.push_back((gpa, bytes));
            }
            Completion::Hypercall { long, next_rip } => {
                let answer = self.area.hypercall_return();
                state.gpr[State::RAX] = if long { answer } else { answer & u64::from(u32::MAX) };
                state.rip = next_rip;
            }
            Completion::Msr { write, next_rip } => {
                let (error, data) = self.area.msr_answer();
                match (error, write) {
                    (true, _) => self.inject_general_protection(),
                    (false, true) => state.rip = next_rip,
                    (false, false) => {
                        set_edx_eax(state, data);
                        state.rip = next_rip;
                    }
                }
            }
        }
        Flow::Resume
    }
}

/// IN: the low bytes of RAX; four of them clear the upper half.
pub(super) fn finish_in(state: &mut State, size: u8, value: u32, next_rip: u64) {
    let rax = &mut state.gpr[State::RAX];
    let value = u64::from(value);
    *rax = match size {
        1 => *rax & !0xff | value & 0xff,
        2 => *rax & !0xffff | value & 0xffff,
        _ => value,
    };
    state.rip = next_rip;
}

/// RDMSR and its like.
pub(super) fn set_edx_eax(state: &mut State, value: u64) {
    state.gpr[State::RAX] = value & u64::from(u32::MAX);
    state.gpr[State::RDX] = value >> 32;
}
