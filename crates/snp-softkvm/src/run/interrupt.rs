//! Interrupts, timers, INIT and SIPI: the local APIC of the vCPU that runs, and what it sends to others.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/lapic.c (`kvm_apic_accept_events`), x86.c (`kvm_check_and_inject_events`, `vcpu_block`), svm/sev.c
//! (`sev_snp_init_protected_guest_state`).

use snp_abi::Gpa;
use snp_abi::kvm::*;

use super::{Session, event, plain};
use crate::apic::{Effect, LocalApic};
use crate::host::is_protected;
use crate::lock;
use crate::profile::VmsaPages;
use crate::vcpu::VcpuVmsa;

/// RFLAGS.IF.
const IF: u64 = 1 << 9;
/// A processor that waits until its priority lets an interrupt through looks again after so many instructions: nothing tells
/// when it writes CR8.
const PRIORITY_INTERVAL: u64 = 1000;

impl Session<'_> {
    /// The local APIC, if KVM has one for the vCPU.
    pub(super) fn apic<T>(&self, with: impl FnOnce(&mut LocalApic) -> T) -> Option<T> {
        self.vcpu.inner.apic.as_ref().map(|apic| with(&mut lock(apic)))
    }

    /// What an access to the local APIC brings about elsewhere.
    pub(super) fn carry_out(&self, effect: Effect) {
        if let Some(message) = effect.message {
            self.vcpu.vm.send(&message);
        }
        if let Some(vector) = effect.end_of_interrupt {
            self.vcpu.vm.end_of_interrupt(vector);
        }
    }

    /// AP creation, INIT and SIPI that came.
    pub(super) fn take_startup_events(&mut self) {
        if !self.waits_for_init() && std::mem::take(&mut self.vcpu.inner.lock().vmsa_update) {
            // As if an INIT had come, but that the processor waits for no SIPI.
            self.change_vmsa();
        }
        if self.apic(LocalApic::take_init) == Some(true) {
            self.init();
        }
        if let Some(vector) = self.apic(LocalApic::take_startup).flatten() {
            self.startup(vector);
        }
    }

    /// AP creation for a processor that was never started: the proposals start it, Linux 7.3 does not look at it before an
    /// INIT comes, and lets KVM_RUN return again and again until then.
    pub(super) fn waits_for_init(&self) -> bool {
        let old = self.vcpu.vm.host.profile.vmsa_pages == VmsaPages::None;
        old && !self.is_running() && self.vcpu.inner.lock().vmsa_update
    }

    fn init(&mut self) {
        if !is_protected(self.vcpu.vm.vm_type) {
            self.reset(true);
        }
        self.apic(LocalApic::reset);
        self.change_vmsa();
        let boot = self.vcpu.inner.lock().registers.system.apic_base & 0x100 != 0;
        let waits = if boot { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_INIT_RECEIVED };
        self.vcpu.inner.lock().registers.mp_state = waits;
    }

    /// SIPI, which only a processor takes that waits for it.
    fn startup(&mut self, vector: u8) {
        if self.vcpu.inner.lock().registers.mp_state != KVM_MP_STATE_INIT_RECEIVED {
            return;
        }
        if is_protected(self.vcpu.vm.vm_type) {
            let running = &mut *self.running;
            if let Some(ghcb) = &mut running.ghcb {
                ghcb.sipi(&mut running.state.ghcb);
            }
        } else {
            self.store();
            let mut vcpu = self.vcpu.inner.lock();
            let vcpu = &mut *vcpu;
            let cs = &mut vcpu.registers.system.cs;
            (cs.selector, cs.base) = (u16::from(vector) << 8, u64::from(vector) << 12);
            vcpu.registers.general.rip = 0;
            plain::load(&mut self.running.state, &vcpu.registers, &vcpu.devices.events);
        }
        self.vcpu.inner.lock().registers.mp_state = KVM_MP_STATE_RUNNABLE;
    }

    /// The VMSA that AP creation or destruction left for the vCPU, if any.
    fn change_vmsa(&mut self) {
        let change = {
            let mut vcpu = self.vcpu.inner.lock();
            vcpu.vmsa_update = false;
            vcpu.vmsa_change.take()
        };
        let Some(gpa) = change else { return };
        self.drop_vmsa();
        // An address without guest_memfd is none: the processor stays off.
        let gpa = gpa.map(Gpa).filter(|gpa| {
            let layout = self.vcpu.vm.memory.layout();
            let slot = layout.slots.find(gpa.gfn().0);
            slot.and_then(|slot| slot.guest_memfd.as_ref()?.0.upgrade()).is_some()
        });
        let mut vcpu = self.vcpu.inner.lock();
        vcpu.vmsa = gpa.map_or(VcpuVmsa::None, VcpuVmsa::User);
        vcpu.registers.mp_state = if gpa.is_some() { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_HALTED };
    }

    /// Whether something has come that ends HLT. A timer that would end it is taken as due: time is what the guest executes,
    /// and it executes nothing.
    pub(super) fn wakes(&mut self) -> bool {
        if self.has_waking_event() {
            return true;
        }
        let Some(due) = self.apic(|apic| apic.next_event()).flatten() else { return false };
        if self.running.state.rflags & IF == 0 {
            return false;
        }
        self.running.state.tsc = self.running.state.tsc.max(due);
        self.advance_timer();
        self.has_waking_event()
    }

    fn has_waking_event(&self) -> bool {
        let pending = self.apic(|apic| (apic.pending().is_some(), apic.has_nmi())).unwrap_or_default();
        let enabled = self.running.state.rflags & IF != 0;
        let vcpu = self.vcpu.inner.lock();
        let events = &vcpu.devices.events;
        events.nmi_pending != 0 || events.interrupt_injected != 0 || pending.1 || pending.0 && enabled
    }

    /// The APIC's timer, by the processor's time.
    fn advance_timer(&mut self) {
        let tsc = self.running.state.tsc;
        self.apic(|apic| apic.advance(tsc));
    }

    /// Before the guest runs: hands it an event that it takes now. Returns whether it shall stop when it takes interrupts, and
    /// after how many instructions at the latest.
    pub(super) fn inject(&mut self) -> (bool, u64) {
        self.advance_timer();
        if self.guest_debug().blocks_interrupts() {
            self.inject_injected();
            return (false, u64::MAX);
        }
        self.inject_nmi();
        self.inject_injected();
        let asked = self.area.requests_interrupt_window() && !self.local_apic;
        let Some((pending, blocked, due)) = self.apic(|apic| (apic.pending(), apic.has_blocked(), apic.next_event()))
        else {
            return (asked, u64::MAX);
        };
        self.running.state.cr8 = self.apic(|apic| apic.cr8()).unwrap_or_default();
        let due = due.map_or(u64::MAX, |due| due.saturating_sub(self.running.state.tsc).max(1));
        let limit = if blocked { due.min(PRIORITY_INTERVAL) } else { due };
        if pending.is_none() {
            return (asked, limit);
        }
        let state = &mut self.running.state;
        if state.event_inj == 0 && state.takes_interrupts() {
            if let Some(vector) = self.apic(LocalApic::acknowledge).flatten() {
                self.running.state.event_inj = event::interrupt(vector);
            }
            let more = self.apic(|apic| apic.pending().is_some()) == Some(true);
            return (asked || more, limit);
        }
        (true, limit)
    }

    fn inject_nmi(&mut self) {
        let state = &mut self.running.state;
        if state.event_inj != 0 || state.nmi_blocked || state.interrupt_shadow {
            return;
        }
        let mut vcpu = self.vcpu.inner.lock();
        let events = &mut vcpu.devices.events;
        if events.nmi_pending != 0 {
            events.nmi_pending -= 1;
        } else if self.vcpu.inner.apic.as_ref().is_none_or(|apic| !lock(apic).take_nmi()) {
            return;
        }
        state.event_inj = event::nmi();
    }

    /// What KVM_INTERRUPT and KVM_SET_VCPU_EVENTS left since the last entry.
    fn inject_injected(&mut self) {
        let state = &mut self.running.state;
        if state.event_inj == 0 {
            let mut vcpu = self.vcpu.inner.lock();
            state.event_inj = event::injected(&vcpu.devices.events);
            event::keep(0, &mut vcpu.devices.events);
        }
    }

    /// After the guest ran: CR8 is the APIC's task priority, and time went on.
    pub(super) fn after_guest(&mut self) {
        let cr8 = self.running.state.cr8;
        self.apic(|apic| {
            if apic.cr8() != cr8 {
                apic.set_cr8(cr8);
            }
        });
        self.advance_timer();
    }
}
