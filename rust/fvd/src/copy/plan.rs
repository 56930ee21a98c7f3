//! Plans the ranges of a profile as few requests.
//!
//! Pure. Keeps the order, except that a range close to a recent one joins that one.

use std::ops::Range;

use rangemap::RangeSet;

/// Ranges with at most this many bytes between them join. The bytes between are fetched too.
const NEAR: u64 = 96 << 10;
/// How many ranges to look back for one to join. What joins an earlier one comes earlier than it is needed.
const BACK: usize = 256;

/// The ranges `first` (bytes of the disk), in order, widened to whole blocks of a base of `total` bytes, none
/// twice. Ranges close to one another join, up to `most` bytes. `block` may be 0 without a base: then the
/// plan is empty.
#[must_use]
pub fn plan(first: Vec<Range<u64>>, block: u64, total: u64, most: u64) -> Vec<Range<u64>> {
    if total == 0 {
        return Vec::new();
    }
    let mut plan = Plan {
        ranges: Vec::new(),
        covered: RangeSet::new(),
        most,
    };
    for range in first {
        let start = range.start / block * block;
        let end = range.end.div_ceil(block).saturating_mul(block).min(total);
        if range.is_empty() || start >= end {
            continue;
        }
        let missing: Vec<_> = plan.covered.gaps(&(start..end)).collect();
        for range in missing {
            plan.add(range);
        }
    }
    plan.ranges
}

struct Plan {
    ranges: Vec<Range<u64>>,
    covered: RangeSet<u64>,
    most: u64,
}

impl Plan {
    /// Adds a range that is not covered yet.
    fn add(&mut self, range: Range<u64>) {
        let back = self.ranges.len().saturating_sub(BACK);
        let joined = (back..self.ranges.len()).rev().find_map(|index| {
            let other = &self.ranges[index];
            let (between, both) = if other.end <= range.start {
                (other.end..range.start, other.start..range.end)
            } else {
                (range.end..other.start, range.start..other.end)
            };
            let is_near = between.end - between.start <= NEAR && both.end - both.start <= self.most;
            let is_free = between.is_empty() || !self.covered.overlaps(&between);
            (is_near && is_free).then_some((index, both))
        });
        if let Some((index, both)) = joined {
            self.covered.insert(both.clone());
            self.ranges[index] = both;
        } else {
            self.covered.insert(range.clone());
            self.ranges.push(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;

    #[test]
    fn neighbours_join_even_with_others_between_them() {
        let first = vec![
            400 * KIB..404 * KIB,
            900 * KIB..904 * KIB,
            404 * KIB..408 * KIB,
            388 * KIB..392 * KIB,
            401 * KIB..402 * KIB,
        ];
        let expected = [388 * KIB..408 * KIB, 900 * KIB..904 * KIB];
        assert_eq!(plan(first, 512, 1 << 20, 1 << 20), expected);
    }

    #[test]
    fn ranges_are_whole_blocks_of_the_base() {
        let first = vec![70 * KIB..71 * KIB, 4095 * KIB..5000 * KIB, 9000 * KIB..9001 * KIB, 7..7];
        let expected = [64 * KIB..128 * KIB, 4032 * KIB..4100 * KIB];
        assert_eq!(plan(first, 64 * KIB, 4100 * KIB, 1 << 20), expected);
    }

    #[test]
    fn without_a_base_nothing_is_fetched() {
        assert_eq!(plan(vec![0..KIB, KIB..2 * KIB], 0, 0, 1 << 20), []);
    }

    #[test]
    fn joined_ranges_keep_the_maximum_length() {
        let first: Vec<_> = (0..100).map(|n| n * 8 * KIB..n * 8 * KIB + 4 * KIB).collect();
        let planned = plan(first, 512, 1 << 20, 64 * KIB);
        assert!(
            planned.iter().all(|range| range.end - range.start <= 64 * KIB),
            "{planned:?}"
        );
        assert!(planned.len() <= 15, "{planned:?}");
    }

    proptest! {
        #[test]
        fn everything_is_planned_once(
            all in prop::collection::vec((0_u64..2000, 1_u64..50), 0..100),
            block in prop::sample::select(vec![512_u64, 4096, 7680]),
        ) {
            let first: Vec<_> = all.iter().map(|(at, len)| at * 512..(at + len) * 512).collect();
            let total = 900 * KIB;
            let planned = plan(first.clone(), block, total, 256 * KIB);
            let mut covered = RangeSet::new();
            for range in planned {
                prop_assert!(!covered.overlaps(&range), "{range:?} twice");
                prop_assert!(range.start % block == 0 && (range.end % block == 0 || range.end == total));
                covered.insert(range);
            }
            for range in first {
                let inside = range.start..range.end.min(total);
                prop_assert!(inside.is_empty() || covered.gaps(&inside).next().is_none());
            }
        }
    }
}
