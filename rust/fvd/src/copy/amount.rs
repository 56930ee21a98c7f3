//! Counts what prefetch has read from the base, and what were known zeros.

use std::ops::Range;

use rangemap::RangeSet;

/// What a step has stored, in bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Amount {
    /// Read from the base.
    pub(super) fetched: u64,
    /// Known zeros.
    pub(super) zeros: u64,
}

impl Amount {
    /// Splits `stored`: what lies in `read` was read from the base, the rest were known zeros.
    pub(super) fn of(stored: &[Range<u64>], read: &RangeSet<u64>) -> Self {
        let of_range = |range: &Range<u64>| {
            let overlaps = read.overlapping(range.clone());
            let fetched = overlaps
                .map(|read| read.end.min(range.end) - read.start.max(range.start))
                .sum();
            (fetched, range.end - range.start)
        };
        let add = |sum: (u64, u64), it: (u64, u64)| (sum.0 + it.0, sum.1 + it.1);
        let (fetched, all) = stored.iter().map(of_range).fold((0, 0), add);
        Self {
            fetched,
            zeros: all - fetched,
        }
    }
}

/// Total length of `ranges` in bytes.
pub(super) fn len_of(ranges: &RangeSet<u64>) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}
