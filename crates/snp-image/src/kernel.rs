//! Direct kernel boot: the page with the hashes of kernel, initial RAM disk and command line.
//!
//! The VMM hands these three to the firmware over an unprotected channel; the firmware compares them with the hashes in
//! this page, which is measured.

use sha2::{Digest, Sha256};
use snp_abi::{Gpa, PAGE_SIZE};
use thiserror::Error;

use crate::Guid;

const TABLE: Guid = Guid::new(0x9438_d606, 0x4f22, 0x4cc9, [0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21]);
const CMDLINE: Guid = Guid::new(0x97d0_2dd8, 0xbd20, 0x4c94, [0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a]);
const INITRD: Guid = Guid::new(0x44ba_f731, 0x3a2f, 0x4bd7, [0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d]);
const KERNEL: Guid = Guid::new(0x4de7_9437, 0xabd2, 0x427f, [0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b]);

/// GUID and u16 length, of the table and of each entry.
const HEADER: usize = 18;
const ENTRY: usize = HEADER + 32;
const TABLE_LEN: usize = HEADER + 3 * ENTRY;

/// The table as it is written: padded to a multiple of 16 bytes.
const PADDED_LEN: usize = TABLE_LEN.next_multiple_of(16);

/// SHA-256 of what is booted directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    /// Of the kernel file.
    pub kernel: [u8; 32],
    /// Of the initial RAM disk, or of nothing if there is none.
    pub initrd: [u8; 32],
    /// Of the command line with a NUL at its end.
    pub cmdline: [u8; 32],
}

/// The table of hashes does not fit where the firmware wants it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the firmware's hash table at {gpa} does not fit into its page: {PADDED_LEN} bytes wanted")]
pub struct HashTableError {
    /// Where the firmware wants the table.
    pub gpa: Gpa,
}

impl KernelHashes {
    /// Hashes what is booted.
    ///
    /// `kernel`: the file as it is. `initrd`: `None` is the same as an empty one. `cmdline`: without the NUL, which is
    /// hashed with it; `None` is the same as an empty one.
    ///
    /// # Source
    /// sev-snp-measure 0.0.13, `sev_hashes.py`. The VMM patches its own copy of the kernel's setup header before it hands
    /// it over; hashed is the file as it is, before that.
    pub fn new(kernel: &[u8], initrd: Option<&[u8]>, cmdline: Option<&str>) -> Self {
        Self {
            kernel: Sha256::digest(kernel).into(),
            initrd: Sha256::digest(initrd.unwrap_or_default()).into(),
            cmdline: Self::hash_of_cmdline(cmdline.unwrap_or_default()),
        }
    }

    /// The page that holds the table, zeros around it. `gpa` is where the table lies; the page is the one around it.
    ///
    /// # Errors
    /// [`HashTableError`]: the table would pass the end of the page.
    pub fn page(&self, gpa: Gpa) -> Result<Box<[u8; PAGE_SIZE]>, HashTableError> {
        let mut page = Box::new([0; PAGE_SIZE]);
        let offset = (gpa.0 % PAGE_SIZE as u64) as usize;
        if offset + PADDED_LEN > PAGE_SIZE {
            return Err(HashTableError { gpa });
        }
        let table = self.table();
        page[offset..offset + table.len()].copy_from_slice(&table);
        Ok(page)
    }

    /// The table as SEV and SEV-ES measure it: padded with zeros to a multiple of 16 bytes.
    pub(crate) fn padded_table(&self) -> Vec<u8> {
        let mut table = self.table();
        table.resize(PADDED_LEN, 0);
        table
    }

    /// SHA-256 of a command line as it is put into the table: with a NUL at its end.
    pub fn hash_of_cmdline(cmdline: &str) -> [u8; 32] {
        Sha256::new_with_prefix(cmdline).chain_update([0]).finalize().into()
    }

    /// The table: its own header, then command line, initial RAM disk, kernel.
    ///
    /// # Source
    /// sev-snp-measure 0.0.13, `sev_hashes.py` (which states that it equals QEMU's); edk2,
    /// OvmfPkg/AmdSev/BlobVerifierLibSevHashes for the GUIDs.
    fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(TABLE_LEN);
        header(&mut table, &TABLE, TABLE_LEN);
        for (guid, hash) in [(&CMDLINE, &self.cmdline), (&INITRD, &self.initrd), (&KERNEL, &self.kernel)] {
            header(&mut table, guid, ENTRY);
            table.extend_from_slice(hash);
        }
        table
    }
}

/// Appends a GUID and a length that counts both.
fn header(table: &mut Vec<u8>, guid: &Guid, len: usize) {
    table.extend_from_slice(&guid.0);
    table.extend_from_slice(&(len as u16).to_le_bytes());
}
