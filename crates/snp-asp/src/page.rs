//! The page that nobody can write any more.

use std::fmt;
use std::ops::ControlFlow;
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

    /// A page of which only the hash is known, as a transcript tells it: it is measured as the page that it stands for, and
    /// is zeros to whoever looks at it. It takes no memory.
    pub fn known_by_hash(sha384: [u8; 48]) -> Self {
        Self { sha384: OnceLock::from(sha384), ..Self::zero() }
    }

    /// The contents.
    pub fn as_bytes(&self) -> &[u8; PAGE_SIZE] {
        self.bytes.as_ref().try_into().expect("a sealed page has 4096 bytes")
    }

    /// SHA-384 of the contents.
    pub fn sha384(&self) -> [u8; 48] {
        *self.sha384.get_or_init(|| snp_sha384::sha384(self.as_bytes()))
    }

    /// Hands out every page in order, until `each` breaks, with its hash computed: other cores hash the pages ahead of
    /// the one that is handed out. Changes nothing but the time that [`SealedPage::sha384`] takes: hashing is most of the
    /// work of a launch.
    pub fn hashed_in_order<B>(pages: Vec<Self>, mut each: impl FnMut(Self) -> ControlFlow<B>) -> ControlFlow<B> {
        // `Bytes` of the same contents, not copies: the pages themselves are moved out one by one.
        let shared: Vec<Bytes> = pages.iter().map(|page| page.bytes.clone()).collect();
        let contents: Vec<&[u8; PAGE_SIZE]> =
            shared.iter().map(|bytes| bytes.as_ref().try_into().expect("a sealed page has 4096 bytes")).collect();
        let mut pages = pages.into_iter();
        snp_sha384::pages_in_order(&contents, |_, hash| {
            let page = pages.next().expect("one hash for every page");
            page.sha384.get_or_init(|| hash);
            each(page)
        })
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
