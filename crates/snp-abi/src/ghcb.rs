//! The guest-hypervisor communication block: the page, the GHCB MSR, and the numbers of the protocol.
//!
//! # Source
//! AMD 56421 (GHCB), "GHCB Layout", "GHCB MSR Protocol", "Supported Non-Automatic Exits", "Invoking VMGEXIT". The values of
//! SW_EXITINFO2 that are KVM's own choice say so.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// The GHCB MSR.
pub const MSR_GHCB: u32 = 0xc001_0130;

/// The page.
///
/// # Source
/// AMD 56421 (GHCB), "GHCB Layout".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ghcb {
    /// Reserved.
    pub reserved_0x0: [u8; 0xcb],
    /// CPL.
    pub cpl: u8,
    /// Reserved.
    pub reserved_0xcc: [u8; 0x74],
    /// XSS.
    pub xss: u64,
    /// Reserved.
    pub reserved_0x148: [u8; 0x18],
    /// DR7.
    pub dr7: u64,
    /// Reserved.
    pub reserved_0x168: [u8; 0x10],
    /// RIP.
    pub rip: u64,
    /// Reserved.
    pub reserved_0x180: [u8; 0x58],
    /// RSP.
    pub rsp: u64,
    /// Reserved.
    pub reserved_0x1e0: [u8; 0x18],
    /// RAX.
    pub rax: u64,
    /// Reserved.
    pub reserved_0x200: [u8; 0x108],
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RBX.
    pub rbx: u64,
    /// Reserved.
    pub reserved_0x320: [u8; 8],
    /// RBP.
    pub rbp: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// R8 to R15.
    pub r8_to_r15: [u64; 8],
    /// Reserved.
    pub reserved_0x380: [u8; 0x10],
    /// SW_EXITCODE.
    pub sw_exit_code: u64,
    /// SW_EXITINFO1.
    pub sw_exit_info_1: u64,
    /// SW_EXITINFO2.
    pub sw_exit_info_2: u64,
    /// SW_SCRATCH: guest-physical address of the scratch area.
    pub sw_scratch: u64,
    /// Reserved.
    pub reserved_0x3b0: [u8; 0x38],
    /// XCR0.
    pub xcr0: u64,
    /// VALID_BITMAP: one bit for every eight bytes of the first 1 KiB.
    pub valid_bitmap: [u8; 16],
    /// X87_STATE_GPA.
    pub x87_state_gpa: u64,
    /// Reserved.
    pub reserved_0x408: [u8; 0x3f8],
    /// Shared buffer: where the scratch area lies from protocol version 2 on.
    pub shared_buffer: [u8; 0x7f0],
    /// Reserved.
    pub reserved_0xff0: [u8; 10],
    /// Protocol version that the guest chose.
    pub protocol_version: u16,
    /// GHCB usage: 0 is this layout.
    pub ghcb_usage: u32,
}

abi_layout!(Ghcb, 4096, {
    reserved_0x0: 0, cpl: 0xcb, reserved_0xcc: 0xcc, xss: 0x140, reserved_0x148: 0x148, dr7: 0x160, reserved_0x168: 0x168,
    rip: 0x178, reserved_0x180: 0x180, rsp: 0x1d8, reserved_0x1e0: 0x1e0, rax: 0x1f8, reserved_0x200: 0x200, rcx: 0x308,
    rdx: 0x310, rbx: 0x318, reserved_0x320: 0x320, rbp: 0x328, rsi: 0x330, rdi: 0x338, r8_to_r15: 0x340,
    reserved_0x380: 0x380, sw_exit_code: 0x390, sw_exit_info_1: 0x398, sw_exit_info_2: 0x3a0, sw_scratch: 0x3a8,
    reserved_0x3b0: 0x3b0, xcr0: 0x3e8, valid_bitmap: 0x3f0, x87_state_gpa: 0x400, reserved_0x408: 0x408,
    shared_buffer: 0x800, reserved_0xff0: 0xff0, protocol_version: 0xffa, ghcb_usage: 0xffc,
});

impl Default for Ghcb {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// SW_EXITCODE: what a non-automatic exit asks for.
///
/// # Source
/// AMD 56421 (GHCB), "List of Supported Non-Automatic Exits"; below 0x8000_0000 AMD 24593 (APM volume 2), "SVM Intercept
/// Exit Codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GhcbExit(pub u64);

impl GhcbExit {
    /// DR7 read.
    pub const READ_DR7: Self = Self(0x27);
    /// DR7 write.
    pub const WRITE_DR7: Self = Self(0x37);
    /// RDTSC.
    pub const RDTSC: Self = Self(0x6e);
    /// RDPMC.
    pub const RDPMC: Self = Self(0x6f);
    /// CPUID.
    pub const CPUID: Self = Self(0x72);
    /// INVD.
    pub const INVD: Self = Self(0x76);
    /// IN, OUT, INS, OUTS.
    pub const IOIO: Self = Self(0x7b);
    /// RDMSR, WRMSR.
    pub const MSR: Self = Self(0x7c);
    /// VMMCALL.
    pub const VMMCALL: Self = Self(0x81);
    /// RDTSCP.
    pub const RDTSCP: Self = Self(0x87);
    /// WBINVD.
    pub const WBINVD: Self = Self(0x89);
    /// MONITOR.
    pub const MONITOR: Self = Self(0x8a);
    /// MWAIT.
    pub const MWAIT: Self = Self(0x8b);
    /// MMIO read.
    pub const MMIO_READ: Self = Self(0x8000_0001);
    /// MMIO write.
    pub const MMIO_WRITE: Self = Self(0x8000_0002);
    /// NMI complete.
    pub const NMI_COMPLETE: Self = Self(0x8000_0003);
    /// AP reset hold.
    pub const AP_RESET_HOLD: Self = Self(0x8000_0004);
    /// AP jump table.
    pub const AP_JUMP_TABLE: Self = Self(0x8000_0005);
    /// SNP page-state change.
    pub const PSC: Self = Self(0x8000_0010);
    /// SNP guest request.
    pub const GUEST_REQUEST: Self = Self(0x8000_0011);
    /// SNP extended guest request.
    pub const EXT_GUEST_REQUEST: Self = Self(0x8000_0012);
    /// SNP AP creation.
    pub const AP_CREATION: Self = Self(0x8000_0013);
    /// Get APIC IDs.
    pub const GET_APIC_IDS: Self = Self(0x8000_0017);
    /// SNP run VMPL.
    pub const SNP_RUN_VMPL: Self = Self(0x8000_0018);
    /// Hypervisor feature support.
    pub const HV_FEATURES: Self = Self(0x8000_fffd);
    /// Termination request.
    pub const TERM_REQUEST: Self = Self(0x8000_fffe);
    /// Unsupported event.
    pub const UNSUPPORTED_EVENT: Self = Self(0x8000_ffff);
}

/// SW_EXITINFO1 of an answer, bits 31:0.
pub mod response {
    /// The request was handled; nothing is asked of the guest.
    pub const NO_ACTION: u64 = 0;
    /// The guest shall raise the exception in SW_EXITINFO2, in the form of EVENTINJ.
    pub const ISSUE_EXCEPTION: u64 = 1;
    /// The request was malformed; SW_EXITINFO2 says how.
    pub const MALFORMED_INPUT: u64 = 2;
}

/// SW_EXITINFO2 of an answer that says that the input was malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GhcbError(pub u64);

impl GhcbError {
    /// The GHCB's address was not registered.
    pub const NOT_REGISTERED: Self = Self(1);
    /// The GHCB usage is not one that the hypervisor knows.
    pub const INVALID_USAGE: Self = Self(2);
    /// SW_SCRATCH or the length of the scratch area is not valid.
    pub const INVALID_SCRATCH_AREA: Self = Self(3);
    /// A field that the request needs is not marked valid.
    pub const MISSING_INPUT: Self = Self(4);
    /// A field that the request needs holds a value that it may not.
    pub const INVALID_INPUT: Self = Self(5);
    /// The hypervisor does not know the event.
    pub const INVALID_EVENT: Self = Self(6);
}

/// GHCBInfo, bits 11:0 of the GHCB MSR.
pub mod info {
    /// Bits 11:0.
    pub const MASK: u64 = 0xfff;
    /// SEV information.
    pub const SEV_INFO_RESPONSE: u64 = 0x001;
    /// SEV information request.
    pub const SEV_INFO_REQUEST: u64 = 0x002;
    /// CPUID request.
    pub const CPUID_REQUEST: u64 = 0x004;
    /// CPUID response.
    pub const CPUID_RESPONSE: u64 = 0x005;
    /// AP reset hold request.
    pub const AP_RESET_HOLD_REQUEST: u64 = 0x006;
    /// AP reset hold response.
    pub const AP_RESET_HOLD_RESPONSE: u64 = 0x007;
    /// Preferred GHCB GPA request.
    pub const PREFERRED_GPA_REQUEST: u64 = 0x010;
    /// Preferred GHCB GPA response.
    pub const PREFERRED_GPA_RESPONSE: u64 = 0x011;
    /// Register GHCB GPA request.
    pub const REGISTER_GPA_REQUEST: u64 = 0x012;
    /// Register GHCB GPA response.
    pub const REGISTER_GPA_RESPONSE: u64 = 0x013;
    /// SNP page-state change request.
    pub const PSC_REQUEST: u64 = 0x014;
    /// SNP page-state change response.
    pub const PSC_RESPONSE: u64 = 0x015;
    /// SNP run VMPL request.
    pub const RUN_VMPL_REQUEST: u64 = 0x016;
    /// SNP run VMPL response.
    pub const RUN_VMPL_RESPONSE: u64 = 0x017;
    /// Hypervisor feature support request.
    pub const HV_FEATURES_REQUEST: u64 = 0x080;
    /// Hypervisor feature support response.
    pub const HV_FEATURES_RESPONSE: u64 = 0x081;
    /// Termination request.
    pub const TERMINATION_REQUEST: u64 = 0x100;
}

/// Bits of the hypervisor's features.
pub mod features {
    /// SEV-SNP.
    pub const SNP: u64 = 1 << 0;
    /// SNP AP creation.
    pub const AP_CREATION: u64 = 1 << 1;
    /// Restricted injection.
    pub const RESTRICTED_INJECTION: u64 = 1 << 2;
    /// Restricted injection's timer.
    pub const RESTRICTED_INJECTION_TIMER: u64 = 1 << 3;
    /// APIC ID list.
    pub const APIC_ID_LIST: u64 = 1 << 4;
    /// Several VMPLs.
    pub const MULTI_VMPL: u64 = 1 << 5;
}

/// Page-state change: operations, sizes and answers.
pub mod psc {
    /// The most entries that fit into the shared buffer.
    pub const MAX_ENTRIES: u16 = 253;
    /// Page assignment, private.
    pub const PRIVATE: u8 = 1;
    /// Page assignment, shared.
    pub const SHARED: u8 = 2;
    /// SW_EXITINFO2: the header is not valid.
    pub const INVALID_HEADER: u64 = 1 << 32 | 1;
    /// SW_EXITINFO2: an entry is not valid.
    pub const INVALID_ENTRY: u64 = 1 << 32 | 2;
    /// SW_EXITINFO2: another error. The value is KVM's: the specification leaves all above 0xff to the hypervisor.
    pub const GENERIC_ERROR: u64 = 0x100 << 32;
}

/// One entry of a page-state change.
///
/// # Source
/// AMD 56421 (GHCB), "SNP Page State Change".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PscEntry(pub u64);

impl PscEntry {
    /// Pages of the entry that are done, bits 11:0.
    pub const fn cur_page(self) -> u16 {
        (self.0 & 0xfff) as u16
    }

    /// Guest frame number, bits 51:12.
    pub const fn gfn(self) -> u64 {
        self.0 >> 12 & 0xff_ffff_ffff
    }

    /// Operation, bits 55:52.
    pub const fn operation(self) -> u8 {
        (self.0 >> 52 & 0xf) as u8
    }

    /// A 2 MiB page, bit 56.
    pub const fn large(self) -> bool {
        self.0 >> 56 & 1 != 0
    }

    /// 4 KiB pages of the entry.
    pub const fn pages(self) -> u16 {
        if self.large() { 512 } else { 1 }
    }

    /// The same entry with other pages done.
    #[must_use]
    pub const fn with_cur_page(self, pages: u16) -> Self {
        Self(self.0 & !0xfff | pages as u64 & 0xfff)
    }
}

/// SNP AP creation: requests in SW_EXITINFO1, bits 31:0. The APIC ID is in bits 63:32.
pub mod ap_creation {
    /// Create at the next INIT.
    pub const CREATE_ON_INIT: u32 = 0;
    /// Create.
    pub const CREATE: u32 = 1;
    /// Destroy.
    pub const DESTROY: u32 = 2;
}

/// SNP guest request: what the hypervisor says in SW_EXITINFO2, bits 63:32. Bits 31:0 are the firmware's status.
pub mod guest_request {
    /// The certificates do not fit into the pages that the guest gave.
    pub const INVALID_LENGTH: u64 = 1 << 32;
    /// Busy: try again.
    pub const BUSY: u64 = 2 << 32;
    /// Another error. The value is KVM's.
    pub const GENERIC_ERROR: u64 = 0xffff_ffff << 32;
    /// Offset of MSG_TYPE in the header of a guest message.
    pub const MSG_TYPE_OFFSET: usize = 0x34;
    /// MSG_REPORT_REQ.
    pub const MSG_REPORT_REQ: u8 = 5;
}

/// SW_EXITINFO1 of IOIO: EXITINFO1 of the intercept.
///
/// # Source
/// AMD 24593 (APM volume 2), "IOIO Intercept".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoioInfo(pub u64);

impl IoioInfo {
    /// IN or INS.
    pub const fn input(self) -> bool {
        self.0 & 1 != 0
    }

    /// INS or OUTS.
    pub const fn string(self) -> bool {
        self.0 & 1 << 2 != 0
    }

    /// SZ32, SZ16 and SZ8 as a number, which is the operand's size in bytes when exactly one of them is set.
    pub const fn size(self) -> u8 {
        (self.0 >> 4 & 7) as u8
    }

    /// The port.
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }
}
