//! vCPUs.

use std::sync::{Arc, Mutex};

use snp_abi::kvm::*;
use snp_abi::{Errno, Gpa, Pfn};
use snp_asp::SealedPage;

use crate::apic::{self, LocalApic};
use crate::cpuid::{self, Runtime};
use crate::devices::VcpuDevices;
use crate::host::Host;
use crate::registers::{GuestDebug, Registers, SAVED_MSRS};
use crate::run::{Bell, RunPages, Running};
use crate::vm::{VmInner, VmState};
use crate::{UserSpace, Vm, lock, msrs, sev};

/// A vCPU, as its descriptor. Keeps its VM alive.
#[derive(Clone, Debug)]
pub struct Vcpu {
    pub(crate) vm: Arc<VmInner>,
    pub(crate) inner: Arc<VcpuInner>,
}

#[derive(Debug)]
pub(crate) struct VcpuInner {
    pub(crate) index: u32,
    /// The number that KVM_CREATE_VCPU was given, which is the APIC ID.
    pub(crate) id: u32,
    /// The frame for the VMSA that KVM makes, in VMs whose vCPUs have one.
    pub(crate) frame: Option<Pfn>,
    pub(crate) state: Mutex<VcpuState>,
    /// Held by whoever runs the vCPU, throughout.
    pub(crate) running: Mutex<Running>,
    pub(crate) pages: RunPages,
    pub(crate) bell: Bell,
    /// The local APIC, if KVM has one for the vCPU.
    pub(crate) apic: Option<apic::Shared>,
}

#[derive(Debug)]
pub(crate) struct VcpuState {
    pub(crate) registers: Registers,
    pub(crate) devices: VcpuDevices,
    /// The guest's state is out of user space's reach.
    pub(crate) protected: bool,
    pub(crate) vmsa: VcpuVmsa,
    /// The VMSA that KVM made, as the firmware left it.
    pub(crate) made: Option<SealedPage>,
    /// `vcpu-state` profile: the addresses that SET_VCPU_STATE gave.
    pub(crate) vmsa_gpa: Option<Gpa>,
    pub(crate) ghcb_gpa: Option<Gpa>,
    /// What AP creation or destruction left: the address of another VMSA, or none. It counts from the next INIT on …
    pub(crate) vmsa_change: Option<Option<u64>>,
    /// … or as soon as the vCPU sees this.
    pub(crate) vmsa_update: bool,
    /// Signals that do not end KVM_RUN, bit 0 for signal 1, if KVM_SET_SIGNAL_MASK said which.
    pub(crate) signal_mask: Option<u64>,
}

/// Where a vCPU's VMSA is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VcpuVmsa {
    /// The vCPU has none: the launch is not finished, or the guest must create one.
    #[default]
    None,
    /// KVM made it and the firmware measured it at [`snp_abi::LEGACY_VMSA_GPA`].
    Kvm,
    /// User space supplied it, at this GPA.
    User(Gpa),
}

impl VcpuInner {
    /// The next vCPU of a VM.
    pub(crate) fn new(vm: &VmState, host: &Host, id: u32, frame: Option<Pfn>) -> Self {
        let boot = id == vm.devices.boot_cpu;
        let local_apic = vm.devices.has_local_apics();
        let mut registers = Registers::reset(boot, host.supported_xcr0());
        // Only KVM's own APIC can keep a processor waiting.
        registers.mp_state = if boot || !local_apic { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_UNINITIALIZED };
        let state = VcpuState {
            registers,
            devices: VcpuDevices::new(local_apic, vm.devices.tsc_khz),
            protected: false,
            vmsa: VcpuVmsa::None,
            made: None,
            vmsa_gpa: None,
            ghcb_gpa: None,
            vmsa_change: None,
            vmsa_update: false,
            signal_mask: None,
        };
        let apic = local_apic.then(|| Arc::new(Mutex::new(LocalApic::new(id, boot, vm.devices.tsc_khz))));
        Self {
            index: vm.vcpus.len() as u32,
            id,
            frame,
            state: Mutex::new(state),
            running: Mutex::default(),
            pages: RunPages::default(),
            bell: Bell::default(),
            apic,
        }
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, VcpuState> {
        lock(&self.state)
    }
}

impl VcpuState {
    /// Whether the MSR is where neither KVM nor user space can reach it.
    fn is_out_of_reach(&self, index: u32) -> bool {
        // XSS is KVM's to know, though it lies there too.
        let held = index != msrs::XSS && SAVED_MSRS.contains(&index);
        self.protected && (held || matches!(index, msrs::EFER | msrs::FS_BASE | msrs::GS_BASE))
    }

    fn set_msr(&mut self, index: u32, value: u64) -> bool {
        if self.is_out_of_reach(index) {
            return false;
        }
        if !self.registers.set_msr(index, value) {
            if !msrs::is_kept(index) {
                return false;
            }
            let Some(value) = msrs::writable(index, value) else { return false };
            self.devices.msrs.insert(index, value);
        }
        true
    }

    fn msr(&self, index: u32) -> Option<u64> {
        if self.is_out_of_reach(index) {
            return None;
        }
        let kept = || msrs::is_kept(index).then(|| *self.devices.msrs.get(&index).unwrap_or(&msrs::initial(index)));
        self.registers.msr(index).or_else(kept)
    }
}

impl Vcpu {
    /// The vCPU's index: how many were created before it.
    pub fn index(&self) -> u32 {
        self.inner.index
    }

    /// The vCPU's APIC ID.
    pub fn apic_id(&self) -> u32 {
        self.inner.id
    }

    /// Where the vCPU's VMSA is. Set by LAUNCH_FINISH.
    pub fn vmsa(&self) -> VcpuVmsa {
        self.inner.lock().vmsa
    }

    /// The VMSA that KVM made for the vCPU, for the guest's eyes; `None` if it made none.
    pub fn with_made_vmsa<T>(&self, look: impl FnOnce(&SealedPage) -> T) -> Option<T> {
        self.inner.lock().made.as_ref().map(look)
    }

    /// KVM_GET_REGS. As all register ioctls, EINVAL once the guest's state is protected.
    ///
    /// # Errors
    /// EINVAL
    pub fn regs(&self) -> Result<kvm_regs, Errno> {
        self.read(|registers| registers.general)
    }

    /// KVM_SET_REGS.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn set_regs(&self, regs: &kvm_regs) -> Result<(), Errno> {
        self.change(|registers| {
            registers.set_general(regs);
            Ok(())
        })
    }

    /// KVM_GET_SREGS.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn sregs(&self) -> Result<kvm_sregs, Errno> {
        self.read(|registers| registers.system)
    }

    /// KVM_SET_SREGS.
    ///
    /// # Errors
    /// EINVAL: the state is protected, or a combination that no processor has.
    pub fn set_sregs(&self, sregs: &kvm_sregs) -> Result<(), Errno> {
        self.change(|registers| registers.set_system(sregs))?;
        self.tell_apic();
        Ok(())
    }

    /// KVM_GET_DEBUGREGS.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn debugregs(&self) -> Result<kvm_debugregs, Errno> {
        self.read(|registers| registers.debug)
    }

    /// KVM_SET_DEBUGREGS.
    ///
    /// # Errors
    /// EINVAL: the state is protected, flags, or high halves of DR6 or DR7.
    pub fn set_debugregs(&self, debug: &kvm_debugregs) -> Result<(), Errno> {
        self.change(|registers| registers.set_debug(debug))
    }

    /// KVM_SET_XCRS.
    ///
    /// # Errors
    /// EINVAL: the state is protected, or an XCR0 that no processor has.
    pub fn set_xcrs(&self, xcrs: &kvm_xcrs) -> Result<(), Errno> {
        self.change(|registers| registers.set_xcrs(xcrs))
    }

    /// KVM_SET_XSAVE.
    ///
    /// # Errors
    /// EINVAL: the state is protected, or components that the host does not have.
    pub fn set_xsave(&self, xsave: &kvm_xsave) -> Result<(), Errno> {
        self.change(|registers| registers.set_xsave(xsave))
    }

    /// KVM_GET_SREGS2: the same without the interrupt bitmap. PDPTRs are never valid: nothing loads them.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn sregs2(&self) -> Result<kvm_sregs2, Errno> {
        self.read(|registers| registers.system2())
    }

    /// KVM_SET_SREGS2.
    ///
    /// # Errors
    /// As [`Vcpu::set_sregs`], and EINVAL for unknown flags.
    pub fn set_sregs2(&self, sregs: &kvm_sregs2) -> Result<(), Errno> {
        self.change(|registers| registers.set_system2(sregs))?;
        self.tell_apic();
        Ok(())
    }

    /// KVM_GET_XCRS.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn xcrs(&self) -> Result<kvm_xcrs, Errno> {
        self.read(Registers::xcrs)
    }

    /// KVM_GET_XSAVE, KVM_GET_XSAVE2.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn xsave(&self) -> Result<kvm_xsave, Errno> {
        self.read(|registers| registers.fpu.area())
    }

    /// KVM_GET_FPU.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn fpu(&self) -> Result<kvm_fpu, Errno> {
        self.read(|registers| registers.fpu.fpu())
    }

    /// KVM_SET_FPU.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn set_fpu(&self, fpu: &kvm_fpu) -> Result<(), Errno> {
        self.change(|registers| {
            registers.fpu.set_fpu(fpu);
            Ok(())
        })
    }

    /// KVM_SET_MSRS: how many were set before the first that KVM does not know, or that is out of reach because it lies in
    /// the VMSA of a guest whose state is protected.
    pub fn set_msrs(&self, entries: &[kvm_msr_entry]) -> usize {
        let mut state = self.inner.lock();
        let set = entries.iter().take_while(|msr| state.set_msr(msr.index, msr.data)).count();
        self.note_unknown(&state, entries.get(set).map(|msr| msr.index));
        drop(state);
        if entries[..set].iter().any(|msr| msr.index == msrs::APIC_BASE) {
            self.tell_apic();
        }
        set
    }

    /// KVM_GET_MSRS of one MSR; `None` where KVM_GET_MSRS would stop.
    pub fn msr(&self, index: u32) -> Option<u64> {
        let state = self.inner.lock();
        let value = state.msr(index);
        self.note_unknown(&state, value.is_none().then_some(index));
        value
    }

    /// An MSR that is nothing to this model may be something to KVM.
    fn note_unknown(&self, state: &VcpuState, index: Option<u32>) {
        if let Some(index) = index.filter(|index| !state.is_out_of_reach(*index)) {
            self.vm.host.unmodelled(format!("MSR {index:#x}"));
        }
    }

    /// The MSRs that a VMSA holds, beside PAT (0x277).
    pub const MSRS: [u32; SAVED_MSRS.len()] = SAVED_MSRS;

    /// KVM_SET_CPUID2. Once the vCPU has run, only what it has already can be set again. Waits while another thread runs it.
    ///
    /// # Errors
    /// E2BIG: more than 256 functions. EINVAL: linear addresses of a length that no processor has, or a change after KVM_RUN.
    pub fn set_cpuid2(&self, functions: &[kvm_cpuid_entry2]) -> Result<(), Errno> {
        /// KVM_MAX_CPUID_ENTRIES.
        const LIMIT: usize = 256;
        if functions.len() > LIMIT {
            return Err(Errno::E2BIG);
        }
        let rules = self.vm.lock().devices.cpuid_rules();
        let running = lock(&self.inner.running);
        let mut state = self.inner.lock();
        if running.has_run() {
            let runtime = Runtime::of(&state.registers, &state.devices, rules);
            let same = runtime.updated(functions) == runtime.updated(&state.registers.cpuid);
            return if same { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let addresses = functions.iter().find(|leaf| leaf.function == 0x8000_0008);
        if addresses.is_some_and(|leaf| !matches!(leaf.eax >> 8 & 0xff, 0 | 48 | 57)) {
            return Err(Errno::EINVAL);
        }
        state.registers.set_cpuid(functions, &cpuid::supported(&self.vm.host.config.cpuid));
        Ok(())
    }

    /// KVM_GET_CPUID2: what was set, with what KVM keeps up to date in it.
    pub fn cpuid2(&self) -> Vec<kvm_cpuid_entry2> {
        let rules = self.vm.lock().devices.cpuid_rules();
        let state = self.inner.lock();
        Runtime::of(&state.registers, &state.devices, rules).updated(&state.registers.cpuid)
    }

    /// KVM_GET_MP_STATE.
    pub fn mp_state(&self) -> kvm_mp_state {
        kvm_mp_state { mp_state: self.inner.lock().registers.mp_state }
    }

    /// KVM_SET_MP_STATE.
    ///
    /// # Errors
    /// EINVAL: a state that x86 does not have, or one that only KVM's own APIC can end.
    pub fn set_mp_state(&self, state: &kvm_mp_state) -> Result<(), Errno> {
        let mut vcpu = self.inner.lock();
        let state = match state.mp_state {
            KVM_MP_STATE_RUNNABLE => KVM_MP_STATE_RUNNABLE,
            _ if !vcpu.devices.has_local_apic() => return Err(Errno::EINVAL),
            // Linux no longer keeps this state: the IPI waits instead.
            KVM_MP_STATE_SIPI_RECEIVED => KVM_MP_STATE_INIT_RECEIVED,
            state @ (KVM_MP_STATE_UNINITIALIZED
            | KVM_MP_STATE_INIT_RECEIVED
            | KVM_MP_STATE_HALTED
            | KVM_MP_STATE_AP_RESET_HOLD) => state,
            _ => return Err(Errno::EINVAL),
        };
        vcpu.registers.mp_state = state;
        self.inner.bell.ring();
        Ok(())
    }

    /// KVM_SET_GUEST_DEBUG: single steps, breakpoints by INT3 and by user space's own debug registers, injected #DB and #BP.
    ///
    /// # Errors
    /// EINVAL: the state is protected. EBUSY: an exception waits already, and another is to be injected.
    pub fn set_guest_debug(&self, debug: &kvm_guest_debug) -> Result<(), Errno> {
        const INJECT_DB: u32 = 1 << 18;
        const INJECT_BP: u32 = 1 << 19;
        let mut state = self.inner.lock();
        if state.protected {
            return Err(Errno::EINVAL);
        }
        if debug.control & (INJECT_DB | INJECT_BP) != 0 {
            let events = &mut state.devices.events;
            if events.exception_injected | events.exception_pending != 0 {
                return Err(Errno::EBUSY);
            }
            events.exception_injected = 1;
            events.exception_nr = if debug.control & INJECT_DB != 0 { 1 } else { 3 };
            events.exception_has_error_code = 0;
        }
        state.registers.guest_debug = GuestDebug::new(debug);
        Ok(())
    }

    /// KVM_SET_SIGNAL_MASK: which signals KVM_RUN leaves pending (bit 0 for signal 1), in place of those that the thread blocks.
    pub fn set_signal_mask(&self, mask: Option<u64>) {
        self.inner.lock().signal_mask = mask;
    }

    /// What KVM_SET_SIGNAL_MASK said last.
    pub fn signal_mask(&self) -> Option<u64> {
        self.inner.lock().signal_mask
    }

    /// KVM_MEMORY_ENCRYPT_OP on a vCPU: SNP_GET_VCPU_STATE and SNP_SET_VCPU_STATE, in profiles that have them.
    ///
    /// # Errors
    /// ENOTTY in profiles that do not. Else see [`crate::VcpuStateCommand`].
    pub fn memory_encrypt_op(&self, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
        sev::vcpu_command(self, user, argument)
    }

    /// The VM.
    pub fn vm(&self) -> Vm {
        Vm { inner: self.vm.clone() }
    }

    /// APIC_BASE and CR8 are the local APIC's, too.
    fn tell_apic(&self) {
        let Some(apic) = &self.inner.apic else { return };
        let system = self.inner.lock().registers.system;
        let mut apic = lock(apic);
        apic.set_base(system.apic_base, 0, true);
        apic.set_cr8(system.cr8);
    }

    fn read<T>(&self, read: impl FnOnce(&Registers) -> T) -> Result<T, Errno> {
        let state = self.inner.lock();
        if state.protected { Err(Errno::EINVAL) } else { Ok(read(&state.registers)) }
    }

    fn change(&self, change: impl FnOnce(&mut Registers) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut state = self.inner.lock();
        if state.protected { Err(Errno::EINVAL) } else { change(&mut state.registers) }
    }
}
