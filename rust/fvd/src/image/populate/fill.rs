//! Fill: stores what the base holds, and makes the blocks local. Nothing on disk mentions that before a
//! checkpoint does (`docs/design/copies.md`, "Copies").

use std::ops::Range;

use bytes::Bytes;

use crate::error::Result;
use crate::format::Block;
use crate::image::Image;
use crate::image::base_writeback::BaseWriteback;
use crate::image::metadata::publish::PendingChunks;
use crate::image::range_lock::Watch;
use crate::image::space::reclaim::ATTEMPTS;
use crate::image::space::store_error::Stored;
use crate::mutation::{self, Mutation};
use crate::source::parts;
use crate::storage::Storage;

#[cfg(test)]
mod tests;

/// Zeros become holes in units of this many bytes, aligned in the file: a block of most file systems.
const HOLE_UNIT: u64 = 4096;

/// Whole blocks to be stored.
#[derive(Clone, Debug)]
pub(crate) struct BaseCopy {
    /// Not empty.
    pub(crate) blocks: Range<Block>,
    /// What the base holds there, up to the end of its region.
    pub(crate) data: CopyData,
}

/// What the base holds.
#[derive(Clone, Debug)]
pub(crate) enum CopyData {
    Bytes(Bytes),
    Zeros,
    /// Not read yet: the store reads it.
    Unread,
}

/// The result of storing a part of a block.
pub(crate) enum Part {
    /// Stored. The next part must be passed with this watch.
    Stored(Watch),
    /// Another task has stored the block.
    Local,
    /// Another task has held the block since the part before: its parts must be stored from the first again.
    Disturbed,
}

impl CopyData {
    fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.slice(range)),
            other => other.clone(),
        }
    }
}

impl<S: Storage> Image<S> {
    /// The first run of blocks at or after the byte `from` that are still in the base, up to the byte `end`,
    /// as bytes of the disk. One call looks at a few MiB of metadata: it may return an empty range, and the
    /// search then continues at the end of that. None: nothing before `end` is in the base.
    pub(crate) async fn next_in_base(&self, from: u64, end: u64) -> Result<Option<Range<u64>>> {
        let end = end.min(self.metadata.base_size());
        let Some(bitmap) = self.metadata.bitmap().filter(|_| from < end) else {
            return Ok(None);
        };
        let stop = self.metadata.lookup_end(from, end);
        let blocks = bitmap.blocks(from, stop);
        bitmap.load(self.file(), &blocks).await?;
        let (local, next) = bitmap.run(&blocks);
        let run = if local {
            let (_, next_local) = bitmap.run(&(next.min(Block::last(&blocks))..blocks.end));
            next..next_local
        } else {
            blocks.start..next
        };
        if run.is_empty() || run.start >= blocks.end {
            return Ok(Some(stop..stop));
        }
        Ok(Some(bitmap.bytes_of(&run)))
    }

    /// Stores those of the blocks that are still in the base. Returns what was stored, as ranges of bytes of
    /// the disk, in ascending order.
    ///
    /// Waits for guest writes to the same blocks, and never overwrites what they have stored. The data may
    /// have been read before the lock is taken, because the base does not change. Where it does, it is read
    /// again under the lock (W5).
    pub(crate) async fn store_copy(&self, copy: BaseCopy) -> Stored<Vec<Range<u64>>> {
        let (mut stored, mut left) = (Vec::new(), ATTEMPTS);
        while let Err(error) = self.store_copy_once(copy.clone(), &mut stored).await {
            self.allocator.find_room(error, &mut left).await?;
        }
        Ok(stored)
    }

    async fn store_copy_once(&self, copy: BaseCopy, stored: &mut Vec<Range<u64>>) -> Stored<()> {
        self.committer.check_poison()?;
        let Some(bitmap) = self.metadata.bitmap() else {
            return Ok(());
        };
        let BaseCopy { blocks, data } = copy;
        // The data was read without the lock. If the base changes, it must be read again under the lock (W5).
        let data = if self.changes_base() { CopyData::Unread } else { data };
        let Range { start, end } = bitmap.bytes_of(&blocks);
        let _pin = self.allocator.pin();
        self.allocator.extend(end).await?;
        self.metadata.load(self.file(), start, end).await?;
        let _filling = self.filling.lock(blocks.clone()).await;
        let mut rest = blocks;
        while !rest.is_empty() {
            let (mut local, next) = bitmap.run(&rest);
            local &= !mutation::is(Mutation::CopyOverwrites);
            let run = rest.start..next;
            if !local {
                let bytes = bitmap.bytes_of(&run);
                let data = data.slice((bytes.start - start) as usize..(bytes.end - start) as usize);
                let mut pending_chunks = PendingChunks::copy(&self.metadata);
                self.store_data(&bytes, data, &mut pending_chunks).await?;
                pending_chunks.publish(&run)?;
                stored.push(bytes);
            }
            rest.start = next;
        }
        Ok(())
    }

    /// Counts what prefetch has made local: bytes that it has read from the base, and known zeros.
    pub(crate) fn count_prefetched(&self, fetched: u64, zeros: u64) {
        self.counters.prefetched.add(fetched);
        self.counters.prefetched_zeros.add(zeros);
    }

    /// Stores a part of a block that is still in the base. Parts come in ascending order, each with the watch
    /// that the one before it returned; None for the first one.
    ///
    /// No part is visible before the last one publishes the block. Until then the block's bit says that the
    /// base has it, and a task that fills the block meanwhile stores all of it. A guest write that fails or
    /// is cancelled may leave some of its data over earlier parts, and the guest must never see that. So if
    /// another task has held the block, its parts are stored from the first again.
    pub(crate) async fn store_part(
        &self,
        block: Block,
        part: Range<u64>,
        data: CopyData,
        before: Option<Watch>,
    ) -> Stored<Part> {
        let mut left = ATTEMPTS;
        loop {
            match self.store_part_once(block, part.clone(), data.clone(), before).await {
                // The failed attempt may have held the lock. Then it has ended the watch, and after earlier
                // parts the next attempt returns `Disturbed`.
                Err(error) => self.allocator.find_room(error, &mut left).await?,
                stored => return stored,
            }
        }
    }

    async fn store_part_once(
        &self,
        block: Block,
        part: Range<u64>,
        data: CopyData,
        before: Option<Watch>,
    ) -> Stored<Part> {
        self.committer.check_poison()?;
        let Some(bitmap) = self.metadata.bitmap() else {
            return Ok(Part::Local);
        };
        let _pin = self.allocator.pin();
        self.allocator.extend(part.end).await?;
        self.metadata.load(self.file(), part.start, part.end).await?;
        let filling = self.filling.lock(block.alone()).await;
        if bitmap.all_local(&block.alone()) {
            return Ok(Part::Local);
        }
        let is_disturbed = before.is_some_and(|watch| !filling.is_first_since(watch));
        if is_disturbed && !mutation::is(Mutation::PartsDisturbed) {
            return Ok(Part::Disturbed);
        }
        let whole = bitmap.bytes_of(&block.alone());
        let is_last = part.end == whole.end;
        let (part, data) = if !self.changes_base() {
            (part, data)
        } else if is_last {
            // The base may change between two parts, so the last part reads and stores the whole block (W5).
            (whole, CopyData::Unread)
        } else {
            return Ok(Part::Stored(filling.watch()));
        };
        let mut pending_chunks = PendingChunks::copy(&self.metadata);
        self.store_data(&part, data, &mut pending_chunks).await?;
        let complete = if is_last { block.alone() } else { Block::NONE };
        pending_chunks.publish(&complete)?;
        Ok(Part::Stored(filling.watch()))
    }

    fn changes_base(&self) -> bool {
        let changes = self.writeback.as_ref().is_some_and(BaseWriteback::changes_base);
        changes && !mutation::is(Mutation::StaleCopy)
    }

    /// The blocks that the bytes of the disk touch.
    pub(crate) fn blocks_of(&self, bytes: &Range<u64>) -> Range<Block> {
        let bitmap = self.metadata.bitmap();
        bitmap.map_or(Block::NONE, |bitmap| bitmap.blocks(bytes.start, bytes.end))
    }

    /// Stores `data` in blocks that are in the base and locked. Publishes nothing.
    async fn store_data(
        &self,
        bytes: &Range<u64>,
        data: CopyData,
        pending_chunks: &mut PendingChunks<'_>,
    ) -> Stored<()> {
        match data {
            CopyData::Unread => self.copy_base(bytes.clone(), pending_chunks).await,
            CopyData::Bytes(data) => self.put_sparse(data, bytes.start, pending_chunks).await,
            CopyData::Zeros => {
                self.zero_in_place(bytes.start, bytes.end, self.space(), pending_chunks)
                    .await
            }
        }
    }

    /// Stores what a copy has read from the base at `start`, in blocks that are locked. Zeros become holes,
    /// in units of [`HOLE_UNIT`]. Publishes nothing.
    ///
    /// The holes are punched in any case: a write that a crash cut short may have left data there.
    pub(in crate::image) async fn put_sparse(
        &self,
        data: Bytes,
        start: u64,
        pending_chunks: &mut PendingChunks<'_>,
    ) -> Stored<()> {
        // On a device holes save no space: only data that is all zeros is zeroed.
        let unit = if self.data().can_resize() { HOLE_UNIT } else { u64::MAX };
        // Units are aligned in the file, not in the disk: a hole frees whole blocks of the file.
        let parts = parts(&data, (start + self.geometry().data_offset) % HOLE_UNIT, unit);
        // Zeros come first: then a chunk without storage needs nothing, because a new storage chunk reads as
        // zeros.
        for part in parts.iter().filter(|part| part.zero) {
            let (from, to) = (start + part.range.start as u64, start + part.range.end as u64);
            self.zero_in_place(from, to, self.space(), pending_chunks).await?;
        }
        for part in parts.into_iter().filter(|part| !part.zero) {
            let (from, to) = (start + part.range.start as u64, start + part.range.end as u64);
            self.put(vec![data.slice(part.range)], from, to, pending_chunks).await?;
        }
        Ok(())
    }
}
