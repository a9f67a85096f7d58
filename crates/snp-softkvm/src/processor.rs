//! Where a processor model attaches.

use std::fmt::Debug;

use snp_abi::Errno;

use crate::{UserSpace, Vcpu};

/// Runs vCPUs. KVM_RUN asks it, once the checks of KVM itself have passed.
pub trait Processor: Debug + Send + Sync {
    /// Runs the vCPU until it exits to user space, or returns the errno of KVM_RUN.
    ///
    /// # Errors
    /// What KVM_RUN shall return.
    fn run(&self, vcpu: &Vcpu, user: &dyn UserSpace) -> Result<(), Errno>;
}

/// No processor: KVM_RUN is not modelled, and says so by ENOSYS, which KVM itself never answers there.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProcessor;

impl Processor for NoProcessor {
    fn run(&self, vcpu: &Vcpu, _user: &dyn UserSpace) -> Result<(), Errno> {
        Err(vcpu.vm.host.unmodelled("KVM_RUN without a processor model"))
    }
}
