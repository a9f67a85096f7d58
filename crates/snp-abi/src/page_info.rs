//! The structure that the firmware hashes for every launched page, and what it is made of.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// The launch digest: SHA-384 over the chain of [`PageInfo`] structures, all zero before the first page.
///
/// The attestation report carries it in its MEASUREMENT field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct LaunchDigest(pub [u8; 48]);

impl LaunchDigest {
    /// The digest before any page was measured.
    pub const ZERO: Self = Self([0; 48]);
}

impl Default for LaunchDigest {
    fn default() -> Self {
        Self::ZERO
    }
}

/// Lower-case hexadecimal, 96 characters.
impl fmt::Display for LaunchDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LaunchDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The PAGE_TYPE of SNP_LAUNCH_UPDATE. KVM's page types have the same numbers.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE, "Encodings for the PAGE_TYPE Field".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PageType(pub u8);

impl PageType {
    /// Contents measured.
    pub const NORMAL: Self = Self(1);
    /// A VM save area; contents measured, the RMP entry gets the VMSA bit.
    pub const VMSA: Self = Self(2);
    /// Filled with zeros by the firmware.
    pub const ZERO: Self = Self(3);
    /// Contents kept but not measured.
    pub const UNMEASURED: Self = Self(4);
    /// Filled with the guest's secrets by the firmware.
    pub const SECRETS: Self = Self(5);
    /// A CPUID table that the firmware checks.
    pub const CPUID: Self = Self(6);

    /// The specification's name in lower case, if the type is known.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::NORMAL => Some("normal"),
            Self::VMSA => Some("vmsa"),
            Self::ZERO => Some("zero"),
            Self::UNMEASURED => Some("unmeasured"),
            Self::SECRETS => Some("secrets"),
            Self::CPUID => Some("cpuid"),
            _ => None,
        }
    }
}

impl fmt::Display for PageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "type {:#x}", self.0),
        }
    }
}

impl fmt::Debug for PageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Access rights of one VMPL to one page: bit 0 read, 1 write, 2 execute-user, 3 execute-supervisor, 4 supervisor
/// shadow stack. Bits 5 to 7 are reserved.
///
/// # Source
/// AMD 24593 (APM volume 2), "VMPL Permission Mask Definition".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct VmplPermissions(pub u8);

impl VmplPermissions {
    /// Bits that must be zero.
    pub const RESERVED: u8 = 0xe0;
    /// Reads.
    pub const READ: Self = Self(1 << 0);
    /// Writes.
    pub const WRITE: Self = Self(1 << 1);
    /// Fetches at CPL 3.
    pub const EXECUTE_USER: Self = Self(1 << 2);
    /// Fetches at CPL 0 to 2.
    pub const EXECUTE_SUPERVISOR: Self = Self(1 << 3);
    /// All rights that are not reserved, as VMPL0 has on its own pages.
    pub const ALL: Self = Self(0x0f);
}

/// What the firmware hashes for each launched page: `digest = SHA-384(PAGE_INFO)`.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE, "Layout of the PAGE_INFO Structure".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PageInfo {
    /// DIGEST_CUR: the launch digest so far.
    pub digest_cur: LaunchDigest,
    /// CONTENTS: SHA-384 of the page for normal and VMSA pages, else zeros.
    pub contents: [u8; 48],
    /// LENGTH: always [`PageInfo::LENGTH`].
    pub length: u16,
    /// PAGE_TYPE.
    pub page_type: PageType,
    /// Bit 0: IMI_PAGE, the page belongs to an initial migration image.
    pub imi_page: u8,
    /// Reserved, zero. The public tools order this byte last and VMPL3 first; their vectors hold only zeros here.
    pub reserved_0x64: u8,
    /// VMPL1_PERMS.
    pub vmpl1_perms: VmplPermissions,
    /// VMPL2_PERMS.
    pub vmpl2_perms: VmplPermissions,
    /// VMPL3_PERMS.
    pub vmpl3_perms: VmplPermissions,
    /// GPA of the page, in bytes.
    pub gpa: u64,
}

impl PageInfo {
    /// The value of LENGTH: the structure's own size.
    pub const LENGTH: u16 = 0x70;
}

abi_layout!(PageInfo, 0x70, {
    digest_cur: 0x00, contents: 0x30, length: 0x60, page_type: 0x62, imi_page: 0x63, reserved_0x64: 0x64,
    vmpl1_perms: 0x65, vmpl2_perms: 0x66, vmpl3_perms: 0x67, gpa: 0x68,
});
