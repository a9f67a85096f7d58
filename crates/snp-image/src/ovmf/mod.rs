//! OVMF firmware volumes: the flash image and what it tells a VMM about SEV-SNP.
//!
//! # Source
//! edk2, OvmfPkg/ResetVector (`Ia16/ResetVectorVtf0.asm` for the table, `X64/OvmfSevMetadata.asm` for the metadata).

mod error;
mod metadata;
mod table;

use bytes::Bytes;
use snp_abi::{Gpa, PAGE_SIZE};

pub use error::OvmfError;
pub use metadata::{Section, SectionKind};
pub use table::{Table, TableEntry};

use crate::Guid;

/// The firmware image ends here.
const FOUR_GIB: u64 = 1 << 32;

/// The largest image that is taken: QEMU's `max-fw-size` is 8 MiB by default and cannot be set above 16 MiB, for the
/// local APIC and its neighbours lie below.
pub const OVMF_SIZE_LIMIT: usize = 16 << 20;

/// GPA of the kernel hash table, in the firmware's table.
const HASH_TABLE: Guid = Guid::new(0x7255_371f, 0x3a3b, 0x4b04, [0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54]);

/// Start address of the other processors, in the firmware's table.
const SEV_ES_RESET: Guid = Guid::new(0x00f7_71de, 0x1a7e, 0x4fcb, [0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e]);

/// Where an SVSM image starts, in its table.
const SVSM_INFO: Guid = Guid::new(0xa789_a612, 0x0597, 0x4c4b, [0xa4, 0x9f, 0xcb, 0xb1, 0xfe, 0x9d, 0x1d, 0xdd]);

/// An OVMF image whose table and SEV metadata have been read.
#[derive(Clone, Debug)]
pub struct Ovmf {
    flash: Bytes,
    table: Table,
    sections: Vec<Section>,
}

impl Ovmf {
    /// Reads an image: the whole flash, or its code half, as QEMU takes it with `-bios`.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use snp_image::Ovmf;
    /// let error = Ovmf::parse(Bytes::from(vec![0; 0x10000])).unwrap_err();
    /// assert!(error.to_string().contains("footer GUID"), "{error}");
    /// ```
    ///
    /// # Errors
    /// [`OvmfError`]: what is wrong, at which offset of the file. A firmware without SEV metadata is refused, for it
    /// cannot start under SEV-SNP.
    pub fn parse(flash: Bytes) -> Result<Self, OvmfError> {
        let len = flash.len();
        if len == 0 || len > OVMF_SIZE_LIMIT || !len.is_multiple_of(PAGE_SIZE) {
            return Err(OvmfError::Size { len: len as u64 });
        }
        let table = Table::read(&flash)?;
        let sections = metadata::read(&flash, &table)?;
        Ok(Self { flash, table, sections })
    }

    /// Reads an image for SEV or SEV-ES, which need no SEV-SNP metadata: without it there are no sections.
    ///
    /// # Errors
    /// [`OvmfError`]: what is wrong, at which offset of the file.
    pub fn parse_without_snp(flash: Bytes) -> Result<Self, OvmfError> {
        match Self::parse(flash.clone()) {
            Err(OvmfError::NoSevMetadata) => {
                let table = Table::read(&flash)?;
                Ok(Self { flash, table, sections: Vec::new() })
            }
            other => other,
        }
    }

    /// The whole image.
    pub fn flash(&self) -> &Bytes {
        &self.flash
    }

    /// Where the image starts in guest memory: it ends at 4 GiB.
    pub fn gpa(&self) -> Gpa {
        Gpa(FOUR_GIB - self.flash.len() as u64)
    }

    /// The GUIDed table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The sections of the SEV metadata, in file order: the order in which they are launched and measured.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Where the firmware expects the table of kernel hashes; `None` if it has no place for it.
    ///
    /// # Errors
    /// [`OvmfError::Truncated`]: the entry is shorter than an address.
    pub fn hash_table_gpa(&self) -> Result<Option<Gpa>, OvmfError> {
        // An address of zero says "not supported", as sev-snp-measure reads it too.
        Ok(self.address(&HASH_TABLE, "SEV hash table entry")?.filter(|gpa| *gpa != 0).map(|gpa| Gpa(gpa.into())))
    }

    /// Where processors other than the boot processor start, as EIP; `None` without a SEV-ES reset block.
    ///
    /// # Errors
    /// [`OvmfError::Truncated`]: the entry is shorter than an address.
    pub fn reset_eip(&self) -> Result<Option<u32>, OvmfError> {
        self.address(&SEV_ES_RESET, "SEV-ES reset block")
    }

    /// Where an SVSM image starts, relative to the start of the image; `None` for other firmware.
    ///
    /// # Errors
    /// [`OvmfError::Truncated`]: the entry is shorter than an address.
    pub fn svsm_offset(&self) -> Result<Option<u32>, OvmfError> {
        self.address(&SVSM_INFO, "SVSM info")
    }

    fn address(&self, guid: &Guid, what: &'static str) -> Result<Option<u32>, OvmfError> {
        self.table.find(guid).map(|entry| entry.u32(&self.flash, what)).transpose()
    }
}
