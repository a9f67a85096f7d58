//! Port I/O of guests whose state is KVM's to see.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c: `kvm_fast_pio`, `emulator_pio_in_emulated`; arch/x86/kvm/emulate.c: INS takes as many items
//! at once as there are before RDI's page ends, at most 1024 bytes.

use snp_vcpu::PortAccess;

use super::complete::Completion;
use super::{Flow, RunExit, Session};

/// Bytes that KVM's emulator reads ahead for INS.
const READ_AHEAD: u64 = 1024;

impl Session<'_> {
    pub(super) fn port(&mut self, access: PortAccess) -> Flow {
        let PortAccess { port, size, input, string, count, data, next_rip } = access;
        let bytes = usize::from(size);
        if !input {
            if self.device_port_out(port, &data.to_le_bytes()[..bytes]) {
                return Flow::Resume;
            }
            self.area.set_port_data(&data.to_le_bytes()[..usize::from(size)]);
            return Flow::Exit(RunExit::Io { input, size, port, count: 1 });
        }
        let mut answer = [0; 4];
        if self.device_port_in(port, &mut answer[..bytes]) {
            if string {
                self.running.state.port_input.extend(&answer[..bytes]);
            } else {
                super::complete::finish_in(&mut self.running.state, size, u32::from_le_bytes(answer), next_rip);
            }
            return Flow::Resume;
        }
        let count = if string { count.clamp(1, READ_AHEAD / u64::from(size)) } else { 1 };
        self.running.completion = match string {
            true => Completion::Ins { bytes: count as usize * usize::from(size) },
            false => Completion::In { size, rip: self.running.state.rip, next_rip },
        };
        Flow::Exit(RunExit::Io { input, size, port, count: count as u32 })
    }
}
