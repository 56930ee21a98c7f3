//! Work: what is still to be fetched, in order.

use std::collections::VecDeque;
use std::ops::Range;

/// Ranges to be walked, in bytes of the disk.
#[derive(Debug)]
pub(super) struct Work {
    total: u64,
    ranges: VecDeque<Range<u64>>,
    /// How many of these are to be walked before all others.
    first: usize,
    /// Steps that have been taken and have not ended; those of what comes first, and others.
    first_under_way: usize,
    under_way: usize,
}

impl Work {
    /// `first`, and then all of `0..total`.
    pub(super) fn new(first: Vec<Range<u64>>, total: u64) -> Self {
        let inside = first.into_iter().map(|range| range.start..range.end.min(total));
        let mut ranges: VecDeque<_> = inside.filter(|range| !range.is_empty()).collect();
        let first = ranges.len();
        ranges.push_back(0..total);
        Self {
            total,
            ranges,
            first,
            first_under_way: 0,
            under_way: 0,
        }
    }

    /// What is to be walked next.
    pub(super) fn front(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    /// What is to be walked next of that which comes first.
    pub(super) fn front_of_first(&self) -> Option<Range<u64>> {
        self.front().filter(|_| self.first > 0)
    }

    /// How many steps of `len` bytes are to be taken before all others.
    pub(super) fn steps_of_first(&self, len: u64) -> usize {
        let steps = |range: &Range<u64>| (range.end - range.start).div_ceil(len) as usize;
        self.ranges.iter().take(self.first).map(steps).sum()
    }

    /// Everything of `seen`, the front as it was, up to `stop` has been walked. False: somebody
    /// else has walked there.
    pub(super) fn advance(&mut self, seen: &Range<u64>, stop: u64) -> bool {
        match self.ranges.front_mut() {
            Some(front) if front == seen => {
                front.start = stop;
                if front.is_empty() {
                    self.ranges.pop_front();
                    self.first = self.first.saturating_sub(1);
                }
                true
            }
            _ => false,
        }
    }

    /// Once more from `start`.
    pub(super) fn again(&mut self, start: u64) {
        self.ranges.push_back(start..self.total);
    }

    pub(super) fn begin(&mut self, first: bool) {
        *self.count_of(first) += 1;
    }

    pub(super) fn end(&mut self, first: bool) {
        *self.count_of(first) -= 1;
    }

    fn count_of(&mut self, first: bool) -> &mut usize {
        if first {
            &mut self.first_under_way
        } else {
            &mut self.under_way
        }
    }

    /// Whether what comes first has not all been fetched.
    pub(super) fn is_at_first(&self) -> bool {
        self.first > 0 || self.first_under_way > 0
    }

    /// Whether everything has been walked, and nothing is under direction.
    pub(super) fn is_done(&self) -> bool {
        self.ranges.is_empty() && self.under_way == 0 && self.first_under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_first_comes_first_and_lies_within_the_base() {
        let mut work = Work::new(vec![50..60, 90..200, 300..400, 7..7], 100);
        let mut walked = Vec::new();
        while let Some(front) = work.front() {
            assert!(work.advance(&front, front.end));
            walked.push(front);
        }
        assert_eq!(walked, [50..60, 90..100, 0..100]);
        assert!(work.is_done());
    }

    #[test]
    fn of_two_that_walk_from_one_place_one_is_late() {
        let mut work = Work::new(Vec::new(), 100);
        let front = work.front().expect("all of it");
        assert!(work.advance(&front, 10));
        assert!(!work.advance(&front, 10));
        assert_eq!(work.front(), Some(10..100));
    }

    #[test]
    fn it_is_not_done_while_a_step_is_under_way() {
        let mut work = Work::new(Vec::new(), 100);
        work.begin(false);
        assert!(work.advance(&(0..100), 100));
        assert!(!work.is_done());
        work.end(false);
        assert!(work.is_done());
        work.again(40);
        assert_eq!(work.front(), Some(40..100));
    }

    #[test]
    fn what_comes_first_is_over_when_all_of_it_is_there() {
        let mut work = Work::new(vec![10..20, 7..7], 100);
        work.begin(true);
        assert!(work.advance(&(10..20), 20));
        assert_eq!(work.front_of_first(), None);
        assert!(work.is_at_first());
        work.end(true);
        assert!(!work.is_at_first());
    }
}
