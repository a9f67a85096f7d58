//! KVM_X86_SET_MSR_FILTER: which MSRs guests may access.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c: `kvm_vm_ioctl_set_msr_filter`, `kvm_msr_allowed`.

use snp_abi::Errno;
use snp_abi::kvm::{kvm_msr_filter, kvm_msr_filter_range};

use crate::Vm;

/// KVM_MSR_FILTER_READ and KVM_MSR_FILTER_WRITE.
const READ: u32 = 1;
const WRITE: u32 = 2;
/// KVM_MSR_FILTER_DEFAULT_DENY.
const DEFAULT_DENY: u32 = 1;

/// A filter. The default lets everything through.
#[derive(Clone, Debug, Default)]
pub(crate) struct MsrFilter {
    deny: bool,
    ranges: Vec<Range>,
}

#[derive(Clone, Debug)]
struct Range {
    flags: u32,
    base: u32,
    count: u32,
    bitmap: Vec<u8>,
}

impl MsrFilter {
    /// Whether the guest may read, or write, an MSR. The local APIC's are not filtered.
    pub(crate) fn allows(&self, index: u32, write: bool) -> bool {
        let kind = if write { WRITE } else { READ };
        let within = |range: &&Range| range.flags & kind != 0 && index.wrapping_sub(range.base) < range.count;
        if matches!(index, 0x800..=0x8ff) {
            return true;
        }
        self.ranges.iter().find(within).map_or(!self.deny, |range| {
            let bit = index.wrapping_sub(range.base);
            range.bitmap.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
        })
    }
}

/// Bytes of a range's bitmap.
pub(crate) fn bitmap_len(range: &kvm_msr_filter_range) -> u32 {
    range.nmsrs.div_ceil(64) * 8
}

impl Vm {
    /// KVM_X86_SET_MSR_FILTER. `bitmaps`: of the ranges that have MSRs, in their order.
    ///
    /// # Errors
    /// EINVAL: unknown flags, a filter that denies everything, a range without direction or too long.
    pub fn set_msr_filter(&self, filter: &kvm_msr_filter, bitmaps: &[Vec<u8>]) -> Result<(), Errno> {
        check(filter)?;
        let used = filter.ranges.iter().filter(|range| range.nmsrs != 0);
        let ranges = used.zip(bitmaps).map(|(range, bitmap)| Range {
            flags: range.flags,
            base: range.base,
            count: range.nmsrs,
            bitmap: bitmap.clone(),
        });
        let filter = MsrFilter { deny: filter.flags & DEFAULT_DENY != 0, ranges: ranges.collect() };
        self.devices(|state| state.devices.msr_filter = filter);
        Ok(())
    }
}

/// What KVM checks before it reads the bitmaps.
///
/// # Errors
/// As [`Vm::set_msr_filter`].
pub(crate) fn check(filter: &kvm_msr_filter) -> Result<(), Errno> {
    const LONGEST_BITMAP: u32 = 0x600;
    let good = |range: &kvm_msr_filter_range| {
        range.nmsrs == 0
            || range.flags & !(READ | WRITE) == 0 && range.flags != 0 && bitmap_len(range) <= LONGEST_BITMAP
    };
    let empty = filter.ranges.iter().all(|range| range.nmsrs == 0);
    let good = filter.flags & !DEFAULT_DENY == 0
        && !(empty && filter.flags & DEFAULT_DENY != 0)
        && filter.ranges.iter().all(good);
    if good { Ok(()) } else { Err(Errno::EINVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_that_names_an_msr_decides() {
        let range = |flags, base, bitmap: &[u8]| Range { flags, base, count: 8, bitmap: bitmap.to_vec() };
        let filter =
            MsrFilter { deny: true, ranges: vec![range(READ, 0x10, &[0b10]), range(READ | WRITE, 0x10, &[1])] };
        assert_eq!([0x10, 0x11].map(|index| filter.allows(index, false)), [false, true]);
        assert_eq!([0x10, 0x11].map(|index| filter.allows(index, true)), [true, false]);
        assert!(!filter.allows(0x18, false) && filter.allows(0x808, true));
        assert!(MsrFilter::default().allows(0x18, true));
    }
}
