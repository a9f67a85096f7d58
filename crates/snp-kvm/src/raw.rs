//! ioctls that kvm-ioctls has not, or not with the structures of `snp-abi`.
//!
//! # Unsafety
//! A request is issued with a pointer to the structure that it takes. The structures are those of `snp-abi`, whose layouts
//! are compared with the kernel's headers; each call says which request takes which.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use kvm_bindings::kvm_userspace_memory_region2;
use kvm_ioctls::{VcpuFd, VmFd};
use snp_abi::Errno;
use snp_abi::kvm::{
    KVM_MEMORY_ENCRYPT_OP, KVM_SET_DEBUGREGS, KVM_SET_MSRS, KVM_SET_REGS, KVM_SET_SREGS, KVM_SET_XCRS, KVM_SET_XSAVE,
    kvm_debugregs, kvm_msr_entry, kvm_regs, kvm_sev_cmd, kvm_sregs, kvm_xcrs, kvm_xsave,
};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};

/// A structure that a request of a vCPU takes, and the request.
pub(crate) trait VcpuState {
    const REQUEST: u32;
}

impl VcpuState for kvm_regs {
    const REQUEST: u32 = KVM_SET_REGS;
}

impl VcpuState for kvm_sregs {
    const REQUEST: u32 = KVM_SET_SREGS;
}

impl VcpuState for kvm_xsave {
    const REQUEST: u32 = KVM_SET_XSAVE;
}

impl VcpuState for kvm_xcrs {
    const REQUEST: u32 = KVM_SET_XCRS;
}

impl VcpuState for kvm_debugregs {
    const REQUEST: u32 = KVM_SET_DEBUGREGS;
}

/// KVM_SET_MSRS with ten entries.
#[repr(C)]
pub(crate) struct Msrs {
    count: u32,
    pad: u32,
    entries: [kvm_msr_entry; 10],
}

impl Msrs {
    pub(crate) fn new(entries: [kvm_msr_entry; 10]) -> Self {
        Self { count: 10, pad: 0, entries }
    }
}

/// Sets a part of a vCPU's state.
pub(crate) fn set<T: VcpuState>(vcpu: &VcpuFd, state: &T) -> Result<(), Errno> {
    // SAFETY: the trait pairs the request with the structure that the kernel reads for it, and only reads.
    answer(unsafe { ioctl_with_ref(vcpu, T::REQUEST.into(), state) }).map(drop)
}

/// KVM_SET_MSRS; EINVAL if the kernel stopped before the last.
pub(crate) fn set_msrs(vcpu: &VcpuFd, msrs: &Msrs) -> Result<(), Errno> {
    // SAFETY: the kernel reads the count and as many entries as it says, and they are there.
    let set = answer(unsafe { ioctl_with_ref(vcpu, KVM_SET_MSRS.into(), msrs) })?;
    if set == msrs.entries.len() as i32 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// KVM_MEMORY_ENCRYPT_OP on a VM or vCPU.
///
/// # Safety
/// What `command.data` points to is the structure of `command.id`, and so is what that points to.
pub(crate) unsafe fn memory_encrypt_op(fd: &impl AsRawFd, command: &mut kvm_sev_cmd) -> Result<(), Errno> {
    // SAFETY: the caller's; the kernel reads and writes one structure.
    answer(unsafe { ioctl_with_mut_ref(fd, KVM_MEMORY_ENCRYPT_OP.into(), command) }).map(drop)
}

/// KVM_SET_USER_MEMORY_REGION2.
///
/// # Safety
/// The memory at `userspace_addr` outlives the VM.
pub(crate) unsafe fn set_memory(vm: &VmFd, region: kvm_userspace_memory_region2) -> Result<(), Errno> {
    // SAFETY: the caller's.
    unsafe { vm.set_user_memory_region2(region) }.map_err(|error| Errno(error.errno()))
}

fn answer(result: i32) -> Result<i32, Errno> {
    if result < 0 { Err(Errno(vmm_sys_util::errno::Error::last().errno())) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where both know a structure, they agree on its size.
    #[test]
    fn structures_are_those_of_kvm_bindings() {
        assert_eq!(size_of::<kvm_regs>(), size_of::<kvm_bindings::kvm_regs>());
        assert_eq!(size_of::<kvm_sregs>(), size_of::<kvm_bindings::kvm_sregs>());
        assert_eq!(size_of::<kvm_xsave>(), size_of::<kvm_bindings::kvm_xsave>());
        assert_eq!(size_of::<kvm_xcrs>(), size_of::<kvm_bindings::kvm_xcrs>());
        assert_eq!(size_of::<kvm_debugregs>(), size_of::<kvm_bindings::kvm_debugregs>());
        assert_eq!(size_of::<kvm_sev_cmd>(), size_of::<kvm_bindings::kvm_sev_cmd>());
        assert_eq!(size_of::<Msrs>(), 8 + 10 * size_of::<kvm_bindings::kvm_msr_entry>());
    }
}
