//! Memory attributes: which guest frames are private, as intervals.

use std::collections::BTreeMap;

/// The private guest frames. Setting a range costs the intervals that it touches, not its frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrivateFrames {
    /// Start → end (exclusive); disjoint, not adjacent.
    intervals: BTreeMap<u64, u64>,
}

impl PrivateFrames {
    /// Makes the frames `start..end` private or shared.
    pub(crate) fn set(&mut self, start: u64, end: u64, private: bool) {
        if start >= end {
            return;
        }
        let (mut new_start, mut new_end) = (start, end);
        // Every interval that overlaps or touches the range is cut or joined.
        let touched: Vec<_> = self
            .intervals
            .range(..=end)
            .rev()
            .map(|(&from, &to)| (from, to))
            .take_while(|&(_, to)| to >= start)
            .collect();
        for (from, to) in touched {
            self.intervals.remove(&from);
            if private {
                new_start = new_start.min(from);
                new_end = new_end.max(to);
            } else {
                if from < start {
                    self.intervals.insert(from, start);
                }
                if to > end {
                    self.intervals.insert(end, to);
                }
            }
        }
        if private {
            self.intervals.insert(new_start, new_end);
        }
    }

    /// Whether a frame is private.
    pub(crate) fn contains(&self, frame: u64) -> bool {
        self.intervals.range(..=frame).next_back().is_some_and(|(_, &end)| frame < end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against an array of flags.
        #[test]
        fn intervals_are_as_good_as_flags(ops in prop::collection::vec((0u64..64, 0u64..20, any::<bool>()), 0..40)) {
            let mut frames = PrivateFrames::default();
            let mut flags = [false; 96];
            for (start, len, private) in ops {
                frames.set(start, start + len, private);
                flags[start as usize..(start + len) as usize].fill(private);
                for (frame, flag) in flags.iter().enumerate() {
                    prop_assert_eq!(frames.contains(frame as u64), *flag);
                }
            }
            let intervals: Vec<_> = frames.intervals.into_iter().collect();
            prop_assert!(intervals.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn a_huge_range_is_one_interval() {
        let mut frames = PrivateFrames::default();
        frames.set(0, 1 << 52, true);
        assert!(frames.contains((1 << 52) - 1) && !frames.contains(1 << 52));
        assert_eq!(frames.intervals.len(), 1);
    }
}
