//! Commit: syncs the data, then writes the journal.
//!
//! A bit never becomes durable before the entry of every chunk that its block touches (I5). Both are in one
//! sector, or the entries are in earlier sectors, which are synced first. Data is synced before either (I6).

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Region, SECTOR};
use crate::image::durability::pending::Pending;
use crate::image::durability::sectors::Sectors;
use crate::image::metadata::patch;
use crate::image::{CacheMode, Image, Stats};
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// What the holder of the flush round knows about the disk.
pub(in crate::image) struct Committer {
    /// Next journal sector to use.
    pub(in crate::image) position: u64,
    /// Bytes from the start of the journal that may hold records. None: all of it, as an earlier session left
    /// it.
    pub(in crate::image) written_end: Option<u64>,
    /// `clean_shutdown` in the header on disk.
    pub(in crate::image) mark: Mark,
    /// Whether the image file has been synced in this session. A new image may never have been synced;
    /// without its header a separate data file is useless.
    pub(in crate::image) file_synced: bool,
    /// Counters of this session that have been added to the totals.
    pub(in crate::image) counted: Stats,
}

/// What is known of `clean_shutdown` on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Mark {
    Clean,
    /// It is 0, durably.
    Unclean,
    /// A change was begun and has not been synced: a task that relies on the mark must write it again.
    Unknown,
}

/// The pending changes that a commit or a checkpoint took. They become pending again unless it succeeds.
pub(in crate::image) struct Taken<'a, S: Storage> {
    image: &'a Image<S>,
    pending: Option<Pending>,
}

impl<'a, S: Storage> Taken<'a, S> {
    pub(in crate::image) fn new(image: &'a Image<S>, pending: Pending) -> Self {
        Self {
            image,
            pending: Some(pending),
        }
    }

    /// Whether storage chunks were freed.
    pub(in crate::image) fn has_freed(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| !pending.freed().is_empty())
    }

    /// Everything that was taken is durable, and nothing on disk refers to the freed storage chunks any more.
    pub(in crate::image) fn done(mut self) {
        let freed = self.pending.take().map(|mut pending| pending.take_freed());
        if let Some(freed) = freed.filter(|freed| !freed.is_empty()) {
            let mut volatile = self.image.volatile();
            volatile.allocator.add_unreferenced(freed, &self.image.epochs);
        }
    }
}

impl<S: Storage> Drop for Taken<'_, S> {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take().filter(|_| !mutation::is(Mutation::ForgetRestore)) {
            self.image.volatile().pending.restore(pending);
        }
    }
}

/// What a commit must do.
enum Plan<'a, S: Storage> {
    DataOnly,
    Journal(Taken<'a, S>, Sectors),
    Checkpoint,
}

impl<S: Storage> Image<S> {
    /// Makes what has been published durable. The caller holds the flush round.
    pub(in crate::image) async fn commit(&self) -> Result<()> {
        match self.plan_commit()? {
            Plan::DataOnly => self.sync_data_only().await,
            Plan::Checkpoint => self.checkpoint().await,
            Plan::Journal(taken, mut sectors) => {
                if mutation::is(Mutation::JournalInOneGo) {
                    sectors.early.append(&mut sectors.late);
                }
                self.sync_data_and_mark().await?;
                self.write_sectors(sectors.early).await?;
                self.write_sectors(sectors.late).await?;
                taken.done();
                Ok(())
            }
        }
    }

    /// Takes and encodes the changes in one step, so that the sectors hold no entry whose data the coming
    /// sync does not cover.
    fn plan_commit(&self) -> Result<Plan<'_, S>> {
        let mut volatile = self.volatile();
        let changes = volatile.pending.changes();
        if !volatile.pending.freed().is_empty() && !mutation::is(Mutation::CommitFreed) {
            // The journal must not name two storage chunks for one chunk, nor bring back one that was freed
            // (I13, I14).
            return Ok(Plan::Checkpoint);
        }
        if changes.is_empty() {
            return Ok(Plan::DataOnly);
        }
        let Some(journal) = self.geometry.journal else {
            return Ok(Plan::Checkpoint);
        };
        let free = (journal.size / SECTOR).saturating_sub(self.committer().position);
        if changes.overflowed || (changes.blocks.len() as u64) > free {
            return Ok(Plan::Checkpoint);
        }
        let sectors = self.encode(changes)?;
        if sectors.count() > free {
            return Ok(Plan::Checkpoint);
        }
        let taken = volatile.pending.take_changes();
        drop(volatile);
        Ok(Plan::Journal(Taken::new(self, taken.into()), sectors))
    }

    /// Appends sectors to the journal and syncs them.
    async fn write_sectors(&self, sectors: Vec<u8>) -> Result<()> {
        if sectors.is_empty() {
            return Ok(());
        }
        let journal = self.geometry.journal;
        let Region { offset, size } = journal.expect("a commit without a journal is a checkpoint");
        let start = {
            let mut committer = self.committer();
            let start = committer.position * SECTOR;
            // A sector is never written twice between two checkpoints, even if this write fails or is
            // cancelled.
            committer.position += sectors.len() as u64 / SECTOR;
            let end = committer.position * SECTOR;
            let before = |written| {
                if mutation::is(Mutation::EraseThisLap) {
                    0
                } else {
                    written
                }
            };
            committer.written_end = committer.written_end.map(|written| before(written).max(end));
            start
        };
        assert!(
            start + sectors.len() as u64 <= size,
            "the plan has looked at the room in the journal"
        );
        self.counters.journal_sectors.add(sectors.len() as u64 / SECTOR);
        self.write_metadata(Bytes::from(sectors), offset + start).await?;
        self.sync_file().await
    }

    /// Writes metadata to the image file. If the disk is full, everything stays as it was and the next flush
    /// tries again. Any other failure poisons the image.
    pub(in crate::image) async fn write_metadata(&self, bytes: Bytes, offset: u64) -> Result<()> {
        self.metadata_written(self.file.write(bytes, offset).await)
    }

    pub(in crate::image) fn metadata_written(&self, result: Result<()>) -> Result<()> {
        result.map_err(|error| match error.kind() {
            ErrorKind::NoSpace => error,
            _ => self.poison(&error),
        })
    }

    pub(in crate::image) async fn sync_data(&self) -> Result<()> {
        self.sync(self.data()).await
    }

    pub(in crate::image) async fn sync_file(&self) -> Result<()> {
        self.sync(&self.file).await?;
        self.committer().file_synced = true;
        Ok(())
    }

    /// A failed sync is never retried: the kernel may have dropped the pages that it could not write.
    async fn sync(&self, storage: &S) -> Result<()> {
        if self.cache == CacheMode::Unsafe {
            return Ok(());
        }
        let result = storage.sync().await;
        if mutation::is(Mutation::ForgetPoison) {
            return result;
        }
        if mutation::is(Mutation::FullSyncIsNoLoss) {
            return self.metadata_written(result);
        }
        result.map_err(|error: Error| self.poison(&error))
    }

    /// Syncs the data when no metadata has changed.
    pub(in crate::image) async fn sync_data_only(&self) -> Result<()> {
        self.sync_data().await?;
        if self.data.is_none() || self.committer().file_synced {
            return Ok(());
        }
        self.sync_file().await
    }

    /// Syncs the data before metadata that refers to it goes to disk. Before the first metadata of this
    /// session, it also sets `clean_shutdown` to 0, durably.
    ///
    /// Without a journal the mark stays as it is: metadata in place is complete after every flush, and an
    /// unclean mark would make the image suspect.
    pub(in crate::image) async fn sync_data_and_mark(&self) -> Result<()> {
        if self.geometry.journal.is_none() || self.committer().mark == Mark::Unclean {
            if mutation::is(Mutation::DropDataSync) {
                return Ok(());
            }
            return self.sync_data().await;
        }
        let is_unmarked = self.cache == CacheMode::Unsafe && mutation::is(Mutation::UnsafeUnmarked);
        if !is_unmarked && !mutation::is(Mutation::DropUncleanMark) {
            self.write_mark(false).await?;
        }
        self.sync_data().await?;
        if self.data.is_some() && !mutation::is(Mutation::SeparateMarkUnsynced) {
            self.sync_file().await?;
        }
        self.committer().mark = Mark::Unclean;
        Ok(())
    }

    /// Sets `clean_shutdown` to 1, durably. The caller holds the flush round.
    pub(in crate::image) async fn mark_clean(&self) -> Result<()> {
        self.write_mark(true).await?;
        self.sync_file().await?;
        self.committer().mark = Mark::Clean;
        Ok(())
    }

    /// Sets `clean_shutdown` to 0, durably. The caller holds the flush round.
    pub(in crate::image) async fn mark_unclean(&self) -> Result<()> {
        self.write_mark(false).await?;
        self.sync_file().await?;
        self.committer().mark = Mark::Unclean;
        Ok(())
    }

    async fn write_mark(&self, clean: bool) -> Result<()> {
        // Set before the write: a write that is cancelled may still reach the disk.
        self.committer().mark = Mark::Unknown;
        self.metadata_written(patch::write_mark(&self.file, clean).await)
    }
}
