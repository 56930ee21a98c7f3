//! The unit in which readers fetch from the base for copy-on-read.
//!
//! A base may be far away, where a read of 64 KiB takes as long as one of 4 KiB. A guest often reads next what
//! lies around the bytes that it reads now. So a read is widened to whole units, however small the blocks are.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::format::Block;
use crate::image::metadata::bitmap::Bitmap;

/// Bytes of a unit.
const READ_UNIT: u64 = 64 << 10;

/// The most units that are fetched at once. Beyond that, reads are not widened.
const MOST: usize = 128;

/// The units that readers fetch at this moment.
#[derive(Debug, Default)]
pub(super) struct Fetching(Mutex<Vec<Range<u64>>>);

/// Units of one reader, until this is dropped.
pub(super) struct Fetch<'a> {
    fetching: &'a Fetching,
    units: Range<u64>,
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        let mut all = self.fetching.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = all.iter().position(|units| *units == self.units) {
            all.swap_remove(index);
        }
    }
}

impl Fetching {
    /// The whole units around `bytes`. None if another reader is fetching one of them.
    pub(super) fn begin(&self, bytes: &Range<u64>) -> Option<Fetch<'_>> {
        let units = bytes.start / READ_UNIT * READ_UNIT..bytes.end.next_multiple_of(READ_UNIT);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |other: &Range<u64>| other.end <= units.start || units.end <= other.start;
        if all.len() >= MOST || !all.iter().all(is_free) {
            return None;
        }
        all.push(units.clone());
        Some(Fetch { fetching: self, units })
    }
}

impl Fetch<'_> {
    /// The blocks of the units, which contain those that are wanted, without what is local at either end. The
    /// bits of the units must be loaded.
    pub(super) fn blocks(&self, bitmap: &Bitmap, wanted: &Range<Block>) -> Range<Block> {
        let Range { mut start, mut end } = bitmap.blocks(self.units.start, self.units.end);
        if start < wanted.start
            && let (true, next) = bitmap.run(&(start..wanted.start))
        {
            start = next;
        }
        if wanted.end < end {
            let (local, next) = bitmap.run(&(wanted.end..end));
            end = if local { wanted.end } else { next };
        }
        start..end
    }

    /// The bytes of the disk.
    pub(super) fn bytes(&self) -> &Range<u64> {
        &self.units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    #[test]
    fn a_read_is_widened_to_whole_units() {
        let fetching = Fetching::default();
        let fetch = fetching.begin(&(65 * KIB..129 * KIB)).expect("no other reader");
        assert_eq!(*fetch.bytes(), 64 * KIB..192 * KIB);
    }

    #[test]
    fn a_unit_is_fetched_once_at_a_time() {
        let fetching = Fetching::default();
        let first = fetching.begin(&(0..KIB));
        assert!(first.is_some() && fetching.begin(&(63 * KIB..65 * KIB)).is_none());
        assert!(fetching.begin(&(64 * KIB..65 * KIB)).is_some());
        drop(first);
        assert!(fetching.begin(&(63 * KIB..65 * KIB)).is_some());
    }
}
