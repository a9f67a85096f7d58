//! Writing IGVM files, with the serializer of the `igvm` crate.

use igvm::snp_defs::SevVmsa;
use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IgvmRevision};
use igvm_defs::{
    IGVM_SEV_SNP_PLATFORM_VERSION, IGVM_VHS_SUPPORTED_PLATFORM, IgvmPageDataFlags, IgvmPageDataType, IgvmPlatformType,
};
use snp_abi::{Gpa, GuestPolicy, PAGE_SIZE, Vmsa};
use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

use super::PageKind;

/// The only platform of the files that are written has this bit.
const MASK: u32 = 1;

/// What a file may hold in page data: offsets have 32 bits, and the headers need room too.
const DATA_LIMIT: u64 = 0xe000_0000;

/// Makes an IGVM file for SEV-SNP.
///
/// Pages are loaded in the order in which they are added; add the VMSA last, so that the file is portable.
///
/// ```
/// use snp_abi::{Gpa, GuestPolicy, SevFeatures, Vmsa};
/// use snp_image::{Igvm, IgvmWriter, PageKind};
///
/// let mut writer = IgvmWriter::new(GuestPolicy::DEFAULT);
/// writer.pages(Gpa(0x10_0000), PageKind::Normal, &[0xf4; 0x1234])?;
/// writer.pages(Gpa(0x10_2000), PageKind::Secrets, &[])?;
/// writer.vmsa(Gpa(0x10_3000), &Vmsa { sev_features: SevFeatures(1), ..Vmsa::default() })?;
/// let igvm = Igvm::parse(writer.finish()?.into())?;
/// assert_eq!(igvm.policy(), Some(GuestPolicy::DEFAULT));
/// assert_eq!(igvm.directives().len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct IgvmWriter {
    policy: GuestPolicy,
    directives: Vec<IgvmDirectiveHeader>,
    data_bytes: u64,
}

/// Why a file cannot be written.
#[derive(Debug, Error)]
pub enum IgvmWriteError {
    /// A page that is not where a page can be.
    #[error("pages at {gpa}, {len:#x} bytes: expected a 4 KiB-aligned range below 2^52")]
    Range {
        /// First byte.
        gpa: Gpa,
        /// Bytes.
        len: u64,
    },
    /// More than the format can hold.
    #[error("{bytes:#x} bytes of page data: the format holds less than 4 GiB")]
    TooLarge {
        /// Bytes so far.
        bytes: u64,
    },
    /// A file without a SEV-SNP platform.
    #[error("the file has no SEV-SNP platform")]
    NoSnpPlatform,
    /// The serializer refused.
    #[error(transparent)]
    Serializer(#[from] igvm::Error),
}

impl IgvmWriter {
    /// An empty file with this guest policy.
    pub fn new(policy: GuestPolicy) -> Self {
        Self { policy, directives: Vec::new(), data_bytes: 0 }
    }

    /// Adds pages from `gpa` on with these contents, the last one filled up with zeros; no contents give one page. Every
    /// normal page is written with its data, for loaders disagree on pages without. Secrets and CPUID pages are one page
    /// without data each: platform and loader fill them.
    ///
    /// # Errors
    /// [`IgvmWriteError::Range`], [`IgvmWriteError::TooLarge`]; nothing is added then.
    pub fn pages(&mut self, gpa: Gpa, kind: PageKind, contents: &[u8]) -> Result<&mut Self, IgvmWriteError> {
        let (data_type, flags, contents) = match kind {
            PageKind::Normal => (IgvmPageDataType::NORMAL, IgvmPageDataFlags::new(), contents),
            PageKind::Unmeasured => {
                (IgvmPageDataType::NORMAL, IgvmPageDataFlags::new().with_unmeasured(true), contents)
            }
            PageKind::Shared => (IgvmPageDataType::NORMAL, IgvmPageDataFlags::new().with_shared(true), contents),
            PageKind::Secrets => (IgvmPageDataType::SECRETS, IgvmPageDataFlags::new(), &[][..]),
            PageKind::Cpuid => (IgvmPageDataType::CPUID_DATA, IgvmPageDataFlags::new(), &[][..]),
        };
        let len = contents.len().max(1).next_multiple_of(PAGE_SIZE) as u64;
        self.reserve(gpa, len)?;
        let with_data = data_type == IgvmPageDataType::NORMAL;
        for at in (0..len).step_by(PAGE_SIZE) {
            let rest = contents.get(at as usize..).unwrap_or_default();
            let mut data = rest[..rest.len().min(PAGE_SIZE)].to_vec();
            data.resize(if with_data { PAGE_SIZE } else { 0 }, 0);
            let gpa = gpa.0 + at;
            self.directives.push(IgvmDirectiveHeader::PageData {
                gpa,
                compatibility_mask: MASK,
                flags,
                data_type,
                data,
            });
        }
        Ok(self)
    }

    /// Says that the guest needs memory there: `len` bytes, a multiple of 4 KiB.
    ///
    /// # Errors
    /// [`IgvmWriteError::Range`]; nothing is added then.
    pub fn required_memory(&mut self, gpa: Gpa, len: u32) -> Result<&mut Self, IgvmWriteError> {
        self.reserve(gpa, len.into())?;
        self.data_bytes -= u64::from(len);
        self.directives.push(IgvmDirectiveHeader::RequiredMemory {
            gpa: gpa.0,
            compatibility_mask: MASK,
            number_of_bytes: len,
            vtl2_protectable: false,
        });
        Ok(self)
    }

    /// Adds the boot processor's VMSA, at `gpa` in guest memory.
    ///
    /// # Errors
    /// [`IgvmWriteError::Range`], [`IgvmWriteError::TooLarge`]; nothing is added then.
    pub fn vmsa(&mut self, gpa: Gpa, vmsa: &Vmsa) -> Result<&mut Self, IgvmWriteError> {
        self.reserve(gpa, PAGE_SIZE as u64)?;
        let vmsa = SevVmsa::read_from_bytes(vmsa.as_bytes()).expect("both are one page");
        self.directives.push(IgvmDirectiveHeader::SnpVpContext {
            gpa: gpa.0,
            compatibility_mask: MASK,
            vp_index: 0,
            vmsa: Box::new(vmsa),
        });
        Ok(self)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`IgvmWriteError::Serializer`].
    pub fn finish(self) -> Result<Vec<u8>, IgvmWriteError> {
        let platform = IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
            compatibility_mask: MASK,
            highest_vtl: 0,
            platform_type: IgvmPlatformType::SEV_SNP,
            platform_version: IGVM_SEV_SNP_PLATFORM_VERSION,
            shared_gpa_boundary: 0,
        });
        let policy = IgvmInitializationHeader::GuestPolicy { policy: self.policy.0, compatibility_mask: MASK };
        let file = IgvmFile::new(IgvmRevision::V1, vec![platform], vec![policy], self.directives)?;
        let mut bytes = Vec::new();
        file.serialize(&mut bytes)?;
        Ok(bytes)
    }

    /// Checks a range and counts its bytes: the serializer panics on what does not fit 32-bit offsets.
    fn reserve(&mut self, gpa: Gpa, len: u64) -> Result<(), IgvmWriteError> {
        let end = gpa.0.checked_add(len).filter(|end| *end <= 1 << 52);
        if !gpa.is_page_aligned() || end.is_none() || len == 0 || !len.is_multiple_of(PAGE_SIZE as u64) {
            return Err(IgvmWriteError::Range { gpa, len });
        }
        let bytes = self.data_bytes + len;
        if bytes > DATA_LIMIT {
            return Err(IgvmWriteError::TooLarge { bytes });
        }
        self.data_bytes = bytes;
        Ok(())
    }
}
