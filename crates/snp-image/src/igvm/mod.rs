//! IGVM files: one file for several platforms, of which the SEV-SNP part is read.
//!
//! # Why not `igvm::IgvmFile::new_from_binary`
//! The layouts are those of `igvm_defs`, and files are written with the `igvm` crate. They are not read with it, for its
//! reader (0.5.0) panics on hostile files: offsets that wrap (`IgvmFile::new_from_binary`, the end of the variable
//! headers; `file_offset` below the file data), assertions on the VP contexts of other platforms, division by a relocation
//! alignment of zero, relocation regions that pass the end of the address space. It prints to standard error, and it
//! copies every page. Checking all of this ahead would be a reader already. Tests hold both readers against each other on
//! well-formed files.

mod directive;
mod error;
mod headers;
mod identity;
mod parameters;
mod resign;
mod writer;

use bytes::Bytes;
use igvm_defs::{IGVM_VHS_SUPPORTED_PLATFORM, IgvmPlatformType};
use snp_abi::GuestPolicy;
use snp_launch::IdBlockPair;

pub use directive::{Directive, PageKind, ParameterKind};
pub use error::{IgvmError, IgvmFault};
pub use writer::{IgvmWriteError, IgvmWriter};

pub(crate) use parameters::{Area, Contents};

use headers::Headers;

/// The SEV-SNP part of an IGVM file.
#[derive(Clone, Debug)]
pub struct Igvm {
    file: Bytes,
    policy: Option<GuestPolicy>,
    id_block: Option<IdBlockPair>,
    shared_gpa_boundary: u64,
    highest_vtl: u8,
    relocatable: bool,
    platforms: Vec<(u8, u32)>,
    directives: Vec<Directive>,
}

impl Igvm {
    /// Reads a file of version 1, or of version 2 for x86-64 with 4 KiB pages.
    ///
    /// Takes time and memory in proportion to the file; pages share `file`.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use snp_image::Igvm;
    /// let error = Igvm::parse(Bytes::from_static(b"IGVM")).unwrap_err();
    /// assert_eq!(error.offset, 0);
    /// ```
    ///
    /// # Errors
    /// [`IgvmError`]: what is wrong, at which offset of the file. A file without a SEV-SNP platform is refused.
    ///
    /// # Source
    /// The IGVM file format, as `igvm_defs` 0.5 documents it.
    pub fn parse(file: Bytes) -> Result<Self, IgvmError> {
        let headers = Headers::read(&file)?;
        let platform = snp_platform(&headers)?;
        let policy = headers.policy(platform.compatibility_mask)?;
        let (directives, id_block) = directive::read_all(&file, &headers, platform.compatibility_mask, policy)?;
        let relocatable = headers.relocatable();
        let (shared_gpa_boundary, highest_vtl) = (platform.shared_gpa_boundary, platform.highest_vtl);
        let platforms = headers
            .platforms()
            .iter()
            .map(|(_, platform)| (platform.platform_type.0, platform.compatibility_mask))
            .collect();
        Ok(Self { policy, id_block, shared_gpa_boundary, highest_vtl, relocatable, platforms, directives, file })
    }

    /// Two slices of the file as one, if the second directly follows the first.
    pub(crate) fn joined(&self, first: &Bytes, second: &Bytes) -> Option<Bytes> {
        let offset = |slice: &Bytes| {
            let start = (slice.as_ptr() as usize).checked_sub(self.file.as_ptr() as usize)?;
            (start.checked_add(slice.len())? <= self.file.len()).then_some(start)
        };
        let (start, next) = (offset(first)?, offset(second)?);
        (start + first.len() == next).then(|| self.file.slice(start..next + second.len()))
    }

    /// The guest policy, if the file has one.
    pub fn policy(&self) -> Option<GuestPolicy> {
        self.policy
    }

    /// The ID block, if the file has one. Its policy is the file's.
    pub fn id_block(&self) -> Option<&IdBlockPair> {
        self.id_block.as_ref()
    }

    /// The GPA from which on memory is shared (vTOM), 0 if the guest uses the C-bit.
    pub fn shared_gpa_boundary(&self) -> u64 {
        self.shared_gpa_boundary
    }

    /// The highest VTL of the guest: with 2, VTL 2 is VMPL 0.
    pub fn highest_vtl(&self) -> u8 {
        self.highest_vtl
    }

    /// Whether the file says that it can be loaded elsewhere, which is not done here.
    pub fn is_relocatable(&self) -> bool {
        self.relocatable
    }

    /// The platforms of the file and the bit that each has in compatibility masks.
    pub fn platforms(&self) -> &[(u8, u32)] {
        &self.platforms
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.file.len() as u64
    }

    /// What is loaded, in file order.
    pub fn directives(&self) -> &[Directive] {
        &self.directives
    }
}

/// The file's SEV-SNP platform. Each platform has one bit of the compatibility masks.
fn snp_platform(headers: &Headers<'_>) -> Result<IGVM_VHS_SUPPORTED_PLATFORM, IgvmError> {
    let mut found: Option<IGVM_VHS_SUPPORTED_PLATFORM> = None;
    for (offset, platform) in headers.platforms() {
        if platform.compatibility_mask.count_ones() != 1 {
            return Err(IgvmError::new(*offset, IgvmFault::PlatformMask(platform.compatibility_mask)));
        }
        if platform.platform_type == IgvmPlatformType::SEV_SNP && found.replace(*platform).is_some() {
            return Err(IgvmError::new(*offset, IgvmFault::PlatformTwice));
        }
    }
    let names = || headers.platforms().iter().map(|(_, platform)| platform.platform_type.0).collect();
    found.ok_or_else(|| IgvmError::new(0, IgvmFault::NoSnpPlatform(names())))
}
