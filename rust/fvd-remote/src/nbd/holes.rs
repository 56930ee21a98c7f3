//! What is known of zeros in an export.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fvd::storage::Allocation;
use fvd_nbd::protocol::client::reply::Extent;

/// Extents that are remembered of one export: about 1 MiB of memory.
const MOST: usize = 16384;

#[derive(Debug, Default)]
pub(super) struct Holes(Mutex<BTreeMap<u64, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    end: u64,
    zero: bool,
}

impl Holes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the bytes from `offset` are, and for how many (at most `len`) that is known.
    pub(super) fn find(&self, offset: u64, len: u64) -> Option<(Allocation, u64)> {
        let known = self.lock();
        let (_, found) = known.range(..=offset).next_back()?;
        let inside = found.end.checked_sub(offset).filter(|rest| *rest > 0)?;
        let allocation = if found.zero { Allocation::Hole } else { Allocation::Data };
        Some((allocation, inside.min(len)))
    }

    /// Remembers what the server has answered for the bytes from `offset`.
    pub(super) fn add(&self, offset: u64, extents: &[Extent]) {
        let mut known = self.lock();
        if known.len() + extents.len() > MOST {
            // Who asks goes through the export in order, so the old ones are not needed again.
            known.clear();
        }
        let mut start = offset;
        for extent in extents.iter().take(MOST) {
            let end = start + extent.length;
            known.insert(start, Known { end, zero: extent.zero });
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(length: u64, zero: bool) -> Extent {
        Extent { length, zero }
    }

    #[test]
    fn what_was_answered_is_known_and_nothing_else() {
        let holes = Holes::default();
        holes.add(4096, &[extent(4096, true), extent(8192, false)]);
        for (offset, expected) in [
            (4095, None),
            (4096, Some((Allocation::Hole, 4096))),
            (5000, Some((Allocation::Hole, 3192))),
            (8192, Some((Allocation::Data, 5000))),
            (16383, Some((Allocation::Data, 1))),
            (16384, None),
        ] {
            assert_eq!(holes.find(offset, 5000), expected, "{offset}");
        }
    }

    #[test]
    fn the_number_of_extents_is_limited() {
        let holes = Holes::default();
        for start in 0..100 {
            let many: Vec<_> = (0..1000).map(|number| extent(512, number % 2 == 0)).collect();
            holes.add(start * 512_000, &many);
            assert!(holes.lock().len() <= MOST);
            assert!(holes.find(start * 512_000, 1).is_some(), "the last answer is known");
        }
        holes.add(0, &vec![extent(1, true); 2 * MOST]);
        assert_eq!(holes.lock().len(), MOST);
    }
}
