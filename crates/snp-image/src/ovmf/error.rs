//! Why a file is no firmware for SEV-SNP.

use snp_abi::Gpa;
use thiserror::Error;

use super::SectionKind;
use crate::{Guid, bounded::Truncated};

/// Why a file is no OVMF image that can be launched. Offsets count from the start of the file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OvmfError {
    /// The file's size.
    #[error(
        "{len} bytes: a firmware image has a non-zero multiple of 4096 bytes and at most 16 MiB (QEMU maps no more below \
         4 GiB)"
    )]
    Size {
        /// Bytes of the file.
        len: u64,
    },
    /// Something lies outside the file.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// No table.
    #[error(
        "offset {offset:#x}: expected the OVMF table's footer GUID {expected}, got {got}: this is no OVMF image, or it is \
         the variable store; give OVMF.fd or OVMF_CODE.fd"
    )]
    NoTable {
        /// Where the footer's GUID should be.
        offset: u64,
        /// The footer's GUID.
        expected: Guid,
        /// What is there.
        got: Guid,
    },
    /// The table's size.
    #[error("offset {offset:#x}: a table of {got} bytes, expected 18 to {limit}")]
    TableSize {
        /// Where the size is.
        offset: u64,
        /// The size.
        got: u64,
        /// The most that the file can hold.
        limit: u64,
    },
    /// An entry's size.
    #[error("offset {offset:#x}: a table entry of {got} bytes, expected 18 to {limit}")]
    EntrySize {
        /// Where the size is.
        offset: u64,
        /// The size.
        got: u64,
        /// What is left of the table.
        limit: u64,
    },
    /// Bytes of the table that belong to no entry.
    #[error("offset {offset:#x}: {len} bytes at the start of the table belong to no entry")]
    TableRemainder {
        /// Where the table starts.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Loaders disagree on which of two entries counts.
    #[error(
        "offsets {first:#x} and {second:#x}: two table entries with GUID {guid}; loaders disagree on which one counts"
    )]
    DuplicateEntry {
        /// The GUID.
        guid: Guid,
        /// Where the data of the entry nearer to the end start.
        first: u64,
        /// Where the data of the other start.
        second: u64,
    },
    /// An entry without room for an address.
    #[error("offset {offset:#x}: {what} of {len} bytes, expected at least 4")]
    ShortEntry {
        /// Which entry.
        what: &'static str,
        /// Where its data start.
        offset: u64,
        /// Bytes of its data.
        len: u64,
    },
    /// Firmware that was not built for SEV-SNP.
    #[error(
        "the firmware has no SEV metadata, so it cannot start under SEV-SNP; of Debian's packages, /usr/share/ovmf/OVMF.fd \
         and /usr/share/OVMF/OVMF_CODE*.fd (package ovmf) and /usr/share/ovmf/OVMF.amdsev.fd (package ovmf-amdsev, which also takes kernel hashes) have it"
    )]
    NoSevMetadata,
    /// The metadata would start before the file.
    #[error("offset {offset:#x}: SEV metadata {got:#x} bytes before the end of a file of {limit:#x}")]
    MetadataOffset {
        /// Where the entry's data are.
        offset: u64,
        /// How far from the end.
        got: u64,
        /// Bytes of the file.
        limit: u64,
    },
    /// The metadata's signature.
    #[error("offset {offset:#x}: expected the SEV metadata signature \"ASEV\", got {:?}", String::from_utf8_lossy(.got))]
    MetadataSignature {
        /// Where it is.
        offset: u64,
        /// What is there.
        got: [u8; 4],
    },
    /// The metadata's version.
    #[error("offset {offset:#x}: SEV metadata version {got}, expected {expected}")]
    MetadataVersion {
        /// Where it is.
        offset: u64,
        /// The version that is known.
        expected: u32,
        /// The version of the file.
        got: u32,
    },
    /// The metadata's size.
    #[error("offset {offset:#x}: SEV metadata of {got} bytes, expected at least {expected} for {count} sections")]
    MetadataSize {
        /// Where the size is.
        offset: u64,
        /// Bytes that the sections take.
        expected: u64,
        /// Bytes that the descriptor has.
        got: u32,
        /// How many sections.
        count: u32,
    },
    /// A section that is not whole pages, or more than one page where there can be only one.
    #[error(
        "offset {offset:#x}: {kind} section at {gpa}, {len:#x} bytes: expected a 4 KiB-aligned, non-empty range (of \
         exactly one page for SECRETS, CPUID and KERNEL_HASHES)"
    )]
    Section {
        /// Where the section is.
        offset: u64,
        /// Its first byte in guest memory.
        gpa: Gpa,
        /// Its length.
        len: u64,
        /// Its kind.
        kind: SectionKind,
    },
}
