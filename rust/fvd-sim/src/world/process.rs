//! Processes: one ends, and another one finds what it has left in the caches.

use super::{Disk, World};
use crate::fault::Faults;

impl World {
    /// The process has died, and all its tasks with it. What it has left in the caches stays there.
    ///
    /// # Panics
    ///
    /// If an operation is in flight.
    pub fn end_process(&self) {
        let mut state = self.state();
        assert!(state.flights.is_empty(), "a dead process has nothing in flight");
        state.finished.clear();
        state.queueing = false;
        state.faults = Faults::default();
    }

    /// The same disks and caches once more: what happens there has no effect here.
    ///
    /// # Panics
    ///
    /// If an operation is in flight.
    #[must_use]
    pub fn copy(&self, seed: u64) -> Self {
        let state = self.state();
        assert!(state.flights.is_empty(), "an operation is in flight for one world only");
        let copy = Self::seeded(seed);
        copy.state().disks.clone_from(&state.disks);
        copy.state().step = state.step;
        copy
    }

    /// Whether a cache has what a failed sync, or the kernel on its own, has given up writing.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.state().disks.iter().any(Disk::has_given_up)
    }

    /// Whether the next sync of a disk tells of a failure that no program has heard of yet.
    #[must_use]
    pub fn has_unseen_failure(&self) -> bool {
        self.state().disks.iter().any(|disk| disk.unseen_failure)
    }

    /// The kernel needs memory: all that is not waiting to be written is dropped from the caches.
    pub fn drop_caches(&self) {
        let mut state = self.state();
        for disk in 0..state.disks.len() {
            state.drop_cached(disk, u64::MAX);
        }
    }
}
