//! Write zeroes: without reads of the base, and without allocation (`docs/design/engine.md`, "Writing" and
//! "Discard").

use std::ops::Range;

use bytes::Bytes;

use super::Image;
use crate::error::Result;
use crate::format::{Block, VirtualChunk};
use crate::image::metadata::publish::PendingChunks;
use crate::image::metadata::table::Table;
use crate::image::space::reclaim::ATTEMPTS;
use crate::image::space::store_error::Stored;
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

/// Most zeros written at once, where they must be written as data.
pub(super) static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl<S: Storage> Image<S> {
    /// Makes `len` bytes from `offset` (any alignment) read as zeros. Durable after the next successful
    /// [`Image::flush`].
    ///
    /// Whole blocks that are still in the base become local without being read or stored. Space is freed
    /// where the storage can do that; in a compact image that of whole chunks. If the image was opened with
    /// [`Discard::Ignore`](super::Discard::Ignore), what has space keeps it.
    pub async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.zero_request(offset, len, Space::Free).await
    }

    /// As [`Image::write_zeroes`], but all of the range has space afterwards, in the image and in the file. A
    /// later write there does not fail for want of space.
    pub async fn write_zeroes_no_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.zero_request(offset, len, Space::Allocate).await
    }

    /// What becomes of the space of zeros that the image stores on its own account.
    pub(super) fn space(&self) -> Space {
        self.options.permitted(Space::Free)
    }

    pub(super) async fn zero_request(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        self.check_writable()?;
        let end = self.check_range(offset, len)?;
        let _request = self.inflight.enter();
        self.counters.zeroes.add(1);
        self.counters.zeroed_bytes.add(len);
        if len == 0 {
            return Ok(());
        }
        self.zero(offset, end, self.options.permitted(space)).await?;
        self.write_through().await
    }

    /// Zeroes `start..end` (bytes), also in the base if the image writes to its base.
    pub(super) async fn zero(&self, mut start: u64, end: u64, space: Space) -> Result<()> {
        let mut left = if self.metadata.table().is_some() { ATTEMPTS } else { 0 };
        // Table and bitmap of a huge range are loaded step by step.
        while start < end {
            let stop = self.metadata.lookup_end(start, end);
            let zeroed = match &self.writeback {
                None => self.zero_range(start, stop, space).await,
                Some(writeback) => Box::pin(self.zero_both(writeback, start, stop, space)).await,
            };
            match zeroed {
                // Try again if freed storage chunks make room.
                Err(error) => self.allocator.find_room(error, &mut left).await?,
                Ok(()) => start = stop,
            }
        }
        self.allocator.checkpoint_many_freed().await
    }

    pub(super) async fn zero_range(&self, start: u64, end: u64, space: Space) -> Stored<()> {
        let _pin = self.allocator.pin().filter(|_| !mutation::is(Mutation::ZeroUncounted));
        self.metadata.load(self.file(), start, end).await?;
        let Some(bitmap) = self.metadata.bitmap() else {
            return self.zero_local(start, end, space).await;
        };
        let blocks = bitmap.blocks(start, end);
        if bitmap.all_local(&blocks) {
            return self.zero_local(start, end, space).await;
        }
        // Blocks that are covered in part keep the rest of their base data: they get a copy-on-write of
        // zeros.
        let mut whole = blocks.clone();
        if bitmap.bytes_of(&whole).start < start {
            whole.start = whole.start.next();
        }
        if !whole.is_empty() && bitmap.bytes_of(&whole).end > end {
            whole.end = Block::last(&whole);
        }
        if whole.is_empty() {
            let base_end = end.min(bitmap.base_size());
            self.store_zeros(start, base_end).await?;
            return self.zero_local(base_end, end, space).await;
        }
        let Range {
            start: first,
            end: last,
        } = bitmap.bytes_of(&whole);
        self.store_zeros(start, first).await?;
        {
            let _filling = self.filling.lock(whole.clone()).await;
            self.counters.filling_writes.add(1);
            self.counters.base_reads_avoided.add(1);
            let mut pending_chunks = PendingChunks::begin(&self.metadata, first, last);
            self.zero_stored(first, last, space, &mut pending_chunks).await?;
            pending_chunks.publish(&whole)?;
        }
        if last < end && last < bitmap.base_size() {
            return self.store_zeros(last, end).await;
        }
        self.zero_local(last, end, space).await
    }

    /// Zeroes a range that is local.
    pub(super) async fn zero_local(&self, start: u64, end: u64, space: Space) -> Stored<()> {
        let mut pending_chunks = PendingChunks::begin(&self.metadata, start, end);
        self.zero_stored(start, end, space, &mut pending_chunks).await?;
        Ok(pending_chunks.publish(&Block::NONE)?)
    }

    /// Writes zeros as data.
    async fn store_zeros(&self, start: u64, end: u64) -> Stored<()> {
        let mut at = start;
        while at < end {
            let stop = end.min(at + ZEROS.len() as u64);
            let zeros = Bytes::from_static(&ZEROS[..(stop - at) as usize]);
            self.store(zeros, at, stop).await?;
            at = stop;
        }
        Ok(())
    }

    /// Zeroes what is stored for `start..end`. With [`Space::Free`] whole chunks are freed. Publishes nothing
    /// else; adds the new chunks to `pending_chunks`.
    pub(super) async fn zero_stored(
        &self,
        start: u64,
        end: u64,
        space: Space,
        pending_chunks: &mut PendingChunks<'_>,
    ) -> Stored<()> {
        let whole = match self.metadata.table() {
            Some(table) if space == Space::Free => Some((table, self.whole_chunks(table, start, end))),
            _ => None,
        };
        let Some((table, whole)) = whole.filter(|(_, whole)| !whole.is_empty()) else {
            return self.zero_in_place(start, end, space, pending_chunks).await;
        };
        let first = whole.start.start(table.chunk_size());
        let last = whole.end.start(table.chunk_size()).min(end);
        self.zero_in_place(start, first, space, pending_chunks).await?;
        // Another request is writing there, so their storage cannot be freed.
        for chunk in self.allocator.reserved_in(&whole) {
            let start = chunk.start(table.chunk_size());
            let end = start.saturating_add(table.chunk_size()).min(self.size());
            self.zero_chunk(table, start, end, Space::Free, pending_chunks).await?;
        }
        self.allocator.free_chunks(table, whole).await?;
        self.zero_in_place(last, end, space, pending_chunks).await
    }

    /// As [`Image::zero_stored`], but every chunk keeps its storage chunk: `space` concerns the data file
    /// only.
    pub(super) async fn zero_in_place(
        &self,
        start: u64,
        end: u64,
        space: Space,
        pending_chunks: &mut PendingChunks<'_>,
    ) -> Stored<()> {
        let Some(table) = self.metadata.table() else {
            if space == Space::Allocate {
                self.allocator.extend(end).await?;
            }
            let offset = self.geometry().data_offset + start;
            return Ok(self.data().write_zeroes(offset, end - start, space).await?);
        };
        let mut at = start;
        while at < end {
            at = self.zero_chunk(table, at, end, space, pending_chunks).await?;
        }
        Ok(())
    }

    /// The chunks whose whole content lies in `start..end`.
    fn whole_chunks(&self, table: &Table, start: u64, end: u64) -> Range<VirtualChunk> {
        let first = start.div_ceil(table.chunk_size());
        let last = if end == self.size() {
            end.div_ceil(table.chunk_size())
        } else {
            end / table.chunk_size()
        };
        VirtualChunk::new(first)..VirtualChunk::new(last)
    }

    /// Zeroes the part of `at..end` in its first chunk. Skips it if the chunk has no storage and must get
    /// none. Returns the end of that part.
    pub(super) async fn zero_chunk(
        &self,
        table: &Table,
        at: u64,
        end: u64,
        space: Space,
        pending_chunks: &mut PendingChunks<'_>,
    ) -> Stored<u64> {
        let chunk = table.chunk_at(at);
        let stop = chunk.next().start(table.chunk_size()).min(end);
        let storage = match self.allocator.storage_of(table, chunk)? {
            Some(storage) => storage,
            None if space == Space::Allocate => self.allocator.reserve(table, chunk).await?,
            None => return Ok(stop),
        };
        if !table.is_recorded(chunk) {
            pending_chunks.push(chunk, storage);
        }
        let offset = self.metadata.chunk_offset(table, storage) + at % table.chunk_size();
        self.data().write_zeroes(offset, stop - at, space).await?;
        Ok(stop)
    }
}
