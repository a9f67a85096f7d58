//! Guest memory around an image, and where a boot VMSA goes that the image does not place.

use bytes::Bytes;
use snp_abi::{Gpa, PAGE_SIZE};
use snp_launch::{LaunchPage, MemoryRegion, PageBytes, PlanError};

const PAGE: u64 = PAGE_SIZE as u64;

/// Low memory that every guest has, in bytes from 0. It does not change the launch digest.
pub(crate) const LOW_MEMORY: u64 = 512 << 20;

/// The smallest regions that cover low memory, `extra` and all pages; sorted, with gaps between them. Ranges were checked
/// not to wrap.
pub(crate) fn regions(pages: &[LaunchPage], extra: &[MemoryRegion]) -> Vec<MemoryRegion> {
    let low = MemoryRegion { gpa: Gpa(0), len: LOW_MEMORY };
    let of_pages = pages.iter().map(|page| MemoryRegion { gpa: page.gpa(), len: page.len_bytes() });
    let mut regions: Vec<_> = of_pages.chain(extra.iter().copied()).chain([low]).collect();
    regions.sort_unstable_by_key(|region| region.gpa);
    regions.dedup_by(|next, last| {
        let last_end = last.gpa.0 + last.len;
        let joins = next.gpa.0 <= last_end;
        if joins {
            last.len = last_end.max(next.gpa.0 + next.len) - last.gpa.0;
        }
        joins
    });
    regions
}

/// Appends unmeasured pages of zeros, a non-zero multiple of 4 KiB in all. They share 2 MiB of zeros, however many there
/// are: an image may ask for 4 GiB.
pub(crate) fn unmeasured_zeros(gpa: Gpa, len: u64, pages: &mut Vec<LaunchPage>) -> Result<(), PlanError> {
    let zeros = Bytes::from(vec![0; len.min(2 << 20) as usize]);
    for start in (0..len).step_by(zeros.len()) {
        let data = PageBytes::new(zeros.slice(..(len - start).min(zeros.len() as u64) as usize))?;
        pages.push(LaunchPage::Unmeasured { gpa: Gpa(gpa.0 + start), data });
    }
    Ok(())
}

/// The highest page that lies below `below`, is not 2 MiB-aligned and is not one of `pages`; `None` if there is none
/// above 0.
pub(crate) fn free_page_below(below: Gpa, pages: &[LaunchPage]) -> Option<Gpa> {
    let mut taken: Vec<_> = pages.iter().map(|page| (page.gpa().0, page.gpa().0 + page.len_bytes())).collect();
    taken.sort_unstable_by(|a, b| b.cmp(a));
    let mut candidate = below.0.checked_sub(PAGE)?;
    // From the highest run down: each is passed at most once. A step over a 2 MiB-aligned page can enter a run that
    // ends right below it, so the step is checked against the next runs, which lie lower.
    for (start, end) in taken {
        candidate = unaligned(candidate)?;
        if start <= candidate && candidate < end {
            candidate = start.checked_sub(PAGE)?;
        }
    }
    unaligned(candidate).filter(|gpa| *gpa != 0).map(Gpa)
}

/// The page itself, or the one below it if it is 2 MiB-aligned.
fn unaligned(gpa: u64) -> Option<u64> {
    if Gpa(gpa).is_2mib_aligned() { gpa.checked_sub(PAGE) } else { Some(gpa) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zero(gpa: u64, len: u64) -> LaunchPage {
        LaunchPage::Zero { gpa: Gpa(gpa), len }
    }

    #[test]
    fn the_page_below_is_taken_if_it_is_free() {
        assert_eq!(free_page_below(Gpa(0xffc0_0000), &[]), Some(Gpa(0xffbf_f000)));
    }

    #[test]
    fn pages_of_the_image_and_aligned_pages_are_passed() {
        // Below a 2 MiB-aligned page.
        assert_eq!(free_page_below(Gpa(0x20_1000), &[]), Some(Gpa(0x1f_f000)));
        // Stepping over the aligned page enters the run that ends below it.
        assert_eq!(free_page_below(Gpa(0x20_1000), &[zero(0x1f_0000, 0x1_0000)]), Some(Gpa(0x1e_f000)));
        let runs = [zero(0x1000, 0x1000), zero(0x2000, 0x2000), zero(0x8000, 0x1000)];
        assert_eq!(free_page_below(Gpa(0x4000), &runs), None);
        assert_eq!(free_page_below(Gpa(0x6000), &runs), Some(Gpa(0x5000)));
    }

    #[test]
    fn regions_cover_everything_once() {
        let pages = [zero(0x9000_0000, 0x1000), zero(LOW_MEMORY, 0x1000), zero(0x9000_1000, 0x1000)];
        let regions = regions(&pages, &[]);
        let flat: Vec<_> = regions.iter().map(|region| (region.gpa.0, region.len)).collect();
        assert_eq!(flat, [(0, LOW_MEMORY + 0x1000), (0x9000_0000, 0x2000)]);
    }
}
