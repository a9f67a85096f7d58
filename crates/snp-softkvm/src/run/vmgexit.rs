//! VMGEXIT: the GHCB protocol of [`crate::ghcb`], and this vCPU as its machine.

use snp_abi::kvm::*;
use snp_abi::{Errno, PAGE_SIZE};
use snp_vcpu::State;

use super::complete::Completion;
use super::{Flow, RunExit, Session, event};
use crate::Fault;
use crate::ghcb::{Answer, Config, Ghcb, Machine, MsrAnswer, Outcome, UserExit, VmsaChange};
use crate::memory::C_BIT;
use crate::profile::VmsaPages;
use crate::vm::VmInner;

/// What user space is asked for on behalf of a GHCB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing that it could answer.
    Nothing,
    /// So many bytes of a port; none of OUT.
    Io(usize),
    Mmio,
    Hypercall,
    Certificates,
    Msr,
}

/// What of the VM decides how its guests' VMGEXITs are answered.
pub(super) fn config(vm: &VmInner) -> Config {
    let state = vm.lock();
    let sev = state.sev.as_ref();
    let profile = vm.host.profile;
    Config {
        snp: vm.is_snp(),
        version: sev.map_or(2, |sev| sev.ghcb_version),
        c_bit: C_BIT,
        vmsa_features: sev.map_or(0, |sev| sev.features.0),
        apic_id_list: profile.vmsa_pages != VmsaPages::None || profile.vcpu_state.is_some(),
        request_certificates: sev.is_some_and(|sev| sev.certificates_requested),
    }
}

impl Session<'_> {
    /// The guest executed VMGEXIT.
    pub(super) fn vmgexit(&mut self) -> Flow {
        let msr = self.running.state.ghcb;
        let flow = self.with_ghcb(|ghcb, msr, session| ghcb.vmgexit(msr, session));
        if self.observer().is_some() {
            let by_page = self.running.ghcb.as_ref().and_then(Ghcb::request);
            self.running.request = Some(by_page.unwrap_or_else(|| format!("MSR {msr:#x}")));
            self.tell_end(&flow);
        }
        flow
    }

    /// Tells who watches of a request that the guest gets no answer to.
    fn tell_end(&mut self, flow: &Flow) {
        match flow {
            Flow::Exit(exit) if self.running.completion == Completion::Ghcb(Asked::Nothing) => {
                self.tell(&format!("{exit:x?}"));
            }
            Flow::Fail(errno, _) => self.tell(&format!("KVM_RUN fails with {errno}")),
            _ => {}
        }
    }

    fn tell(&mut self, answer: &str) {
        let request = self.running.request.take();
        if let (Some(observer), Some(request)) = (self.observer(), request) {
            observer.ghcb(self.index(), &request, answer);
        }
    }

    /// User space has answered.
    pub(super) fn complete_ghcb(&mut self, asked: Asked) -> Flow {
        let answer = match asked {
            Asked::Nothing => return Flow::Resume,
            Asked::Io(bytes) => {
                let mut data = vec![0; bytes];
                self.area.port_data(&mut data);
                Answer::Io(data)
            }
            Asked::Mmio => Answer::Mmio(self.area.mmio_data()),
            Asked::Hypercall => Answer::Hypercall(self.area.hypercall_return()),
            Asked::Certificates => {
                let (pages, ret) = self.area.certificates_answer();
                Answer::Certificates { ret, pages }
            }
            Asked::Msr => {
                let (error, data) = self.area.msr_answer();
                Answer::Msr((!error).then_some(data))
            }
        };
        let flow = self.with_ghcb(|ghcb, msr, session| ghcb.complete(msr, session, &answer));
        self.tell_end(&flow);
        flow
    }

    /// The guest is about to run: it finds the answers in its GHCB.
    pub(super) fn give_ghcb(&mut self) {
        let Some(mut ghcb) = self.running.ghcb.take() else { return };
        let answer = self.running.request.as_ref().map(|_| {
            let by_page = ghcb.answer_in_words();
            by_page.unwrap_or_else(|| format!("MSR {:#x}", self.running.state.ghcb))
        });
        ghcb.before_entry(self);
        self.running.ghcb = Some(ghcb);
        if let Some(answer) = answer {
            self.tell(&answer);
        }
    }

    fn with_ghcb(&mut self, with: impl FnOnce(&mut Ghcb, &mut u64, &mut Self) -> Outcome) -> Flow {
        let Some(mut ghcb) = self.running.ghcb.take() else {
            return self.unmodelled("VMGEXIT of a guest without encrypted state");
        };
        let mut msr = self.running.state.ghcb;
        let outcome = with(&mut ghcb, &mut msr, self);
        self.running.state.ghcb = msr;
        self.running.ghcb = Some(ghcb);
        match outcome {
            Outcome::Resume => Flow::Resume,
            Outcome::Fail(errno) => Flow::Fail(errno, None),
            Outcome::Exit(exit) => self.leave_for(exit),
        }
    }

    /// The exit as it lies in the run page, and what is to be done about its answer.
    fn leave_for(&mut self, exit: UserExit) -> Flow {
        let (exit, asked) = match exit {
            UserExit::Io { port, size, input, count, data } => {
                self.area.set_port_data(&data[..data.len().min(PAGE_SIZE)]);
                let bytes = if input { usize::from(size) * count as usize } else { 0 };
                (RunExit::Io { input, size, port, count }, Asked::Io(bytes.min(PAGE_SIZE)))
            }
            UserExit::Mmio { gpa, len, data } => {
                let write = data.is_some();
                (RunExit::Mmio { gpa, data: data.unwrap_or_default(), len: len.into(), write }, Asked::Mmio)
            }
            UserExit::Hypercall { nr, args, flags } => {
                let flags = flags.unwrap_or_else(|| self.area.hypercall_flags());
                (RunExit::Hypercall { nr, args, flags }, Asked::Hypercall)
            }
            UserExit::SevTermination { msr } => {
                (RunExit::SystemEvent { kind: KVM_SYSTEM_EVENT_SEV_TERM, data: vec![msr] }, Asked::Nothing)
            }
            UserExit::ApResetHold => (RunExit::ApResetHold, Asked::Nothing),
            UserExit::RequestCertificates { gpa, pages } => {
                (RunExit::RequestCertificates { gpa, pages }, Asked::Certificates)
            }
            UserExit::ReadMsr { index, reason } => (RunExit::Msr { write: false, reason, index, data: 0 }, Asked::Msr),
            UserExit::WriteMsr { index, reason, data } => {
                (RunExit::Msr { write: true, reason, index, data }, Asked::Msr)
            }
            UserExit::UnexpectedExit { code } => {
                let data = vec![code, 0];
                let suberror = KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON;
                (RunExit::InternalError { suberror, data }, Asked::Nothing)
            }
        };
        self.running.completion = Completion::Ghcb(asked);
        Flow::Exit(exit)
    }
}

impl Machine for Session<'_> {
    fn read(&mut self, gpa: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        self.each_user_page(gpa, buffer.len(), |session, address, part| session.user.read(address, &mut buffer[part]))
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), Fault> {
        self.each_user_page(gpa, data.len(), |session, address, part| session.user.write(address, &data[part]))
    }

    fn is_writable(&mut self, gpa: u64) -> bool {
        let slot = self
            .vcpu
            .vm
            .memory
            .layout()
            .slots
            .find(gpa >> 12)
            .map(|slot| (slot.user_address(gpa >> 12), slot.is_read_only()));
        slot.is_some_and(|(address, read_only)| !read_only && self.user.host_page(address, true).is_ok())
    }

    fn port_in(&mut self, port: u16, data: &mut [u8]) -> bool {
        self.device_port_in(port, data)
    }

    fn port_out(&mut self, port: u16, data: &[u8]) -> bool {
        self.device_port_out(port, data)
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool {
        self.device_read(gpa, data)
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> bool {
        self.device_write(gpa, data)
    }

    fn cpuid(&mut self, function: u32, index: u32) -> [u32; 4] {
        Session::cpuid(self, function, index)
    }

    fn set_xcr0(&mut self, xcr0: u64) {
        let extended = &mut self.running.state.extended;
        if xcr0 & 1 != 0 && xcr0 & !extended.supported_xcr0 == 0 {
            extended.xcr0 = xcr0;
        }
    }

    fn read_msr(&mut self, index: u32) -> MsrAnswer<u64> {
        Session::read_msr(self, index)
    }

    fn write_msr(&mut self, index: u32, value: u64) -> MsrAnswer<()> {
        Session::write_msr(self, index, value)
    }

    fn read_counter(&mut self, _index: u32) -> Option<u64> {
        None
    }

    fn inject(&mut self, vector: u8, error_code: Option<u32>) {
        self.running.state.event_inj = event::exception(vector, error_code);
    }

    fn nmi_complete(&mut self) {
        self.running.state.nmi_blocked = false;
    }

    fn reset_hold(&mut self) -> bool {
        if self.local_apic {
            self.vcpu.inner.lock().registers.mp_state = KVM_MP_STATE_AP_RESET_HOLD;
        }
        self.local_apic
    }

    fn map_gpa_range_exits(&self) -> bool {
        Session::map_gpa_range_exits(self)
    }

    fn paravirtual(&mut self, nr: u64, args: [u64; 4]) -> Option<u64> {
        Session::paravirtual(self, nr, args)
    }

    fn jump_table(&mut self) -> u64 {
        self.vcpu.vm.lock().jump_table
    }

    fn set_jump_table(&mut self, gpa: u64) {
        self.vcpu.vm.lock().jump_table = gpa;
    }

    fn is_legal_gpa(&self, gpa: u64) -> bool {
        // The C-bit is not reserved in a guest that is told of it.
        let c_bit = {
            let vcpu = self.vcpu.inner.lock();
            let leaf = vcpu.registers.cpuid.iter().find(|leaf| leaf.function == 0x8000_001f);
            leaf.map_or(0, |leaf| 1 << (leaf.ebx & 0x3f))
        };
        (gpa & !c_bit) >> self.physical_address_bits() == 0
    }

    fn guest_request(&mut self, request: &[u8; 4096], response: &mut [u8; 4096]) -> Result<u32, Errno> {
        self.vcpu.vm.guest_request(request, response).map(|status| status.0)
    }

    fn has_vcpu(&self, apic_id: u32) -> bool {
        self.vcpu.vm.lock().vcpus.iter().any(|vcpu| vcpu.id == apic_id)
    }

    fn change_vmsa(&mut self, apic_id: u32, change: VmsaChange) {
        let target = self.vcpu.vm.lock().vcpus.iter().find(|vcpu| vcpu.id == apic_id).cloned();
        let Some(target) = target else { return };
        let mut state = target.lock();
        state.vmsa_change = Some(change.gpa);
        state.vmsa_update |= !change.on_init;
        drop(state);
        target.bell.ring();
    }

    fn apic_ids(&self) -> Vec<u32> {
        self.vcpu.vm.lock().vcpus.iter().map(|vcpu| vcpu.id).collect()
    }
}

impl Session<'_> {
    /// Cuts guest memory at its pages, and finds each in user memory by the slots.
    fn each_user_page(
        &self,
        gpa: u64,
        len: usize,
        mut each: impl FnMut(&Self, u64, std::ops::Range<usize>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut done = 0;
        while done < len {
            let at = gpa.checked_add(done as u64).ok_or(Fault)?;
            let offset = (at % PAGE_SIZE as u64) as usize;
            let part = (PAGE_SIZE - offset).min(len - done);
            let layout = self.vcpu.vm.memory.layout();
            let address = layout.slots.find(at >> 12).ok_or(Fault)?.user_address(at >> 12);
            drop(layout);
            each(self, address + offset as u64, done..done + part)?;
            done += part;
        }
        Ok(())
    }

    /// The guest's physical address width, by its CPUID.
    pub(super) fn physical_address_bits(&self) -> u32 {
        const UNKNOWN: u32 = 36;
        let vcpu = self.vcpu.inner.lock();
        let leaf = vcpu.registers.cpuid.iter().find(|leaf| leaf.function == 0x8000_0008);
        leaf.map_or(UNKNOWN, |leaf| (leaf.eax & 0xff).min(52))
    }

    /// Hypercalls that need a CPUID feature of KVM's: KICK_CPU, SEND_IPI, SCHED_YIELD.
    ///
    /// # Source
    /// Linux 7.3, Documentation/virt/kvm/x86/hypercalls.rst.
    pub(super) fn paravirtual(&mut self, nr: u64, args: [u64; 4]) -> Option<u64> {
        const KICK_CPU: (u64, u32) = (5, 7);
        const SEND_IPI: (u64, u32) = (10, 11);
        const SCHED_YIELD: (u64, u32) = (11, 13);
        let has = |(number, bit): (u64, u32)| nr == number && self.has_pv_feature(bit);
        let other = |id: u64| {
            let vcpus = self.vcpu.vm.lock().vcpus.clone();
            vcpus.into_iter().find(|vcpu| u64::from(vcpu.id) == id)
        };
        if has(KICK_CPU) {
            if let Some(target) = other(args[1]) {
                let halted = std::mem::replace(&mut target.lock().registers.mp_state, KVM_MP_STATE_RUNNABLE);
                if halted != KVM_MP_STATE_HALTED {
                    target.lock().registers.mp_state = halted;
                }
                target.bell.ring();
            }
            return Some(0);
        }
        if has(SCHED_YIELD) {
            return Some(0);
        }
        if has(SEND_IPI) && self.local_apic {
            let [low, high, first, icr] = args;
            let ids = (0..128_u64).filter(|bit| (if *bit < 64 { low >> bit } else { high >> (bit - 64) }) & 1 != 0);
            let sent = ids.filter(|bit| {
                let message = crate::apic::Message::to(first.wrapping_add(*bit) as u32, icr as u32);
                !self.vcpu.vm.send(&message).taken.is_empty()
            });
            return Some(sent.count() as u64);
        }
        None
    }

    /// Whether the guest has a paravirtual feature: all of them, unless user space wants its CPUID to count.
    pub(super) fn has_pv_feature(&self, bit: u32) -> bool {
        let vcpu = self.vcpu.inner.lock();
        let leaf = vcpu.registers.cpuid.iter().find(|leaf| leaf.function == 0x4000_0001);
        !vcpu.devices.enforce_pv_features || leaf.is_some_and(|leaf| leaf.eax >> bit & 1 != 0)
    }

    /// VMMCALL of a guest without encrypted state.
    pub(super) fn hypercall(&mut self, next_rip: u64) -> Flow {
        use crate::ghcb::{Hypercall, hypercall};
        let state = &self.running.state;
        let (long, cpl) = (super::exits::is_long_mode(state), state.cpl);
        let nr = state.gpr[State::RAX];
        let args = [State::RBX, State::RCX, State::RDX, State::RSI].map(|register| state.gpr[register]);
        match hypercall(nr, args, cpl, long, self) {
            Hypercall::Done(rax) => {
                self.running.state.gpr[State::RAX] = rax;
                self.skip_to(next_rip)
            }
            Hypercall::Exit(exit) => {
                let flow = self.leave_for(exit);
                self.running.completion = Completion::Hypercall { long, next_rip };
                flow
            }
        }
    }
}

/// Makes what a vCPU's guest needs for its GHCB.
pub(super) fn ghcb_of(session: &Session<'_>) -> (Ghcb, u64) {
    let config = config(&session.vcpu.vm);
    let mut ghcb = Ghcb::new(config);
    if let Some(gpa) = session.vcpu.inner.lock().ghcb_gpa {
        ghcb.register(gpa.0);
    }
    (ghcb, Ghcb::reset_msr(&config))
}

impl VmInner {
    /// Sends an interrupt to the local APICs that it is for, and wakes their processors.
    pub(crate) fn send(&self, message: &crate::apic::Message) -> crate::apic::Delivery {
        let vcpus: Vec<_> = self.lock().vcpus.iter().filter(|vcpu| vcpu.apic.is_some()).cloned().collect();
        let apics: Vec<_> = vcpus.iter().filter_map(|vcpu| vcpu.apic.clone()).collect();
        let delivery = crate::apic::deliver(message, &apics);
        delivery.taken.iter().for_each(|index| vcpus[*index].bell.ring());
        delivery
    }

    /// A processor is through with a level-triggered interrupt.
    pub(crate) fn end_of_interrupt(&self, vector: u8) {
        let again = self.lock().devices.io_apic().map(|io_apic| io_apic.end_of_interrupt(vector));
        again.into_iter().flatten().for_each(|message| drop(self.send(&message)));
    }
}
