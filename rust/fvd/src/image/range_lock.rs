//! Exclusive locks on ranges, for tasks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use rangemap::RangeSet;

/// A set of locked ranges of `K`, which is a number of some kind. Waiters retry in the order of their arrival.
#[derive(Default)]
pub(super) struct RangeLock<K> {
    state: Mutex<State<K>>,
    released: Event,
}

#[derive(Default)]
struct State<K> {
    locked: RangeSet<K>,
    /// Numbers that a task has released and will lock again, each with the watch of that task.
    watched: BTreeMap<K, Watch>,
    watches: u64,
}

/// Tells whether another task has held a number since it was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch(u64);

/// Releases its range when dropped, also if the task that holds it is cancelled.
pub(super) struct RangeGuard<'a, K: Ord + Copy> {
    lock: &'a RangeLock<K>,
    range: Range<K>,
    /// The watch that was set on the first number of the range, if there was one. Taking this lock ended it.
    ended: Option<Watch>,
}

impl<K: Ord + Copy> RangeGuard<'_, K> {
    /// Whether no other task has held the first number since `watch` began.
    pub(super) fn is_first_since(&self, watch: Watch) -> bool {
        self.ended == Some(watch)
    }

    /// Begins to watch the first number. The next lock of that number ends the watch.
    pub(super) fn watch(&self) -> Watch {
        let mut state = self.lock.state();
        state.watches += 1;
        let watch = Watch(state.watches);
        state.watched.insert(self.range.start, watch);
        watch
    }
}

impl<K: Ord + Copy> RangeLock<K> {
    /// Waits until no part of the (non-empty) range is locked, and locks all of it.
    pub(super) async fn lock(&self, range: Range<K>) -> RangeGuard<'_, K> {
        loop {
            if let Some(guard) = self.try_lock(&range) {
                return guard;
            }
            let listener = self.released.listen();
            // Try again: a release between the failed attempt and `listen` would be missed.
            if let Some(guard) = self.try_lock(&range) {
                return guard;
            }
            listener.await;
        }
    }

    fn try_lock(&self, range: &Range<K>) -> Option<RangeGuard<'_, K>> {
        let mut state = self.state();
        if state.locked.overlaps(range) {
            return None;
        }
        state.locked.insert(range.clone());
        // There are almost never any watches, and every copy-on-write passes here.
        if state.watched.is_empty() {
            return Some(self.guard(range, None));
        }
        let ended = state.watched.get(&range.start).copied();
        while let Some((&number, _)) = state.watched.range(range.clone()).next() {
            state.watched.remove(&number);
        }
        Some(self.guard(range, ended))
    }

    fn guard(&self, range: &Range<K>, ended: Option<Watch>) -> RangeGuard<'_, K> {
        RangeGuard {
            lock: self,
            range: range.clone(),
            ended,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Copy> Drop for RangeGuard<'_, K> {
    fn drop(&mut self) {
        self.lock.state().locked.remove(self.range.clone());
        self.lock.released.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;

    #[test]
    fn a_watch_ends_with_the_next_lock_of_its_number_only() {
        let lock = RangeLock::default();
        let watch = block_on(lock.lock(5..6)).watch();
        drop(block_on(lock.lock(0..5)));
        drop(block_on(lock.lock(6..9)));
        let guard = block_on(lock.lock(5..6));
        assert!(guard.is_first_since(watch));
        let watch = guard.watch();
        drop(guard);
        drop(block_on(lock.lock(3..7)));
        assert!(!block_on(lock.lock(5..6)).is_first_since(watch));
        assert!(lock.state().watched.is_empty());
    }
}
