//! The requests of /dev/kvm.

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::wire::{self, List};
use super::{Answer, Object, unknown};
use crate::devices::MCE_SUPPORTED;
use crate::{SoftKvm, UserSpace, msrs};

/// KVM_GET_VCPU_MMAP_SIZE: the run structure, the page of port I/O data, and the ring of coalesced MMIO.
pub const VCPU_MMAP_SIZE: usize = 3 * 4096;
/// The most CPUID functions, and MSRs of one KVM_GET_MSRS or KVM_SET_MSRS (exclusive).
pub(super) const CPUID_LIMIT: u32 = 256;
pub(super) const MSRS_LIMIT: u32 = 256;

/// What KVM knows here and this model does not.
const UNMODELLED: &[u32] = &[KVM_GET_SUPPORTED_HV_CPUID];

pub(super) fn ioctl(kvm: &SoftKvm, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_GET_API_VERSION if argument == 0 => return Ok(Answer::Value(KVM_API_VERSION as i32)),
        KVM_GET_VCPU_MMAP_SIZE if argument == 0 => return Ok(Answer::Value(VCPU_MMAP_SIZE as i32)),
        KVM_GET_API_VERSION | KVM_GET_VCPU_MMAP_SIZE => return Err(Errno::EINVAL),
        KVM_CREATE_VM => return Ok(Answer::Descriptor(Object::Vm(kvm.create_vm(argument)?))),
        KVM_CHECK_EXTENSION => return Ok(Answer::Value(kvm.check_extension(argument as u32))),
        KVM_GET_MSRS => return feature_msrs(user, argument),
        KVM_GET_SUPPORTED_CPUID => supported_cpuid(kvm, user, argument)?,
        // No instruction is emulated that the host does not have.
        KVM_GET_EMULATED_CPUID => List::at(user, argument, CPUID_HEADER)?.write_count(user, 0)?,
        KVM_GET_MSR_INDEX_LIST => List::at(user, argument, INDEX_HEADER)?.answer(user, msrs::LISTED)?,
        KVM_GET_MSR_FEATURE_INDEX_LIST => {
            let indices: Vec<u32> = msrs::FEATURES.iter().map(|(index, _)| *index).collect();
            List::at(user, argument, INDEX_HEADER)?.answer(user, &indices)?;
        }
        KVM_X86_GET_MCE_CAP_SUPPORTED => wire::write(user, argument, &MCE_SUPPORTED)?,
        KVM_GET_DEVICE_ATTR => {
            let attribute: kvm_device_attr = wire::read(user, argument)?;
            wire::no_flags(attribute.flags)?;
            wire::write(user, attribute.addr, &kvm.get_device_attr(attribute.group, attribute.attr)?)?;
        }
        KVM_HAS_DEVICE_ATTR => {
            let attribute: kvm_device_attr = wire::read(user, argument)?;
            wire::no_flags(attribute.flags)?;
            kvm.has_device_attr(attribute.group, attribute.attr)?;
        }
        _ => return Err(unknown(kvm.host(), UNMODELLED, request, Errno::EINVAL)),
    }
    Ok(Answer::DONE)
}

/// Bytes before the entries of `kvm_cpuid2` and `kvm_msrs`, and of `kvm_msr_list`.
pub(super) const CPUID_HEADER: u64 = 8;
const INDEX_HEADER: u64 = 4;

/// Unlike a list of MSRs this one does not tell the right count with E2BIG: callers try ever larger ones.
fn supported_cpuid(kvm: &SoftKvm, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    let list = List::at(user, argument, CPUID_HEADER)?;
    let supported = kvm.supported_cpuid();
    if (list.count.min(CPUID_LIMIT) as usize) < supported.len() {
        return Err(Errno::E2BIG);
    }
    list.write(user, &supported)?;
    list.write_count(user, supported.len())
}

/// KVM_GET_MSRS on /dev/kvm: feature MSRs.
fn feature_msrs(user: &dyn UserSpace, argument: u64) -> Result<Answer, Errno> {
    let value = |index| msrs::FEATURES.iter().find(|(feature, _)| *feature == index).map(|(_, value)| *value);
    wire::get_msrs(user, argument, value)
}
