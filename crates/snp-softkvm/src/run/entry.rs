//! The way into the guest and out of it: what KVM checks, and where registers come from and go to.

use snp_abi::kvm::*;
use snp_abi::{Errno, Gpa, Pfn, SevFeatures, Vmsa};
use snp_memory::HostPage;
use snp_vcpu::State;
use snp_vmsa::check::Severity;
use zerocopy::{FromBytes, IntoBytes};

use super::area::{SYNC_EVENTS_AT, SYNC_REGS_AT, SYNC_SREGS_AT, sync};
use super::{Flow, RunExit, Session, Stop, encrypted, plain, vmgexit};
use crate::host::is_protected;
use crate::vcpu::VcpuVmsa;

/// SVM_EXIT_ERR: VMRUN refused the guest's state.
const VMEXIT_INVALID: u64 = u64::MAX;
/// The rule of `snp_vmsa::check` that only SEV-SNP has.
const NEEDS_SNP: &str = "features-snp-active";
/// The classes of registers that the run page exchanges.
const SYNC_VALID: u64 = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;

/// The VMSA that a processor runs from.
#[derive(Debug)]
pub(super) struct LoadedVmsa {
    /// Where it is, as the vCPU's state says.
    source: VcpuVmsa,
    page: HostPage,
    /// Its frame, if it is in the guest's memory.
    pfn: Option<Pfn>,
    /// The processor is, or is about to be, in the guest.
    in_use: bool,
}

impl Session<'_> {
    /// Everything before the guest runs; `Some` if it does not.
    pub(super) fn enter(&mut self) -> Option<Flow> {
        let run = self.area.read();
        self.start();
        let mp_state = self.vcpu.inner.lock().registers.mp_state;
        if mp_state == KVM_MP_STATE_UNINITIALIZED {
            return self.uninitialised(run.immediate_exit != 0);
        }
        if let Err(errno) = self.synchronise(&run) {
            return Some(Flow::Fail(errno, None));
        }
        self.synchronise_memory();
        self.load();
        match self.complete() {
            Flow::Resume => {}
            flow => return Some(flow),
        }
        if run.immediate_exit != 0 {
            return Some(Flow::Fail(Errno::EINTR, None));
        }
        let sev = matches!(self.vcpu.vm.vm_type, KVM_X86_SEV_VM | KVM_X86_SEV_ES_VM | KVM_X86_SNP_VM);
        if sev && self.vcpu.vm.lock().sev.is_none() {
            return Some(Flow::Fail(Errno::EINVAL, None));
        }
        None
    }

    /// The first time that the vCPU runs.
    pub(super) fn start(&mut self) {
        if std::mem::replace(&mut self.running.started, true) {
            return;
        }
        let host = &self.vcpu.vm.host;
        let vm_type = self.vcpu.vm.vm_type;
        let mut state = State {
            sev: matches!(vm_type, KVM_X86_SEV_VM | KVM_X86_SEV_ES_VM | KVM_X86_SNP_VM),
            sev_es: is_protected(vm_type),
            random: host.random_seed(self.vcpu.inner.id),
            ..State::default()
        };
        /// What the processor model has: x87, SSE, AVX, PKRU.
        const MODELLED: u64 = 0x207;
        state.extended.supported_xcr0 = host.supported_xcr0() & MODELLED;
        if is_protected(vm_type) {
            let (ghcb, msr) = vmgexit::ghcb_of(self);
            state.ghcb = msr;
            self.running.ghcb = Some(ghcb);
        }
        self.running.state = state;
    }

    /// A vCPU that waits for INIT and SIPI: KVM_RUN returns as soon as anything comes, and is to be called again.
    fn uninitialised(&mut self, immediate_exit: bool) -> Option<Flow> {
        if immediate_exit {
            return Some(Flow::Fail(Errno::EINTR, None));
        }
        loop {
            if let Some(flow) = self.take_events() {
                return Some(flow);
            }
            if self.is_running() || self.waits_for_init() {
                return Some(Flow::Fail(Errno::EAGAIN, None));
            }
            match self.sleep() {
                Flow::Resume => {}
                flow => return Some(flow),
            }
        }
    }

    /// Plain SEV: what user space and the guest see of encrypted memory.
    pub(super) fn synchronise_memory(&self) {
        if self.memory.sev_handle != 0 {
            let key = (&*self.vcpu.vm.host, self.memory.sev_handle);
            self.vcpu.vm.memory.synchronise(key, self.user);
        }
    }

    /// Takes registers that user space changed in the run page.
    fn synchronise(&mut self, run: &kvm_run) -> Result<(), Errno> {
        let valid = if is_protected(self.vcpu.vm.vm_type) { 0 } else { SYNC_VALID };
        if (run.kvm_valid_regs | run.kvm_dirty_regs) & !valid != 0 {
            return Err(Errno::EINVAL);
        }
        if run.kvm_dirty_regs & KVM_SYNC_X86_REGS != 0 {
            let regs: kvm_regs = sync(run, SYNC_REGS_AT);
            self.vcpu.inner.lock().registers.set_general(&regs);
        }
        if run.kvm_dirty_regs & KVM_SYNC_X86_SREGS != 0 {
            let sregs: kvm_sregs = sync(run, SYNC_SREGS_AT);
            self.vcpu.inner.lock().registers.set_system(&sregs)?;
        }
        if run.kvm_dirty_regs & KVM_SYNC_X86_EVENTS != 0 {
            let events: kvm_vcpu_events = sync(run, SYNC_EVENTS_AT);
            self.vcpu.set_events(&events)?;
        }
        if run.kvm_dirty_regs != 0 {
            self.area.clear_dirty();
        }
        if !self.local_apic && !self.protected {
            if run.cr8 & !0xf != 0 {
                return Err(Errno::EINVAL);
            }
            self.vcpu.inner.lock().registers.system.cr8 = run.cr8;
        }
        Ok(())
    }

    /// Loads the registers of a guest whose state is KVM's. One with a VMSA is loaded when it enters the guest.
    pub(super) fn load(&mut self) {
        self.loaded = true;
        if self.protected {
            self.load_vmsa_again();
            return;
        }
        let vcpu = self.vcpu.inner.lock();
        let state = &mut self.running.state;
        plain::load(state, &vcpu.registers, &vcpu.devices.events);
        if let Some(tsc) = vcpu.devices.msrs.get(&TSC) {
            state.tsc = *tsc;
        }
        if let Some(aux) = vcpu.devices.msrs.get(&TSC_AUX) {
            state.tsc_aux = *aux as u32;
        }
    }

    /// Stores the registers where KVM's ioctls find them, or in the VMSA.
    pub(super) fn store(&mut self) {
        if !self.loaded {
            return;
        }
        if self.protected {
            self.store_vmsa();
            return;
        }
        let mut vcpu = self.vcpu.inner.lock();
        let vcpu = &mut *vcpu;
        let state = &self.running.state;
        plain::store(state, &mut vcpu.registers, &mut vcpu.devices.events);
        if let Some(apic) = &self.vcpu.inner.apic {
            let apic = crate::lock(apic);
            vcpu.registers.system.apic_base = apic.base();
            vcpu.registers.system.cr8 = apic.cr8();
        }
        vcpu.devices.msrs.insert(TSC, state.tsc);
        vcpu.devices.msrs.insert(TSC_AUX, state.tsc_aux.into());
    }

    /// What every return leaves in the run page.
    pub(super) fn summarise(&mut self) {
        let state = &self.running.state;
        let vcpu = self.vcpu.inner.lock();
        let if_flag = state.rflags & 1 << 9 != 0;
        let ready = self.local_apic || state.takes_interrupts();
        let cr8 = if self.protected { vcpu.registers.system.cr8 } else { state.cr8 };
        self.area.put_summary(ready, if_flag, cr8, vcpu.registers.system.apic_base);
        if self.protected {
            return;
        }
        let registers = &vcpu.registers;
        let wanted = self.area.valid_regs();
        if wanted & KVM_SYNC_X86_REGS != 0 {
            self.area.put_sync(SYNC_REGS_AT, registers.general.as_bytes());
        }
        if wanted & KVM_SYNC_X86_SREGS != 0 {
            self.area.put_sync(SYNC_SREGS_AT, registers.system.as_bytes());
        }
        drop(vcpu);
        if wanted & KVM_SYNC_X86_EVENTS != 0 {
            self.area.put_sync(SYNC_EVENTS_AT, self.vcpu.events().as_bytes());
        }
    }

    /// The events of other vCPUs and of user space that concern whether this one runs; `Some` if KVM_RUN ends.
    pub(super) fn take_events(&mut self) -> Option<Flow> {
        self.take_startup_events();
        if !self.is_running() {
            return None;
        }
        if !is_protected(self.vcpu.vm.vm_type) {
            return None;
        }
        let (source, protected) = {
            let state = self.vcpu.inner.lock();
            (state.vmsa, state.protected)
        };
        if !protected {
            // The launch is not finished: there is no VMSA that VMRUN would take.
            return Some(refused_entry());
        }
        self.protected = true;
        if self.running.vmsa.as_ref().is_some_and(|vmsa| vmsa.source == source) {
            self.load_vmsa_again();
            return self.use_vmsa();
        }
        self.drop_vmsa();
        self.load_vmsa(source)
    }

    pub(super) fn is_running(&self) -> bool {
        self.vcpu.inner.lock().registers.mp_state != KVM_MP_STATE_UNINITIALIZED
    }

    /// Whether the processor has something to execute.
    pub(super) fn is_runnable(&mut self) -> bool {
        if self.protected && self.running.vmsa.is_none() {
            // The guest must create its VMSA first.
            return false;
        }
        let mp_state = self.vcpu.inner.lock().registers.mp_state;
        match mp_state {
            KVM_MP_STATE_RUNNABLE => true,
            KVM_MP_STATE_HALTED | KVM_MP_STATE_AP_RESET_HOLD if self.wakes() => {
                self.vcpu.inner.lock().registers.mp_state = KVM_MP_STATE_RUNNABLE;
                true
            }
            _ => false,
        }
    }

    /// Finds the VMSA, has VMRUN check it, and loads it.
    fn load_vmsa(&mut self, source: VcpuVmsa) -> Option<Flow> {
        let (page, pfn) = match source {
            VcpuVmsa::None => return None,
            VcpuVmsa::Kvm => {
                let made = self.vcpu.inner.lock().made.as_ref().map(|made| HostPage::copy_of(made.as_bytes()));
                (made?, None)
            }
            VcpuVmsa::User(gpa) => match self.vmsa_page(gpa) {
                Some((page, pfn)) => (page, Some(pfn)),
                None => return Some(refused_entry()),
            },
        };
        let vmsa = Vmsa::read_from_bytes(&*page.contents()).expect("a VMSA is a page");
        let findings: Vec<_> = snp_vmsa::check::vmrun_findings(&vmsa)
            .into_iter()
            .filter(|finding| finding.severity == Severity::VmrunRefuses)
            // SEV-ES has its VMSA in a page of the hypervisor's, without SNPActive.
            .filter(|finding| finding.id != NEEDS_SNP || self.vcpu.vm.is_snp())
            .collect();
        if !findings.is_empty() {
            if let Some(observer) = self.observer() {
                observer.entry_refused(self.index(), &findings);
            }
            return Some(refused_entry());
        }
        encrypted::load(&mut self.running.state, &vmsa);
        self.running.vmsa = Some(LoadedVmsa { source, page, pfn, in_use: false });
        self.use_vmsa()
    }

    /// A VMSA in the guest's memory, if its RMP entry says that it is one.
    fn vmsa_page(&self, gpa: Gpa) -> Option<(HostPage, Pfn)> {
        let vm = &self.vcpu.vm;
        let layout = vm.memory.layout();
        let slot = layout.slots.find(gpa.gfn().0)?;
        let (memfd, first) = slot.guest_memfd.as_ref()?;
        let (memfd, index) = (memfd.upgrade()?, first + (gpa.gfn().0 - slot.base_gfn));
        drop(layout);
        let pfn = memfd.pfn(index);
        let entry = crate::lock(&vm.host.firmware).rmp().entry(pfn);
        let snp = vm.is_snp();
        let good =
            entry.assigned && entry.validated && entry.vmsa && entry.asid == self.memory.asid && entry.gpa == gpa;
        (!snp || good).then(|| (memfd.host_page(index), pfn))
    }

    /// The processor goes into the guest: nobody else may write the page. `Some` if another processor runs from it.
    fn use_vmsa(&mut self) -> Option<Flow> {
        let vm = &self.vcpu.vm;
        let vmsa = self.running.vmsa.as_mut()?;
        if let (false, Some(pfn)) = (vmsa.in_use, vmsa.pfn)
            && !vm.memory.use_vmsa(pfn)
        {
            return Some(refused_entry());
        }
        vmsa.in_use = true;
        None
    }

    /// The processor leaves the guest.
    pub(super) fn leave_guest(&mut self) {
        self.store_vmsa();
        let Some(vmsa) = self.running.vmsa.as_mut() else { return };
        if let (true, Some(pfn)) = (vmsa.in_use, vmsa.pfn) {
            self.vcpu.vm.memory.release_vmsa(pfn);
        }
        vmsa.in_use = false;
    }

    fn store_vmsa(&mut self) {
        let running = &mut *self.running;
        // Once nobody runs from the page, the guest may write it: what is there counts.
        let Some(loaded) = running.vmsa.as_ref().filter(|vmsa| vmsa.in_use) else { return };
        let mut vmsa = Vmsa::read_from_bytes(&*loaded.page.contents()).expect("a VMSA is a page");
        encrypted::store(&running.state, &mut vmsa);
        loaded.page.write(0, vmsa.as_bytes());
    }

    /// VMRUN: what is in the page is what counts.
    fn load_vmsa_again(&mut self) {
        let running = &mut *self.running;
        if let Some(loaded) = running.vmsa.as_ref().filter(|vmsa| !vmsa.in_use) {
            let vmsa = Vmsa::read_from_bytes(&*loaded.page.contents()).expect("a VMSA is a page");
            encrypted::load(&mut running.state, &vmsa);
        }
    }

    pub(super) fn has_vmsa(&self) -> bool {
        self.running.vmsa.is_some()
    }

    /// Gives up the VMSA that the processor runs from.
    pub(super) fn drop_vmsa(&mut self) {
        self.leave_guest();
        self.running.vmsa = None;
    }

    /// Linux resumes the guest, which faults again, for ever.
    pub(super) fn stuck(&mut self) -> Flow {
        if !self.bounds.wait {
            return Flow::Stop(Stop::Stuck);
        }
        self.vcpu.inner.bell.wait();
        Flow::Resume
    }

    pub(super) fn is_snp_active(&self) -> bool {
        self.running.state.sev_features.has(SevFeatures::SNP_ACTIVE)
    }
}

/// The MSRs that are in a processor's state and not in KVM's registers.
const TSC: u32 = 0x10;
const TSC_AUX: u32 = 0xc000_0103;

/// VMRUN ended at once: KVM_EXIT_FAIL_ENTRY.
fn refused_entry() -> Flow {
    Flow::Exit(RunExit::FailEntry { hardware_entry_failure_reason: VMEXIT_INVALID, cpu: 0 })
}
