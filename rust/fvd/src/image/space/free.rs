//! Free: gives up the storage of whole chunks, which read as zeros from then on (`docs/design/engine.md`,
//! "Discard and space").
//!
//! The entries in memory and the space in the file are freed at once. The storage chunks can be used again
//! when nothing on disk and no request refers to them (`freed`).

use std::ops::Range;

use crate::error::{ErrorKind, Result};
use crate::format::{Entry, StorageChunk, VirtualChunk};
use crate::image::metadata::table::Table;
use crate::image::space::Allocator;
use crate::image::space::chunk_set::ChunkSet;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// Most chunks freed in one step: other tasks wait for the mutex meanwhile.
const STEP: u64 = 1 << 12;

/// Consecutive virtual chunks whose storage chunks are consecutive in the data file, too.
struct Run {
    first: VirtualChunk,
    count: u64,
    /// The storage chunk of the first one.
    storage: StorageChunk,
}

impl<S: Storage> Allocator<S> {
    /// The virtual chunks of the range for which storage is reserved: another request is writing there.
    pub(in crate::image) fn reserved_in(&self, chunks: &Range<VirtualChunk>) -> Vec<VirtualChunk> {
        self.metadata.volatile().pool.reserved_in(chunks)
    }

    /// Frees the storage of `chunks`, all of whose content is given up, except what is reserved. Publishes
    /// nothing else.
    ///
    /// No block that the chunks touch is being filled (I16).
    pub(in crate::image) async fn free_chunks(&self, table: &Table, chunks: Range<VirtualChunk>) -> Result<()> {
        let mut at = chunks.start;
        while let Some(run) = next_run(table, &(at..chunks.end))? {
            self.prepare(table).await?;
            let offset = self.metadata.chunk_offset(table, run.storage);
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
        let mut volatile = self.metadata.volatile();
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
                volatile.pool.add_unreferenced(freed);
            }
            volatile.pending.free_chunks(&chunks, storage);
        }
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
    use crate::image::Image;
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
        assert!(image.allocator.has_freed(), "it waits for a flush");
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
