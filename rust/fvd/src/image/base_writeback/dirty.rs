//! What the base is owed: ranges that it may hold otherwise than the image does, where that has them.

use std::ops::Range;

use rangemap::RangeSet;

/// Ranges remembered at most; with more of them, neighbours are merged.
const RANGE_LIMIT: usize = 1 << 16;

/// What lies between two dirty is merged with them in units of this many bytes at first.
const GRANULE: u64 = 1 << 20;

/// Bytes of the disk, below the end of the base's region.
///
/// To owe too much does no harm: what is local can be pushed at any time.
pub(super) struct DirtyRanges {
    /// Of this session: a flush pays them.
    new: RangeSet<u64>,
    /// Of an earlier one that was not closed: paid in the background, or by a close.
    old: RangeSet<u64>,
    /// End of the base's region.
    size: u64,
}

impl DirtyRanges {
    /// `all`: nobody knows what an earlier session still owed.
    pub(super) fn new(size: u64, all: bool) -> Self {
        let mut old = RangeSet::new();
        if all && size > 0 {
            old.insert(0..size);
        }
        let new = RangeSet::new();
        Self { new, old, size }
    }

    /// Notes a (non-empty) range.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        self.new.insert(range.clone());
        self.limit();
    }

    /// The base has the range as the image does.
    pub(super) fn written_back(&mut self, range: &Range<u64>) {
        self.new.remove(range.clone());
        self.limit();
        // Holes in old dirty are not worth more memory.
        if self.old.len() < RANGE_LIMIT {
            self.old.remove(range.clone());
        }
    }

    /// Nothing was owed of the range by an earlier session.
    pub(super) fn clean_old(&mut self, range: Range<u64>) {
        self.old.remove(range);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    pub(super) fn includes(&self, range: &Range<u64>) -> bool {
        self.new.overlaps(range) || self.old.overlaps(range)
    }

    /// Whether something is owed of `whole` that does not lie in `range`, a part of it.
    pub(super) fn includes_beside(&self, range: &Range<u64>, whole: &Range<u64>) -> bool {
        let beside = [whole.start..range.start, range.end..whole.end];
        beside.iter().any(|part| !part.is_empty() && self.includes(part))
    }

    /// Everything that this session owes.
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
    fn nothing_that_is_owed_is_forgotten_however_much_it_is() {
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
    fn what_is_paid_is_owed_no_more_whoever_owed_it() {
        let mut dirty = DirtyRanges::new(4096, true);
        dirty.add(&(100..700));
        dirty.written_back(&(0..1024));
        assert_eq!(dirty.first_new(), None);
        assert_eq!(dirty.first_old(), Some(1024..4096));
        assert!(!dirty.includes(&(0..1024)) && dirty.includes(&(1000..1025)));
    }

    #[test]
    fn the_old_is_forgiven_without_the_new() {
        let mut dirty = DirtyRanges::new(4096, true);
        dirty.add(&(512..1024));
        dirty.clean_old(0..4096);
        assert_eq!((dirty.first_old(), dirty.first_new()), (None, Some(512..1024)));
    }
}
