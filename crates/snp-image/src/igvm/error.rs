//! Why a file is no IGVM file for SEV-SNP.

use snp_abi::Gpa;
use thiserror::Error;

use super::ParameterKind;
use crate::bounded::Truncated;

/// Why an IGVM file cannot be loaded, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("IGVM file, offset {offset:#x}: {fault}")]
pub struct IgvmError {
    /// Where in the file, in bytes from its start: the header that is at fault.
    pub offset: u64,
    /// What is wrong.
    pub fault: IgvmFault,
}

impl IgvmError {
    pub(super) fn new(offset: u64, fault: IgvmFault) -> Self {
        Self { offset, fault }
    }
}

impl From<Truncated> for IgvmError {
    fn from(truncated: Truncated) -> Self {
        Self { offset: truncated.offset, fault: IgvmFault::Truncated(truncated) }
    }
}

/// What is wrong with an IGVM file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IgvmFault {
    /// Something lies outside the file.
    #[error(transparent)]
    Truncated(Truncated),
    /// Not an IGVM file.
    #[error("expected the signature \"IGVM\", got {:?}", String::from_utf8_lossy(.0))]
    Magic([u8; 4]),
    /// Unknown version.
    #[error("format version {0}, expected 1 or 2")]
    Version(u32),
    /// Not for x86-64.
    #[error("architecture {0}, expected 0 (x86-64)")]
    Architecture(u32),
    /// Unsupported page size.
    #[error("page size {0}, expected 4096")]
    PageSize(u32),
    /// The fixed header tells another size than the file has.
    #[error("the header says {expected} bytes, the file has {got}: truncated or padded?")]
    FileSize {
        /// What the header says.
        expected: u32,
        /// Bytes of the file.
        got: u64,
    },
    /// The variable headers do not fit the file.
    #[error(
        "variable headers of {size:#x} bytes at {start:#x} do not fit a file of {file:#x}, or are not 8-byte aligned"
    )]
    VariableHeaders {
        /// Where they start.
        start: u32,
        /// Their size.
        size: u32,
        /// Bytes of the file.
        file: u64,
    },
    /// The headers were changed after the file was made.
    #[error("checksum of the headers {got:#010x}, expected {expected:#010x}: the file is damaged")]
    Checksum {
        /// What the headers give.
        expected: u32,
        /// What the fixed header says.
        got: u32,
    },
    /// A header type that has to be understood and is not.
    #[error("header type {0:#x} is not known and not optional")]
    UnknownHeader(u32),
    /// A header of the wrong length.
    #[error("header type {typ:#x} of {got} bytes, expected {expected}")]
    HeaderLength {
        /// Its type.
        typ: u32,
        /// Bytes that the type has.
        expected: usize,
        /// Bytes that it has here.
        got: u32,
    },
    /// Platform, initialization and directive headers are mixed.
    #[error("header type {0:#x} after headers of a later section")]
    SectionOrder(u32),
    /// A compatibility mask that is not one bit.
    #[error("compatibility mask {0:#x} of a platform: expected exactly one bit")]
    PlatformMask(u32),
    /// Two platforms of one type.
    #[error("a second SEV-SNP platform")]
    PlatformTwice,
    /// Not for SEV-SNP.
    #[error("the file is not for SEV-SNP (platform type 2); its platform types are {0:?}")]
    NoSnpPlatform(Vec<u8>),
    /// Two policies.
    #[error("a second guest policy for SEV-SNP")]
    PolicyTwice,
    /// Bits that must be zero.
    #[error("reserved bits of {0} are not zero")]
    Reserved(&'static str),
    /// A range of guest memory that cannot be.
    #[error("{what} at {gpa}, {len:#x} bytes: expected a {alignment:#x}-aligned, non-empty range below 2^52")]
    Range {
        /// What lies there.
        what: &'static str,
        /// First byte.
        gpa: Gpa,
        /// Bytes.
        len: u64,
        /// Alignment wanted.
        alignment: u64,
    },
    /// File data inside the headers.
    #[error("file data at {got:#x}, expected {expected:#x} (where the file data start) or more")]
    DataOffset {
        /// Where the file data start.
        expected: u64,
        /// Where they are said to be.
        got: u32,
    },
    /// An unknown page data type.
    #[error("page data type {0}, expected 0 (normal), 1 (secrets), 2 or 3 (CPUID)")]
    PageDataType(u16),
    /// A flag combination without meaning.
    #[error("page data flags {0:#x} do not fit the page data type")]
    PageFlags(u32),
    /// Parameter areas that are too large.
    #[error("parameter areas of {got:#x} bytes in total, more than the {limit:#x} that are provided")]
    ParameterAreaSize {
        /// Bytes of this area and those before it.
        got: u64,
        /// Bytes that are provided.
        limit: u64,
    },
    /// An index is declared twice.
    #[error("parameter area {0} is declared twice")]
    ParameterAreaTwice(u32),
    /// An index is used before it is declared, or after it was inserted.
    #[error("parameter area {0} is not declared, or was inserted already")]
    NoParameterArea(u32),
    /// A parameter does not fit.
    #[error("{kind} of {len} bytes at {at:#x} does not fit parameter area {area} of {size:#x} bytes")]
    ParameterFit {
        /// Which parameter.
        kind: ParameterKind,
        /// Which area.
        area: u32,
        /// Byte offset in the area.
        at: u32,
        /// Bytes that the parameter takes.
        len: u64,
        /// Bytes of the area.
        size: u64,
    },
    /// Two contexts for one processor.
    #[error("a second VP context for processor {0}")]
    VpContextTwice(u16),
    /// A context without data.
    #[error("the VP context has no file data")]
    NoVpContextData,
    /// Two ID blocks.
    #[error("a second ID block for SEV-SNP")]
    IdBlockTwice,
    /// An ID block without policy.
    #[error("an ID block, but no guest policy: the block is signed with a policy")]
    IdBlockWithoutPolicy,
}
