//! Dirty ranges: where the image may hold local data that the base does not have yet.

use std::ops::Range;

use rangemap::RangeSet;

/// Most ranges that are remembered. Beyond that, neighbours are merged.
const RANGE_LIMIT: usize = 1 << 16;

/// The unit in bytes in which ranges are merged at first, with what lies between them.
const GRANULE: u64 = 1 << 20;

/// Ranges in bytes of the disk, below the end of the base's region.
///
/// Too large a set does no harm: what is local can be written back at any time.
pub(super) struct DirtyRanges {
    /// Dirtied in this session: a flush writes them back.
    new: RangeSet<u64>,
    /// Dirtied in an earlier session that was not closed: written back in the background, or at close.
    old: RangeSet<u64>,
    /// End of the base's region.
    size: u64,
}

impl DirtyRanges {
    /// `all`: it is unknown what an earlier session left dirty, so the whole region is.
    pub(super) fn new(size: u64, all: bool) -> Self {
        let mut old = RangeSet::new();
        if all && size > 0 {
            old.insert(0..size);
        }
        let new = RangeSet::new();
        Self { new, old, size }
    }

    /// Makes a (non-empty) range dirty.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        self.new.insert(range.clone());
        self.limit();
    }

    /// The base has the range as the image has it: the range is not dirty any more.
    pub(super) fn written_back(&mut self, range: &Range<u64>) {
        self.new.remove(range.clone());
        self.limit();
        // Holes in the old ranges are not worth more memory.
        if self.old.len() < RANGE_LIMIT {
            self.old.remove(range.clone());
        }
    }

    /// An earlier session left nothing dirty in the range.
    pub(super) fn clean_old(&mut self, range: Range<u64>) {
        self.old.remove(range);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    pub(super) fn includes(&self, range: &Range<u64>) -> bool {
        self.new.overlaps(range) || self.old.overlaps(range)
    }

    /// Whether a part of `whole` is dirty that does not lie in `range`, which is a part of `whole`.
    pub(super) fn includes_beside(&self, range: &Range<u64>, whole: &Range<u64>) -> bool {
        let outside = [whole.start..range.start, range.end..whole.end];
        outside.iter().any(|part| !part.is_empty() && self.includes(part))
    }

    /// All ranges that were dirtied in this session.
    pub(super) fn all_new(&self) -> Vec<Range<u64>> {
        self.new.iter().cloned().collect()
    }

    pub(super) fn first_new(&self) -> Option<Range<u64>> {
        self.new.iter().next().cloned()
    }

    pub(super) fn first_old(&self) -> Option<Range<u64>> {
        self.old.iter().next().cloned()
    }

    fn limit(&mut self) {
        if self.new.len() <= RANGE_LIMIT {
            return;
        }
        let mut granule = GRANULE;
        while self.new.len() > RANGE_LIMIT / 2 {
            let widen = |range: &Range<u64>| {
                let end = range.end.next_multiple_of(granule).min(self.size);
                range.start / granule * granule..end
            };
            self.new = self.new.iter().map(widen).collect();
            granule *= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_dirty_range_is_forgotten_however_many_there_are() {
        let size = 1 << 50;
        let mut dirty = DirtyRanges::new(size, false);
        let range = |n: u64| n * (8 << 20) + 512..n * (8 << 20) + 1024;
        for number in 0..3 * RANGE_LIMIT as u64 {
            dirty.add(&range(number));
            assert!(dirty.new.len() <= RANGE_LIMIT);
        }
        dirty.add(&(size - 512..size));
        assert!((0..3 * RANGE_LIMIT as u64).all(|number| dirty.new.gaps(&range(number)).next().is_none()));
        assert!(dirty.all_new().iter().all(|range| range.end <= size));
    }

    #[test]
    fn writing_back_cleans_new_and_old_ranges() {
        let mut dirty = DirtyRanges::new(4096, true);
        dirty.add(&(100..700));
        dirty.written_back(&(0..1024));
        assert_eq!(dirty.first_new(), None);
        assert_eq!(dirty.first_old(), Some(1024..4096));
        assert!(!dirty.includes(&(0..1024)) && dirty.includes(&(1000..1025)));
    }

    #[test]
    fn cleaning_old_ranges_keeps_the_new_ones() {
        let mut dirty = DirtyRanges::new(4096, true);
        dirty.add(&(512..1024));
        dirty.clean_old(0..4096);
        assert_eq!((dirty.first_old(), dirty.first_new()), (None, Some(512..1024)));
    }
}
