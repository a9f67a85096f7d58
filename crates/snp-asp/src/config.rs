//! What the platform is: data, not code.

use snp_abi::{CpuidFunction, FirmwareVersion, GuestPolicy, ProductLine, ReportVersion, TcbVersion};

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

/// A release of the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its version.
    pub version: FirmwareVersion,
    /// Its TCB version.
    pub tcb: TcbVersion,
}

/// The platform's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformConfig {
    /// The product line.
    pub product: Product,
    /// The firmware's API version, (major, minor).
    pub api: (u8, u8),
    /// The firmware's build number.
    pub build: u8,
    /// Current TCB; reports claim the committed one until SNP_CONFIG says otherwise.
    pub tcb: TcbVersion,
    /// The firmware that is committed, if it is not the running one.
    pub committed: Option<Release>,
    /// VERSION of attestation reports, if it is not the one that the firmware's version gives.
    pub report_version: Option<ReportVersion>,
    /// The verified mitigation vector.
    pub mitigations: u64,
    /// A VLEK hashstick is loaded from the start.
    pub vlek: bool,
    /// Frequency of the host's TSC in kHz.
    pub tsc_khz: u32,
    /// The ASIDs.
    pub asids: AsidRanges,
    /// Position of the C-bit in a page-table entry.
    pub c_bit: u8,
    /// Width of a physical address in bits, before the C-bit's reduction.
    pub physical_address_bits: u8,
    /// SMT is enabled.
    pub smt_enabled: bool,
    /// Transparent SME is enabled.
    pub tsme_enabled: bool,
    /// Memory has error correction.
    pub ecc_enabled: bool,
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

/// The seed of the platforms below. It is published, so that nobody takes their secrets for secrets.
const SEED: [u8; 32] = *b"snpkit: TEST platform, not AMD's";

/// The policy bits that every SEV-SNP firmware knows.
const BASE_POLICY: u64 = GuestPolicy::ABI_MINOR
    | GuestPolicy::ABI_MAJOR
    | GuestPolicy::SMT
    | GuestPolicy::RESERVED_MBO
    | GuestPolicy::MIGRATE_MA
    | GuestPolicy::DEBUG
    | GuestPolicy::SINGLE_SOCKET;

impl PlatformConfig {
    /// An EPYC 7003 with firmware 1.55.
    ///
    /// Versions, TCB and CPUID values are plausible for the product line, not read off one machine.
    pub fn milan() -> Self {
        Self {
            product: Product::Milan,
            api: (1, 55),
            build: 37,
            // Microcode 0xd3, SNP 0x14, TEE 0, bootloader 4.
            tcb: TcbVersion(0xd314_0000_0000_0004),
            committed: None,
            report_version: None,
            mitigations: 0,
            vlek: false,
            tsc_khz: 2_450_000,
            asids: AsidRanges { es_max: 99, max: 509 },
            c_bit: 51,
            physical_address_bits: 48,
            smt_enabled: true,
            tsme_enabled: false,
            ecc_enabled: true,
            sockets: 1,
            cxl_populated: false,
            mem_aes_256_xts: false,
            rapl_disabled: false,
            ciphertext_hiding_dram: false,
            policy_bits: BASE_POLICY | GuestPolicy::RAPL_DIS | GuestPolicy::CXL_ALLOW,
            cpuid: cpuid(Product::Milan),
            seed: SEED,
        }
    }

    /// An EPYC 9004 with firmware 1.58.
    ///
    /// Versions, TCB and CPUID values are plausible for the product line, not read off one machine.
    pub fn genoa() -> Self {
        Self {
            product: Product::Genoa,
            api: (1, 58),
            build: 6,
            tcb: TcbVersion(0x5417_0000_0000_000a),
            mitigations: 0b11,
            asids: AsidRanges { es_max: 99, max: 1006 },
            physical_address_bits: 52,
            mem_aes_256_xts: true,
            policy_bits: BASE_POLICY
                | GuestPolicy::CXL_ALLOW
                | GuestPolicy::MEM_AES_256_XTS
                | GuestPolicy::RAPL_DIS
                | GuestPolicy::CIPHERTEXT_HIDING_DRAM
                | GuestPolicy::PAGE_SWAP_DISABLE,
            cpuid: cpuid(Product::Genoa),
            ..Self::milan()
        }
    }

    /// An EPYC 9005 with firmware 1.58, whose TCB also counts the FMC.
    ///
    /// Versions, TCB and CPUID values are plausible for the product line, not read off one machine.
    pub fn turin() -> Self {
        Self {
            product: Product::Turin,
            build: 8,
            // Microcode 0x49, SNP 4, TEE 1, bootloader 1, FMC 1.
            tcb: TcbVersion(0x4900_0000_0401_0101),
            ciphertext_hiding_dram: true,
            cpuid: cpuid(Product::Turin),
            ..Self::genoa()
        }
    }

    /// The signature of the platform's processors: CPUID Fn0000_0001_EAX.
    pub fn signature(&self) -> u32 {
        self.product.signature()
    }

    /// The running firmware.
    pub fn running(&self) -> Release {
        let (major, minor) = self.api;
        Release { version: FirmwareVersion { major, minor, build: self.build }, tcb: self.tcb }
    }

    /// VERSION of the platform's attestation reports.
    ///
    /// # Source
    /// google/go-sev-guest, `abi.go`, for versions 2, 3 and 5; that 1.57 gives version 4 is this model's reading.
    pub fn attestation_report_version(&self) -> ReportVersion {
        self.report_version.unwrap_or(match self.api {
            api if api < (1, 56) => ReportVersion::V2,
            (1, 56) => ReportVersion::V3,
            (1, 57) => ReportVersion::V4,
            _ => ReportVersion::V5,
        })
    }

    /// Whether the firmware has SNP_FEATURE_INFO, new in 1.56.
    pub(crate) fn feature_info(&self) -> bool {
        self.api >= (1, 56)
    }
}

impl Default for PlatformConfig {
    fn default() -> Self {
        Self::genoa()
    }
}

impl Product {
    /// The product line by which AMD certifies its keys.
    pub const fn line(self) -> ProductLine {
        match self {
            Self::Milan => ProductLine::Milan,
            Self::Genoa => ProductLine::Genoa,
            Self::Turin => ProductLine::Turin,
        }
    }

    /// CPUID Fn0000_0001_EAX of the product line's first stepping in use.
    pub const fn signature(self) -> u32 {
        match self {
            Self::Milan => 0x00a0_0f11,
            Self::Genoa => 0x00a1_0f11,
            Self::Turin => 0x00b0_0f21,
        }
    }
}

/// The functions that QEMU and OVMF put into a CPUID page, with what the product line supports.
fn cpuid(product: Product) -> Vec<CpuidFunction> {
    let function = |eax_in, ecx_in, [eax, ebx, ecx, edx]: [u32; 4]| CpuidFunction {
        eax_in,
        ecx_in,
        eax,
        ebx,
        ecx,
        edx,
        ..CpuidFunction::default()
    };
    let zen4 = product != Product::Milan;
    let vendor = [0x6874_7541, 0x444d_4163, 0x6974_6e65];
    let [vendor_ebx, vendor_ecx, vendor_edx] = vendor;
    let fn7 = if zen4 { [1, 0xf1bf_97a9, 0x0041_5fde, 0x1000_0010] } else { [0, 0x219c_97a9, 0x0040_069c, 0x10] };
    let xcr0 = if zen4 { 0x2e7 } else { 0x207 };
    let xsave_size = if zen4 { 0x988 } else { 0x988 - 0x648 };
    let mut functions = vec![
        function(0, 0, [0x10, vendor_ebx, vendor_ecx, vendor_edx]),
        function(1, 0, [product.signature(), 0x0001_0800, 0x7efa_320b, 0x178b_fbff]),
        function(6, 0, [4, 0, 1, 0]),
        function(7, 0, fn7),
        function(0xb, 0, [1, 1, 0x100, 0]),
        function(0xb, 1, [7, 1, 0x201, 0]),
    ];
    if zen4 {
        functions.push(function(7, 1, [0x20, 0, 0, 0]));
    }
    functions.extend([
        function(0xd, 0, [xcr0, 0x240, xsave_size, 0]),
        function(0xd, 1, [0xf, 0x240, 0x1800, 0]),
        function(0x8000_0000, 0, [0x8000_0028, vendor_ebx, vendor_ecx, vendor_edx]),
        function(0x8000_0001, 0, [product.signature(), 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        function(0x8000_0007, 0, [0, 0x3b, 0, 0x6799]),
        function(0x8000_0008, 0, [0x3030, 0x991e_f657, 0x7000, 0x0001_0007]),
        function(0x8000_000a, 0, [1, 0x8000, 0, 0x119b_9cff]),
        function(0x8000_001f, 0, [0x0101_fd3f, 0x0000_4173, 0x1fd, 0x64]),
        function(0x8000_0021, 0, [if zen4 { 0x0062_fddf } else { 0x45 }, 0, 0, 0]),
    ]);
    functions
}
