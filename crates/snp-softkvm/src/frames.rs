//! System-physical memory: which frames are handed out.

use std::collections::BTreeMap;

use snp_abi::{Errno, PAGE_SIZE, Pfn};

/// Hands out runs of consecutive frames. No memory stands behind them: only their numbers are needed, for the RMP.
#[derive(Debug)]
pub(crate) struct FrameAllocator {
    /// Start → length of the free runs; disjoint, not adjacent.
    free: BTreeMap<u64, u64>,
}

impl FrameAllocator {
    /// All frames below `1 << physical_address_bits` bytes but the first MiB.
    pub(crate) fn new(physical_address_bits: u8) -> Self {
        let first = (1 << 20) / PAGE_SIZE as u64;
        let end = (1_u64 << physical_address_bits) / PAGE_SIZE as u64;
        Self { free: BTreeMap::from([(first, end - first)]) }
    }

    /// The first run of `count` consecutive frames.
    ///
    /// # Errors
    /// ENOMEM if there is none.
    pub(crate) fn allocate(&mut self, count: u64) -> Result<Pfn, Errno> {
        let fits = self.free.iter().find(|(_, len)| **len >= count);
        let (&start, &len) = fits.ok_or(Errno::ENOMEM)?;
        self.free.remove(&start);
        if len > count {
            self.free.insert(start + count, len - count);
        }
        Ok(Pfn(start))
    }

    /// Takes back what [`FrameAllocator::allocate`] gave.
    pub(crate) fn release(&mut self, start: Pfn, count: u64) {
        let (mut start, mut count) = (start.0, count);
        if let Some(after) = self.free.remove(&(start + count)) {
            count += after;
        }
        let before = self.free.range(..start).next_back().map(|(&from, &len)| (from, len));
        if let Some((from, len)) = before.filter(|(from, len)| from + len == start) {
            start = from;
            count += len;
        }
        self.free.insert(start, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_runs_join() {
        let mut frames = FrameAllocator::new(40);
        let before = format!("{frames:?}");
        let runs: Vec<_> = [5, 1, 7, 2].into_iter().map(|n| (frames.allocate(n).unwrap(), n)).collect();
        assert!(runs.windows(2).all(|pair| pair[0].0.0 + pair[0].1 == pair[1].0.0));
        for index in [1, 3, 0, 2] {
            frames.release(runs[index].0, runs[index].1);
        }
        assert_eq!(format!("{frames:?}"), before);
    }

    #[test]
    fn more_than_there_is_fails() {
        let mut frames = FrameAllocator::new(40);
        assert_eq!(frames.allocate(1 << 28), Err(Errno::ENOMEM));
        assert!(frames.allocate((1 << 28) - 256).is_ok());
        assert_eq!(frames.allocate(1), Err(Errno::ENOMEM));
    }
}
