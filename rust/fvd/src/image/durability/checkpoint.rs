//! Checkpoint: writes bitmap and table in place. After it the journal is used from its first sector again.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use rangemap::RangeSet;

use crate::error::{ErrorKind, Result};
use crate::format::{Entry, PAGE, Region, StorageChunk, VirtualChunk};
use crate::image::durability::commit::{Mark, Taken};
use crate::image::metadata::bitmap::Bitmap;
use crate::image::metadata::region_cache::RegionCache;
use crate::image::metadata::table::Table;
use crate::image::zero::ZEROS;
use crate::image::{Image, Volatile};
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

/// Most pages written with one operation.
const PAGES_PER_WRITE: u64 = 256;

/// If this session has written at most this many bytes of its journal, the journal is erased by writing
/// zeros. After punching a hole, the next commit would need space from the host, which may have none left.
const ERASED_BY_WRITING: u64 = ZEROS.len() as u64;

/// What a checkpoint writes, as of the moment when everything pending was taken.
struct Snapshot {
    table: Vec<Patch>,
    bitmap: Vec<Patch>,
    unlogged: Unlogged,
}

/// Unlogged blocks and chunks: only memory knows that they are local or allocated.
#[derive(Default)]
struct Unlogged {
    /// Index of a word of the bitmap, and the unlogged bits in it.
    bits: Vec<(u64, u32)>,
    /// Virtual chunk, and its storage chunk.
    chunks: Vec<(VirtualChunk, StorageChunk)>,
}

/// Bytes for one place in the image file.
struct Patch {
    offset: u64,
    bytes: Bytes,
}

impl<S: Storage> Image<S> {
    /// Syncs the data, then writes and syncs the changed pages of the table, then those of the bitmap. The
    /// caller holds the flush round.
    ///
    /// Old sectors stay in the journal: a bit only changes from 0 to 1 and an entry does not change, so
    /// replaying them changes nothing. If chunks were freed, entries have changed. Then the journal is
    /// erased, after which the freed storage chunks can be used again.
    pub(in crate::image) async fn checkpoint(&self) -> Result<()> {
        let (taken, snapshot) = self.snapshot();
        let Snapshot {
            table,
            bitmap,
            unlogged,
        } = snapshot;
        if table.is_empty() && bitmap.is_empty() && !taken.has_freed() {
            taken.done();
            if mutation::is(Mutation::EmptyCheckpointUnsynced) {
                return Ok(());
            }
            return self.sync_data().await;
        }
        self.counters.checkpoints.add(1);
        if mutation::is(Mutation::RecordedTooEarly) {
            self.recorded(&unlogged);
        }
        let has_mark = self.geometry.journal.is_none() || self.committer().mark == Mark::Unclean;
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
        self.committer().position = 0;
        taken.done();
        self.recorded(&unlogged);
        Ok(())
    }

    /// Fills the journal with zeros, durably. Everything that it says is in place.
    async fn erase_journal(&self) -> Result<()> {
        let Some(Region { offset, size }) = self.geometry.journal else {
            return Ok(());
        };
        let written = self.committer().written_end;
        let end = written.unwrap_or(size);
        if end == 0 {
            return Ok(());
        }
        let erased = if written.is_none() || end > ERASED_BY_WRITING {
            self.file.write_zeroes(offset, end, Space::Free).await
        } else {
            let zeros = Bytes::from_static(&ZEROS[..end as usize]);
            match self.file.write(zeros, offset).await {
                // Commits that found no space have left holes in the journal. Zeros cannot be written there;
                // to punch a hole needs no space.
                Err(error) if error.kind() == ErrorKind::NoSpace => {
                    self.file.write_zeroes(offset, end, Space::Free).await
                }
                written => written,
            }
        };
        self.metadata_written(erased)?;
        self.sync_file().await?;
        self.committer().written_end = Some(0);
        Ok(())
    }

    /// Takes everything that is not in place, with the bytes as they are now. The sync that follows does not
    /// cover the data of later publications (I6).
    fn snapshot(&self) -> (Taken<'_, S>, Snapshot) {
        let mut volatile = self.volatile();
        let pages = volatile.pending.pages();
        let table = self.table.as_ref().map(Table::words);
        let bitmap = self.bitmap.as_ref().map(Bitmap::words);
        let snapshot = Snapshot {
            // The unlogged flag (bit 31) exists in memory only: `Entry::from_disk` clears it.
            table: copy_pages(table, &pages.table, |word| Entry::from_disk(word).raw()),
            bitmap: copy_pages(bitmap, &pages.bitmap, |word| word),
            unlogged: self.unlogged(&volatile),
        };
        let taken = volatile.pending.take();
        drop(volatile);
        (Taken::new(self, taken), snapshot)
    }

    /// The unlogged blocks and chunks on the changed pages.
    fn unlogged(&self, volatile: &Volatile) -> Unlogged {
        let mut unlogged = Unlogged::default();
        if self.copied.load(Ordering::Acquire) {
            let pages = volatile.pending.pages();
            if let Some(bitmap) = &self.bitmap {
                let pages = pages.bitmap.iter().flat_map(Clone::clone);
                unlogged.bits = pages.flat_map(|page| bitmap.unlogged_words(page)).collect();
            }
            if let Some(table) = &self.table {
                let pages = pages.table.iter().flat_map(Clone::clone);
                let chunks = pages.flat_map(|page| VirtualChunk::each(&table.chunks_on(page)));
                unlogged.chunks = chunks
                    .filter_map(|chunk| Some((chunk, table.unlogged(chunk)?)))
                    .collect();
            }
        }
        unlogged
    }

    /// Makes what was unlogged ordinary local blocks and chunks. It is on disk now, so a guest write there
    /// adds nothing to a commit.
    fn recorded(&self, unlogged: &Unlogged) {
        // Under the mutex: a guest write promotes before this step, or not at all.
        let _volatile = self.volatile();
        if let Some(bitmap) = &self.bitmap {
            bitmap.recorded(&unlogged.bits);
        }
        if let Some(table) = &self.table {
            for &(chunk, storage) in &unlogged.chunks {
                // The chunk may have been discarded and copied again since. The disk does not know its new
                // storage chunk.
                if table.unlogged(chunk) == Some(storage) {
                    table.promote(chunk);
                }
            }
        }
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

/// The pages of `words`, each word converted by `on_disk`.
fn copy_pages(words: Option<&RegionCache>, pages: &RangeSet<u64>, on_disk: fn(u32) -> u32) -> Vec<Patch> {
    let mut patches = Vec::new();
    let Some(words) = words else {
        return patches;
    };
    for run in pages.iter() {
        for first in (run.start..run.end).step_by(PAGES_PER_WRITE as usize) {
            let end = run.end.min(first + PAGES_PER_WRITE);
            let mut bytes = Vec::with_capacity(((end - first) * PAGE) as usize);
            for page in first..end {
                bytes.extend(words.page(page).flat_map(|word| on_disk(word).to_le_bytes()));
            }
            patches.push(Patch {
                offset: words.page_offset(first),
                bytes: Bytes::from(bytes),
            });
        }
    }
    patches
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use pollster::block_on;

    use super::*;
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
