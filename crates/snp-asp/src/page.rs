//! The page that nobody can write any more.

use std::fmt;

use bytes::Bytes;
use snp_abi::PAGE_SIZE;
use thiserror::Error;

/// The contents of one 4 KiB page that no thread can change: what is checked is what is measured.
///
/// KVM copies a user page **once** into a `SealedPage`, checks that, and *moves* it into the firmware, which measures and
/// keeps it. There is no way to get a `&mut` to the bytes, and the type is not `Clone`: a page has one owner. Contents
/// that are immutable to begin with (an image read into memory) may be shared instead of copied.
#[derive(PartialEq, Eq)]
pub struct SealedPage(Bytes);

/// Contents that are not exactly one page.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a page has 4096 bytes, not {0}")]
pub struct WrongLength(pub usize);

impl SealedPage {
    /// A page of zeros; takes no memory.
    pub fn zero() -> Self {
        static ZERO: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        Self(Bytes::from_static(&ZERO))
    }

    /// Copies the page.
    pub fn copy_of(page: &[u8; PAGE_SIZE]) -> Self {
        Self(Bytes::copy_from_slice(page))
    }

    /// Shares a page of an immutable buffer. The owner behind `page` must never change it; a `Bytes` made from a `Vec`
    /// or a `Box` cannot, one made from a shared memory map could.
    ///
    /// # Errors
    /// [`WrongLength`] unless `page` has 4096 bytes.
    pub fn share(page: Bytes) -> Result<Self, WrongLength> {
        if page.len() == PAGE_SIZE { Ok(Self(page)) } else { Err(WrongLength(page.len())) }
    }

    /// The contents.
    pub fn as_bytes(&self) -> &[u8; PAGE_SIZE] {
        self.0.as_ref().try_into().expect("a sealed page has 4096 bytes")
    }
}

impl fmt::Debug for SealedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedPage({:02x?}…)", &self.0[..8])
    }
}
