//! The requests of a VM's descriptor.

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::{Answer, Object, unknown, wire};
use crate::{UserSpace, Vm};

pub(super) fn ioctl(vm: &Vm, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_CREATE_VCPU => return Ok(Answer::Descriptor(Object::Vcpu(vm.create_vcpu(argument)?))),
        KVM_CREATE_GUEST_MEMFD => {
            let memfd = vm.create_guest_memfd(&wire::read(user, argument)?)?;
            return Ok(Answer::Descriptor(Object::GuestMemfd(memfd)));
        }
        KVM_CHECK_EXTENSION => return Ok(Answer::Value(vm.check_extension(argument as u32))),
        KVM_ENABLE_CAP => vm.enable_cap(&wire::read(user, argument)?)?,
        KVM_SET_USER_MEMORY_REGION2 => vm.set_user_memory_region2(user, &wire::read(user, argument)?)?,
        KVM_SET_MEMORY_ATTRIBUTES => vm.set_memory_attributes(&wire::read(user, argument)?)?,
        KVM_MEMORY_ENCRYPT_OP => vm.memory_encrypt_op(user, argument)?,
        _ => return Err(unknown(&vm.inner.host, request, Errno::ENOTTY)),
    }
    Ok(Answer::DONE)
}
