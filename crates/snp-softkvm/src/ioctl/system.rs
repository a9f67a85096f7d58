//! The requests of /dev/kvm.

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::{Answer, Object, unknown};
use crate::{SoftKvm, UserSpace};

/// KVM_GET_VCPU_MMAP_SIZE: the run structure, the page of port I/O data, and the ring of coalesced MMIO.
pub(super) const VCPU_MMAP_SIZE: i32 = 3 * 4096;

pub(super) fn ioctl(kvm: &SoftKvm, _user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_GET_API_VERSION if argument == 0 => Ok(Answer::Value(KVM_API_VERSION as i32)),
        KVM_GET_VCPU_MMAP_SIZE if argument == 0 => Ok(Answer::Value(VCPU_MMAP_SIZE)),
        KVM_GET_API_VERSION | KVM_GET_VCPU_MMAP_SIZE => Err(Errno::EINVAL),
        KVM_CREATE_VM => Ok(Answer::Descriptor(Object::Vm(kvm.create_vm(argument)?))),
        KVM_CHECK_EXTENSION => Ok(Answer::Value(kvm.check_extension(argument as u32))),
        _ => Err(unknown(kvm.host(), request, Errno::EINVAL)),
    }
}
