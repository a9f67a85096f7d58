//! SHA-384 of many 4 KiB pages at once.
//!
//! A launch digest is a chain over the hashes of pages. The chain is serial, the page hashes are independent: this crate
//! computes them four at a time in AVX2 registers where the processor has them, on all cores, and recognises pages that
//! repeat one byte. All ways give the same bytes; a property test says so.
//!
//! This is the only crate of the workspace that both the digest engine and the firmware model use for anything but
//! layouts. It knows SHA-384 and nothing of SEV-SNP.

mod constants;
#[cfg(target_arch = "x86_64")]
mod features;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod link;
mod ordered;
mod placement;

use std::sync::OnceLock;

use rayon::prelude::*;
use sha2::{Digest, Sha384};

pub use link::{LINK_SIZE, link};
pub use ordered::pages_in_order;

/// The size of a page in bytes.
pub const PAGE_SIZE: usize = 4096;

/// A SHA-384 hash value.
pub type Hash = [u8; 48];

/// Pages that one core hashes before it looks for more work: 128 KiB, so that no core waits long for the last one.
const PAGES_PER_TASK: usize = 32;

/// SHA-384 of any message.
pub fn sha384(message: &[u8]) -> Hash {
    Sha384::digest(message).into()
}

/// SHA-384 of a page of zeros.
pub fn zero_page() -> Hash {
    uniform_page(0)
}

/// SHA-384 of every page, in order, on all cores.
pub fn pages(pages: &[&[u8; PAGE_SIZE]]) -> Vec<Hash> {
    let mut hashes = vec![[0; 48]; pages.len()];
    on_all_cores(pages, &mut hashes);
    hashes
}

fn on_all_cores(pages: &[&[u8; PAGE_SIZE]], hashes: &mut [Hash]) {
    hashes
        .par_chunks_mut(PAGES_PER_TASK)
        .zip(pages.par_chunks(PAGES_PER_TASK))
        .for_each(|(hashes, pages)| pages_on_this_core(pages, hashes));
}

/// SHA-384 of every page, in order, on the calling thread: `hashes[i]` becomes the hash of `pages[i]`.
///
/// # Panics
/// If the slices differ in length.
pub fn pages_on_this_core(pages: &[&[u8; PAGE_SIZE]], hashes: &mut [Hash]) {
    assert_eq!(pages.len(), hashes.len(), "one hash for every page");
    let mut waiting = [0; 4];
    let mut count = 0;
    for (index, page) in pages.iter().enumerate() {
        if let Some(byte) = uniform(page) {
            hashes[index] = uniform_page(byte);
            continue;
        }
        waiting[count] = index;
        count += 1;
        if count == waiting.len() {
            for (index, hash) in waiting.into_iter().zip(four_pages(waiting.map(|index| pages[index]))) {
                hashes[index] = hash;
            }
            count = 0;
        }
    }
    match waiting[..count] {
        [] => {}
        [one] => hashes[one] = sha384(pages[one]),
        // Four lanes take less time than two pages one after the other, whatever is in the lanes that are left.
        [a, .., z] => {
            let middle = waiting[count / 2];
            let [of_a, of_middle, of_z, _] = four_pages([pages[a], pages[middle], pages[z], pages[z]]);
            (hashes[a], hashes[middle], hashes[z]) = (of_a, of_middle, of_z);
        }
    }
}

/// The byte that all of the page is made of, if it is: then, and only then, every byte equals the next. The comparison stops
/// where they part, so that it costs nothing on other pages.
fn uniform(page: &[u8; PAGE_SIZE]) -> Option<u8> {
    (page[1..] == page[..PAGE_SIZE - 1]).then_some(page[0])
}

/// SHA-384 of a page of one byte. Images are padded with zeros, firmware with 0xff: more than half of OVMF is such pages.
fn uniform_page(byte: u8) -> Hash {
    static HASHES: [OnceLock<Hash>; 256] = [const { OnceLock::new() }; 256];
    *HASHES[usize::from(byte)].get_or_init(|| sha384(&[byte; PAGE_SIZE]))
}

/// SHA-384 of four pages, side by side if the processor can.
fn four_pages(pages: [&[u8; PAGE_SIZE]; 4]) -> [Hash; 4] {
    #[cfg(target_arch = "x86_64")]
    if let Some(hashes) = lanes::sha384x4(pages.map(|page| page.as_slice())) {
        return hashes;
    }
    pages.map(|page| sha384(page))
}
