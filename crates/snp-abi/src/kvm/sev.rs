//! The argument structures of KVM_MEMORY_ENCRYPT_OP.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// The argument of KVM_MEMORY_ENCRYPT_OP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_cmd {
    /// The command, a `KVM_SEV_…` number.
    pub id: u32,
    /// Ignored.
    pub pad0: u32,
    /// User address of the command's own structure.
    pub data: u64,
    /// Out: the firmware status.
    pub error: u32,
    /// A descriptor of /dev/sev.
    pub sev_fd: u32,
}

abi_layout!(kvm_sev_cmd, 24, {
    id: 0,
    pad0: 4,
    data: 8,
    error: 16,
    sev_fd: 20,
});

impl Default for kvm_sev_cmd {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_INIT2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_init {
    /// SEV_FEATURES of every VMSA, without SNPActive.
    pub vmsa_features: u64,
    /// Must be zero.
    pub flags: u32,
    /// The highest GHCB protocol version; 0 for the default.
    pub ghcb_version: u16,
    /// Ignored.
    pub pad1: u16,
    /// Ignored.
    pub pad2: [u32; 8],
}

abi_layout!(kvm_sev_init, 48, {
    vmsa_features: 0,
    flags: 8,
    ghcb_version: 12,
    pad1: 14,
    pad2: 16,
});

impl Default for kvm_sev_init {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_SNP_LAUNCH_START.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_snp_launch_start {
    /// The guest policy.
    pub policy: u64,
    /// Guest OS-visible workarounds.
    pub gosvw: [u8; 16],
    /// Must be zero.
    pub flags: u16,
    /// Ignored.
    pub pad0: [u8; 6],
    /// Ignored.
    pub pad1: [u64; 4],
}

abi_layout!(kvm_sev_snp_launch_start, 64, {
    policy: 0,
    gosvw: 8,
    flags: 24,
    pad0: 26,
    pad1: 32,
});

impl Default for kvm_sev_snp_launch_start {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_SNP_LAUNCH_UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_snp_launch_update {
    /// In and out: the first guest frame.
    pub gfn_start: u64,
    /// In and out: user address of the source.
    pub uaddr: u64,
    /// In and out: bytes still to do.
    pub len: u64,
    /// The page type.
    pub r#type: u8,
    /// Ignored.
    pub pad0: u8,
    /// Must be zero.
    pub flags: u16,
    /// Ignored.
    pub pad1: u32,
    /// Ignored.
    pub pad2: [u64; 4],
}

abi_layout!(kvm_sev_snp_launch_update, 64, {
    gfn_start: 0,
    uaddr: 8,
    len: 16,
    r#type: 24,
    pad0: 25,
    flags: 26,
    pad1: 28,
    pad2: 32,
});

impl Default for kvm_sev_snp_launch_update {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_SNP_LAUNCH_FINISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_snp_launch_finish {
    /// User address of the ID block.
    pub id_block_uaddr: u64,
    /// User address of the ID authentication data.
    pub id_auth_uaddr: u64,
    /// An ID block is given.
    pub id_block_en: u8,
    /// The author key is given.
    pub auth_key_en: u8,
    /// Reports may not be signed with the VCEK.
    pub vcek_disabled: u8,
    /// HOST_DATA of the attestation report.
    pub host_data: [u8; 32],
    /// Ignored.
    pub pad0: [u8; 3],
    /// Must be zero.
    pub flags: u16,
    /// Ignored.
    pub pad1: [u64; 4],
}

abi_layout!(kvm_sev_snp_launch_finish, 88, {
    id_block_uaddr: 0,
    id_auth_uaddr: 8,
    id_block_en: 16,
    auth_key_en: 17,
    vcek_disabled: 18,
    host_data: 19,
    pad0: 51,
    flags: 54,
    pad1: 56,
});

impl Default for kvm_sev_snp_launch_finish {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
