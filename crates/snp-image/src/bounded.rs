//! Reads from untrusted bytes: every access is checked, and says where it was.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// An access past the end of a file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{what} at offset {offset:#x}: {len} bytes wanted, the file has {available}")]
pub struct Truncated {
    /// What was read.
    pub what: &'static str,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Bytes wanted.
    pub len: u64,
    /// Bytes that the file has from there on.
    pub available: u64,
}

/// `len` bytes at `offset`.
pub(crate) fn slice<'a>(data: &'a [u8], offset: u64, len: u64, what: &'static str) -> Result<&'a [u8], Truncated> {
    let range = range(data.len(), offset, len, what)?;
    // In bounds by `range`.
    Ok(&data[range])
}

/// The range of `len` bytes at `offset` in a file of `size` bytes.
pub(crate) fn range(
    size: usize,
    offset: u64,
    len: u64,
    what: &'static str,
) -> Result<std::ops::Range<usize>, Truncated> {
    let end = offset.checked_add(len).and_then(|end| usize::try_from(end).ok()).filter(|end| *end <= size);
    match end {
        // `offset <= end`, so it fits as well.
        Some(end) => Ok(offset as usize..end),
        None => Err(Truncated { what, offset, len, available: (size as u64).saturating_sub(offset) }),
    }
}

/// A structure at `offset`.
pub(crate) fn read<T>(data: &[u8], offset: u64, what: &'static str) -> Result<T, Truncated>
where
    T: FromBytes + KnownLayout + Immutable,
{
    let bytes = slice(data, offset, size_of::<T>() as u64, what)?;
    Ok(T::read_from_bytes(bytes).expect("as many bytes as the structure has"))
}

/// A little-endian u16 at `offset`.
pub(crate) fn u16_at(data: &[u8], offset: u64, what: &'static str) -> Result<u16, Truncated> {
    read::<[u8; 2]>(data, offset, what).map(u16::from_le_bytes)
}

/// A little-endian u32 at `offset`.
pub(crate) fn u32_at(data: &[u8], offset: u64, what: &'static str) -> Result<u32, Truncated> {
    read::<[u8; 4]>(data, offset, what).map(u32::from_le_bytes)
}
