//! Accounts for what prefetch has stored: counters, progress, checkpoints.

use std::ops::Range;

use rangemap::RangeSet;

use super::machine::Fault;
use super::prefetch::Prefetch;
use super::status::PrefetchStatus;
use crate::storage::Storage;

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

impl<S: Storage> Prefetch<'_, S> {
    /// Counts stored bytes. Parts of a block count even if the block does not become local with them.
    pub(super) fn count(&self, stored: Amount) {
        self.image.count_prefetched(stored.fetched, stored.zeros);
        // Known zeros cost nothing to find again, so their number brings no checkpoint nearer.
        self.shared().unsaved += stored.fetched + u64::from(stored.zeros > 0);
        self.control.update(|status| {
            status.fetched += stored.fetched;
            status.zeros += stored.zeros;
        });
    }

    /// Notes that a step has succeeded.
    pub(super) fn succeeded(&self) {
        self.shared().backoff.succeeded();
        self.tell_local(|status| {
            if !status.state.is_final() {
                status.error = None;
            }
        });
    }

    /// Updates the number of local bytes in the status, and applies `change`.
    pub(super) fn tell_local(&self, change: impl FnOnce(&mut PrefetchStatus)) {
        let local = self.image.local_bytes_counted();
        self.control.update(|status| {
            status.local = local;
            change(status);
        });
    }

    /// Makes a checkpoint if one is due, so that a crash does not lose all that was fetched (P4).
    pub(super) async fn checkpoint_if_due(&self) -> Result<(), Fault> {
        {
            let now = self.clock.now();
            let mut shared = self.shared();
            let time = now.saturating_sub(shared.saved_at);
            let is_due = shared.unsaved >= self.options.checkpoint_bytes || time >= self.options.checkpoint_time;
            if !is_due || shared.unsaved == 0 {
                return Ok(());
            }
            (shared.unsaved, shared.saved_at) = (0, now);
        }
        self.image.checkpoint_copies().await.map_err(Fault::Image)
    }
}
