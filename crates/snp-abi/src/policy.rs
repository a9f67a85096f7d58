//! The guest policy.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The guest policy, which the firmware enforces and every attestation report shows.
///
/// # Source
/// AMD 56860, "Guest Policy".
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Bits 7:0, the minimum ABI minor version.
    pub const ABI_MINOR: u64 = 0xff;
    /// Bits 15:8, the minimum ABI major version.
    pub const ABI_MAJOR: u64 = 0xff00;
    /// SMT may be enabled on the host.
    pub const SMT: u64 = 1 << 16;
    /// Reserved, must be one.
    pub const RESERVED_MBO: u64 = 1 << 17;
    /// A migration agent may be associated.
    pub const MIGRATE_MA: u64 = 1 << 18;
    /// The host may decrypt and encrypt guest pages.
    pub const DEBUG: u64 = 1 << 19;
    /// The guest may run on one socket only.
    pub const SINGLE_SOCKET: u64 = 1 << 20;
    /// CXL memory and devices may be populated.
    pub const CXL_ALLOW: u64 = 1 << 21;
    /// Memory must be encrypted with AES-256-XTS.
    pub const MEM_AES_256_XTS: u64 = 1 << 22;
    /// RAPL must be disabled.
    pub const RAPL_DIS: u64 = 1 << 23;
    /// Ciphertext hiding must be enabled for DRAM.
    pub const CIPHERTEXT_HIDING_DRAM: u64 = 1 << 24;
    /// Page swap and move are disabled for the guest.
    pub const PAGE_SWAP_DISABLE: u64 = 1 << 25;
    /// All bits with a meaning.
    pub const DEFINED: u64 = (1 << 26) - 1;

    /// Every flag, by its name in the specification.
    pub const FLAGS: &'static [(&'static str, u64)] = &[
        ("SMT", Self::SMT),
        ("MIGRATE_MA", Self::MIGRATE_MA),
        ("DEBUG", Self::DEBUG),
        ("SINGLE_SOCKET", Self::SINGLE_SOCKET),
        ("CXL_ALLOW", Self::CXL_ALLOW),
        ("MEM_AES_256_XTS", Self::MEM_AES_256_XTS),
        ("RAPL_DIS", Self::RAPL_DIS),
        ("CIPHERTEXT_HIDING_DRAM", Self::CIPHERTEXT_HIDING_DRAM),
        ("PAGE_SWAP_DISABLE", Self::PAGE_SWAP_DISABLE),
    ];

    /// SMT allowed, nothing else asked for: the policy that QEMU launches with by default.
    pub const DEFAULT: Self = Self(Self::SMT | Self::RESERVED_MBO);

    /// Whether all bits of `mask` are set.
    pub const fn has(self, mask: u64) -> bool {
        self.0 & mask == mask
    }

    /// The minimum ABI version as (major, minor).
    pub const fn abi(self) -> (u8, u8) {
        ((self.0 >> 8) as u8, self.0 as u8)
    }
}

impl Default for GuestPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for GuestPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for GuestPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
