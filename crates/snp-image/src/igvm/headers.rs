//! The fixed header and the walk over the variable headers.

use igvm_defs::{
    IGVM_FIXED_HEADER, IGVM_FIXED_HEADER_V2, IGVM_FORMAT_VERSION_1, IGVM_FORMAT_VERSION_2, IGVM_MAGIC_VALUE,
    IGVM_VHS_GUEST_POLICY, IGVM_VHS_SUPPORTED_PLATFORM, IGVM_VHS_VARIABLE_HEADER, IGVM_VHT_OPTIONAL_BIT,
    IGVM_VHT_RANGE_DIRECTIVE, IGVM_VHT_RANGE_INIT, IGVM_VHT_RANGE_PLATFORM, IgvmArchitecture, IgvmVariableHeaderType,
    PAGE_SIZE_4K,
};
use snp_abi::GuestPolicy;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{IgvmError, IgvmFault};
use crate::bounded;

/// The offset of the checksum in both versions of the fixed header.
const CHECKSUM: usize = 0x14;

/// A reference measurement and its signature, which `igvm_defs` has behind a feature of its own.
const CORIM_DOCUMENT: IgvmVariableHeaderType = IgvmVariableHeaderType(0x104);
const CORIM_SIGNATURE: IgvmVariableHeaderType = IgvmVariableHeaderType(0x105);

/// One variable header, still raw.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawHeader<'a> {
    /// Where it starts in the file.
    pub(super) offset: u64,
    /// Its type.
    pub(super) typ: IgvmVariableHeaderType,
    /// Its content, without type and length.
    pub(super) content: &'a [u8],
}

impl RawHeader<'_> {
    /// The content as the structure of its type.
    pub(super) fn structure<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<T, IgvmError> {
        T::read_from_bytes(self.content).map_err(|_| {
            let got = self.content.len() as u32;
            self.fault(IgvmFault::HeaderLength { typ: self.typ.0, expected: size_of::<T>(), got })
        })
    }

    pub(super) fn fault(&self, fault: IgvmFault) -> IgvmError {
        IgvmError::new(self.offset, fault)
    }
}

/// The headers of a file, sorted by section.
#[derive(Debug)]
pub(super) struct Headers<'a> {
    /// Where the file data start.
    pub(super) data_start: u64,
    platforms: Vec<(u64, IGVM_VHS_SUPPORTED_PLATFORM)>,
    initialization: Vec<RawHeader<'a>>,
    /// The directives in file order, of every platform.
    pub(super) directives: Vec<RawHeader<'a>>,
}

impl<'a> Headers<'a> {
    /// Reads and checks all headers of a file as far as they are the same for every platform.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, IgvmError> {
        let fixed = fixed_header(file)?;
        let (start, size) = (fixed.variable_header_offset, fixed.variable_header_size);
        let fault = IgvmFault::VariableHeaders { start, size, file: file.len() as u64 };
        let end = u64::from(start) + u64::from(size);
        let overlaps = u64::from(start) < size_of::<IGVM_FIXED_HEADER>() as u64;
        if end > file.len() as u64 || overlaps || !start.is_multiple_of(8) || !size.is_multiple_of(8) {
            return Err(IgvmError::new(0xc, fault));
        }
        // In bounds by the check before.
        check_sum(file, start as usize, end as usize, fixed.checksum)?;
        let mut headers =
            Self { data_start: end, platforms: Vec::new(), initialization: Vec::new(), directives: Vec::new() };
        headers.walk(&file[..end as usize], u64::from(start))?;
        Ok(headers)
    }

    /// Sorts the variable headers into their sections. Every header takes at least 8 bytes, so this ends.
    fn walk(&mut self, file: &'a [u8], mut offset: u64) -> Result<(), IgvmError> {
        while offset < file.len() as u64 {
            let header: IGVM_VHS_VARIABLE_HEADER = bounded::read(file, offset, "variable header")?;
            let content_offset = offset + size_of::<IGVM_VHS_VARIABLE_HEADER>() as u64;
            let length = u64::from(header.length);
            let content = bounded::slice(file, content_offset, length, "content of a variable header")?;
            self.sort(RawHeader { offset, typ: header.typ, content })?;
            offset = content_offset + length.next_multiple_of(8);
        }
        Ok(())
    }

    fn sort(&mut self, header: RawHeader<'a>) -> Result<(), IgvmError> {
        let typ = header.typ.0;
        let mandatory = typ & !IGVM_VHT_OPTIONAL_BIT;
        let out_of_order = || Err(header.fault(IgvmFault::SectionOrder(typ)));
        if IGVM_VHT_RANGE_PLATFORM.contains(&mandatory) {
            if !self.initialization.is_empty() || !self.directives.is_empty() {
                return out_of_order();
            }
            if header.typ == IgvmVariableHeaderType::IGVM_VHT_SUPPORTED_PLATFORM {
                self.platforms.push((header.offset, header.structure()?));
                return Ok(());
            }
        } else if IGVM_VHT_RANGE_INIT.contains(&mandatory) {
            if !self.directives.is_empty() {
                return out_of_order();
            }
            if known_initialization(header.typ) {
                self.initialization.push(header);
                return Ok(());
            }
        } else if IGVM_VHT_RANGE_DIRECTIVE.contains(&typ) {
            // Whether it is known is decided by those who carry it out.
            self.directives.push(header);
            return Ok(());
        }
        if typ & IGVM_VHT_OPTIONAL_BIT != 0 {
            return Ok(());
        }
        Err(header.fault(IgvmFault::UnknownHeader(typ)))
    }

    /// The platforms of the file and where their headers are.
    pub(super) fn platforms(&self) -> &[(u64, IGVM_VHS_SUPPORTED_PLATFORM)] {
        &self.platforms
    }

    /// The policy for the platform of this mask.
    pub(super) fn policy(&self, mask: u32) -> Result<Option<GuestPolicy>, IgvmError> {
        let mut found = None;
        for header in self.of_type(IgvmVariableHeaderType::IGVM_VHT_GUEST_POLICY) {
            let policy: IGVM_VHS_GUEST_POLICY = header.structure()?;
            if policy.reserved != 0 {
                return Err(header.fault(IgvmFault::Reserved("the guest policy header")));
            }
            if policy.compatibility_mask & mask != 0 && found.replace(GuestPolicy(policy.policy)).is_some() {
                return Err(header.fault(IgvmFault::PolicyTwice));
            }
        }
        Ok(found)
    }

    /// Whether any header allows to load the file elsewhere.
    pub(super) fn relocatable(&self) -> bool {
        self.of_type(IgvmVariableHeaderType::IGVM_VHT_RELOCATABLE_REGION).next().is_some()
    }

    fn of_type(&self, typ: IgvmVariableHeaderType) -> impl Iterator<Item = &RawHeader<'a>> {
        self.initialization.iter().filter(move |header| header.typ == typ)
    }
}

/// Initialization headers that say nothing to an SEV-SNP loader, or are understood.
fn known_initialization(typ: IgvmVariableHeaderType) -> bool {
    matches!(
        typ,
        IgvmVariableHeaderType::IGVM_VHT_GUEST_POLICY
            | IgvmVariableHeaderType::IGVM_VHT_RELOCATABLE_REGION
            | IgvmVariableHeaderType::IGVM_VHT_PAGE_TABLE_RELOCATION_REGION
            | CORIM_DOCUMENT
            | CORIM_SIGNATURE
            | IgvmVariableHeaderType::IGVM_VHT_CCA_POLICY
            | IgvmVariableHeaderType::IGVM_VHT_VERSION_STRING
    )
}

/// The fixed header of either version, as far as both have it.
fn fixed_header(file: &[u8]) -> Result<IGVM_FIXED_HEADER, IgvmError> {
    let fixed: IGVM_FIXED_HEADER = bounded::read(file, 0, "fixed header")?;
    if fixed.magic != IGVM_MAGIC_VALUE {
        return Err(IgvmError::new(0, IgvmFault::Magic(fixed.magic.to_le_bytes())));
    }
    match fixed.format_version {
        IGVM_FORMAT_VERSION_1 => {}
        IGVM_FORMAT_VERSION_2 => {
            let second: IGVM_FIXED_HEADER_V2 = bounded::read(file, 0, "fixed header")?;
            if second.architecture != IgvmArchitecture::X64 {
                return Err(IgvmError::new(0x18, IgvmFault::Architecture(second.architecture.0)));
            }
            if u64::from(second.page_size) != PAGE_SIZE_4K {
                return Err(IgvmError::new(0x1c, IgvmFault::PageSize(second.page_size)));
            }
        }
        other => return Err(IgvmError::new(4, IgvmFault::Version(other))),
    }
    if u64::from(fixed.total_file_size) != file.len() as u64 {
        let fault = IgvmFault::FileSize { expected: fixed.total_file_size, got: file.len() as u64 };
        return Err(IgvmError::new(0x10, fault));
    }
    Ok(fixed)
}

/// CRC32 over the fixed header with its checksum zeroed and the variable headers.
fn check_sum(file: &[u8], start: usize, end: usize, got: u32) -> Result<(), IgvmError> {
    let fixed_len = match bounded::u32_at(file, 4, "format version")? {
        IGVM_FORMAT_VERSION_1 => size_of::<IGVM_FIXED_HEADER>(),
        _ => size_of::<IGVM_FIXED_HEADER_V2>(),
    };
    let mut fixed = bounded::slice(file, 0, fixed_len as u64, "fixed header")?.to_vec();
    fixed[CHECKSUM..CHECKSUM + 4].fill(0);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(fixed.as_bytes());
    hasher.update(&file[start..end]);
    match hasher.finalize() {
        expected if expected == got => Ok(()),
        expected => Err(IgvmError::new(CHECKSUM as u64, IgvmFault::Checksum { expected, got })),
    }
}
