//! Digest chains whose page hashes are computed once, however many launches have the pages.

use std::collections::HashMap;

use bytes::Bytes;
use snp_abi::{Gpa, LEGACY_VMSA_GPA, LaunchDigest, PAGE_SIZE, PageType, VmplPermissions, Vmsa};
use snp_launch::{DigestEngine, LaunchPage};
use zerocopy::IntoBytes;

/// Extends a digest by one page without IMI and permissions.
pub(crate) fn extend(digest: LaunchDigest, page_type: PageType, gpa: Gpa, contents: [u8; 48]) -> LaunchDigest {
    DigestEngine::resume(digest).extend(page_type, gpa, contents, false, [VmplPermissions::default(); 3])
}

/// Extends a digest by a VMSA that KVM makes.
pub(crate) fn extend_legacy(digest: LaunchDigest, contents: [u8; 48]) -> LaunchDigest {
    extend(digest, PageType::VMSA, LEGACY_VMSA_GPA, contents)
}

/// CONTENTS of a VMSA page.
pub(crate) fn vmsa_contents(vmsa: &Vmsa, verbatim: bool) -> [u8; 48] {
    let mut vmsa = *vmsa;
    if !verbatim {
        // What the firmware does not measure.
        (vmsa.tsc_scale, vmsa.tsc_offset) = (0, 0);
    }
    snp_sha384::sha384(vmsa.as_bytes())
}

/// CONTENTS of pages of VMSAs that have no TSC fields set, side by side.
pub(crate) fn reset_contents(vmsas: &[Vmsa]) -> Vec<[u8; 48]> {
    let pages: Vec<&[u8; PAGE_SIZE]> = vmsas.iter().map(|vmsa| zerocopy::transmute_ref!(vmsa)).collect();
    let mut hashes = vec![[0; 48]; pages.len()];
    snp_sha384::pages_on_this_core(&pages, &mut hashes);
    hashes
}

/// Hashes of page contents by where they lie in memory. Plans of one image share its bytes, so a page is hashed once for
/// all of them. The bytes are kept with their hashes: an address that is freed would come back with other contents.
#[derive(Default)]
pub(crate) struct PageHashes(HashMap<(usize, usize), Hashed>);

/// Contents and the hashes of their pages.
type Hashed = (Bytes, Vec<[u8; 48]>);

impl PageHashes {
    /// The digest after `pages`.
    pub(crate) fn digest(&mut self, start: LaunchDigest, pages: &[LaunchPage], verbatim: bool) -> LaunchDigest {
        pages.iter().fold(start, |digest, page| self.after(digest, page, verbatim))
    }

    fn after(&mut self, mut digest: LaunchDigest, page: &LaunchPage, verbatim: bool) -> LaunchDigest {
        let gpa = page.gpa();
        match page {
            LaunchPage::Normal { data, .. } => {
                let bytes = data.bytes();
                let key = (bytes.as_ptr() as usize, bytes.len());
                let (_, hashes) = self.0.entry(key).or_insert_with(|| (bytes.clone(), hashes(bytes)));
                for (index, contents) in hashes.iter().enumerate() {
                    digest = extend(digest, PageType::NORMAL, Gpa(gpa.0 + (index * PAGE_SIZE) as u64), *contents);
                }
                digest
            }
            LaunchPage::Vmsa { vmsa, .. } => extend(digest, PageType::VMSA, gpa, vmsa_contents(vmsa, verbatim)),
            // Nothing to hash.
            _ => DigestEngine::resume(digest).page(page),
        }
    }
}

fn hashes(bytes: &[u8]) -> Vec<[u8; 48]> {
    let pages: Vec<&[u8; PAGE_SIZE]> =
        bytes.chunks_exact(PAGE_SIZE).map(|page| page.try_into().expect("a whole page")).collect();
    snp_sha384::pages(&pages)
}
