//! Components of extended state, and where they are in memory.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Extended State Management"; the offsets that CPUID function 0000_000D gives on family 19h, which
//! leave the place of AVX-512 open on processors without it.

use crate::Extended;

/// x87.
pub(super) const X87: u64 = 1 << 0;
/// XMM registers, and MXCSR.
pub(super) const SSE: u64 = 1 << 1;
/// Upper halves of YMM registers.
pub(super) const AVX: u64 = 1 << 2;
/// PKRU.
pub(super) const PKRU: u64 = 1 << 9;
/// Components that the model has.
pub(super) const MODELLED: u64 = X87 | SSE | AVX | PKRU;

/// Where XSTATE_BV is.
pub(super) const HEADER: u64 = 512;
/// Where components beyond the legacy region begin in the compacted format.
pub(super) const EXTENDED: u64 = 576;
/// The bit of XCOMP_BV that says so.
pub(super) const COMPACTED: u64 = 1 << 63;

/// A component beyond the legacy region.
pub(super) struct Component {
    /// Its bit in XCR0 or XSS.
    pub(super) bit: u64,
    pub(super) size: u64,
    /// In the standard format; components of XSS have none.
    offset: u64,
}

/// AVX, the three of AVX-512, PKRU, CET_U, CET_S.
const COMPONENTS: [Component; 7] = [
    Component { bit: AVX, size: 256, offset: 0x240 },
    Component { bit: 1 << 5, size: 64, offset: 0x340 },
    Component { bit: 1 << 6, size: 512, offset: 0x380 },
    Component { bit: 1 << 7, size: 1024, offset: 0x580 },
    Component { bit: PKRU, size: 8, offset: 0x980 },
    Component { bit: 1 << 11, size: 16, offset: 0 },
    Component { bit: 1 << 12, size: 24, offset: 0 },
];

/// Where the wanted components are: in the standard format, or as XCOMP_BV compacts them.
pub(super) fn places(wanted: u64, xcomp_bv: u64) -> impl Iterator<Item = (u64, &'static Component)> {
    let compacted = xcomp_bv & COMPACTED != 0;
    let mut next = EXTENDED;
    COMPONENTS.iter().filter_map(move |component| {
        let mut offset = component.offset;
        if compacted && xcomp_bv & component.bit != 0 {
            // None asks to be aligned (CPUID function 0000_000D, ECX bit 1).
            offset = next;
            next += component.size;
        }
        (wanted & component.bit != 0).then_some((offset, component))
    })
}

/// Bytes up to the end of the last component that is wanted.
pub(super) fn area(wanted: u64, xcomp_bv: u64) -> u64 {
    places(wanted, xcomp_bv).map(|(offset, component)| offset + component.size).max().unwrap_or(EXTENDED)
}

/// XINUSE: the components that are not as they are after reset. MXCSR does not count.
pub(crate) fn in_use(extended: &Extended) -> u64 {
    let initial = Extended::default();
    let bit = |used: bool, bit: u64| if used { bit } else { 0 };
    let x87 = |e: &Extended| (e.fcw, e.fsw, e.ftw, e.fop, e.fip, e.fdp, e.fcs, e.fds, e.x87);
    let any = |range: std::ops::Range<usize>| extended.ymm.iter().any(|ymm| ymm[range.clone()].iter().any(|b| *b != 0));
    bit(x87(extended) != x87(&initial), X87)
        | bit(any(0..16), SSE)
        | bit(any(16..32), AVX)
        | bit(extended.pkru != 0, PKRU)
}
