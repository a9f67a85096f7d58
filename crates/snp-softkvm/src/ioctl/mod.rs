//! ioctl(2) as a program issues it: a request number and an argument, an answer or an errno.
//!
//! Everything behind an argument is read and written through [`UserSpace`]. A request that the object does not have is
//! EINVAL, or ENOTTY on a VM's descriptor, as in Linux; one that KVM has and this model has not is noted in
//! [`SoftKvm::unmodelled`](crate::SoftKvm::unmodelled) with its name, and answered the same way.

mod system;
mod vcpu;
mod vm;
mod wire;

pub use system::VCPU_MMAP_SIZE;

use std::fmt;
use std::sync::Arc;

use snp_abi::Errno;
use snp_abi::kvm::KVM_IOCTLS;

use crate::host::Host;
use crate::sev_device::SEV_ISSUE_CMD;
use crate::{GuestMemfd, HostMsrs, SevDevice, SoftKvm, UserSpace, Vcpu, Vm};

/// What a descriptor stands for.
#[derive(Clone, Debug)]
pub enum Object {
    /// /dev/kvm.
    Kvm(SoftKvm),
    /// /dev/sev.
    Sev(SevDevice),
    /// A VM.
    Vm(Vm),
    /// A vCPU.
    Vcpu(Vcpu),
    /// A guest_memfd.
    GuestMemfd(Arc<GuestMemfd>),
    /// /dev/cpu/N/msr.
    HostMsrs(HostMsrs),
    /// A device that is not of this host: a guest's, for a program that runs in one.
    Device(Arc<dyn Device>),
}

/// A device of another make.
pub trait Device: fmt::Debug + Send + Sync {
    /// ioctl(2).
    ///
    /// # Errors
    /// Its own.
    fn ioctl(&self, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno>;

    /// write(2); `None` if what is written goes where the descriptor leads.
    fn write(&self, data: &[u8]) -> Option<Result<usize, Errno>> {
        let _ = data;
        None
    }
}

/// What ioctl(2) returns.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This number, zero or positive.
    Value(i32),
    /// A new descriptor of this object, close-on-exec.
    Descriptor(Object),
}

impl Answer {
    /// The usual answer.
    pub const DONE: Self = Self::Value(0);
}

impl Object {
    /// ioctl(2) on a descriptor of this object. The kernel takes the low 32 bits of a request.
    ///
    /// # Errors
    /// As Linux 7.3 answers, for each request in its own order.
    pub fn ioctl(&self, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
        match self {
            Self::Kvm(kvm) => system::ioctl(kvm, user, request, argument),
            Self::Sev(device) if request == SEV_ISSUE_CMD => device.issue_cmd(user, argument).map(|()| Answer::DONE),
            Self::Sev(_) => Err(Errno::EINVAL),
            Self::Vm(vm) if vm.is_dead() => Err(Errno::EIO),
            Self::Vcpu(vcpu) if vcpu.vm().is_dead() => Err(Errno::EIO),
            Self::Vm(vm) => vm::ioctl(vm, user, request, argument),
            Self::Vcpu(vcpu) => vcpu::ioctl(vcpu, user, request, argument),
            Self::Device(device) => device.ioctl(user, request, argument),
            Self::GuestMemfd(_) | Self::HostMsrs(_) => Err(Errno::ENOTTY),
        }
    }
}

/// The uAPI's name of a request, or its number.
pub fn request_name(request: u32) -> String {
    let known = KVM_IOCTLS.iter().find(|(number, _)| *number == request);
    known.map_or_else(|| format!("ioctl {request:#x}"), |(_, name)| (*name).to_owned())
}

/// The answer to a request that falls through: noted if KVM knows it on such a descriptor.
fn unknown(host: &Host, known: &[u32], request: u32, answer: Errno) -> Errno {
    if known.contains(&request) {
        host.unmodelled(request_name(request));
    }
    answer
}
