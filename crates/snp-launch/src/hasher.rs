//! CONTENTS of PAGE_INFO: the hashes of pages.

use std::ops::ControlFlow;

use bytes::Bytes;
use snp_abi::{PAGE_SIZE, Vmsa};
use snp_sha384::Hash;
use zerocopy::{FromBytes, IntoBytes};

/// Pages of an image that are listed at a time: 256 MiB, so that no table grows with the image.
const PAGES_PER_BATCH: usize = 1 << 16;

/// The field `TSC_SCALE` and `TSC_OFFSET` after it, which the firmware zeroes before it hashes a VMSA.
const UNMEASURED_IN_VMSA: std::ops::Range<usize> = 0x2f0..0x300;

/// CONTENTS of a page that is not measured by its contents.
pub(crate) const NO_CONTENTS: Hash = [0; 48];

/// Hands out the hash of every page of `data`, in order. `data` is whole pages.
pub(crate) fn each_page(data: &Bytes, mut page: impl FnMut(Hash)) {
    // A remainder cannot be: `PageBytes` holds whole pages.
    let (pages, _) = <[[u8; PAGE_SIZE]]>::ref_from_prefix_with_elems(data, data.len() / PAGE_SIZE)
        .expect("arrays of bytes have no alignment and the length was divided");
    for batch in pages.chunks(PAGES_PER_BATCH) {
        let batch: Vec<&[u8; PAGE_SIZE]> = batch.iter().collect();
        let _: ControlFlow<()> = snp_sha384::pages_in_order(&batch, |_, hash| {
            page(hash);
            ControlFlow::Continue(())
        });
    }
}

/// The hash of a VMSA page as the firmware measures it.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE: for VMSA pages the firmware measures TSC_SCALE and TSC_OFFSET as zero.
pub(crate) fn vmsa(vmsa: &Vmsa) -> Hash {
    let mut page = [0; PAGE_SIZE];
    page.copy_from_slice(vmsa.as_bytes());
    page[UNMEASURED_IN_VMSA].fill(0);
    snp_sha384::sha384(&page)
}
