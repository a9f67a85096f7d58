//! An SNP guest that begins in long mode: its page tables and its VMSA.

use snp_abi::{PAGE_SIZE, Segment, SevFeatures, Vmsa};

use super::PAGE;

/// The platform's C-bit.
pub(crate) const C_BIT: u64 = 1 << 51;

/// Page tables for four frames from `frame` on: they map the first 2 MiB where they are, page by page, with the C-bit but for
/// the frames that are shared.
pub(crate) fn page_tables(frame: u64, is_shared: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut pages = vec![0_u8; 4 * PAGE_SIZE];
    let mut put = |page: usize, index: usize, entry: u64| {
        let at = page * PAGE_SIZE + 8 * index;
        pages[at..at + 8].copy_from_slice(&entry.to_le_bytes());
    };
    for level in 0..3 {
        put(level, 0, ((frame + level as u64 + 1) * PAGE) | C_BIT | 3);
    }
    for mapped in 0..512 {
        let private = if is_shared(mapped) { 0 } else { C_BIT };
        put(3, mapped as usize, (mapped * PAGE) | private | 3);
    }
    pages
}

/// A flat 64-bit kernel that begins at the start of frame `code`, with the page tables in frame `tables`.
pub(crate) fn long_mode_vmsa(code: u64, tables: u64) -> Vmsa {
    let data = Segment { selector: 0x10, attrib: 0xc93, limit: u32::MAX, base: 0 };
    Vmsa {
        es: data,
        cs: Segment { selector: 8, attrib: 0xa9b, ..data },
        ss: data,
        ds: data,
        fs: data,
        gs: data,
        tr: Segment { selector: 0, attrib: 0x8b, limit: 0x67, base: 0 },
        ldtr: Segment { selector: 0, attrib: 0x82, limit: 0xffff, base: 0 },
        efer: 0x1d00,
        cr0: 0x8001_0033,
        cr3: (tables * PAGE) | C_BIT,
        cr4: 0x660,
        rflags: 2,
        rip: code * PAGE,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        g_pat: 0x0007_0406_0007_0406,
        xcr0: 1,
        x87_fcw: 0x37f,
        mxcsr: 0x1f80,
        sev_features: SevFeatures(SevFeatures::SNP_ACTIVE),
        ..Vmsa::default()
    }
}
