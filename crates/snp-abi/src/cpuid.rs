//! The CPUID page, which the hypervisor fills and the firmware checks.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// COUNT_MAX: the most functions that a [`CpuidPage`] holds.
pub const CPUID_FUNCTION_LIMIT: usize = 64;

/// One CPUID function as the guest shall see it.
///
/// # Source
/// AMD 56860, "CPUID_FUNCTION Structure".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuidFunction {
    /// EAX_IN: the leaf.
    pub eax_in: u32,
    /// ECX_IN: the subleaf.
    pub ecx_in: u32,
    /// XCR0_IN: XCR0 at the time of execution, where the leaf depends on it.
    pub xcr0_in: u64,
    /// XSS_IN: IA32_XSS at the time of execution, where the leaf depends on it.
    pub xss_in: u64,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
    /// Reserved, zero.
    pub reserved_0x28: u64,
}

abi_layout!(CpuidFunction, 48, {
    eax_in: 0, ecx_in: 4, xcr0_in: 8, xss_in: 0x10, eax: 0x18, ebx: 0x1c, ecx: 0x20, edx: 0x24, reserved_0x28: 0x28,
});

/// The CPUID page.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE, "CPUID Page Format".
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuidPage {
    /// COUNT: how many of `functions` are used.
    pub count: u32,
    /// Reserved, zero.
    pub reserved_0x4: u32,
    /// Reserved, zero.
    pub reserved_0x8: u64,
    /// The functions; those past `count` are ignored.
    pub functions: [CpuidFunction; CPUID_FUNCTION_LIMIT],
    /// Reserved, zero.
    pub reserved_0xc10: [u8; 0x3f0],
}

abi_layout!(CpuidPage, 4096, {
    count: 0, reserved_0x4: 4, reserved_0x8: 8, functions: 0x10, reserved_0xc10: 0xc10,
});

impl Default for CpuidPage {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
