//! Memory, capability and attribute structures of a VM.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// KVM_SET_USER_MEMORY_REGION2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_userspace_memory_region2 {
    /// Slot number; the address space in the high half.
    pub slot: u32,
    /// `KVM_MEM_…`.
    pub flags: u32,
    /// Where the guest sees it.
    pub guest_phys_addr: u64,
    /// Bytes; 0 deletes the slot.
    pub memory_size: u64,
    /// User address of the shared memory.
    pub userspace_addr: u64,
    /// Offset into the guest_memfd.
    pub guest_memfd_offset: u64,
    /// Descriptor of the guest_memfd.
    pub guest_memfd: u32,
    /// Ignored.
    pub pad1: u32,
    /// Ignored.
    pub pad2: [u64; 14],
}

abi_layout!(kvm_userspace_memory_region2, 160, {
    slot: 0,
    flags: 4,
    guest_phys_addr: 8,
    memory_size: 16,
    userspace_addr: 24,
    guest_memfd_offset: 32,
    guest_memfd: 40,
    pad1: 44,
    pad2: 48,
});

impl Default for kvm_userspace_memory_region2 {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_PRE_FAULT_MEMORY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_pre_fault_memory {
    /// In, and out: where to go on.
    pub gpa: u64,
    /// In, and out: bytes that are left.
    pub size: u64,
    /// None.
    pub flags: u64,
    /// Zero.
    pub padding: [u64; 5],
}

abi_layout!(kvm_pre_fault_memory, 64, { gpa: 0, size: 8, flags: 16, padding: 24 });

/// KVM_CREATE_GUEST_MEMFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_create_guest_memfd {
    /// Bytes.
    pub size: u64,
    /// `GUEST_MEMFD_FLAG_…`.
    pub flags: u64,
    /// Ignored.
    pub reserved: [u64; 6],
}

abi_layout!(kvm_create_guest_memfd, 64, {
    size: 0,
    flags: 8,
    reserved: 16,
});

impl Default for kvm_create_guest_memfd {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SET_MEMORY_ATTRIBUTES.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_memory_attributes {
    /// First guest-physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// `KVM_MEMORY_ATTRIBUTE_…`.
    pub attributes: u64,
    /// Must be zero.
    pub flags: u64,
}

abi_layout!(kvm_memory_attributes, 32, {
    address: 0,
    size: 8,
    attributes: 16,
    flags: 24,
});

impl Default for kvm_memory_attributes {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_ENABLE_CAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_enable_cap {
    /// The capability.
    pub cap: u32,
    /// Flags of the capability.
    pub flags: u32,
    /// Arguments of the capability.
    pub args: [u64; 4],
    /// Ignored.
    pub pad: [u8; 64],
}

abi_layout!(kvm_enable_cap, 104, {
    cap: 0,
    flags: 4,
    args: 8,
    pad: 40,
});

impl Default for kvm_enable_cap {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_DEVICE_ATTR and KVM_HAS_DEVICE_ATTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_device_attr {
    /// No flags are defined.
    pub flags: u32,
    /// The group.
    pub group: u32,
    /// The attribute within the group.
    pub attr: u64,
    /// User address of the value.
    pub addr: u64,
}

abi_layout!(kvm_device_attr, 24, {
    flags: 0,
    group: 4,
    attr: 8,
    addr: 16,
});

impl Default for kvm_device_attr {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SET_USER_MEMORY_REGION.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_userspace_memory_region {
    /// Slot number; the address space in the high half.
    pub slot: u32,
    /// `KVM_MEM_…`.
    pub flags: u32,
    /// Where the guest sees it.
    pub guest_phys_addr: u64,
    /// Bytes; 0 deletes the slot.
    pub memory_size: u64,
    /// User address of the memory.
    pub userspace_addr: u64,
}

abi_layout!(kvm_userspace_memory_region, 32, {
    slot: 0,
    flags: 4,
    guest_phys_addr: 8,
    memory_size: 16,
    userspace_addr: 24,
});

impl Default for kvm_userspace_memory_region {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
