//! The page that nobody can write any more.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use snp_abi::PAGE_SIZE;
use thiserror::Error;

/// The contents of one 4 KiB page that no thread can change: what is checked is what is measured.
///
/// KVM copies a user page **once** into a `SealedPage`, checks that, and *moves* it into the firmware, which measures and
/// keeps it. There is no way to get a `&mut` to the bytes, and the type is not `Clone`: a page has one owner. Contents
/// that are immutable to begin with (an image read into memory) may be shared instead of copied.
pub struct SealedPage {
    bytes: Bytes,
    /// The hash of `bytes`, once somebody asked for it. The bytes never change, so neither does it.
    sha384: OnceLock<[u8; 48]>,
}

/// Contents that are not exactly one page.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a page has 4096 bytes, not {0}")]
pub struct WrongLength(pub usize);

impl SealedPage {
    /// A page of zeros; takes no memory.
    pub fn zero() -> Self {
        static ZERO: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        Self { bytes: Bytes::from_static(&ZERO), sha384: OnceLock::new() }
    }

    /// Copies the page.
    pub fn copy_of(page: &[u8; PAGE_SIZE]) -> Self {
        Self { bytes: Bytes::copy_from_slice(page), sha384: OnceLock::new() }
    }

    /// Shares a page of an immutable buffer. The owner behind `page` must never change it; a `Bytes` made from a `Vec`
    /// or a `Box` cannot, one made from a shared memory map could.
    ///
    /// # Errors
    /// [`WrongLength`] unless `page` has 4096 bytes.
    pub fn share(page: Bytes) -> Result<Self, WrongLength> {
        if page.len() != PAGE_SIZE {
            return Err(WrongLength(page.len()));
        }
        Ok(Self { bytes: page, sha384: OnceLock::new() })
    }

    /// The contents.
    pub fn as_bytes(&self) -> &[u8; PAGE_SIZE] {
        self.bytes.as_ref().try_into().expect("a sealed page has 4096 bytes")
    }

    /// SHA-384 of the contents.
    pub fn sha384(&self) -> [u8; 48] {
        *self.sha384.get_or_init(|| snp_sha384::sha384(self.as_bytes()))
    }

    /// Computes the hashes of many pages at once, so that [`SealedPage::sha384`] finds them done. Changes nothing else:
    /// hashing is most of the work of a launch, and many pages hash faster together than one after the other.
    pub fn hash_ahead(pages: &[Self]) {
        Self::hash_ahead_while(pages, || ());
    }

    /// As [`SealedPage::hash_ahead`], while the calling thread does other work beside it.
    pub fn hash_ahead_while<T: Send>(pages: &[Self], work: impl FnOnce() -> T + Send) -> T {
        let contents: Vec<_> = pages.iter().map(Self::as_bytes).collect();
        let (hashes, done) = snp_sha384::pages_while(&contents, work);
        for (page, hash) in pages.iter().zip(hashes) {
            page.sha384.get_or_init(|| hash);
        }
        done
    }
}

impl PartialEq for SealedPage {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SealedPage {}

impl fmt::Debug for SealedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedPage({:02x?}…)", &self.bytes[..8])
    }
}
