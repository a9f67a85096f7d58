//! A launched guest that can run.

use std::sync::Arc;

use snp_abi::Errno;
use snp_abi::kvm::kvm_memory_attributes;
use snp_launch::{LaunchError, LaunchObserver, LaunchPlan, Launched};

use super::{Launcher, Shared, SoftPlatform};
use crate::{Engine, Process, SoftKvm, UserSpace, Vcpu, Vm};

/// A guest after LAUNCH_FINISH, with all that a VMM holds of it.
#[derive(Debug)]
pub struct Machine {
    /// The host.
    pub kvm: SoftKvm,
    /// The VM.
    pub vm: Vm,
    /// Its vCPUs in index order.
    pub vcpus: Vec<Vcpu>,
    /// The user space, with the guest's shared memory and its guest_memfds.
    pub process: Process,
    /// What the launch left behind.
    pub launched: Launched,
    /// Memory behind what the guest shares.
    shared: Vec<Shared>,
}

impl SoftPlatform {
    /// Carries out a plan as [`snp_launch::Platform::launch`] does, and keeps the guest to run on `engine`: with KVM's own
    /// interrupt controllers, CPUID for every vCPU, and memory behind every page that the guest shares.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn boot(
        &self,
        plan: &LaunchPlan,
        engine: Arc<dyn Engine>,
        observer: &mut dyn LaunchObserver,
    ) -> Result<Machine, LaunchError> {
        plan.validate()?;
        let kvm = SoftKvm::with_engine(self.config.clone(), self.profile, engine);
        let mut launcher = Launcher { vm: None, process: Process::new(), observer, runs: true, shared: Vec::new() };
        let vm = launcher.create_vm(&kvm)?;
        launcher.plain("KVM_CREATE_IRQCHIP", &[], vm.create_irqchip())?;
        let (launched, vcpus, _) = launcher.launch(&vm, plan, self.profile)?;
        Ok(Machine { kvm, vm, vcpus, process: launcher.process, launched, shared: launcher.shared })
    }
}

impl Machine {
    /// KVM_HC_MAP_GPA_RANGE, as a VMM does it: makes pages private or shared.
    ///
    /// # Errors
    /// What KVM_SET_MEMORY_ATTRIBUTES says.
    pub fn map_gpa_range(&self, gpa: u64, len: u64, private: bool) -> Result<(), Errno> {
        let attributes = if private { snp_abi::kvm::KVM_MEMORY_ATTRIBUTE_PRIVATE } else { 0 };
        self.vm.set_memory_attributes(&kvm_memory_attributes { address: gpa, size: len, attributes, flags: 0 })
    }

    /// Writes memory that the guest shares, as a VMM's device does.
    ///
    /// # Errors
    /// EFAULT: there is no memory, or it ends before the data does.
    pub fn write_shared(&self, gpa: u64, data: &[u8]) -> Result<(), Errno> {
        let fits = |slot: &&Shared| {
            gpa.checked_sub(slot.gpa)
                .and_then(|at| slot.len.checked_sub(at))
                .is_some_and(|room| data.len() as u64 <= room)
        };
        let slot = self.shared.iter().find(fits).ok_or(Errno::EFAULT)?;
        self.process.write(slot.address + (gpa - slot.gpa), data).map_err(|_| Errno::EFAULT)
    }
}
