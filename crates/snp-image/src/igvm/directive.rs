//! The directives that apply to SEV-SNP.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use igvm_defs::{
    IGVM_VHS_ERROR_RANGE, IGVM_VHS_PAGE_DATA, IGVM_VHS_PARAMETER, IGVM_VHS_PARAMETER_AREA, IGVM_VHS_PARAMETER_INSERT,
    IGVM_VHS_REQUIRED_MEMORY, IGVM_VHS_SNP_ID_BLOCK, IGVM_VHS_VP_CONTEXT, IgvmPageDataType, IgvmVariableHeaderType,
};
use snp_abi::{Gpa, GuestPolicy, PAGE_SIZE};
use snp_launch::IdBlockPair;

use super::headers::{Headers, RawHeader};
use super::{IgvmError, IgvmFault, identity};
use crate::bounded;

/// The first byte after the largest guest-physical address space.
const ADDRESS_LIMIT: u64 = 1 << 52;

const SIZE_4K: u64 = PAGE_SIZE as u64;
const SIZE_2M: u64 = 2 << 20;

/// What all parameter areas of a file may take together. Real files take a few pages.
const PARAMETER_LIMIT: u64 = 64 << 20;

/// One step of loading a file.
#[derive(Clone, Debug)]
pub enum Directive {
    /// A page of guest memory.
    Page {
        /// First byte.
        gpa: Gpa,
        /// Bytes: 4 KiB or 2 MiB.
        len: u64,
        /// What the page is.
        kind: PageKind,
        /// Its contents, `len` bytes; `None` if the file has none.
        data: Option<Bytes>,
    },
    /// A buffer for parameters is prepared.
    ParameterArea {
        /// Its index.
        area: u32,
        /// Bytes, a multiple of 4 KiB.
        len: u64,
        /// What it holds at first, `len` bytes; `None` for zeros.
        initial: Option<Bytes>,
    },
    /// A parameter is written into an area.
    Parameter {
        /// Which one.
        kind: ParameterKind,
        /// Into which area.
        area: u32,
        /// Byte offset in the area.
        at: u32,
        /// Where the header is in the file.
        offset: u64,
    },
    /// An area becomes unmeasured guest memory.
    ParameterInsert {
        /// First byte.
        gpa: Gpa,
        /// Which area.
        area: u32,
    },
    /// Memory that the guest needs.
    RequiredMemory {
        /// First byte.
        gpa: Gpa,
        /// Bytes, a multiple of 4 KiB.
        len: u64,
    },
    /// A processor's initial state.
    VpContext {
        /// Where the VMSA lies.
        gpa: Gpa,
        /// Which processor.
        vp_index: u16,
        /// The VMSA, 4096 bytes.
        page: Bytes,
    },
}

/// What a page of an IGVM file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Measured contents.
    Normal,
    /// Contents that are not measured.
    Unmeasured,
    /// Contents that the host can see: not part of the launch.
    Shared,
    /// The secrets page.
    Secrets,
    /// A CPUID page.
    Cpuid,
}

/// A parameter by the type of its header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ParameterKind(pub u32);

impl ParameterKind {
    /// How many processors the guest has, u32.
    pub const VP_COUNT: Self = Self(IgvmVariableHeaderType::IGVM_VHT_VP_COUNT_PARAMETER.0);
    /// Bit 0: memory is shared by default, u32.
    pub const ENVIRONMENT_INFO: Self = Self(IgvmVariableHeaderType::IGVM_VHT_ENVIRONMENT_INFO_PARAMETER.0);
    /// The guest's memory, a list that ends with an empty entry.
    pub const MEMORY_MAP: Self = Self(IgvmVariableHeaderType::IGVM_VHT_MEMORY_MAP.0);
    /// The command line with its NUL.
    pub const COMMAND_LINE: Self = Self(IgvmVariableHeaderType::IGVM_VHT_COMMAND_LINE.0);
    /// Two ranges for MMIO.
    pub const MMIO_RANGES: Self = Self(IgvmVariableHeaderType::IGVM_VHT_MMIO_RANGES.0);
    /// ACPI table.
    pub const SRAT: Self = Self(IgvmVariableHeaderType::IGVM_VHT_SRAT.0);
    /// ACPI table.
    pub const MADT: Self = Self(IgvmVariableHeaderType::IGVM_VHT_MADT.0);
    /// ACPI table.
    pub const SLIT: Self = Self(IgvmVariableHeaderType::IGVM_VHT_SLIT.0);
    /// ACPI table.
    pub const PPTT: Self = Self(IgvmVariableHeaderType::IGVM_VHT_PPTT.0);
    /// Flattened device tree.
    pub const DEVICE_TREE: Self = Self(IgvmVariableHeaderType::IGVM_VHT_DEVICE_TREE.0);

    /// The name, if the kind is known.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::VP_COUNT => "VP count",
            Self::ENVIRONMENT_INFO => "environment info",
            Self::MEMORY_MAP => "memory map",
            Self::COMMAND_LINE => "command line",
            Self::MMIO_RANGES => "MMIO ranges",
            Self::SRAT => "SRAT",
            Self::MADT => "MADT",
            Self::SLIT => "SLIT",
            Self::PPTT => "PPTT",
            Self::DEVICE_TREE => "device tree",
            _ => return None,
        })
    }
}

impl fmt::Display for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "parameter {:#x}", self.0),
        }
    }
}

impl fmt::Debug for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads the directives that apply to the platform of `mask`, and its ID block.
pub(super) fn read_all(
    file: &Bytes,
    headers: &Headers<'_>,
    mask: u32,
    policy: Option<GuestPolicy>,
) -> Result<(Vec<Directive>, Option<IdBlockPair>), IgvmError> {
    let mut reader = Reader {
        file,
        data_start: headers.data_start,
        mask,
        policy,
        areas: BTreeMap::new(),
        area_bytes: 0,
        vp_contexts: BTreeSet::new(),
        id_block: None,
    };
    let mut directives = Vec::new();
    for header in &headers.directives {
        directives.extend(reader.directive(header)?);
    }
    Ok((directives, reader.id_block))
}

struct Reader<'a> {
    file: &'a Bytes,
    data_start: u64,
    mask: u32,
    policy: Option<GuestPolicy>,
    /// The sizes of the areas; `None` once inserted.
    areas: BTreeMap<u32, Option<u64>>,
    area_bytes: u64,
    vp_contexts: BTreeSet<u16>,
    id_block: Option<IdBlockPair>,
}

impl Reader<'_> {
    /// One directive, `None` if there is nothing to do for this platform.
    fn directive(&mut self, header: &RawHeader<'_>) -> Result<Option<Directive>, IgvmError> {
        match header.typ {
            IgvmVariableHeaderType::IGVM_VHT_PAGE_DATA => self.page(header),
            IgvmVariableHeaderType::IGVM_VHT_PARAMETER_AREA => self.parameter_area(header).map(Some),
            IgvmVariableHeaderType::IGVM_VHT_PARAMETER_INSERT => self.parameter_insert(header),
            IgvmVariableHeaderType::IGVM_VHT_VP_CONTEXT => self.vp_context(header),
            IgvmVariableHeaderType::IGVM_VHT_REQUIRED_MEMORY => self.required_memory(header),
            IgvmVariableHeaderType::IGVM_VHT_SNP_ID_BLOCK => self.id_block(header),
            // Where a loader may tell of its failure: nothing to load.
            IgvmVariableHeaderType::IGVM_VHT_ERROR_RANGE => header.structure::<IGVM_VHS_ERROR_RANGE>().map(|_| None),
            // Another platform's measurement.
            IgvmVariableHeaderType::IGVM_VHT_VBS_MEASUREMENT => Ok(None),
            IgvmVariableHeaderType(typ) if ParameterKind(typ).name().is_some() => self.parameter(header).map(Some),
            IgvmVariableHeaderType(typ) => Err(header.fault(IgvmFault::UnknownHeader(typ))),
        }
    }

    fn page(&self, header: &RawHeader<'_>) -> Result<Option<Directive>, IgvmError> {
        let page: IGVM_VHS_PAGE_DATA = header.structure()?;
        if page.compatibility_mask & self.mask == 0 {
            return Ok(None);
        }
        if page.reserved != 0 || page.flags.reserved() != 0 {
            return Err(header.fault(IgvmFault::Reserved("a page data header")));
        }
        let kind = page_kind(&page).map_err(|fault| header.fault(fault))?;
        let len = if page.flags.is_2mb_page() { SIZE_2M } else { SIZE_4K };
        let gpa = self.range(header, "page data", page.gpa, len, len)?;
        let data = self.data(header, page.file_offset, len)?;
        Ok(Some(Directive::Page { gpa, len, kind, data }))
    }

    fn parameter_area(&mut self, header: &RawHeader<'_>) -> Result<Directive, IgvmError> {
        let area: IGVM_VHS_PARAMETER_AREA = header.structure()?;
        let (index, len) = (area.parameter_area_index, area.number_of_bytes);
        let total = self.area_bytes.saturating_add(len);
        if total > PARAMETER_LIMIT {
            return Err(header.fault(IgvmFault::ParameterAreaSize { got: total, limit: PARAMETER_LIMIT }));
        }
        self.range(header, "parameter area", 0, len, SIZE_4K)?;
        if self.areas.insert(index, Some(len)).is_some() {
            return Err(header.fault(IgvmFault::ParameterAreaTwice(index)));
        }
        self.area_bytes = total;
        Ok(Directive::ParameterArea { area: index, len, initial: self.data(header, area.file_offset, len)? })
    }

    fn parameter(&self, header: &RawHeader<'_>) -> Result<Directive, IgvmError> {
        let parameter: IGVM_VHS_PARAMETER = header.structure()?;
        let area = parameter.parameter_area_index;
        match self.areas.get(&area) {
            Some(Some(_)) => {}
            _ => return Err(header.fault(IgvmFault::NoParameterArea(area))),
        }
        let kind = ParameterKind(header.typ.0);
        Ok(Directive::Parameter { kind, area, at: parameter.byte_offset, offset: header.offset })
    }

    fn parameter_insert(&mut self, header: &RawHeader<'_>) -> Result<Option<Directive>, IgvmError> {
        let insert: IGVM_VHS_PARAMETER_INSERT = header.structure()?;
        if insert.compatibility_mask & self.mask == 0 {
            return Ok(None);
        }
        let area = insert.parameter_area_index;
        let Some(len) = self.areas.get_mut(&area).and_then(Option::take) else {
            return Err(header.fault(IgvmFault::NoParameterArea(area)));
        };
        let gpa = self.range(header, "parameter area", insert.gpa, len, SIZE_4K)?;
        Ok(Some(Directive::ParameterInsert { gpa, area }))
    }

    fn required_memory(&self, header: &RawHeader<'_>) -> Result<Option<Directive>, IgvmError> {
        let memory: IGVM_VHS_REQUIRED_MEMORY = header.structure()?;
        if memory.compatibility_mask & self.mask == 0 {
            return Ok(None);
        }
        let len = u64::from(memory.number_of_bytes);
        let gpa = self.range(header, "required memory", memory.gpa, len, SIZE_4K)?;
        Ok(Some(Directive::RequiredMemory { gpa, len }))
    }

    fn vp_context(&mut self, header: &RawHeader<'_>) -> Result<Option<Directive>, IgvmError> {
        let context: IGVM_VHS_VP_CONTEXT = header.structure()?;
        if context.compatibility_mask & self.mask == 0 {
            return Ok(None);
        }
        if context.reserved != 0 {
            return Err(header.fault(IgvmFault::Reserved("a VP context header")));
        }
        if !self.vp_contexts.insert(context.vp_index) {
            return Err(header.fault(IgvmFault::VpContextTwice(context.vp_index)));
        }
        let gpa = self.range(header, "VP context", context.gpa.into(), SIZE_4K, SIZE_4K)?;
        let data = self.data(header, context.file_offset, SIZE_4K)?;
        let page = data.ok_or_else(|| header.fault(IgvmFault::NoVpContextData))?;
        Ok(Some(Directive::VpContext { gpa, vp_index: context.vp_index, page }))
    }

    fn id_block(&mut self, header: &RawHeader<'_>) -> Result<Option<Directive>, IgvmError> {
        let block: IGVM_VHS_SNP_ID_BLOCK = header.structure()?;
        if block.compatibility_mask & self.mask != 0 {
            let policy = self.policy.ok_or_else(|| header.fault(IgvmFault::IdBlockWithoutPolicy))?;
            if self.id_block.replace(identity::pair(&block, policy)).is_some() {
                return Err(header.fault(IgvmFault::IdBlockTwice));
            }
        }
        Ok(None)
    }

    /// Checks a range of guest memory.
    fn range(
        &self,
        header: &RawHeader<'_>,
        what: &'static str,
        gpa: u64,
        len: u64,
        alignment: u64,
    ) -> Result<Gpa, IgvmError> {
        let end = gpa.checked_add(len).filter(|end| *end <= ADDRESS_LIMIT);
        if end.is_some() && len != 0 && len.is_multiple_of(SIZE_4K) && gpa.is_multiple_of(alignment) {
            return Ok(Gpa(gpa));
        }
        Err(header.fault(IgvmFault::Range { what, gpa: Gpa(gpa), len, alignment }))
    }

    /// The file data of a header, shared; none at offset zero.
    fn data(&self, header: &RawHeader<'_>, offset: u32, len: u64) -> Result<Option<Bytes>, IgvmError> {
        if offset == 0 {
            return Ok(None);
        }
        if u64::from(offset) < self.data_start {
            return Err(header.fault(IgvmFault::DataOffset { expected: self.data_start, got: offset }));
        }
        let range = bounded::range(self.file.len(), offset.into(), len, "file data");
        let range = range.map_err(|truncated| header.fault(IgvmFault::Truncated(truncated)))?;
        Ok(Some(self.file.slice(range)))
    }
}

fn page_kind(page: &IGVM_VHS_PAGE_DATA) -> Result<PageKind, IgvmFault> {
    let flags = page.flags;
    match page.data_type {
        IgvmPageDataType::NORMAL if flags.shared() => Ok(PageKind::Shared),
        IgvmPageDataType::NORMAL if flags.unmeasured() => Ok(PageKind::Unmeasured),
        IgvmPageDataType::NORMAL => Ok(PageKind::Normal),
        // There is no larger secrets or CPUID page, and no shared one.
        IgvmPageDataType::SECRETS | IgvmPageDataType::CPUID_DATA | IgvmPageDataType::CPUID_XF
            if flags.is_2mb_page() || flags.shared() =>
        {
            Err(IgvmFault::PageFlags(flags.into()))
        }
        IgvmPageDataType::SECRETS => Ok(PageKind::Secrets),
        IgvmPageDataType::CPUID_DATA | IgvmPageDataType::CPUID_XF => Ok(PageKind::Cpuid),
        IgvmPageDataType(other) => Err(IgvmFault::PageDataType(other)),
    }
}
