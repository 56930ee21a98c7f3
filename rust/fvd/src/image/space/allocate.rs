//! Allocation of storage chunks in compact images.
//!
//! The allocator hands out the lowest freed number first, otherwise the one after the highest number in use.
//! A new storage chunk reads as zeros where nothing was written. A file is cut after the highest storage
//! chunk in use before the first allocation after an open, because a crash may have left data there that no
//! entry points at. On a device, and where the storage chunk was in use before, it is zeroed before it is
//! handed out.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{StorageChunk, VirtualChunk};
use crate::image::metadata::scan::EntryRuns;
use crate::image::metadata::table::Table;
use crate::image::space::Allocator;
use crate::image::space::chunk_set::ChunkSet;
use crate::image::space::pool::Frontier;
use crate::image::space::store_error::{StoreError, Stored};
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// In a file, gaps are remembered only below this number: 32 MiB of bits.
const GAPS_END: StorageChunk = StorageChunk::new(1 << 28);

impl<S: Storage> Allocator<S> {
    /// Returns a storage chunk for `chunk`: the one in the table, one that was reserved earlier, a freed one,
    /// or a new one.
    pub(in crate::image) async fn reserve(&self, table: &Table, chunk: VirtualChunk) -> Stored<StorageChunk> {
        if let Some(storage) = self.try_reserve(table, chunk)? {
            return Ok(storage);
        }
        let _growing = self.growing.lock(0..1).await;
        loop {
            // While this task waited, another one may have reserved storage for the chunk, perhaps the last
            // that there is room for.
            if let Some(storage) = self.try_reserve(table, chunk)? {
                return Ok(storage);
            }
            let (frontier, free) = self.metadata.volatile().pool.candidates();
            let Some(frontier) = frontier else {
                self.scan(table).await?;
                continue;
            };
            let storage = free.unwrap_or(frontier.next);
            let end = self.chunk_end(table, storage);
            let end = end.map_err(|error| StoreError::of_growth(chunk, error))?;
            if end > frontier.file_len {
                if free.is_some() && !self.data().can_resize() {
                    // Only a corrupt table names a storage chunk beyond the end of the device.
                    self.metadata.volatile().pool.forget(storage);
                    continue;
                }
                let file_len = self.grow(chunk, frontier, end).await?;
                self.metadata.volatile().pool.set_file_len(file_len);
            }
            if free.is_some() || !self.data().can_resize() {
                return Ok(self.reserve_zeroed(table, chunk, storage).await?);
            }
        }
    }

    /// Returns None if the allocator is not ready, the file must grow, or the storage chunk must be zeroed
    /// first.
    fn try_reserve(&self, table: &Table, chunk: VirtualChunk) -> Result<Option<StorageChunk>> {
        let mut volatile = self.metadata.volatile();
        // Look up again under the mutex: the chunk may have been published since the caller's lookup.
        if let Some(storage) = table.get(chunk)? {
            return Ok(Some(storage));
        }
        if let Some(storage) = volatile.pool.reserved(chunk) {
            return Ok(Some(storage));
        }
        let has_room = |frontier: &Frontier| {
            let end = self.chunk_end(table, frontier.next);
            self.data().can_resize() && end.is_ok_and(|end| end <= frontier.file_len)
        };
        Ok(volatile.pool.reserve_at_frontier(chunk, has_room))
    }

    /// Makes sure that the allocator knows every storage chunk in use. Must be called before a storage chunk
    /// is freed.
    pub(super) async fn prepare(&self, table: &Table) -> Result<()> {
        if self.metadata.volatile().pool.is_ready() {
            return Ok(());
        }
        let _growing = self.growing.lock(0..1).await;
        if self.metadata.volatile().pool.is_ready() {
            return Ok(());
        }
        self.scan(table).await
    }

    /// Finds the storage chunks in use, and cuts a file after the highest. The caller holds the `growing` lock.
    async fn scan(&self, table: &Table) -> Result<()> {
        let (mut next, mut count) = (StorageChunk::FIRST, 0);
        self.visit_storage(table, |storage| {
            next = next.max(storage.next());
            count += 1;
        })
        .await?;
        let gaps = self.gaps(table, next, count).await?;
        let used = self.metadata.chunk_offset(table, next);
        let mut file_len = self.data().len().await?;
        if self.data().can_resize() && file_len > used && !mutation::is(Mutation::KeepTail) {
            self.data().set_len(used).await?;
            file_len = used;
        }
        self.metadata.volatile().pool.start(Frontier { next, file_len }, gaps);
        Ok(())
    }

    /// The storage chunks below `next` that none of the `count` allocated chunks has: earlier sessions freed them,
    /// or lost them in a crash.
    async fn gaps(&self, table: &Table, next: StorageChunk, count: u64) -> Result<ChunkSet> {
        if count >= next.index() {
            return Ok(ChunkSet::default());
        }
        let end = next.min(self.gaps_end(table).await?);
        let mut used = ChunkSet::default();
        self.visit_storage(table, |storage| {
            if storage < end {
                used.insert(storage);
            }
        })
        .await?;
        Ok(used.missing_below(end))
    }

    /// The storage chunk below which gaps are remembered. In a file a few entries can name numbers that are
    /// arbitrarily far apart, at no cost, so there is a fixed limit. On a device the limit is the number of
    /// storage chunks that fit.
    async fn gaps_end(&self, table: &Table) -> Result<StorageChunk> {
        if self.data().can_resize() {
            return Ok(GAPS_END);
        }
        let room = self
            .data()
            .len()
            .await?
            .saturating_sub(self.metadata.geometry().data_offset)
            / table.chunk_size();
        Ok(StorageChunk::FIRST.plus(room.min(StorageChunk::MAX.index() + 1)))
    }

    /// Visits the storage chunks in use. Entries that are not in memory are read and not kept: a table can
    /// have billions of them. No entry changes meanwhile, because no storage chunk is allocated or freed
    /// before the allocator is ready.
    async fn visit_storage(&self, table: &Table, mut visit: impl FnMut(StorageChunk) + Send) -> Result<()> {
        let words = table.words();
        let mut chunk = 0;
        while chunk < table.chunks() {
            let (in_memory, end) = words.memory_run(chunk, table.chunks());
            if in_memory {
                for chunk in chunk..end {
                    table.get(VirtualChunk::new(chunk))?.into_iter().for_each(&mut visit);
                }
            } else {
                let mut runs =
                    EntryRuns::new(self.files.file(), words.region(), chunk, end, &[]).with_lost(table.chunks());
                while let Some(run) = runs.next().await? {
                    if run.lost {
                        // Without these entries, the data of their chunks would be cut off.
                        return Err(Table::lost(run.first, run.end() - 1));
                    }
                    let storage = table.checked(VirtualChunk::new(run.first), run.entry)?;
                    storage.into_iter().for_each(&mut visit);
                }
            }
            chunk = end;
        }
        Ok(())
    }

    /// Extends the file to at least `needed` bytes, for storage of `chunk`; by the grow unit where there is
    /// room for that. Returns its new length.
    async fn grow(&self, chunk: VirtualChunk, frontier: Frontier, needed: u64) -> Stored<u64> {
        if !self.data().can_resize() {
            let message = format!(
                "The device is full: the image needs {needed} bytes, it has {}",
                frontier.file_len
            );
            let error = Error::new(ErrorKind::NoSpace, message).with_path(self.data().path());
            return Err(StoreError::of_growth(chunk, error.with_op("write")));
        }
        let wanted = needed.max(frontier.file_len.saturating_add(self.grow_unit));
        if let Err(error) = self.data().set_len(wanted).await {
            if error.kind() != ErrorKind::NoSpace {
                return Err(error.into());
            }
            // A file that cannot grow is treated like a full device: freed storage chunks may help.
            let cut = self.data().set_len(needed).await;
            cut.map_err(|error| StoreError::of_growth(chunk, error))?;
            return Ok(needed);
        }
        Ok(wanted)
    }

    /// Zeroes a storage chunk that no virtual chunk uses, and reserves it: one that was freed, or one of a
    /// device. The caller holds the `growing` lock.
    async fn reserve_zeroed(&self, table: &Table, chunk: VirtualChunk, storage: StorageChunk) -> Result<StorageChunk> {
        let start = self.metadata.chunk_offset(table, storage);
        if !mutation::is(Mutation::ReuseUnzeroed) {
            self.data()
                .write_zeroes(start, table.chunk_size(), self.zero_space)
                .await?;
        }
        self.metadata.volatile().pool.reserve(chunk, storage);
        Ok(storage)
    }

    /// End of the storage chunk in the data file, in bytes. Fails with [`ErrorKind::NoSpace`] if the number
    /// is beyond the limit of the format.
    fn chunk_end(&self, table: &Table, storage: StorageChunk) -> Result<u64> {
        let end = (storage.index() + 1)
            .checked_mul(table.chunk_size())
            .and_then(|end| end.checked_add(self.metadata.geometry().data_offset));
        match end {
            Some(end) if storage <= StorageChunk::MAX && i64::try_from(end).is_ok() => Ok(end),
            _ => Err(Error::new(
                ErrorKind::NoSpace,
                format!("The image has no storage chunk left: number {storage} is beyond the limit of the format"),
            )
            .with_path(self.files.file().path())
            .with_op("write")),
        }
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::image::testing::{CHUNK, Kind, Sample, content, open, options, sample};
    use crate::image::{Image, create};
    use crate::storage::MemoryStorage;

    /// Gaps that the image finds in its table before the first allocation.
    fn gaps(image: &Image<MemoryStorage>) -> ChunkSet {
        let (allocator, table) = (&image.allocator, image.metadata.table().expect("compact"));
        let (mut next, mut count) = (StorageChunk::FIRST, 0);
        let visited = allocator.visit_storage(table, |storage| {
            next = next.max(storage.next());
            count += 1;
        });
        block_on(visited).expect("visited");
        block_on(allocator.gaps(table, next, count)).expect("found")
    }

    #[test]
    fn a_far_storage_chunk_number_costs_a_file_at_most_32_mib() {
        let sample = sample(Kind::default());
        sample.leak(3);
        sample.set_entry(12, StorageChunk::MAX.number() - 1);
        let expected = content(&sample);
        let image = open(&sample, true).expect("opens");
        let mut gaps = gaps(&image);
        assert_eq!(gaps.first(), Some(StorageChunk::FIRST));
        assert_eq!(gaps.end(), GAPS_END);
        assert_eq!(gaps.len(), GAPS_END.index() - 9);
        block_on(image.write(vec![9; 100].into(), 13 * CHUNK)).expect("written");
        block_on(image.close()).expect("closed");
        assert_eq!(sample.entry(13), 0);
        let content = content(&sample);
        let at = 13 * CHUNK as usize;
        assert_eq!(content[at..at + 100], [9; 100]);
        assert!(content[at + 100..at + CHUNK as usize].iter().all(|byte| *byte == 0));
        assert_eq!(content[..at], expected[..at]);
    }

    #[test]
    fn gaps_of_a_device_are_those_that_fit_on_it() {
        let (file, device) = (MemoryStorage::new(), MemoryStorage::device(5 * CHUNK + 4096));
        let kind = Kind {
            separate: true,
            ..Kind::default()
        };
        block_on(create(&file, Some(&device), &options(kind), None)).expect("created");
        let sample = Sample {
            file,
            data: Some(device),
        };
        sample.set_entry(0, 2);
        sample.set_entry(1, StorageChunk::MAX.number() - 1);
        let image = open(&sample, true).expect("opens");
        let mut gaps = gaps(&image);
        assert_eq!(
            (gaps.first(), gaps.len(), gaps.end().number()),
            (Some(StorageChunk::FIRST), 4, 5)
        );
        for chunk in 2..6 {
            block_on(image.write(vec![9; 100].into(), chunk * CHUNK)).expect("there is room");
        }
        let full = block_on(image.write(vec![9; 100].into(), 6 * CHUNK)).expect_err("full");
        assert_eq!(full.kind(), ErrorKind::NoSpace);
    }
}
