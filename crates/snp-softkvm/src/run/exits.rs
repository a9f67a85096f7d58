//! #VMEXITs, as KVM answers them.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/svm/svm.c (`svm_exit_handlers`) and arch/x86/kvm/x86.c, read for behaviour.

use snp_abi::Errno;
use snp_abi::kvm::*;
use snp_vcpu::{Access, DebugRegisters, Exit, NestedFaultExit, State};

use super::complete::{Completion, set_edx_eax};
use super::{Flow, RunExit, Session, Stop, event, guest_debug};
use crate::ghcb::MsrAnswer;
use crate::host::is_protected;
use crate::memory::Resolution;

const PAGE: u64 = 4096;
/// #UD and #GP.
const UNDEFINED: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;

impl Session<'_> {
    /// Answers an exit.
    pub(super) fn handle(&mut self, exit: Exit, met: &DebugRegisters) -> Flow {
        match exit {
            // One instruction at a time for who watches, or the end of the bounds: the next step tells.
            Exit::Limit => Flow::Resume,
            // The next step asks the bell.
            Exit::Kicked => Flow::Resume,
            Exit::InterruptWindow => self.interrupt_window(),
            Exit::Breakpoint => Flow::Stop(Stop::Breakpoint),
            Exit::Halt { next_rip } => self.halt(next_rip),
            Exit::Port(access) => self.port(access),
            Exit::Cpuid { next_rip } => {
                let [function, index] =
                    [State::RAX, State::RCX].map(|register| self.running.state.gpr[register] as u32);
                let answer = self.cpuid(function, index);
                let registers = [State::RAX, State::RBX, State::RCX, State::RDX];
                for (register, value) in registers.into_iter().zip(answer) {
                    self.running.state.gpr[register] = value.into();
                }
                self.skip_to(next_rip)
            }
            Exit::ReadMsr { index, next_rip } => self.rdmsr(index, next_rip),
            Exit::WriteMsr { index, value, next_rip } => self.wrmsr(index, value, next_rip),
            Exit::Hypercall { next_rip } => self.hypercall(next_rip),
            Exit::Vmgexit => self.vmgexit(),
            Exit::NestedFault(fault) => self.nested_fault(&fault),
            Exit::Mmio { gpa, len, data } => self.mmio(gpa, len, data),
            Exit::Exception(exception) => match exception.vector {
                vector @ (guest_debug::DEBUG | guest_debug::BREAKPOINT) => self.debug_exit(vector, met),
                _ => self.undefined(),
            },
            Exit::Shutdown => self.shutdown(),
            Exit::Instruction { name, next_rip } => self.instruction(name, next_rip),
            Exit::Unmodelled(what) => self.unmodelled(&what),
        }
    }

    pub(super) fn skip_to(&mut self, rip: u64) -> Flow {
        self.running.state.rip = rip;
        self.running.state.interrupt_shadow = false;
        Flow::Resume
    }

    fn interrupt_window(&mut self) -> Flow {
        if self.area.requests_interrupt_window() && !self.local_apic {
            return Flow::Exit(RunExit::InterruptWindow);
        }
        Flow::Resume
    }

    fn halt(&mut self, next_rip: u64) -> Flow {
        self.running.state.rip = next_rip;
        if !self.local_apic {
            return Flow::Exit(RunExit::Halt);
        }
        self.vcpu.inner.lock().registers.mp_state = KVM_MP_STATE_HALTED;
        Flow::Resume
    }

    fn rdmsr(&mut self, index: u32, next_rip: u64) -> Flow {
        match self.read_msr(index) {
            MsrAnswer::Done(value) => {
                set_edx_eax(&mut self.running.state, value);
                self.skip_to(next_rip)
            }
            MsrAnswer::Fault => self.inject_general_protection_and_go_on(),
            MsrAnswer::UserSpace(reason) => {
                self.running.completion = Completion::Msr { write: false, next_rip };
                Flow::Exit(RunExit::Msr { write: false, reason, index, data: 0 })
            }
        }
    }

    fn wrmsr(&mut self, index: u32, value: u64, next_rip: u64) -> Flow {
        match self.write_msr(index, value) {
            MsrAnswer::Done(()) => self.skip_to(next_rip),
            MsrAnswer::Fault => self.inject_general_protection_and_go_on(),
            MsrAnswer::UserSpace(reason) => {
                self.running.completion = Completion::Msr { write: true, next_rip };
                Flow::Exit(RunExit::Msr { write: true, reason, index, data: value })
            }
        }
    }

    fn inject_general_protection_and_go_on(&mut self) -> Flow {
        self.inject_general_protection();
        Flow::Resume
    }

    /// The guest takes #GP(0) when it runs again.
    pub(super) fn inject_general_protection(&mut self) {
        self.running.state.event_inj = event::exception(GENERAL_PROTECTION, Some(0));
    }

    /// KVM_CAP_EXIT_HYPERCALL.
    pub(super) fn map_gpa_range_exits(&self) -> bool {
        self.vcpu.vm.lock().hypercall_exits & 1 << KVM_HC_MAP_GPA_RANGE != 0
    }

    fn nested_fault(&mut self, fault: &NestedFaultExit) -> Flow {
        let state = &self.running.state;
        let access = Access {
            gpa: fault.gpa & !(PAGE - 1),
            kind: fault.kind,
            private: fault.private,
            user: state.cpl == 3 && !fault.table,
            table: fault.table,
            vmpl: self.is_snp_active().then_some(state.vmpl),
        };
        match self.memory.resolve(&access) {
            Resolution::Retry => self.retry(),
            Resolution::MemoryFault { private } => {
                let flags = if private { KVM_MEMORY_EXIT_FLAG_PRIVATE } else { 0 };
                Flow::Fail(Errno::EFAULT, Some(RunExit::MemoryFault { flags, gpa: access.gpa, size: PAGE }))
            }
            Resolution::BadAddress => Flow::Fail(Errno::EFAULT, None),
            Resolution::Stuck => self.stuck(),
            // Page tables, or instructions, where a device is: KVM's emulator cannot do that.
            Resolution::Device => {
                Flow::Exit(RunExit::InternalError { suberror: KVM_INTERNAL_ERROR_EMULATION, data: Vec::new() })
            }
        }
    }

    /// There is a page by now. If the guest does not see it all the same, another processor changes it back and forth, or
    /// Linux would resolve the fault again and again.
    fn retry(&mut self) -> Flow {
        const PATIENCE: u32 = 64;
        let rip = self.running.state.rip;
        let (last, times) = self.running.retried;
        let times = if last == rip { times + 1 } else { 1 };
        if times < PATIENCE {
            self.running.retried = (rip, times);
            return Flow::Resume;
        }
        self.running.retried = (rip, 0);
        self.stuck()
    }

    /// An access to memory that no slot has, or a write to a read-only one.
    fn mmio(&mut self, gpa: u64, len: u8, data: Option<[u8; 8]>) -> Flow {
        if let Some(flow) = self.emulation_failure(gpa) {
            return flow;
        }
        let len = usize::from(len).min(8);
        let mut answer = [0; 8];
        let done = match data {
            Some(data) => self.device_write(gpa, &data[..len]),
            None => self.device_read(gpa, &mut answer[..len]),
        };
        if done {
            let bytes = if data.is_some() { Vec::new() } else { answer[..len].to_vec() };
            self.running.state.mmio.push_back((gpa, bytes));
            return Flow::Resume;
        }
        self.running.completion = Completion::Mmio { gpa, len, write: data.is_some() };
        let (write, data) = (data.is_some(), data.unwrap_or_default());
        Flow::Exit(RunExit::Mmio { gpa, data, len: len as u32, write })
    }

    /// A triple fault. Linux gives a vCPU whose registers it has the state after INIT.
    fn shutdown(&mut self) -> Flow {
        if !is_protected(self.vcpu.vm.vm_type) {
            self.reset(true);
        }
        Flow::Exit(RunExit::Shutdown)
    }

    /// INIT (`init`) or reset of a vCPU whose registers are KVM's.
    pub(super) fn reset(&mut self, init: bool) {
        let host = &self.vcpu.vm.host;
        let mut vcpu = self.vcpu.inner.lock();
        let vcpu = &mut *vcpu;
        let signature = vcpu.registers.cpuid.iter().find(|leaf| leaf.function == 1).map_or(0x600, |leaf| leaf.eax);
        vcpu.registers.reset_again(init, host.supported_xcr0(), signature);
        super::plain::load(&mut self.running.state, &vcpu.registers, &vcpu.devices.events);
        self.running.state.event_inj = 0;
        self.running.state.mmio.clear();
        self.running.state.port_input.clear();
    }

    /// Instructions that KVM intercepts and does nothing for, or refuses.
    fn instruction(&mut self, name: &'static str, next_rip: u64) -> Flow {
        match name {
            "invd" | "wbinvd" | "wbnoinvd" | "monitor" | "mwait" | "pause" => self.skip_to(next_rip),
            "xsetbv" => self.xsetbv(next_rip),
            "rdpmc" => self.inject_general_protection_and_go_on(),
            "vmrun" | "vmload" | "vmsave" | "stgi" | "clgi" | "skinit" | "invlpga" | "monitorx" | "mwaitx"
            | "rdpru" | "rsm" => {
                self.running.state.event_inj = event::exception(UNDEFINED, None);
                Flow::Resume
            }
            other => self.unmodelled(&format!("interception of {other}")),
        }
    }

    /// XSETBV.
    fn xsetbv(&mut self, next_rip: u64) -> Flow {
        let state = &self.running.state;
        let half = |register: usize| state.gpr[register] & u64::from(u32::MAX);
        let value = half(State::RDX) << 32 | half(State::RAX);
        let (index, cpl, supported) = (state.gpr[State::RCX] as u32, state.cpl, state.extended.supported_xcr0);
        let avx_without_sse = value & 4 != 0 && value & 2 == 0;
        if index != 0 || cpl != 0 || value & 1 == 0 || avx_without_sse || value & !supported != 0 {
            return self.inject_general_protection_and_go_on();
        }
        self.running.state.extended.xcr0 = value;
        self.skip_to(next_rip)
    }
}

/// In 64-bit mode: EFER.LMA and CS.L.
pub(super) fn is_long_mode(state: &State) -> bool {
    const LMA: u64 = 1 << 10;
    const L: u16 = 1 << 9;
    state.efer & LMA != 0 && state.segments[snp_vcpu::Segments::CS].attrib & L != 0
}
