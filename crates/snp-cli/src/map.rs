//! Files as memory maps, for work that reads them once from front to back.
//!
//! # Unsafety
//! A mapped file is not immutable: another process may change it while it is read, or cut it off, which ends this process
//! with SIGBUS. What is computed from a map is a *prediction* of a file that nobody changes meanwhile; it is never the
//! contents of a launch. `snp launch` reads files into memory of its own, so that what is checked is what is measured.

#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use memmap2::{Mmap, UncheckedAdvice};

use crate::input;

/// A file's bytes, and the map behind them if there is one.
pub(crate) struct Mapped {
    pub(crate) bytes: Bytes,
    map: Option<Arc<Mmap>>,
}

/// The map as the owner of `Bytes`.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a regular file of at most `limit` bytes; reads anything else, a pipe for instance.
pub(crate) fn map(path: &Path, what: &str, limit: u64) -> Result<Mapped> {
    let context = || format!("{what} {}", path.display());
    let file = File::open(path).with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(Mapped { bytes: input::read(path, what, limit)?, map: None });
    }
    ensure!(metadata.len() <= limit, "{}: {} bytes, more than the {limit} that are read", context(), metadata.len());
    // SAFETY: the map is read only through `&[u8]`. Should another process change the file meanwhile, bytes may differ
    // between two reads: parsers here take every value once and check it, and no `unsafe` code relies on any of them.
    let map = Arc::new(unsafe { Mmap::map(&file) }.with_context(context)?);
    Ok(Mapped { bytes: Bytes::from_owner(Owner(map.clone())), map: Some(map) })
}

impl Mapped {
    /// Lets go of the memory behind the map; what is read again comes from the file again.
    pub(crate) fn release(&self) {
        if let Some(map) = &self.map {
            // SAFETY: the map is private, never written, and of a file: dropped pages read as the same file contents.
            // Failure only costs memory.
            let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_map_reads_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 10_000]).unwrap();
        let mapped = map(file.path(), "test", 1 << 20).unwrap();
        assert_eq!(mapped.bytes.as_ref(), [7; 10_000]);
        mapped.release();
        assert_eq!(mapped.bytes.as_ref(), [7; 10_000]);
        assert!(map(file.path(), "test", 9_999).is_err());
        assert!(map(Path::new("/"), "test", 9_999).is_err());
    }
}
