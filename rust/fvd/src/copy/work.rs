//! The ranges that are still to be fetched, in order.

use std::collections::VecDeque;
use std::ops::Range;

/// Ranges to walk, in bytes of the disk.
#[derive(Debug)]
pub(super) struct Work {
    total: u64,
    ranges: VecDeque<Range<u64>>,
    /// How many of these are first ranges (a profile), which come before all others.
    first: usize,
    /// Steps that were taken and have not ended: of the first ranges, and of all others (`in_flight`).
    first_in_flight: usize,
    in_flight: usize,
}

impl Work {
    /// The ranges `first`, then all of `0..total`.
    pub(super) fn new(first: Vec<Range<u64>>, total: u64) -> Self {
        let inside = first.into_iter().map(|range| range.start..range.end.min(total));
        let mut ranges: VecDeque<_> = inside.filter(|range| !range.is_empty()).collect();
        let first = ranges.len();
        ranges.push_back(0..total);
        Self {
            total,
            ranges,
            first,
            first_in_flight: 0,
            in_flight: 0,
        }
    }

    /// The next range.
    pub(super) fn front(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    /// The next range, if it is one of the first ranges.
    pub(super) fn front_of_first(&self) -> Option<Range<u64>> {
        self.front().filter(|_| self.first > 0)
    }

    /// How many steps of `len` bytes the first ranges still contain.
    pub(super) fn steps_of_first(&self, len: u64) -> usize {
        let steps = |range: &Range<u64>| (range.end - range.start).div_ceil(len) as usize;
        self.ranges.iter().take(self.first).map(steps).sum()
    }

    /// Advances from `seen`, which was the front, to `stop`. False: another slot has advanced it.
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

    /// Walks again from `start`.
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
            &mut self.first_in_flight
        } else {
            &mut self.in_flight
        }
    }

    /// Whether a part of the first ranges has not been fetched.
    pub(super) fn is_at_first(&self) -> bool {
        self.first > 0 || self.first_in_flight > 0
    }

    /// Whether everything has been walked, and no step is in flight.
    pub(super) fn is_done(&self) -> bool {
        self.ranges.is_empty() && self.in_flight == 0 && self.first_in_flight == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_ranges_come_first_and_are_cut_to_the_base() {
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
    fn only_one_of_two_slots_advances_a_range() {
        let mut work = Work::new(Vec::new(), 100);
        let front = work.front().expect("all of it");
        assert!(work.advance(&front, 10));
        assert!(!work.advance(&front, 10));
        assert_eq!(work.front(), Some(10..100));
    }

    #[test]
    fn work_is_not_done_while_a_step_is_in_flight() {
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
    fn the_first_ranges_end_when_their_last_step_ends() {
        let mut work = Work::new(vec![10..20, 7..7], 100);
        work.begin(true);
        assert!(work.advance(&(10..20), 20));
        assert_eq!(work.front_of_first(), None);
        assert!(work.is_at_first());
        work.end(true);
        assert!(!work.is_at_first());
    }
}
