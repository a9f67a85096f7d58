//! The requests of a vCPU's descriptor.

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::{Answer, unknown, wire};
use crate::{UserSpace, Vcpu};

pub(super) fn ioctl(vcpu: &Vcpu, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_RUN if argument == 0 => vcpu.run(user)?,
        KVM_GET_REGS => wire::write(user, argument, &vcpu.regs()?)?,
        KVM_SET_REGS => vcpu.set_regs(&wire::read(user, argument)?)?,
        KVM_MEMORY_ENCRYPT_OP => vcpu.memory_encrypt_op(user, argument)?,
        _ => return Err(unknown(&vcpu.vm.host, request, Errno::EINVAL)),
    }
    Ok(Answer::DONE)
}
