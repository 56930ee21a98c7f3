//! Write and zero, in the image and in its base.

use std::ops::Range;

use bytes::Bytes;

use super::BaseWriteback;
use crate::error::Result;
use crate::format::{BaseUpdate, Block};
use crate::image::Image;
use crate::image::metadata::lookup::block_run;
use crate::image::metadata::publish::PendingChunks;
use crate::image::space::store_error::{StoreError, Stored};
use crate::image::write::edges;
use crate::image::zero::ZEROS;
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

/// The new content of a range.
#[derive(Clone)]
pub(super) enum Content {
    /// These bytes, as many as the range is long.
    Bytes(Bytes),
    /// Zeros, and what becomes of their space.
    Zeros(Space),
}

impl Content {
    /// Removes and returns the content of the first `len` bytes.
    fn split_to(&mut self, len: u64) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.split_to(len as usize)),
            Self::Zeros(space) => Self::Zeros(*space),
        }
    }
}

impl<S: Storage> Image<S> {
    /// As [`Image::store`]: writes `buf` to `offset..end`.
    pub(in crate::image) async fn store_both(
        &self,
        writeback: &BaseWriteback,
        buf: Bytes,
        offset: u64,
        end: u64,
    ) -> Stored<()> {
        let middle = self.metadata.base_size().clamp(offset, end);
        let mut inside = buf;
        let rest = inside.split_off((middle - offset) as usize);
        if !inside.is_empty() {
            self.update(writeback, Content::Bytes(inside), offset..middle).await?;
        }
        if !rest.is_empty() {
            self.store(rest, middle, end).await?;
        }
        Ok(())
    }

    /// As [`Image::zero_range`].
    ///
    /// Chunks in the base's region keep their storage.
    pub(in crate::image) async fn zero_both(
        &self,
        writeback: &BaseWriteback,
        start: u64,
        end: u64,
        space: Space,
    ) -> Stored<()> {
        let middle = self.metadata.base_size().clamp(start, end);
        let block = self.needed_bitmap().block_size();
        // Whole blocks, and less than a block on either side.
        let first = start.next_multiple_of(block).min(middle);
        let last = if middle == self.metadata.base_size() {
            middle
        } else {
            (middle / block * block).max(first)
        };
        self.zero_part(writeback, start..first, space).await?;
        if first < last {
            self.update(writeback, Content::Zeros(space), first..last).await?;
        }
        self.zero_part(writeback, last.max(first)..middle, space).await?;
        if middle < end {
            self.zero_range(middle, end, space).await?;
        }
        Ok(())
    }

    /// Zeroes a part of a block, which may be large, in pieces small enough to be stored as data.
    async fn zero_part(&self, writeback: &BaseWriteback, range: Range<u64>, space: Space) -> Stored<()> {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + ZEROS.len() as u64);
            self.update(writeback, Content::Zeros(space), start..end).await?;
            start = end;
        }
        Ok(())
    }

    /// Changes a (non-empty) range of the base's region, on the sides that the mode requires (W3). A range of
    /// zeros covers whole blocks, or is small enough to be stored as data.
    async fn update(&self, writeback: &BaseWriteback, mut content: Content, range: Range<u64>) -> Stored<()> {
        self.begin_updates(writeback).await?;
        self.metadata.load(self.file(), range.start, range.end).await?;
        let bitmap = self.needed_bitmap();
        let _filling = if mutation::is(Mutation::UpdateUnlocked) {
            None
        } else {
            Some(self.filling.lock(bitmap.blocks(range.start, range.end)).await)
        };
        if !writeback.changes_base() {
            return self.update_both(writeback, content, &range).await;
        }
        let mut start = range.start;
        while start < range.end {
            let (local, end) = block_run(bitmap, start, range.end);
            let part = content.split_to(end - start);
            if local {
                self.update_both(writeback, part, &(start..end)).await?;
            } else {
                self.write_to_base(part, &(start..end))
                    .await
                    .map_err(StoreError::Base)?;
            }
            start = end;
        }
        Ok(())
    }

    /// Changes a range, whose blocks are locked, in the image and, now or later, in the base.
    async fn update_both(&self, writeback: &BaseWriteback, content: Content, range: &Range<u64>) -> Stored<()> {
        // Before any part of it can be in the image (W4).
        writeback.dirty().add(range);
        self.update_local(content.clone(), range).await?;
        if writeback.mode == BaseUpdate::Writeback || mutation::is(Mutation::AckBeforeBase) {
            writeback.became_dirty.notify(1);
            return Ok(());
        }
        // If the base lacks another part of the sector, it gets the sector as the image has it (W6).
        let whole = self.whole_sectors(range);
        if writeback.dirty().includes_beside(range, &whole) && !mutation::is(Mutation::PartOfSector) {
            self.write_back_locked(&whole).await?;
            writeback.dirty().written_back(&whole);
        } else {
            self.write_to_base(content, range).await.map_err(StoreError::Base)?;
            writeback.dirty().written_back(range);
        }
        Ok(())
    }

    /// Changes a range, whose blocks are locked, in the image, where they become local.
    async fn update_local(&self, content: Content, range: &Range<u64>) -> Stored<()> {
        let Range { start, end } = *range;
        self.allocator.extend(end).await?;
        let bitmap = self.needed_bitmap();
        let blocks = bitmap.blocks(start, end);
        let local = bitmap.all_local(&blocks);
        let whole = bitmap.bytes_of(&blocks) == *range;
        let buf = match content {
            Content::Zeros(space) if local || whole => return self.zero_locked(range, &blocks, space).await,
            Content::Zeros(_) => Bytes::from_static(&ZEROS[..(end - start) as usize]),
            Content::Bytes(buf) => buf,
        };
        if !local {
            let edges = edges(bitmap, &blocks, start, end);
            return self.fill_blocks(blocks, edges, buf, start, end).await;
        }
        let mut pending_chunks = PendingChunks::begin(&self.metadata, start, end);
        self.put(vec![buf], start, end, &mut pending_chunks).await?;
        Ok(pending_chunks.publish(&Block::NONE)?)
    }

    async fn zero_locked(&self, range: &Range<u64>, blocks: &Range<Block>, space: Space) -> Stored<()> {
        let mut pending_chunks = PendingChunks::begin(&self.metadata, range.start, range.end);
        self.zero_in_place(range.start, range.end, space, &mut pending_chunks)
            .await?;
        Ok(pending_chunks.publish(blocks)?)
    }

    /// Changes a range, whose blocks are locked, in the base.
    pub(super) async fn write_to_base(&self, content: Content, range: &Range<u64>) -> Result<()> {
        let len = range.end - range.start;
        self.counters.base_writes.add(1);
        self.counters.base_written_bytes.add(len);
        match content {
            Content::Bytes(bytes) => self.updated_base().write(bytes, range.start).await,
            Content::Zeros(space) => self.updated_base().write_zeroes(range.start, len, space).await,
        }
    }
}
