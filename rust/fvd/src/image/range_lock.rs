//! Exclusive locks on ranges of numbers, for tasks.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use rangemap::RangeSet;

/// A set of locked ranges. Waiters retry in the order in which they came.
#[derive(Default)]
pub(super) struct RangeLock {
    locked: Mutex<RangeSet<u64>>,
    released: Event,
}

/// Releases its range when dropped, also when the task that holds it is cancelled.
pub(super) struct RangeGuard<'a> {
    lock: &'a RangeLock,
    range: Range<u64>,
}

impl RangeLock {
    /// Waits until nobody holds a part of the (non-empty) range, and takes all of it.
    pub(super) async fn lock(&self, range: Range<u64>) -> RangeGuard<'_> {
        loop {
            if let Some(guard) = self.try_lock(&range) {
                return guard;
            }
            let listener = self.released.listen();
            // A release between the failed attempt and `listen` would be missed.
            if let Some(guard) = self.try_lock(&range) {
                return guard;
            }
            listener.await;
        }
    }

    fn try_lock(&self, range: &Range<u64>) -> Option<RangeGuard<'_>> {
        let mut locked = self.ranges();
        if locked.overlaps(range) {
            return None;
        }
        locked.insert(range.clone());
        Some(RangeGuard {
            lock: self,
            range: range.clone(),
        })
    }

    fn ranges(&self) -> MutexGuard<'_, RangeSet<u64>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        self.lock.ranges().remove(self.range.clone());
        self.lock.released.notify(usize::MAX);
    }
}
