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

/// KVM_SEV_LAUNCH_START.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_launch_start {
    /// Out: the handle.
    pub handle: u32,
    /// The policy.
    pub policy: u32,
    /// User address of the guest owner's certificate.
    pub dh_uaddr: u64,
    /// Its bytes.
    pub dh_len: u32,
    /// Ignored.
    pub pad0: u32,
    /// User address of the session.
    pub session_uaddr: u64,
    /// Its bytes.
    pub session_len: u32,
    /// Ignored.
    pub pad1: u32,
}

abi_layout!(kvm_sev_launch_start, 40, {
    handle: 0,
    policy: 4,
    dh_uaddr: 8,
    dh_len: 16,
    pad0: 20,
    session_uaddr: 24,
    session_len: 32,
    pad1: 36,
});

impl Default for kvm_sev_launch_start {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_LAUNCH_UPDATE_DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_launch_update_data {
    /// User address.
    pub uaddr: u64,
    /// Bytes.
    pub len: u32,
    /// Ignored.
    pub pad0: u32,
}

abi_layout!(kvm_sev_launch_update_data, 16, {
    uaddr: 0,
    len: 8,
    pad0: 12,
});

impl Default for kvm_sev_launch_update_data {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_LAUNCH_MEASURE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_launch_measure {
    /// User address.
    pub uaddr: u64,
    /// Bytes; out: of the measurement.
    pub len: u32,
    /// Ignored.
    pub pad0: u32,
}

abi_layout!(kvm_sev_launch_measure, 16, {
    uaddr: 0,
    len: 8,
    pad0: 12,
});

impl Default for kvm_sev_launch_measure {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_LAUNCH_SECRET.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_launch_secret {
    /// User address of the packet's header.
    pub hdr_uaddr: u64,
    /// Its bytes.
    pub hdr_len: u32,
    /// Ignored.
    pub pad0: u32,
    /// User address of the guest memory that takes the secret.
    pub guest_uaddr: u64,
    /// Its bytes.
    pub guest_len: u32,
    /// Ignored.
    pub pad1: u32,
    /// User address of the encrypted packet.
    pub trans_uaddr: u64,
    /// Its bytes.
    pub trans_len: u32,
    /// Ignored.
    pub pad2: u32,
}

abi_layout!(kvm_sev_launch_secret, 48, {
    hdr_uaddr: 0,
    hdr_len: 8,
    pad0: 12,
    guest_uaddr: 16,
    guest_len: 24,
    pad1: 28,
    trans_uaddr: 32,
    trans_len: 40,
    pad2: 44,
});

impl Default for kvm_sev_launch_secret {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_GUEST_STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_guest_status {
    /// The handle.
    pub handle: u32,
    /// The policy.
    pub policy: u32,
    /// The state.
    pub state: u32,
}

abi_layout!(kvm_sev_guest_status, 12, {
    handle: 0,
    policy: 4,
    state: 8,
});

impl Default for kvm_sev_guest_status {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SEV_DBG_DECRYPT and KVM_SEV_DBG_ENCRYPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_sev_dbg {
    /// Where from.
    pub src_uaddr: u64,
    /// Where to.
    pub dst_uaddr: u64,
    /// Bytes.
    pub len: u32,
    /// Ignored.
    pub pad0: u32,
}

abi_layout!(kvm_sev_dbg, 24, {
    src_uaddr: 0,
    dst_uaddr: 8,
    len: 16,
    pad0: 20,
});

impl Default for kvm_sev_dbg {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_MEMORY_ENCRYPT_REG_REGION and KVM_MEMORY_ENCRYPT_UNREG_REGION.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_enc_region {
    /// User address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
}

abi_layout!(kvm_enc_region, 16, {
    addr: 0,
    size: 8,
});

impl Default for kvm_enc_region {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
