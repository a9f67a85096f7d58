//! Pages of guest memory.
//!
//! A [`HostPage`] is 4 KiB that a virtual processor reads and writes while other threads, or a foreign program that maps the
//! same memory, may do so too. Nothing here hands out a reference to the bytes: they are copied in and out.
//!
//! # Unsafety
//! The only unsafe code is the access to the page behind its pointer. A page is either owned, and lives as long as the last
//! clone, or borrowed by [`HostPage::borrow`], whose caller promises that it stays mapped. Offsets are checked in every
//! access. Accesses are volatile or atomic, so that a foreign writer can at worst be seen half-way, as on hardware.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;

/// The bytes of an owned page, at the alignment that atomic access wants.
#[repr(C, align(4096))]
struct Bytes([u8; PAGE_SIZE]);

/// One page of memory.
#[derive(Clone)]
pub struct HostPage {
    base: NonNull<u8>,
    /// What keeps the page alive, if this crate does.
    _owner: Option<Arc<Owner>>,
}

/// The allocation of an owned page.
struct Owner(NonNull<Bytes>);

// SAFETY: a page is nothing but memory; every access to it is volatile or atomic.
unsafe impl Send for Owner {}
// SAFETY: as above.
unsafe impl Sync for Owner {}
// SAFETY: as above.
unsafe impl Send for HostPage {}
// SAFETY: as above.
unsafe impl Sync for HostPage {}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: made from a `Box` in `HostPage::zeroed`, and dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A number of bytes that one access moves.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned<T>(T);

impl HostPage {
    /// A page of zeros of its own.
    pub fn zeroed() -> Self {
        let bytes = NonNull::from(Box::leak(Box::new(Bytes([0; PAGE_SIZE]))));
        Self { base: bytes.cast(), _owner: Some(Arc::new(Owner(bytes))) }
    }

    /// A page of its own with these contents.
    pub fn copy_of(contents: &[u8; PAGE_SIZE]) -> Self {
        let page = Self::zeroed();
        page.write(0, contents);
        page
    }

    /// Memory that somebody else owns.
    ///
    /// # Safety
    /// `base` is the start of 4096 bytes, 8-byte-aligned, that stay readable and, if they are ever written through this
    /// page, writable, for as long as this page or a clone of it is used.
    pub unsafe fn borrow(base: NonNull<u8>) -> Self {
        Self { base, _owner: None }
    }

    /// Where the page lies, as its identity.
    pub fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// Whether both are the same memory.
    pub fn is(&self, other: &Self) -> bool {
        self.base == other.base
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset <= PAGE_SIZE - size_of::<T>(), "an access within the page");
        // SAFETY: the offset was checked.
        unsafe { self.base.as_ptr().add(offset).cast() }
    }

    /// Reads eight bits.
    #[inline(always)]
    pub fn load8(&self, offset: usize) -> u8 {
        // SAFETY: within the page, which is readable.
        unsafe { self.at::<u8>(offset).read_volatile() }
    }

    /// Reads 16 bits, at any alignment.
    #[inline(always)]
    pub fn load16(&self, offset: usize) -> u16 {
        // SAFETY: within the page, which is readable; the type has no alignment.
        unsafe { self.at::<Unaligned<u16>>(offset).read_volatile().0 }
    }

    /// Reads 32 bits, at any alignment.
    #[inline(always)]
    pub fn load32(&self, offset: usize) -> u32 {
        // SAFETY: as `load16`.
        unsafe { self.at::<Unaligned<u32>>(offset).read_volatile().0 }
    }

    /// Reads 64 bits, at any alignment.
    #[inline(always)]
    pub fn load64(&self, offset: usize) -> u64 {
        // SAFETY: as `load16`.
        unsafe { self.at::<Unaligned<u64>>(offset).read_volatile().0 }
    }

    /// Writes eight bits.
    #[inline(always)]
    pub fn store8(&self, offset: usize, value: u8) {
        // SAFETY: within the page, which is writable by the promise of whoever writes it.
        unsafe { self.at::<u8>(offset).write_volatile(value) }
    }

    /// Writes 16 bits, at any alignment.
    #[inline(always)]
    pub fn store16(&self, offset: usize, value: u16) {
        // SAFETY: as `store8`; the type has no alignment.
        unsafe { self.at::<Unaligned<u16>>(offset).write_volatile(Unaligned(value)) }
    }

    /// Writes 32 bits, at any alignment.
    #[inline(always)]
    pub fn store32(&self, offset: usize, value: u32) {
        // SAFETY: as `store16`.
        unsafe { self.at::<Unaligned<u32>>(offset).write_volatile(Unaligned(value)) }
    }

    /// Writes 64 bits, at any alignment.
    #[inline(always)]
    pub fn store64(&self, offset: usize, value: u64) {
        // SAFETY: as `store16`.
        unsafe { self.at::<Unaligned<u64>>(offset).write_volatile(Unaligned(value)) }
    }

    /// Reads bytes.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset <= PAGE_SIZE && into.len() <= PAGE_SIZE - offset, "an access within the page");
        let mut words = into.chunks_exact_mut(8);
        let mut at = offset;
        for word in &mut words {
            word.copy_from_slice(&self.load64(at).to_ne_bytes());
            at += 8;
        }
        for (index, byte) in words.into_remainder().iter_mut().enumerate() {
            *byte = self.load8(at + index);
        }
    }

    /// Writes bytes.
    pub fn write(&self, offset: usize, data: &[u8]) {
        assert!(offset <= PAGE_SIZE && data.len() <= PAGE_SIZE - offset, "an access within the page");
        let words = data.chunks_exact(8);
        let mut at = offset;
        let rest = words.remainder();
        for word in words {
            self.store64(at, u64::from_ne_bytes(word.try_into().expect("chunks of eight")));
            at += 8;
        }
        for (index, byte) in rest.iter().enumerate() {
            self.store8(at + index, *byte);
        }
    }

    /// The whole page.
    pub fn contents(&self) -> Box<[u8; PAGE_SIZE]> {
        let mut contents = Box::new([0; PAGE_SIZE]);
        self.read(0, &mut *contents);
        contents
    }

    /// Replaces 8, 16, 32 or 64 bits in one step if they are `old`; returns what was there. `None` unless the access is
    /// aligned to its `size` in bytes, which is 1, 2, 4 or 8.
    pub fn compare_exchange(&self, offset: usize, size: usize, old: u64, new: u64) -> Option<Result<u64, u64>> {
        macro_rules! exchange {
            ($atomic:ty, $integer:ty) => {{
                if !(self.base.as_ptr() as usize + offset).is_multiple_of(size_of::<$integer>()) {
                    return None;
                }
                // SAFETY: within the page and aligned; all other accesses to it are atomic or volatile.
                let place = unsafe { <$atomic>::from_ptr(self.at::<$integer>(offset)) };
                let done = place.compare_exchange(old as $integer, new as $integer, Ordering::SeqCst, Ordering::SeqCst);
                Some(done.map(u64::from).map_err(u64::from))
            }};
        }
        match size {
            1 => exchange!(AtomicU8, u8),
            2 => exchange!(AtomicU16, u16),
            4 => exchange!(AtomicU32, u32),
            8 => exchange!(AtomicU64, u64),
            _ => None,
        }
    }
}

impl fmt::Debug for HostPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostPage({:#x})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_of_all_sizes_see_the_same_bytes() {
        let page = HostPage::copy_of(&std::array::from_fn(|index| (index * 7) as u8));
        let contents = page.contents();
        for offset in [0, 1, 5, 4088] {
            let word: [u8; 8] = contents[offset..offset + 8].try_into().unwrap();
            assert_eq!(page.load64(offset), u64::from_le_bytes(word));
            assert_eq!(page.load32(offset), u64::from_le_bytes(word) as u32);
            assert_eq!(page.load16(offset), u64::from_le_bytes(word) as u16);
            assert_eq!(page.load8(offset), word[0]);
        }
        page.store64(3, 0x0102_0304_0506_0708);
        page.store8(4095, 0xaa);
        let mut bytes = [0; 9];
        page.read(2, &mut bytes);
        assert_eq!(bytes[1..], 0x0102_0304_0506_0708_u64.to_le_bytes());
        assert_eq!(page.load8(4095), 0xaa);
    }

    #[test]
    fn an_exchange_happens_once_and_wants_alignment() {
        let page = HostPage::zeroed();
        assert_eq!(page.compare_exchange(8, 4, 0, 7), Some(Ok(0)));
        assert_eq!(page.compare_exchange(8, 4, 0, 9), Some(Err(7)));
        assert_eq!(page.compare_exchange(9, 4, 0, 9), None);
        assert_eq!(page.compare_exchange(8, 3, 0, 9), None);
        assert_eq!(page.load32(8), 7);
    }

    #[test]
    #[should_panic = "within the page"]
    fn an_access_beyond_the_page_is_a_bug_of_ours() {
        HostPage::zeroed().load32(4093);
    }

    #[test]
    fn a_clone_keeps_the_page() {
        let page = HostPage::zeroed();
        let clone = page.clone();
        page.store8(0, 1);
        drop(page);
        assert_eq!(clone.load8(0), 1);
    }
}
