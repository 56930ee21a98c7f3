//! One disk: its durable content, its cache, and the versions between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::flight::{Action, Flight};
use crate::medium::{Medium, SECTOR, Sector};

/// Sectors in a page of the cache.
const PAGE_SECTORS: u64 = 8;

#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) is_device: bool,
    /// Bytes below this offset are metadata. Power cuts that keep only metadata or only data use it.
    pub(crate) data_start: u64,
    pub(crate) durable: Medium,
    pub(super) durable_at: u64,
    pub(crate) current: Medium,
    pub(crate) pending: BTreeMap<u64, Vec<Version>>,
    /// Lengths since the last sync, each with the step at which it was set.
    pub(crate) lengths: Vec<(u64, u64)>,
    /// Sectors that a failed sync has given up: they become durable only when written again.
    pub(super) stuck: BTreeSet<u64>,
    /// How many times sectors were given up.
    losses: u64,
    pub(super) previous_sync: u64,
    /// A failure that no program has seen, of the kernel's writeback or of a sync whose task is gone. The
    /// next sync reports it.
    pub(super) unseen_failure: bool,
}

/// A content that a sector had since the last sync.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) bytes: Sector,
    pub(crate) operation: u64,
    pub(super) completed: u64,
}

impl Disk {
    pub(super) fn new(path: PathBuf, medium: Medium, is_device: bool) -> Self {
        Self {
            path,
            is_device,
            data_start: 0,
            durable: medium.clone(),
            durable_at: 0,
            current: medium,
            pending: BTreeMap::new(),
            lengths: Vec::new(),
            stuck: BTreeSet::new(),
            losses: 0,
            previous_sync: 0,
            unseen_failure: false,
        }
    }

    pub(super) fn push_version(&mut self, sector: u64, operation: u64, completed: u64) {
        let bytes = self.current.sector(sector);
        self.pending.entry(sector).or_default().push(Version {
            bytes,
            operation,
            completed,
        });
    }

    /// The sectors that the operation changes. A zeroing, which may be long, does not change sectors that are
    /// a hole and were not written to since the last sync.
    pub(crate) fn changed_by(&self, flight: &Flight) -> Vec<u64> {
        let sectors = flight.sectors();
        if !matches!(flight.action, Action::Zero(_)) {
            return sectors.collect();
        }
        let mut changed: Vec<u64> = self.current.sectors_with_storage(sectors.clone()).collect();
        changed.extend(self.pending.range(sectors).map(|(sector, _)| *sector));
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// The sectors that the kernel writes to disk together. A write to one of them also writes what a failed
    /// sync has given up of the others.
    fn page_of(sector: u64) -> std::ops::Range<u64> {
        let first = sector / PAGE_SECTORS * PAGE_SECTORS;
        first..first + PAGE_SECTORS
    }

    /// A sector is dirty again: the next sync writes it, and with `whole_page` its whole page.
    pub(super) fn touch(&mut self, sector: u64, whole_page: bool) {
        if whole_page {
            self.stuck.retain(|other| !Self::page_of(sector).contains(other));
        } else {
            self.stuck.remove(&sector);
        }
    }

    /// Writeback of the dirty sectors has failed. The cache keeps them but marks them clean.
    pub(super) fn give_up(&mut self) {
        self.stuck.extend(self.pending.keys());
        self.losses += u64::from(!self.pending.is_empty());
    }

    /// How many times sectors were given up, also those that were written again or dropped since.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Whether the cache holds content that the disk may never get.
    pub(super) fn has_given_up(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Drops clean sectors below `end` from the cache. For a sector that was given up, the disk has its old
    /// content, or what the failed write left.
    pub(super) fn drop_cached(&mut self, end: u64, rng: &mut fastrand::Rng) {
        let gone: Vec<u64> = self.stuck.range(..end).copied().collect();
        for sector in gone {
            self.stuck.remove(&sector);
            let versions = self.pending.remove(&sector).unwrap_or_default();
            let start = sector * SECTOR;
            let index = rng.usize(..=versions.len());
            if let Some(version) = index.checked_sub(1).and_then(|index| versions.get(index))
                && start < self.durable.size()
            {
                self.durable.set_sector(sector, &version.bytes);
            }
            if !self.durable.has_storage(sector) || start >= self.durable.size() {
                self.current.zero(start, self.current.size().min(start + SECTOR));
            } else if start < self.current.size() {
                self.current.set_sector(sector, &self.durable.sector(sector));
            }
        }
    }

    pub(super) fn set_len(&mut self, flight: &Flight, len: u64, step: u64) {
        let old = self.current.size();
        let lost: Vec<u64> = (len / SECTOR..old.div_ceil(SECTOR))
            .filter(|&sector| self.current.has_storage(sector) || self.pending.contains_key(&sector))
            .collect();
        self.current.set_size(len);
        for sector in lost {
            // Truncation removes the sectors from the cache, so none of them remains given up.
            self.stuck.remove(&sector);
            self.push_version(sector, flight.id, step);
        }
        self.lengths.push((len, step));
    }

    /// Makes `snapshot`, taken at step `submitted`, durable, except for sectors that a failed sync has given
    /// up and sectors whose last version is `exempt`.
    pub(super) fn sync(&mut self, snapshot: Medium, submitted: u64, exempt: impl Fn(u64, &Version) -> bool) {
        if submitted < self.durable_at {
            return;
        }
        self.durable_at = submitted;
        let old = std::mem::replace(&mut self.durable, snapshot);
        let len = self.durable.size();
        let stuck = &self.stuck;
        let durable = &mut self.durable;
        self.pending.retain(|&sector, versions| {
            let last = versions.iter().rev().find(|version| version.completed <= submitted);
            if stuck.contains(&sector) || last.is_some_and(|version| exempt(sector, version)) {
                if sector * SECTOR < len {
                    durable.set_sector(sector, &old.sector(sector));
                }
                return true;
            }
            versions.retain(|version| version.completed > submitted);
            !versions.is_empty()
        });
        self.durable.zero(len, len.next_multiple_of(SECTOR));
        self.lengths.retain(|(_, step)| *step > submitted);
    }
}
