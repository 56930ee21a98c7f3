//! Free: gives up the storage of whole chunks, which read as zeros from then on (`docs/design/engine.md`,
//! "Discard and space").
//!
//! The entries in memory and the space in the file are freed at once. The storage chunks can be used again
//! when nothing on disk and no request refers to them (`freed`).

use std::ops::Range;

use crate::error::{ErrorKind, Result};
use crate::format::{Entry, StorageChunk, VirtualChunk};
use crate::image::Image;
use crate::image::metadata::publish::PendingChunks;
use crate::image::metadata::table::Table;
use crate::image::space::chunk_set::ChunkSet;
use crate::image::space::store_error::{StoreError, Stored};
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

/// Most chunks freed in one step: other tasks wait for the mutex meanwhile.
const STEP: u64 = 1 << 12;

/// At most one storage chunk in this many waits for a checkpoint after it was freed, unless a grow unit holds
/// more.
const WAITING_PART: u64 = 8;

/// How often a request that finds no room is tried again: other requests may take the room first.
pub(in crate::image) const ATTEMPTS: usize = 16;

/// Consecutive virtual chunks whose storage chunks are consecutive in the data file, too.
struct Run {
    first: VirtualChunk,
    count: u64,
    /// The storage chunk of the first one.
    storage: StorageChunk,
}

impl<S: Storage> Image<S> {
    /// Frees the storage of `chunks`, all of whose content is given up. Publishes nothing else. Chunks with a
    /// reservation, to which another request is writing, are zeroed and added to `pending_chunks`.
    ///
    /// No block that the chunks touch is being filled (I16).
    pub(in crate::image) async fn free_chunks(
        &self,
        table: &Table,
        chunks: Range<VirtualChunk>,
        pending_chunks: &mut PendingChunks<'_, S>,
    ) -> Stored<()> {
        let reserved = self.volatile().allocator.reserved_in(&chunks);
        for chunk in reserved {
            let start = chunk.start(table.chunk_size());
            let end = start.saturating_add(table.chunk_size()).min(self.size());
            self.zero_chunk(table, start, end, Space::Free, pending_chunks).await?;
        }
        let mut at = chunks.start;
        while let Some(run) = next_run(table, &(at..chunks.end))? {
            self.prepare_allocator(table).await?;
            let offset = self.chunk_offset(table, run.storage);
            // Punching comes first: if a crash brings an entry back, it leads to zeros or to the old content.
            // It only frees space: the allocator zeroes a storage chunk before it hands it out.
            let punched = self.data().discard(offset, run.count * table.chunk_size()).await;
            match punched {
                // Some file systems need space to punch a hole. That must not keep the chunk from being
                // freed.
                Err(error) if error.kind() == ErrorKind::NoSpace => {}
                punched => punched?,
            }
            at = run.first.plus(run.count);
            self.free_run(table, &run);
        }
        Ok(())
    }

    fn free_run(&self, table: &Table, run: &Run) {
        let mut volatile = self.volatile();
        let mut at = 0;
        while at < run.count {
            // Another request may have freed the chunk since, and a writer may have got a new storage chunk
            // for it.
            let names = |at| {
                table
                    .get(run.first.plus(at))
                    .is_ok_and(|now| now == Some(run.storage.plus(at)))
            };
            if !names(at) {
                at += 1;
                continue;
            }
            let start = at;
            while at < run.count && names(at) {
                table.set(run.first.plus(at), Entry::UNALLOCATED);
                at += 1;
            }
            let chunks = run.first.plus(start)..run.first.plus(at);
            let storage = run.storage.plus(start);
            self.counters.freed_chunks.add(at - start);
            if mutation::is(Mutation::ReuseReferenced) {
                let mut freed = ChunkSet::default();
                for storage in storage.run(at - start) {
                    freed.insert(storage);
                }
                volatile.allocator.add_unreferenced(freed, &self.epochs);
            }
            volatile.pending.free_chunks(&chunks, storage);
        }
    }

    /// Makes freed storage chunks usable again with a checkpoint, if there are many of them. So only few of
    /// many small discards make a checkpoint, and only a limited part of a file is unused.
    pub(in crate::image) async fn checkpoint_many_freed(&self) -> Result<()> {
        if self.has_freed_much() {
            self.checkpoint_freed(Self::has_freed_much).await
        } else {
            Ok(())
        }
    }

    fn has_freed(&self) -> bool {
        !self.volatile().pending.freed().is_empty()
    }

    fn has_freed_much(&self) -> bool {
        let Some(table) = &self.table else {
            return false;
        };
        let grow_unit = self.header.storage_grow_unit / table.chunk_size();
        let volatile = self.volatile();
        let most = grow_unit.max(volatile.allocator.end() / WAITING_PART);
        volatile.pending.freed().len() > most
    }

    async fn checkpoint_freed(&self, is_worth_it: fn(&Self) -> bool) -> Result<()> {
        let _round = self.flushes.exclusive().await;
        self.check_poison()?;
        // The previous round may have made them usable, and only a few have been freed since.
        if !is_worth_it(self) {
            return Ok(());
        }
        self.checkpoint().await
    }

    /// After a failed attempt, with `left` more allowed: returns when another attempt may find room.
    /// Otherwise fails, with `error` or with that of the checkpoint. Only a lack of storage chunks can be
    /// helped: if it is the host that has no space, freed storage chunks do not help. Requirements for the
    /// caller: see [`Image::reclaim`].
    pub(in crate::image) async fn find_room(&self, error: StoreError, left: &mut usize) -> Stored<()> {
        let (StoreError::OutOfChunks { chunk, .. }, Some(table)) = (&error, &self.table) else {
            return Err(error);
        };
        if *left == 0 || !Box::pin(self.reclaim(table, *chunk)).await? {
            return Err(error);
        }
        *left -= 1;
        Ok(())
    }

    /// There was no room for `chunk`: waits until freed storage chunks can be used, if there are any. Returns
    /// whether another attempt may find room. The caller holds no lock and no pin, and no request waits for
    /// it.
    ///
    /// If several requests need storage for the same chunk, the first one gets it, perhaps the last that
    /// there is, and the others share it. So no request gives up before it has checked whether the chunk has
    /// storage now.
    async fn reclaim(&self, table: &Table, chunk: VirtualChunk) -> Result<bool> {
        let shares = || -> Result<bool> {
            let storage = self.storage_of(table, chunk)?;
            Ok(storage.is_some() && !mutation::is(Mutation::RoomUnshared))
        };
        if shares()? {
            return Ok(true);
        }
        // Waits for the running round even if nothing is pending: that round may have taken it.
        self.checkpoint_freed(Self::has_freed).await?;
        let waiting = self.epochs.wait();
        loop {
            let ended = waiting.listen();
            let has_free = self.volatile().allocator.has_free(&self.epochs);
            if shares()? || has_free == Some(true) {
                return Ok(true);
            }
            if has_free == Some(false) {
                return Ok(false);
            }
            ended.await;
        }
    }

    /// The storage chunk of `chunk`, in the table or reserved. A reserved one may hold data of a write that
    /// has not been published.
    pub(in crate::image) fn storage_of(&self, table: &Table, chunk: VirtualChunk) -> Result<Option<StorageChunk>> {
        let volatile = self.volatile();
        let storage = table.get(chunk)?;
        Ok(storage.or_else(|| volatile.allocator.reserved(chunk)))
    }
}

/// The first allocated chunks of the range whose storage chunks are consecutive.
fn next_run(table: &Table, chunks: &Range<VirtualChunk>) -> Result<Option<Run>> {
    let first = table.skip_unallocated(chunks);
    if first >= chunks.end {
        return Ok(None);
    }
    let Some(storage) = table.get(first)? else {
        // Another request has freed it since.
        return Ok(Some(Run {
            first,
            count: 0,
            storage: StorageChunk::FIRST,
        }));
    };
    let most = STEP.min(chunks.end.index() - first.index());
    let mut count = 1;
    while count < most && table.get(first.plus(count))? == Some(storage.plus(count)) {
        count += 1;
    }
    Ok(Some(Run { first, count, storage }))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use pollster::block_on;

    use super::*;
    use crate::image::testing::disk::{Discards, Disk, Log, Op, record};
    use crate::image::testing::{CHUNK, Kind, Sample, open, sample};
    use crate::storage::IoBufMut;

    const SEPARATE: Kind = Kind {
        separate: true,
        no_journal: false,
        based: false,
        unclean: false,
    };

    /// An image whose data is on disk 1, where discards behave as `discards` says.
    fn recorded(discards: Discards) -> (Sample<Disk>, Arc<Mutex<Log>>) {
        let (sample, log) = record(&sample(SEPARATE));
        lock(&log).discards = discards;
        (sample, log)
    }

    fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
        log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(image: &Image<Disk>, chunk: u64) -> Vec<u8> {
        let buf = block_on(image.read(IoBufMut::zeroed(CHUNK as usize), chunk * CHUNK));
        buf.expect("read").as_slice().to_vec()
    }

    fn write(image: &Image<Disk>, len: usize, chunk: u64) -> Result<()> {
        block_on(image.write(vec![1; len].into(), chunk * CHUNK))
    }

    #[test]
    fn without_punching_discarded_chunks_read_as_zeros_when_reused() {
        for discards in [Discards::Ignore, Discards::Full] {
            let (sample, log) = recorded(discards);
            let changes = || lock(&log).count(1, 0, |_| true);
            let image = open(&sample, true).expect("opens");
            block_on(image.discard(3 * CHUNK, CHUNK)).expect("discarded");
            assert!(read(&image, 3).iter().all(|byte| *byte == 0));
            block_on(image.flush()).expect("flushed");
            assert!(read(&image, 3).iter().all(|byte| *byte == 0));
            assert_eq!(changes(), 0, "nothing was written");
            write(&image, 100, 13).expect("written");
            assert_eq!(lock(&log).count(1, 0, |op| matches!(op, Op::Zero(..))), 1);
            assert!(read(&image, 13)[100..].iter().all(|byte| *byte == 0));
            drop(image);
            assert!(
                read(&open(&sample, true).expect("opens"), 3)
                    .iter()
                    .all(|byte| *byte == 0)
            );
        }
    }

    #[test]
    fn parts_of_chunks_are_zeroed_on_any_medium() {
        let (sample, _log) = recorded(Discards::Ignore);
        let image = open(&sample, true).expect("opens");
        block_on(image.discard(3 * CHUNK, 4096)).expect("discarded");
        block_on(image.write_zeroes(4 * CHUNK + 2048, 1024)).expect("zeroed");
        let mut expected = vec![0; CHUNK as usize];
        expected[4096..1024 + 5000].fill(4);
        assert_eq!(read(&image, 3), expected);
        expected.fill(0);
        expected[1024..1024 + 5000].fill(5);
        expected[2048..3072].fill(0);
        assert_eq!(read(&image, 4), expected);
    }

    #[test]
    fn a_full_host_causes_no_checkpoint_of_discarded_chunks() {
        let (sample, log) = recorded(Discards::Free);
        let image = open(&sample, true).expect("opens");
        block_on(image.discard(3 * CHUNK, CHUNK)).expect("discarded");
        lock(&log).full = 0..u64::MAX;
        let error = write(&image, 100, 13).expect_err("full");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(image.stats().checkpoints, 0);
        assert!(image.has_freed(), "it waits for a flush");
    }

    #[test]
    fn a_file_that_cannot_grow_reuses_discarded_storage() {
        let (sample, log) = recorded(Discards::Free);
        let image = open(&sample, true).expect("opens");
        lock(&log).longest = Some(10 * CHUNK);
        let error = write(&image, 100, 13).expect_err("full");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        block_on(image.discard(3 * CHUNK, CHUNK)).expect("discarded");
        write(&image, 100, 13).expect("there is room now");
        assert_eq!(&read(&image, 13)[..101], [[1; 100].as_slice(), &[0]].concat());
    }
}
