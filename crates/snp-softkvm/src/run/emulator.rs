//! What KVM's instruction emulator does and does not do, where a guest needs it.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c (`handle_ud`, `emulator_fix_hypercall`, `handle_emulation_failure`,
//! `kvm_prepare_event_vectoring_exit`), arch/x86/kvm/emulate.c (the opcode tables); Documentation/virt/kvm/api.rst,
//! "KVM_CAP_EXIT_ON_EMULATION_FAILURE".

use snp_abi::kvm::*;

use super::exits::is_long_mode;
use super::{Flow, RunExit, Session, event};

/// The longest instruction.
const LONGEST: usize = 15;
/// VMCALL, which is Intel's, and VMMCALL.
const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
const UNDEFINED: u8 = 6;
/// EVENTINJ is valid.
const VALID: u64 = 1 << 31;
/// The exit code of a nested page fault.
const NESTED_FAULT: u64 = 0x400;

impl Session<'_> {
    /// #UD: a hypercall of the other vendor's is replaced by the processor's own (KVM_X86_QUIRK_FIX_HYPERCALL_INSN); all else is
    /// the guest's.
    pub(super) fn undefined(&mut self) -> Flow {
        const FIX_HYPERCALL: u64 = 1 << 5;
        let fixes = self.vcpu.vm.lock().devices.disabled_quirks & FIX_HYPERCALL == 0;
        let rip = self.linear_rip();
        let state = &self.running.state;
        let foreign = self.instruction_bytes().starts_with(&VMCALL);
        if fixes && foreign && state.cpl == 0 && self.vcpu.poke(self.user, state, rip, &VMMCALL) == VMMCALL.len() {
            return Flow::Resume;
        }
        self.running.state.event_inj = event::exception(UNDEFINED, None);
        Flow::Resume
    }

    /// The bytes at RIP, as many as there are of an instruction.
    fn instruction_bytes(&self) -> Vec<u8> {
        let mut bytes = [0; LONGEST];
        let there = self.vcpu.peek(self.user, &self.running.state, self.linear_rip(), &mut bytes);
        bytes[..there].to_vec()
    }

    /// Why KVM cannot emulate an access to a device, if it cannot: it was made to deliver an event, or by an instruction that
    /// the emulator does not have.
    pub(super) fn emulation_failure(&mut self, gpa: u64) -> Option<Flow> {
        if self.running.state.event_inj & VALID != 0 {
            let data = vec![gpa, NESTED_FAULT, 0, gpa, 0];
            return Some(Flow::Exit(RunExit::InternalError { suberror: KVM_INTERNAL_ERROR_DELIVERY_EV, data }));
        }
        let bytes = self.instruction_bytes();
        if emulates(&bytes, is_long_mode(&self.running.state)) {
            return None;
        }
        let exits = self.vcpu.vm.lock().devices.exit_on_emulation_failure;
        if !exits {
            self.running.state.event_inj = event::exception(UNDEFINED, None);
        }
        if !exits && self.running.state.cpl != 0 {
            return Some(Flow::Resume);
        }
        Some(Flow::Exit(RunExit::InternalError { suberror: KVM_INTERNAL_ERROR_EMULATION, data: failure(&bytes, gpa) }))
    }
}

/// `kvm_run.emulation_failure` from its flags on: the instruction's bytes, then what the exit said.
fn failure(instruction: &[u8], gpa: u64) -> Vec<u64> {
    const INSTRUCTION_BYTES: u64 = 1;
    const NOP: u8 = 0x90;
    let mut bytes = [NOP; LONGEST + 1];
    bytes[0] = instruction.len() as u8;
    bytes[1..][..instruction.len()].copy_from_slice(instruction);
    let [low, high] = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index])));
    vec![INSTRUCTION_BYTES, low, high, NESTED_FAULT, 0, gpa, 0, 0]
}

/// Whether the emulator has the instruction. Of x87's it has those that store the control and the status word; the others
/// that it lacks are done here all the same, see docs/limitations.md.
fn emulates(instruction: &[u8], long: bool) -> bool {
    let prefix = |byte: u8| {
        matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
            || long && matches!(byte, 0x40..=0x4f)
    };
    let mut rest = instruction.iter().copied().skip_while(|byte| prefix(*byte));
    let (Some(opcode), Some(modrm)) = (rest.next(), rest.next()) else { return true };
    let operation = modrm >> 3 & 7;
    match opcode {
        0xd9 | 0xdd => operation == 7,
        0xd8..=0xdf => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_x87_the_emulator_stores_control_and_status_word() {
        // FNSTCW [rax], FNSTSW [rax] with a prefix, MOV; FLD dword [rax], FISTP qword [rax] with REX.
        for good in [&[0xd9, 0x38][..], &[0x66, 0xdd, 0x38], &[0x8b, 0], &[]] {
            assert!(emulates(good, true), "{good:x?}");
        }
        for bad in [&[0xd9, 0][..], &[0x41, 0xdf, 0x38]] {
            assert!(!emulates(bad, true), "{bad:x?}");
        }
        // INC ECX outside of 64-bit mode.
        assert!(emulates(&[0x41, 0xdf, 0x38], false));
    }

    #[test]
    fn the_bytes_of_an_instruction_lie_behind_their_number() {
        assert_eq!(failure(&[0xd9, 0], 7)[..3], [1, 0x9090_9090_9000_d902, 0x9090_9090_9090_9090]);
        assert_eq!(failure(&[1; 15], 7)[2], 0x0101_0101_0101_0101);
    }
}
