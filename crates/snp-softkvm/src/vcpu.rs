//! vCPUs.

use std::sync::{Arc, Mutex};

use snp_abi::kvm::*;
use snp_abi::{Errno, Gpa, Pfn};
use snp_asp::SealedPage;

use crate::registers::{Registers, SAVED_MSRS};
use crate::vm::VmInner;
use crate::{UserSpace, Vm, lock, sev};

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
}

#[derive(Debug)]
pub(crate) struct VcpuState {
    pub(crate) registers: Registers,
    /// The guest's state is out of user space's reach.
    pub(crate) protected: bool,
    pub(crate) vmsa: VcpuVmsa,
    /// The VMSA that KVM made, as the firmware left it.
    pub(crate) made: Option<SealedPage>,
    /// `vcpu-state` profile: the addresses that SET_VCPU_STATE gave.
    pub(crate) vmsa_gpa: Option<Gpa>,
    pub(crate) ghcb_gpa: Option<Gpa>,
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
    pub(crate) fn new(index: u32, id: u32, frame: Option<Pfn>) -> Self {
        let state = VcpuState {
            registers: Registers::reset(id),
            protected: false,
            vmsa: VcpuVmsa::None,
            made: None,
            vmsa_gpa: None,
            ghcb_gpa: None,
        };
        Self { index, id, frame, state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, VcpuState> {
        lock(&self.state)
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
        self.change(|registers| registers.set_system(sregs))
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

    /// KVM_SET_MSRS: how many were set before the first that could not be. Only MSRs that a VMSA holds are modelled; the
    /// first other one is noted in [`crate::SoftKvm::unmodelled`].
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn set_msrs(&self, msrs: &[kvm_msr_entry]) -> Result<usize, Errno> {
        let mut set = 0;
        self.change(|registers| {
            set = msrs.iter().take_while(|msr| registers.set_msr(msr.index, msr.data)).count();
            Ok(())
        })?;
        if let Some(msr) = msrs.get(set) {
            self.vm.host.unmodelled(format!("KVM_SET_MSRS of {:#x}", msr.index));
        }
        Ok(set)
    }

    /// KVM_GET_MSRS of one MSR; `None` if it is not modelled.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn msr(&self, index: u32) -> Result<Option<u64>, Errno> {
        self.read(|registers| registers.msr(index))
    }

    /// The MSRs that [`Vcpu::set_msrs`] takes beside PAT (0x277).
    pub const MSRS: [u32; SAVED_MSRS.len()] = SAVED_MSRS;

    /// KVM_SET_CPUID2.
    ///
    /// # Errors
    /// E2BIG: more than 256 functions.
    pub fn set_cpuid2(&self, functions: &[kvm_cpuid_entry2]) -> Result<(), Errno> {
        /// KVM_MAX_CPUID_ENTRIES.
        const LIMIT: usize = 256;
        if functions.len() > LIMIT {
            return Err(Errno::E2BIG);
        }
        self.inner.lock().registers.cpuid = functions.to_vec();
        Ok(())
    }

    /// KVM_GET_MP_STATE.
    pub fn mp_state(&self) -> kvm_mp_state {
        kvm_mp_state { mp_state: self.inner.lock().registers.mp_state }
    }

    /// KVM_SET_MP_STATE.
    ///
    /// # Errors
    /// EINVAL: a state that x86 does not have.
    pub fn set_mp_state(&self, state: &kvm_mp_state) -> Result<(), Errno> {
        match state.mp_state {
            KVM_MP_STATE_RUNNABLE
            | KVM_MP_STATE_UNINITIALIZED
            | KVM_MP_STATE_INIT_RECEIVED
            | KVM_MP_STATE_HALTED
            | KVM_MP_STATE_SIPI_RECEIVED => {
                self.inner.lock().registers.mp_state = state.mp_state;
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// KVM_SET_GUEST_DEBUG: whether KVM_GUESTDBG_ENABLE is given.
    ///
    /// # Errors
    /// EINVAL: the state is protected.
    pub fn set_guest_debug(&self, enable: bool) -> Result<(), Errno> {
        self.change(|registers| {
            registers.guest_debug = enable;
            Ok(())
        })
    }

    /// KVM_MEMORY_ENCRYPT_OP on a vCPU: SNP_GET_VCPU_STATE and SNP_SET_VCPU_STATE, in profiles that have them.
    ///
    /// # Errors
    /// ENOTTY in profiles that do not. Else see [`crate::VcpuStateCommand`].
    pub fn memory_encrypt_op(&self, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
        sev::vcpu_command(self, user, argument)
    }

    /// KVM_RUN.
    ///
    /// # Errors
    /// What the processor model says.
    pub fn run(&self, user: &dyn UserSpace) -> Result<(), Errno> {
        self.vm.host.processor.run(self, user)
    }

    /// The VM.
    pub fn vm(&self) -> Vm {
        Vm { inner: self.vm.clone() }
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
