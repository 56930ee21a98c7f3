//! Commit: syncs the data, then writes the journal.
//!
//! A bit never becomes durable before the entry of every chunk that its block touches (I5). Both are in one
//! sector, or the entries are in earlier sectors, which are synced first. Data is synced before either (I6).

use bytes::Bytes;
use tracing::debug;

use crate::error::Result;
use crate::format::{Region, SECTOR};
use crate::image::durability::Committer;
use crate::image::durability::sectors::{Sectors, encode};
use crate::image::durability::taken::Taken;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// What a commit must do.
enum Plan<'a> {
    DataOnly,
    Journal(Taken<'a>, Sectors),
    Checkpoint,
}

impl<S: Storage> Committer<S> {
    /// Makes what has been published durable. The caller holds the flush round.
    pub(in crate::image) async fn commit(&self) -> Result<()> {
        match self.plan_commit()? {
            Plan::DataOnly => self.sync_data_only().await,
            Plan::Checkpoint => self.checkpoint().await,
            Plan::Journal(taken, mut sectors) => {
                if mutation::is(Mutation::JournalInOneGo) {
                    sectors.early.append(&mut sectors.late);
                }
                debug!(sectors = sectors.count(), "commit to the journal");
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
    fn plan_commit(&self) -> Result<Plan<'_>> {
        let mut volatile = self.metadata.volatile();
        let changes = volatile.pending.changes();
        if !volatile.pending.freed().is_empty() && !mutation::is(Mutation::CommitFreed) {
            // The journal must not name two storage chunks for one chunk, nor bring back one that was freed
            // (I13, I14).
            return Ok(Plan::Checkpoint);
        }
        if changes.is_empty() {
            return Ok(Plan::DataOnly);
        }
        let Some(journal) = self.metadata.geometry().journal else {
            return Ok(Plan::Checkpoint);
        };
        let free = (journal.size / SECTOR).saturating_sub(self.state().position);
        if changes.overflowed || (changes.blocks.len() as u64) > free {
            return Ok(Plan::Checkpoint);
        }
        let sectors = encode(&self.metadata, changes)?;
        if sectors.count() > free {
            return Ok(Plan::Checkpoint);
        }
        let taken = volatile.pending.take_changes();
        drop(volatile);
        Ok(Plan::Journal(Taken::new(&self.metadata, taken.into()), sectors))
    }

    /// Appends sectors to the journal and syncs them.
    async fn write_sectors(&self, sectors: Vec<u8>) -> Result<()> {
        if sectors.is_empty() {
            return Ok(());
        }
        let journal = self.metadata.geometry().journal;
        let Region { offset, size } = journal.expect("a commit without a journal is a checkpoint");
        let start = {
            let mut state = self.state();
            let start = state.position * SECTOR;
            // A sector is never written twice between two checkpoints, even if this write fails or is
            // cancelled.
            state.position += sectors.len() as u64 / SECTOR;
            let end = state.position * SECTOR;
            let before = |written| {
                if mutation::is(Mutation::EraseThisLap) {
                    0
                } else {
                    written
                }
            };
            state.written_end = state.written_end.map(|written| before(written).max(end));
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
}
