//! The GUIDed table at the end of the image.

use super::OvmfError;
use crate::{Guid, bounded};

/// The table ends this many bytes before the end of the image; the reset vector follows.
const AFTER_TABLE: u64 = 32;

/// Bytes of an entry besides its data: u16 size, GUID.
const ENTRY_HEADER: u64 = 18;

/// The entry that ends the table and tells its size.
const FOOTER: Guid = Guid::new(0x96b5_82de, 0x1fb2, 0x45f7, [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d]);

/// The entries of a firmware's table, from the last to the first, which is the order in which they are found.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: Vec<TableEntry>,
}

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// What it is.
    pub guid: Guid,
    /// Where its data start, as offset in the file.
    pub offset: u64,
    /// Bytes of its data.
    pub len: u64,
}

impl TableEntry {
    /// The first four bytes of the data as little-endian number.
    pub(super) fn u32(&self, flash: &[u8], what: &'static str) -> Result<u32, OvmfError> {
        if self.len < 4 {
            return Err(OvmfError::ShortEntry { what, offset: self.offset, len: self.len });
        }
        Ok(bounded::u32_at(flash, self.offset, what)?)
    }
}

impl Table {
    /// Reads the table backwards from its footer.
    pub(super) fn read(flash: &[u8]) -> Result<Self, OvmfError> {
        let len = flash.len() as u64;
        let footer = len.checked_sub(AFTER_TABLE + ENTRY_HEADER).ok_or(OvmfError::Size { len })?;
        let guid = guid_at(flash, footer + 2)?;
        if guid != FOOTER {
            return Err(OvmfError::NoTable { offset: footer + 2, expected: FOOTER, got: guid });
        }
        // The size counts the footer itself.
        let size = u64::from(bounded::u16_at(flash, footer, "size of the table")?);
        let start = size.checked_sub(ENTRY_HEADER).and_then(|before| footer.checked_sub(before));
        let start = start.ok_or(OvmfError::TableSize { offset: footer, got: size, limit: footer + ENTRY_HEADER })?;
        Self::read_entries(flash, start, footer)
    }

    /// Reads the entries between `start` and `end`. Every entry has at least its header, so this ends.
    fn read_entries(flash: &[u8], start: u64, mut end: u64) -> Result<Self, OvmfError> {
        let mut table = Self::default();
        while end - start >= ENTRY_HEADER {
            let header = end - ENTRY_HEADER;
            let size = u64::from(bounded::u16_at(flash, header, "size of a table entry")?);
            if size < ENTRY_HEADER || size > end - start {
                return Err(OvmfError::EntrySize { offset: header, got: size, limit: end - start });
            }
            let guid = guid_at(flash, header + 2)?;
            if let Some(other) = table.find(&guid) {
                return Err(OvmfError::DuplicateEntry { guid, first: other.offset, second: end - size });
            }
            table.entries.push(TableEntry { guid, offset: end - size, len: size - ENTRY_HEADER });
            end -= size;
        }
        if end != start {
            return Err(OvmfError::TableRemainder { offset: start, len: end - start });
        }
        Ok(table)
    }

    /// The entry with this GUID.
    pub fn find(&self, guid: &Guid) -> Option<&TableEntry> {
        self.entries.iter().find(|entry| entry.guid == *guid)
    }

    /// All entries, from the last to the first.
    pub fn entries(&self) -> &[TableEntry] {
        &self.entries
    }
}

fn guid_at(flash: &[u8], offset: u64) -> Result<Guid, OvmfError> {
    Ok(Guid(bounded::read(flash, offset, "GUID of a table entry")?))
}
