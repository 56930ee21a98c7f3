//! Processes: one ends, and the next one finds what it left in the caches.

use super::{BASE, Disk, World};
use crate::fault::Faults;

impl World {
    /// The process has died, with all its tasks. What it left in the caches remains.
    ///
    /// # Panics
    ///
    /// If an operation is in flight.
    pub fn end_process(&self) {
        let mut state = self.state();
        assert!(state.flights.is_empty(), "a dead process has nothing in flight");
        state.finished.clear();
        state.queueing = false;
        state.hangs = None;
        state.faults = Faults::default();
    }

    /// A copy of the disks and caches. Changes to the copy do not affect the original.
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

    /// Whether a cache holds content that a failed sync, or the kernel's own writeback, has given up.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.state().disks.iter().any(Disk::has_given_up)
    }

    /// How many times a disk has given up what its cache held, also if that was written again or dropped since.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.state().disks.iter().map(Disk::losses).sum()
    }

    /// Whether a power cut takes nothing of the base: every sector, and its length, is as a read sees it.
    #[must_use]
    pub fn has_durable_base(&self) -> bool {
        let base = &self.state().disks[BASE];
        base.pending.is_empty() && base.lengths.is_empty()
    }

    /// Whether the next sync of a disk reports a failure that no program has seen yet.
    #[must_use]
    pub fn has_unseen_failure(&self) -> bool {
        self.state().disks.iter().any(|disk| disk.unseen_failure)
    }

    /// The kernel reclaims memory: everything that is not dirty is dropped from the caches.
    pub fn drop_caches(&self) {
        let mut state = self.state();
        for disk in 0..state.disks.len() {
            state.drop_cached(disk, u64::MAX);
        }
    }
}
