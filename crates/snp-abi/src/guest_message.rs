//! Messages between a guest and the firmware, which SNP_GUEST_REQUEST carries.
//!
//! A message is one page: a [`GuestMessageHeader`], then the payload, encrypted with AES-256-GCM under one of the guest's VM
//! platform communication keys (VMPCKs). The header from [`GuestMessageHeader::AUTHENTICATED`] on is authenticated with it.

use core::fmt;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{FwStatus, PAGE_SIZE, TcbVersion, layout::abi_layout};

/// The header of a message.
///
/// # Source
/// AMD 56860, SNP_GUEST_REQUEST, "Message Header Format".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GuestMessageHeader {
    /// AUTHTAG: the authentication tag; AES-256-GCM uses the first 16 bytes.
    pub authtag: [u8; 32],
    /// MSG_SEQNO: the sequence number, from which the IV is made.
    pub msg_seqno: u64,
    /// Reserved, zero.
    pub reserved_0x28: [u8; 8],
    /// ALGO: [`GuestMessageHeader::AES_256_GCM`].
    pub algo: u8,
    /// HDR_VERSION: [`GuestMessageHeader::VERSION`].
    pub hdr_version: u8,
    /// HDR_SIZE: [`GuestMessageHeader::LENGTH`].
    pub hdr_size: u16,
    /// MSG_TYPE.
    pub msg_type: MessageType,
    /// MSG_VERSION: the version of the payload.
    pub msg_version: u8,
    /// MSG_SIZE: bytes of the payload.
    pub msg_size: u16,
    /// Reserved, zero.
    pub reserved_0x38: u32,
    /// MSG_VMPCK: number of the key that protects the message.
    pub msg_vmpck: u8,
    /// Reserved, zero.
    pub reserved_0x3d: [u8; 35],
}

abi_layout!(GuestMessageHeader, 0x60, {
    authtag: 0, msg_seqno: 0x20, reserved_0x28: 0x28, algo: 0x30, hdr_version: 0x31, hdr_size: 0x32, msg_type: 0x34,
    msg_version: 0x35, msg_size: 0x36, reserved_0x38: 0x38, msg_vmpck: 0x3c, reserved_0x3d: 0x3d,
});

impl GuestMessageHeader {
    /// ALGO of AES-256-GCM, the only one.
    pub const AES_256_GCM: u8 = 1;
    /// The only HDR_VERSION.
    pub const VERSION: u8 = 1;
    /// HDR_SIZE of that version.
    pub const LENGTH: u16 = 0x60;
    /// The part of the header that is authenticated with the payload.
    pub const AUTHENTICATED: core::ops::Range<usize> = 0x30..0x60;
    /// The most that a payload can have.
    pub const PAYLOAD: usize = PAGE_SIZE - Self::LENGTH as usize;
    /// Bytes of the tag of AES-256-GCM.
    pub const TAG: usize = 16;
}

impl Default for GuestMessageHeader {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// MSG_TYPE.
///
/// # Source
/// AMD 56860, SNP_GUEST_REQUEST, "Message Type Encodings".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct MessageType(pub u8);

macro_rules! message_types {
    ($($name:ident = $value:literal;)+) => {
        impl MessageType {
            $(#[doc = concat!("MSG_", stringify!($name), ".")] pub const $name: Self = Self($value);)+

            /// The specification's name, if the type is known.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(concat!("MSG_", stringify!($name))),)+
                    _ => None,
                }
            }
        }
    };
}

message_types! {
    CPUID_REQ = 1;
    CPUID_RSP = 2;
    KEY_REQ = 3;
    KEY_RSP = 4;
    REPORT_REQ = 5;
    REPORT_RSP = 6;
    EXPORT_REQ = 7;
    EXPORT_RSP = 8;
    IMPORT_REQ = 9;
    IMPORT_RSP = 10;
    ABSORB_REQ = 11;
    ABSORB_RSP = 12;
    VMRK_REQ = 13;
    VMRK_RSP = 14;
    ABSORB_NOMA_REQ = 15;
    ABSORB_NOMA_RSP = 16;
    TSC_INFO_REQ = 17;
    TSC_INFO_RSP = 18;
}

impl MessageType {
    /// Whether a guest sends it and the firmware answers: the odd types that are known.
    pub const fn is_request(self) -> bool {
        self.name().is_some() && self.0 % 2 == 1
    }

    /// The type of the answer.
    pub const fn response(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "message type {}", self.0),
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// KEY_SEL: which endorsement key signs a report, or is the root of a derived key.
///
/// # Source
/// AMD 56860, MSG_REPORT_REQ and MSG_KEY_REQ, KEY_SEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeySelect(pub u32);

impl KeySelect {
    /// The VLEK if one is installed, else the VCEK.
    pub const DEFAULT: Self = Self(0);
    /// The VCEK.
    pub const VCEK: Self = Self(1);
    /// The VLEK.
    pub const VLEK: Self = Self(2);
}

/// The payload of MSG_REPORT_REQ.
///
/// # Source
/// AMD 56860, "MSG_REPORT_REQ Message Structure".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReportRequest {
    /// REPORT_DATA: the guest's own words in the report.
    pub report_data: [u8; 64],
    /// VMPL that the report shall name: not more privileged than the key that the message came under.
    pub vmpl: u32,
    /// Bits 1:0: [`KeySelect`]; the others are reserved, zero.
    pub key_sel: u32,
    /// Reserved, zero.
    pub reserved_0x48: [u8; 24],
}

abi_layout!(ReportRequest, 0x60, { report_data: 0, vmpl: 0x40, key_sel: 0x44, reserved_0x48: 0x48 });

impl Default for ReportRequest {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// The payload of MSG_REPORT_RSP up to the report, which follows.
///
/// # Source
/// AMD 56860, "MSG_REPORT_RSP Message Structure".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReportResponseHeader {
    /// STATUS: SUCCESS, INVALID_PARAM, or INVALID_KEY.
    pub status: u32,
    /// REPORT_SIZE: bytes of the report.
    pub report_size: u32,
    /// Reserved, zero.
    pub reserved_0x8: [u8; 24],
}

abi_layout!(ReportResponseHeader, 0x20, { status: 0, report_size: 4, reserved_0x8: 8 });

/// What is mixed into a derived key.
///
/// # Source
/// AMD 56860, MSG_KEY_REQ, "Structure of the GUEST_FIELD_SELECT Field".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GuestFieldSelect(pub u64);

impl GuestFieldSelect {
    /// The guest policy.
    pub const GUEST_POLICY: u64 = 1 << 0;
    /// IMAGE_ID of the ID block.
    pub const IMAGE_ID: u64 = 1 << 1;
    /// FAMILY_ID of the ID block.
    pub const FAMILY_ID: u64 = 1 << 2;
    /// The launch digest.
    pub const MEASUREMENT: u64 = 1 << 3;
    /// The GUEST_SVN of the request.
    pub const GUEST_SVN: u64 = 1 << 4;
    /// The TCB_VERSION of the request.
    pub const TCB_VERSION: u64 = 1 << 5;
    /// The LAUNCH_MIT_VECTOR of the request (message version 2).
    pub const LAUNCH_MIT_VECTOR: u64 = 1 << 6;

    /// Whether all bits of `mask` are set.
    pub const fn has(self, mask: u64) -> bool {
        self.0 & mask == mask
    }
}

/// The payload of MSG_KEY_REQ, version 1.
///
/// # Source
/// AMD 56860, "MSG_KEY_REQ Message Structure".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KeyRequest {
    /// Bit 0: ROOT_KEY_SELECT, [`KeyRequest::VMRK`] or an endorsement key; bits 2:1: [`KeySelect`] of the latter; the others
    /// are reserved, zero.
    pub root_key_select: u32,
    /// Reserved, zero.
    pub reserved_0x4: u32,
    /// GUEST_FIELD_SELECT.
    pub guest_field_select: GuestFieldSelect,
    /// VMPL to mix into the key: not more privileged than the key that the message came under.
    pub vmpl: u32,
    /// GUEST_SVN: not above the guest's own.
    pub guest_svn: u32,
    /// TCB_VERSION: no component above the committed TCB's.
    pub tcb_version: TcbVersion,
}

abi_layout!(KeyRequest, 0x20, {
    root_key_select: 0, reserved_0x4: 4, guest_field_select: 8, vmpl: 0x10, guest_svn: 0x14, tcb_version: 0x18,
});

impl KeyRequest {
    /// ROOT_KEY_SELECT: the guest's own root key, else the VCEK or VLEK.
    pub const VMRK: u32 = 1;
    /// Position of KEY_SEL.
    pub const KEY_SEL_SHIFT: u32 = 1;
}

/// The payload of MSG_KEY_REQ, version 2.
///
/// # Source
/// AMD 56860 since firmware 1.58, "MSG_KEY_REQ Message Structure".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KeyRequest2 {
    /// As in version 1.
    pub v1: KeyRequest,
    /// LAUNCH_MIT_VECTOR: mitigations to mix into the key.
    pub launch_mit_vector: u64,
}

abi_layout!(KeyRequest2, 0x28, { v1: 0, launch_mit_vector: 0x20 });

/// The payload of MSG_KEY_RSP.
///
/// # Source
/// AMD 56860, "MSG_KEY_RSP Message Structure".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KeyResponse {
    /// STATUS: SUCCESS, INVALID_PARAM, or INVALID_KEY.
    pub status: u32,
    /// Reserved, zero.
    pub reserved_0x4: [u8; 28],
    /// DERIVED_KEY; zero unless STATUS is SUCCESS.
    pub derived_key: [u8; 32],
}

abi_layout!(KeyResponse, 0x40, { status: 0, reserved_0x4: 4, derived_key: 0x20 });

/// The payload of MSG_TSC_INFO_REQ.
///
/// # Source
/// AMD 56860, "MSG_TSC_INFO_REQ Message Structure".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TscInfoRequest {
    /// Reserved, zero.
    pub reserved_0x0: [u8; 128],
}

abi_layout!(TscInfoRequest, 0x80, { reserved_0x0: 0 });

impl Default for TscInfoRequest {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// The payload of MSG_TSC_INFO_RSP.
///
/// # Source
/// AMD 56860, "MSG_TSC_INFO_RSP Message Structure".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TscInfoResponse {
    /// STATUS.
    pub status: u32,
    /// Reserved, zero.
    pub reserved_0x4: u32,
    /// GUEST_TSC_SCALE: the guest's frequency by the host's, in 8.32 fixed point.
    pub guest_tsc_scale: u64,
    /// GUEST_TSC_OFFSET.
    pub guest_tsc_offset: u64,
    /// TSC_FACTOR.
    pub tsc_factor: u32,
    /// Reserved, zero.
    pub reserved_0x1c: [u8; 100],
}

abi_layout!(TscInfoResponse, 0x80, {
    status: 0, reserved_0x4: 4, guest_tsc_scale: 8, guest_tsc_offset: 0x10, tsc_factor: 0x18, reserved_0x1c: 0x1c,
});

impl Default for TscInfoResponse {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

impl KeyResponse {
    /// An answer without a key.
    pub fn refused(status: FwStatus) -> Self {
        Self { status: status.0, ..Self::new_zeroed() }
    }
}
