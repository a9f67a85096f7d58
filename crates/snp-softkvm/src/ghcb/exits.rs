//! Which event is handled where, and the events that need little handling.

use snp_abi::Errno;
use snp_abi::ghcb::{GhcbError, GhcbExit};

use super::{Ghcb, Hold, Hypercall, Machine, MsrAnswer, Outcome, Pending, UserExit, hypercall};

/// Exception vectors.
const UD: u8 = 6;
const GP: u8 = 13;

impl Ghcb {
    /// An exit whose GHCB was found good.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_handle_vmgexit`; svm.c, `svm_exit_handlers` for events that are intercepts.
    pub(super) fn exit(&mut self, msr: u64, machine: &mut dyn Machine) -> Outcome {
        let page = self.mapped();
        let (info_1, info_2) = (page.exit_info_1(), page.exit_info_2());
        match page.exit_code() {
            GhcbExit::MMIO_READ => self.mmio(info_1, info_2, false, machine),
            GhcbExit::MMIO_WRITE => self.mmio(info_1, info_2, true, machine),
            GhcbExit::IOIO => self.ioio(machine),
            GhcbExit::NMI_COMPLETE => {
                machine.nmi_complete();
                Outcome::Resume
            }
            GhcbExit::AP_RESET_HOLD => {
                self.hold = Hold::Page;
                if machine.reset_hold() { Outcome::Resume } else { Outcome::Exit(UserExit::ApResetHold) }
            }
            GhcbExit::AP_JUMP_TABLE => self.jump_table(info_1, info_2, machine),
            GhcbExit::HV_FEATURES => self.answer(self.config.features()),
            GhcbExit::TERM_REQUEST => Outcome::Exit(UserExit::SevTermination { msr }),
            GhcbExit::PSC => self.begin_psc(machine),
            GhcbExit::AP_CREATION => self.ap_creation(machine),
            GhcbExit::GUEST_REQUEST => self.guest_request(machine),
            GhcbExit::EXT_GUEST_REQUEST => self.extended_guest_request(machine),
            GhcbExit::GET_APIC_IDS => self.apic_ids(machine),
            GhcbExit::UNSUPPORTED_EVENT => Outcome::Fail(Errno::EINVAL),
            code => self.intercept(code, machine),
        }
    }

    /// Events that are intercepts of instructions: KVM calls the handler that it has for the intercept.
    fn intercept(&mut self, code: GhcbExit, machine: &mut dyn Machine) -> Outcome {
        let registers = self.mapped().registers;
        match code {
            GhcbExit::CPUID => {
                let [eax, ebx, ecx, edx] = machine.cpuid(registers.rax as u32, registers.rcx as u32);
                let registers = &mut self.mapped().registers;
                (registers.rax, registers.rbx) = (eax.into(), ebx.into());
                (registers.rcx, registers.rdx) = (ecx.into(), edx.into());
            }
            GhcbExit::MSR => return self.msr_access(machine),
            GhcbExit::VMMCALL => return self.vmmcall(machine),
            GhcbExit::RDPMC => match machine.read_counter(registers.rcx as u32) {
                Some(value) => self.mapped().registers.set_edx_eax(value),
                None => machine.inject(GP, Some(0)),
            },
            GhcbExit::RDTSCP => machine.inject(UD, None),
            // DR7 is the guest's own; caches and monitors are nothing to KVM.
            GhcbExit::READ_DR7
            | GhcbExit::WRITE_DR7
            | GhcbExit::INVD
            | GhcbExit::WBINVD
            | GhcbExit::MONITOR
            | GhcbExit::MWAIT => {}
            // RDTSC is never intercepted, so that KVM has no handler for it.
            GhcbExit(code) => return Outcome::Exit(UserExit::UnexpectedExit { code }),
        }
        Outcome::Resume
    }

    fn answer(&mut self, info_2: u64) -> Outcome {
        self.mapped().success(info_2);
        Outcome::Resume
    }

    fn jump_table(&mut self, request: u64, gpa: u64, machine: &mut dyn Machine) -> Outcome {
        const SET: u64 = 0;
        const GET: u64 = 1;
        match request {
            SET => {
                machine.set_jump_table(gpa);
                Outcome::Resume
            }
            GET => self.answer(machine.jump_table()),
            _ => self.malformed(GhcbError::INVALID_INPUT),
        }
    }

    /// # Source
    /// Linux 7.3, arch/x86/kvm/x86.c, `kvm_emulate_rdmsr`, `kvm_emulate_wrmsr`; svm.c, `svm_complete_emulated_msr`.
    fn msr_access(&mut self, machine: &mut dyn Machine) -> Outcome {
        let page = self.mapped();
        let index = page.registers.rcx as u32;
        if page.exit_info_1() == 0 {
            return match machine.read_msr(index) {
                MsrAnswer::Done(value) => self.finish_read_msr(Some(value)),
                MsrAnswer::Fault => self.finish_read_msr(None),
                MsrAnswer::UserSpace(reason) => {
                    self.pending = Pending::ReadMsr;
                    Outcome::Exit(UserExit::ReadMsr { index, reason })
                }
            };
        }
        let data = page.registers.edx_eax();
        match machine.write_msr(index, data) {
            MsrAnswer::Done(()) => self.finish_write_msr(true),
            MsrAnswer::Fault => self.finish_write_msr(false),
            MsrAnswer::UserSpace(reason) => {
                self.pending = Pending::WriteMsr;
                Outcome::Exit(UserExit::WriteMsr { index, reason, data })
            }
        }
    }

    pub(super) fn finish_read_msr(&mut self, value: Option<u64>) -> Outcome {
        match value {
            Some(value) => self.mapped().registers.set_edx_eax(value),
            None => self.mapped().exception(GP),
        }
        Outcome::Resume
    }

    pub(super) fn finish_write_msr(&mut self, done: bool) -> Outcome {
        if !done {
            self.mapped().exception(GP);
        }
        Outcome::Resume
    }

    fn vmmcall(&mut self, machine: &mut dyn Machine) -> Outcome {
        let page = self.mapped();
        let cpl = page.valid_cpl();
        let registers = page.registers;
        let args = [registers.rbx, registers.rcx, registers.rdx, registers.rsi];
        // The guest's mode is not KVM's to know: registers count in full.
        match hypercall(registers.rax, args, cpl, true, machine) {
            Hypercall::Done(rax) => self.answer_rax(rax),
            Hypercall::Exit(exit) => {
                self.pending = Pending::Hypercall;
                Outcome::Exit(exit)
            }
        }
    }
}

impl super::page::Registers {
    fn edx_eax(&self) -> u64 {
        u64::from(self.rdx as u32) << 32 | u64::from(self.rax as u32)
    }

    fn set_edx_eax(&mut self, value: u64) {
        self.rax = value & u64::from(u32::MAX);
        self.rdx = value >> 32;
    }
}
