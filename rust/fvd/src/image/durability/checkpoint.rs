//! Checkpoint: writes bitmap and table in place. After it the journal is used from its first sector again.

use bytes::Bytes;
use tracing::{Instrument as _, debug_span};

use crate::error::{ErrorKind, Result};
use crate::format::Region;
use crate::image::durability::taken::Taken;
use crate::image::durability::{Committer, Mark};
use crate::image::metadata::snapshot::{Patch, Snapshot};
use crate::image::zero::ZEROS;
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

/// If this session has written at most this many bytes of its journal, the journal is erased by writing
/// zeros. After punching a hole, the next commit would need space from the host, which may have none left.
const ERASED_BY_WRITING: u64 = ZEROS.len() as u64;

impl<S: Storage> Committer<S> {
    /// Syncs the data, then writes and syncs the changed pages of the table, then those of the bitmap. The
    /// caller holds the flush round.
    ///
    /// Old sectors stay in the journal: a bit only changes from 0 to 1 and an entry does not change, so
    /// replaying them changes nothing. If chunks were freed, entries have changed. Then the journal is
    /// erased, after which the freed storage chunks can be used again.
    pub(in crate::image) async fn checkpoint(&self) -> Result<()> {
        let (pending, snapshot) = self.metadata.snapshot();
        let taken = Taken::new(&self.metadata, pending);
        if snapshot.table.is_empty() && snapshot.bitmap.is_empty() && !taken.has_freed() {
            taken.done();
            if mutation::is(Mutation::EmptyCheckpointUnsynced) {
                return Ok(());
            }
            return self.sync_data().await;
        }
        let span = debug_span!(
            "checkpoint",
            file = %self.files.file().path().display(),
            table_pieces = snapshot.table.len(),
            bitmap_pieces = snapshot.bitmap.len(),
            frees = taken.has_freed(),
        );
        self.write_in_place(taken, snapshot).instrument(span).await
    }

    async fn write_in_place(&self, taken: Taken<'_>, snapshot: Snapshot) -> Result<()> {
        let Snapshot {
            table,
            bitmap,
            unlogged,
        } = snapshot;
        self.counters.checkpoints.add(1);
        if mutation::is(Mutation::RecordedTooEarly) {
            self.metadata.recorded(&unlogged);
        }
        let has_mark = self.metadata.geometry().journal.is_none() || self.state().mark == Mark::Unclean;
        if !(has_mark && mutation::is(Mutation::CheckpointDataUnsynced)) {
            self.sync_data_and_mark().await?;
        }
        // A bit must not become durable before the entries of its block (I5).
        let (first, second) = if mutation::is(Mutation::BitmapBeforeTable) {
            (bitmap, table)
        } else {
            (table, bitmap)
        };
        self.write_patches(first).await?;
        self.write_patches(second).await?;
        if taken.has_freed() && !mutation::is(Mutation::KeepJournal) {
            self.erase_journal().await?;
        }
        self.state().position = 0;
        taken.done();
        self.metadata.recorded(&unlogged);
        Ok(())
    }

    /// Fills the journal with zeros, durably. Everything that it says is in place.
    async fn erase_journal(&self) -> Result<()> {
        let Some(Region { offset, size }) = self.metadata.geometry().journal else {
            return Ok(());
        };
        let written = self.state().written_end;
        let end = written.unwrap_or(size);
        if end == 0 {
            return Ok(());
        }
        let erased = if written.is_none() || end > ERASED_BY_WRITING {
            self.files.file().write_zeroes(offset, end, Space::Free).await
        } else {
            let zeros = Bytes::from_static(&ZEROS[..end as usize]);
            match self.files.file().write(zeros, offset).await {
                // Commits that found no space have left holes in the journal. Zeros cannot be written there;
                // to punch a hole needs no space.
                Err(error) if error.kind() == ErrorKind::NoSpace => {
                    self.files.file().write_zeroes(offset, end, Space::Free).await
                }
                written => written,
            }
        };
        self.metadata_written(erased)?;
        self.sync_file().await?;
        self.state().written_end = Some(0);
        Ok(())
    }

    async fn write_patches(&self, patches: Vec<Patch>) -> Result<()> {
        if patches.is_empty() {
            return Ok(());
        }
        for Patch { offset, bytes } in patches {
            self.write_metadata(bytes, offset).await?;
        }
        if mutation::is(Mutation::CheckpointWithoutSync) {
            return Ok(());
        }
        self.sync_file().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use pollster::block_on;

    use super::*;
    use crate::image::Image;
    use crate::image::testing::disk::{Disk, Log, Op, record};
    use crate::image::testing::{CHUNK, Kind, Sample, open, sample};
    use crate::storage::IoBufMut;

    /// An image with a separate data file. The journal lies at the end of the image file.
    fn recorded() -> (Sample<Disk>, Arc<Mutex<Log>>) {
        record(&sample(Kind {
            separate: true,
            ..Kind::default()
        }))
    }

    fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
        log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_and_discard(image: &Image<Disk>) {
        block_on(image.write(vec![1; CHUNK as usize].into(), 13 * CHUNK)).expect("written");
        block_on(image.flush()).expect("flushed");
        block_on(image.discard(13 * CHUNK, CHUNK)).expect("discarded");
    }

    #[test]
    fn only_the_first_erasure_of_a_session_punches_the_journal() {
        let (sample, log) = recorded();
        let journal = sample.geometry().journal.expect("there is one");
        let holes = || lock(&log).count(0, journal.offset, |op| matches!(op, Op::Zero(..)));
        let image = open(&sample, true).expect("opens");
        for round in 0..3 {
            write_and_discard(&image);
            block_on(image.flush()).expect("flushed");
            assert_eq!(holes(), 1, "round {round}");
        }
    }

    #[test]
    fn a_journal_that_cannot_be_overwritten_becomes_a_hole() {
        let (sample, log) = recorded();
        let journal = sample.geometry().journal.expect("there is one");
        let image = open(&sample, true).expect("opens");
        for round in 0..2 {
            lock(&log).full = 0..0;
            write_and_discard(&image);
            lock(&log).full = journal.offset..journal.offset + journal.size;
            block_on(image.flush()).expect("the holes that it may have need no space");
            let bytes = block_on(
                sample
                    .file
                    .read(IoBufMut::zeroed(journal.size as usize), journal.offset),
            );
            let is_erased = bytes.expect("read").as_slice().iter().all(|byte| *byte == 0);
            assert!(is_erased, "round {round}");
        }
    }
}
