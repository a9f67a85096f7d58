//! /dev/cpu/N/msr of a host with SEV-SNP.

/// The host's own MSRs, as root reads them.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostMsrs;

/// SYSCFG: memory encryption (bit 23), SEV-SNP (24) and VMPLs (25) are enabled, MTRRs as firmware leaves them.
const SYSCFG: u64 = 0x03f4_0000;
/// Where the RMP is: plausible, one for the first 512 GiB.
const RMP_BASE: u64 = 0x0000_0000_5400_0000;
const RMP_END: u64 = 0x0000_0000_747f_ffff;

impl HostMsrs {
    /// RDMSR; `None` (EIO) for those that are not modelled.
    ///
    /// # Source
    /// AMD 24593 (APM volume 2), "System Configuration Register (SYSCFG)" and "Reverse Map Table"; Linux 7.3,
    /// arch/x86/include/asm/msr-index.h, for the numbers.
    pub fn read(self, index: u32) -> Option<u64> {
        Some(match index {
            0xc001_0010 => SYSCFG,
            // SEV_STATUS: of a guest, and this is none.
            0xc001_0131 => 0,
            0xc001_0132 => RMP_BASE,
            0xc001_0133 => RMP_END,
            _ => return None,
        })
    }
}
