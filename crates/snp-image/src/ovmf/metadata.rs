//! SEV metadata: which pages beside the flash are part of the launch.

use std::fmt;

use snp_abi::{Gpa, PAGE_SIZE};

use super::{OvmfError, Table};
use crate::{Guid, bounded};

/// The table entry that tells how far from the end of the image the descriptor starts.
const SEV_METADATA: Guid = Guid::new(0xdc88_6566, 0x984a, 0x4798, [0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc]);

const SIGNATURE: [u8; 4] = *b"ASEV";
const VERSION: u32 = 1;

/// Bytes of the descriptor before its sections: signature, size, version, count.
const HEADER: u64 = 16;

/// Bytes of a section: GPA, size, kind.
const SECTION: u64 = 12;

/// What a section is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SectionKind(pub u32);

impl SectionKind {
    /// Memory of the early phases: launched as zero pages.
    pub const SEC_MEM: Self = Self(1);
    /// The secrets page.
    pub const SECRETS: Self = Self(2);
    /// The CPUID page.
    pub const CPUID: Self = Self(3);
    /// The SVSM calling area: launched as zero pages.
    pub const SVSM_CAA: Self = Self(4);
    /// The page for the kernel hashes.
    pub const KERNEL_HASHES: Self = Self(0x10);

    /// The name, if the kind is known.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SEC_MEM => "SEC_MEM",
            Self::SECRETS => "SECRETS",
            Self::CPUID => "CPUID",
            Self::SVSM_CAA => "SVSM_CAA",
            Self::KERNEL_HASHES => "KERNEL_HASHES",
            _ => return None,
        })
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Debug for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One section: a range of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// First byte, 4 KiB-aligned.
    pub gpa: Gpa,
    /// Bytes, a non-zero multiple of 4 KiB.
    pub len: u64,
    /// What it is for.
    pub kind: SectionKind,
}

/// Reads the sections in file order.
pub(super) fn read(flash: &[u8], table: &Table) -> Result<Vec<Section>, OvmfError> {
    let entry = table.find(&SEV_METADATA).ok_or(OvmfError::NoSevMetadata)?;
    let back = u64::from(entry.u32(flash, "SEV metadata entry")?);
    let len = flash.len() as u64;
    let start =
        len.checked_sub(back).ok_or(OvmfError::MetadataOffset { offset: entry.offset, got: back, limit: len })?;
    let count = read_header(flash, start)?;
    // No reservation by an untrusted count: the sections are there, or reading them ends with an error.
    (0..u64::from(count)).map(|index| read_section(flash, start + HEADER + index * SECTION)).collect()
}

/// Checks the descriptor's header and returns the number of sections, all of which lie in the descriptor.
fn read_header(flash: &[u8], start: u64) -> Result<u32, OvmfError> {
    let signature: [u8; 4] = bounded::read(flash, start, "SEV metadata signature")?;
    if signature != SIGNATURE {
        return Err(OvmfError::MetadataSignature { offset: start, got: signature });
    }
    let size = bounded::u32_at(flash, start + 4, "SEV metadata size")?;
    let version = bounded::u32_at(flash, start + 8, "SEV metadata version")?;
    if version != VERSION {
        return Err(OvmfError::MetadataVersion { offset: start + 8, expected: VERSION, got: version });
    }
    let count = bounded::u32_at(flash, start + 12, "number of SEV metadata sections")?;
    let wanted = HEADER + u64::from(count) * SECTION;
    if u64::from(size) < wanted {
        return Err(OvmfError::MetadataSize { offset: start + 4, expected: wanted, got: size, count });
    }
    bounded::range(flash.len(), start, wanted, "SEV metadata")?;
    Ok(count)
}

fn read_section(flash: &[u8], offset: u64) -> Result<Section, OvmfError> {
    let what = "SEV metadata section";
    let gpa = Gpa(bounded::u32_at(flash, offset, what)?.into());
    let len = u64::from(bounded::u32_at(flash, offset + 4, what)?);
    let kind = SectionKind(bounded::u32_at(flash, offset + 8, what)?);
    let one_page_only = matches!(kind, SectionKind::SECRETS | SectionKind::CPUID | SectionKind::KERNEL_HASHES);
    let fits = len != 0 && len.is_multiple_of(PAGE_SIZE as u64) && (!one_page_only || len == PAGE_SIZE as u64);
    if !gpa.is_page_aligned() || !fits {
        return Err(OvmfError::Section { offset, gpa, len, kind });
    }
    Ok(Section { gpa, len, kind })
}
