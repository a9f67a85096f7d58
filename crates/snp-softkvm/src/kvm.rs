//! /dev/kvm.

use std::sync::Arc;

use snp_abi::Errno;
use snp_abi::kvm::*;
use snp_asp::PlatformConfig;

use crate::host::Host;
use crate::{Engine, NoEngine, SevDevice, UapiProfile, Vm, capabilities, cpuid};

/// /dev/kvm on a host with SEV-SNP.
#[derive(Clone, Debug)]
pub struct SoftKvm {
    host: Arc<Host>,
}

impl SoftKvm {
    /// A host with that platform, whose KVM has that uAPI.
    pub fn new(config: PlatformConfig, profile: &'static UapiProfile) -> Self {
        Self::with_engine(config, profile, Arc::new(NoEngine))
    }

    /// The same host, whose vCPUs `engine` runs.
    pub fn with_engine(config: PlatformConfig, profile: &'static UapiProfile, engine: Arc<dyn Engine>) -> Self {
        Self { host: Arc::new(Host::new(config, profile, engine)) }
    }

    /// The same host with some VM types only, as a bit mask by their numbers: one on which kvm_amd's parameters switch SEV,
    /// SEV-ES or SNP off, or whose ASIDs are all of one kind. The default type is always there.
    ///
    /// # Panics
    /// If something was created already.
    #[must_use]
    pub fn with_vm_types(mut self, types: u32) -> Self {
        let host = Arc::get_mut(&mut self.host).expect("nothing was created yet");
        host.vm_types &= types | 1 << KVM_X86_DEFAULT_VM;
        self
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The profile.
    pub fn profile(&self) -> &'static UapiProfile {
        self.host.profile
    }

    /// KVM_CREATE_VM.
    ///
    /// # Errors
    /// EINVAL: a VM type that the host does not have (Intel TDX, and all unknown numbers).
    pub fn create_vm(&self, vm_type: u64) -> Result<Vm, Errno> {
        if vm_type > KVM_X86_SNP_VM || self.host.vm_types >> vm_type & 1 == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Vm::new(self.host.clone(), vm_type))
    }

    /// KVM_CHECK_EXTENSION on /dev/kvm. Capabilities that are not modelled answer 0, as absent ones do.
    pub fn check_extension(&self, capability: u32) -> i32 {
        capabilities::check(&self.host, None, capability)
    }

    /// KVM_GET_DEVICE_ATTR on /dev/kvm: the attribute's value. Writing it to user memory is the caller's part.
    ///
    /// # Errors
    /// ENXIO: no such attribute.
    pub fn get_device_attr(&self, group: u32, attribute: u64) -> Result<u64, Errno> {
        match (group, attribute) {
            (0, KVM_X86_XCOMP_GUEST_SUPP) => Ok(self.host.supported_xcr0()),
            (KVM_X86_GRP_SEV, KVM_X86_SEV_VMSA_FEATURES) => Ok(self.host.supported_vmsa_features()),
            (KVM_X86_GRP_SEV, KVM_X86_SNP_POLICY_BITS) => Ok(self.host.supported_policy_bits()),
            (KVM_X86_GRP_SEV, KVM_X86_SEV_SNP_REQ_CERTS) => Ok(1),
            _ => Err(Errno::ENXIO),
        }
    }

    /// KVM_HAS_DEVICE_ATTR on /dev/kvm.
    ///
    /// # Errors
    /// ENXIO: no such attribute.
    pub fn has_device_attr(&self, group: u32, attribute: u64) -> Result<(), Errno> {
        self.get_device_attr(group, attribute).map(drop)
    }

    /// KVM_GET_SUPPORTED_CPUID.
    pub fn supported_cpuid(&self) -> Vec<kvm_cpuid_entry2> {
        cpuid::supported(&self.host.config.cpuid)
    }

    /// /dev/sev of the same host.
    pub fn sev_device(&self) -> SevDevice {
        SevDevice::new(self.host.clone())
    }

    /// How many different things that are not modelled were asked for so far.
    pub fn unmodelled_kinds(&self) -> usize {
        self.host.unmodelled_kinds()
    }

    /// Those after the first `known`, in the order in which they were first asked for.
    pub fn unmodelled_since(&self, known: usize) -> Vec<String> {
        self.host.unmodelled_since(known)
    }

    /// What was asked for so far that is not modelled, and how often. Each such request was answered with ENOSYS, which KVM
    /// itself never gives to an ioctl that it knows.
    pub fn unmodelled(&self) -> Vec<(String, u64)> {
        self.host.unmodelled_so_far()
    }
}
