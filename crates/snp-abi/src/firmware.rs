//! Commands, status codes and answers of the AMD-SP firmware.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Asid, GuestPolicy, TcbVersion, layout::abi_layout};

/// A status code of the firmware; user space finds it in `kvm_sev_cmd.error`.
///
/// # Source
/// AMD 56860, "Status Codes"; Linux 7.3 `include/uapi/linux/psp-sev.h` for the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FwStatus(pub u32);

macro_rules! status_codes {
    ($($name:ident = $value:literal, $doc:literal;)+) => {
        impl FwStatus {
            $(#[doc = $doc] pub const $name: Self = Self($value);)+

            /// Every code that this crate knows, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The specification's name, if the code is known.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

status_codes! {
    SUCCESS = 0x00, "The command completed.";
    INVALID_PLATFORM_STATE = 0x01, "The platform state is invalid for this command.";
    INVALID_GUEST_STATE = 0x02, "The guest state is invalid for this command.";
    INVALID_CONFIG = 0x03, "The platform configuration is invalid.";
    INVALID_LEN = 0x04, "A memory buffer is too small.";
    ALREADY_OWNED = 0x05, "The platform is already owned.";
    INVALID_CERTIFICATE = 0x06, "A certificate is invalid.";
    POLICY_FAILURE = 0x07, "The request is not allowed by the guest policy, or the platform cannot keep the policy.";
    INACTIVE = 0x08, "The guest is inactive.";
    INVALID_ADDRESS = 0x09, "An address is invalid.";
    BAD_SIGNATURE = 0x0a, "A signature is invalid.";
    BAD_MEASUREMENT = 0x0b, "A measurement is not the expected one.";
    ASID_OWNED = 0x0c, "The ASID is already owned by a guest.";
    INVALID_ASID = 0x0d, "The ASID is invalid.";
    WBINVD_REQUIRED = 0x0e, "A WBINVD is required first.";
    DFFLUSH_REQUIRED = 0x0f, "A DF_FLUSH is required first.";
    INVALID_GUEST = 0x10, "The guest handle or context is invalid.";
    INVALID_COMMAND = 0x11, "The command is invalid.";
    ACTIVE = 0x12, "The guest is active.";
    HWERROR_PLATFORM = 0x13, "A hardware condition affects the platform; it is safe to go on.";
    HWERROR_UNSAFE = 0x14, "A hardware condition affects the platform; it is not safe to go on.";
    UNSUPPORTED = 0x15, "The feature is unsupported.";
    INVALID_PARAM = 0x16, "A parameter is invalid.";
    RESOURCE_LIMIT = 0x17, "A resource ran out.";
    SECURE_DATA_INVALID = 0x18, "The firmware's secure data is invalid.";
    INVALID_PAGE_SIZE = 0x19, "The RMP page size is not the expected one.";
    INVALID_PAGE_STATE = 0x1a, "The RMP page state is not the expected one.";
    INVALID_MDATA_ENTRY = 0x1b, "The metadata entry is invalid.";
    INVALID_PAGE_OWNER = 0x1c, "The RMP entry names another ASID.";
    AEAD_OFLOW = 0x1d, "The AEAD sequence number overflows.";
    EXIT_RING_BUFFER = 0x1f, "The mailbox left ring-buffer mode.";
    RMP_INIT_REQUIRED = 0x20, "The RMP must be reinitialised.";
    BAD_SVN = 0x21, "The SVN is lower than the committed one.";
    BAD_VERSION = 0x22, "The firmware version is too old.";
    SHUTDOWN_REQUIRED = 0x23, "A shutdown is required first.";
    UPDATE_FAILED = 0x24, "The firmware update failed.";
    RESTORE_REQUIRED = 0x25, "The guest context must be restored.";
    RMP_INITIALIZATION_FAILED = 0x26, "The RMP could not be initialised.";
    INVALID_KEY = 0x27, "The key is invalid or does not exist.";
    SHUTDOWN_INCOMPLETE = 0x28, "The shutdown was incomplete.";
    INCORRECT_BUFFER_LENGTH = 0x30, "A buffer has the wrong length.";
    EXPAND_BUFFER_LENGTH_REQUEST = 0x31, "A larger buffer is wanted.";
    SPDM_REQUEST = 0x32, "An SPDM request is to be forwarded.";
    SPDM_ERROR = 0x33, "An SPDM error occurred.";
    ERR_IN_DEV_CONN = 0x35, "The device connection failed.";
    INVALID_DEV_CTX = 0x36, "The device context is invalid.";
    INVALID_TDI_CTX = 0x37, "The TDI context is invalid.";
    INVALID_TDI = 0x38, "The TDI is invalid.";
    RECLAIM_REQUIRED = 0x39, "A reclaim is required first.";
    IN_USE = 0x3a, "The resource is in use.";
    INVALID_DEV_STATE = 0x3b, "The device state is invalid.";
    INVALID_TDI_STATE = 0x3c, "The TDI state is invalid.";
    DEV_CERT_CHANGED = 0x3d, "The device certificate changed.";
    RESYNC_REQ = 0x3e, "A resynchronisation is required.";
    RESPONSE_TOO_LARGE = 0x3f, "The response is too large.";
}

impl FwStatus {
    /// Linux's own value for "the firmware was not called"; not a status of the firmware.
    pub const NO_FW_CALL: Self = Self(u32::MAX);
}

impl fmt::Display for FwStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({:#04x})", self.0),
            None => write!(f, "firmware status {:#x}", self.0),
        }
    }
}

impl fmt::Debug for FwStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for FwStatus {}

/// A command number of the firmware's mailbox.
///
/// # Source
/// AMD 56860, "Command Identifiers".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Command(pub u16);

macro_rules! commands {
    ($($name:ident = $value:literal;)+) => {
        impl Command {
            $(#[doc = concat!("SNP_", stringify!($name), ".")] pub const $name: Self = Self($value);)+

            /// The specification's name with its SNP_ prefix, if the command is known.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(concat!("SNP_", stringify!($name))),)+
                    _ => None,
                }
            }
        }
    };
}

commands! {
    PLATFORM_STATUS = 0x83;
    DF_FLUSH = 0x84;
    DECOMMISSION = 0x90;
    ACTIVATE = 0x91;
    GUEST_STATUS = 0x92;
    GCTX_CREATE = 0x93;
    GUEST_REQUEST = 0x94;
    LAUNCH_START = 0xa0;
    LAUNCH_UPDATE = 0xa1;
    LAUNCH_FINISH = 0xa2;
    DBG_DECRYPT = 0xb0;
    DBG_ENCRYPT = 0xb1;
    PAGE_RECLAIM = 0xc7;
}

/// GSTATE of a guest context.
///
/// # Source
/// AMD 56860, "Guest States".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GuestState {
    /// GSTATE_INIT: the context exists, no launch has begun.
    Init = 0,
    /// GSTATE_LAUNCH: between LAUNCH_START and LAUNCH_FINISH.
    Launch = 1,
    /// GSTATE_RUNNING: the launch is complete.
    Running = 2,
}

/// The answer of SNP_GUEST_STATUS, as far as it is modelled.
///
/// # Source
/// AMD 56860, SNP_GUEST_STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestStatus {
    /// POLICY.
    pub policy: GuestPolicy,
    /// ASID, 0 while none is activated.
    pub asid: Asid,
    /// STATE.
    pub state: GuestState,
    /// DESIRED_TSC_FREQ in kHz, as given at LAUNCH_START; 0 for the host's.
    pub desired_tsc_freq: u32,
    /// VCEK_DIS: reports may not be signed with the VCEK.
    pub vcek_disabled: bool,
}

/// The answer of SNP_PLATFORM_STATUS.
///
/// # Source
/// AMD 56860, SNP_PLATFORM_STATUS; Linux 7.3 `struct sev_user_data_snp_status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SnpPlatformStatus {
    /// API_MAJOR.
    pub api_major: u8,
    /// API_MINOR.
    pub api_minor: u8,
    /// STATE: 0 uninitialised, 1 initialised.
    pub state: u8,
    /// Bit 0: IS_RMP_INIT, bit 1: ALIAS_CHECK_COMPLETE.
    pub is_rmp_initialized: u8,
    /// BUILD_ID.
    pub build_id: u32,
    /// Bit 0 MASK_CHIP_ID, 1 MASK_CHIP_KEY, 2 VLEK_EN, 3 FEATURE_INFO, 4 RAPL_DIS, 5 CIPHERTEXT_HIDING_CAP,
    /// 6 CIPHERTEXT_HIDING_EN.
    pub flags: u32,
    /// GUEST_COUNT.
    pub guest_count: u32,
    /// CURRENT_TCB.
    pub current_tcb_version: TcbVersion,
    /// REPORTED_TCB.
    pub reported_tcb_version: TcbVersion,
}

abi_layout!(SnpPlatformStatus, 32, {
    api_major: 0, api_minor: 1, state: 2, is_rmp_initialized: 3, build_id: 4, flags: 8, guest_count: 12,
    current_tcb_version: 16, reported_tcb_version: 24,
});
