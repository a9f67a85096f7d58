//! What the platform is: data, not code.

use snp_abi::{CpuidFunction, TcbVersion};

/// A product line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

/// The ASIDs of the platform: `1..=es_max` for SEV-ES and SEV-SNP guests, `es_max+1..=max` for plain SEV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsidRanges {
    /// The last ASID of SEV-ES and SEV-SNP guests.
    pub es_max: u32,
    /// The last ASID.
    pub max: u32,
}

/// The platform's configuration.
#[derive(Clone, Debug)]
pub struct PlatformConfig {
    /// The product line.
    pub product: Product,
    /// The firmware's API version, (major, minor).
    pub api: (u8, u8),
    /// The firmware's build number.
    pub build: u8,
    /// Current and reported TCB.
    pub tcb: TcbVersion,
    /// The ASIDs.
    pub asids: AsidRanges,
    /// Position of the C-bit in a page-table entry.
    pub c_bit: u8,
    /// Width of a physical address in bits, before the C-bit's reduction.
    pub physical_address_bits: u8,
    /// SMT is enabled.
    pub smt_enabled: bool,
    /// Number of sockets.
    pub sockets: u8,
    /// CXL memory or devices are populated.
    pub cxl_populated: bool,
    /// Memory is encrypted with AES-256-XTS.
    pub mem_aes_256_xts: bool,
    /// RAPL is disabled.
    pub rapl_disabled: bool,
    /// Ciphertext hiding is enabled for DRAM.
    pub ciphertext_hiding_dram: bool,
    /// The policy bits that this firmware knows; others are refused.
    pub policy_bits: u64,
    /// CPUID functions of the host, against which CPUID pages are checked.
    pub cpuid: Vec<CpuidFunction>,
    /// All secrets (VMPCKs, chip ID, keys) are derived from this.
    pub seed: [u8; 32],
}
