//! Write and copy-on-write (`docs/design/engine.md`, "Writing").

use std::ops::Range;

use bytes::Bytes;

use super::{CacheMode, DetectZeroes, Image, Mapping};
use crate::error::Result;
use crate::format::Block;
use crate::image::metadata::bitmap::Bitmap;
use crate::image::metadata::publish::PendingChunks;
use crate::image::space::reclaim::ATTEMPTS;
use crate::image::space::store_error::{StoreError, Stored};
use crate::mutation::{self, Mutation};
use crate::source::{Content, Run, is_zero};
use crate::storage::{IoBufMut, Space, Storage};

/// Most bytes of base data copied at once. It bounds the memory of a copy-on-write, whatever the block size.
pub(super) const COPY_STEP: u64 = 1 << 20;

impl<S: Storage> Image<S> {
    /// Writes `buf` at `offset` (bytes, any alignment). Durable after the next successful [`Image::flush`].
    ///
    /// After an error each sector of the range holds its old or its new content (C4).
    pub async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        self.check_writable()?;
        let end = self.check_range(offset, buf.len() as u64)?;
        if buf.is_empty() {
            return Ok(());
        }
        let _request = self.inflight.enter();
        self.counters.writes.add(1);
        self.counters.written_bytes.add(buf.len() as u64);
        if self.detects_zeros(&buf) {
            Box::pin(self.zero_instead(offset, end)).await?;
        } else {
            let again = self.metadata.table().is_some().then(|| buf.clone());
            match (self.write_once(buf, offset, end).await, again) {
                (Err(error), Some(buf)) => Box::pin(self.write_again(buf, offset, end, error)).await?,
                (result, _) => result?,
            }
        }
        self.write_through().await
    }

    async fn write_once(&self, buf: Bytes, offset: u64, end: u64) -> Stored<()> {
        match &self.writeback {
            None => self.store(buf, offset, end).await,
            // Boxed, so that other images do not need the space of this future.
            Some(writeback) => Box::pin(self.store_both(writeback, buf, offset, end)).await,
        }
    }

    /// Tries a write again that found no room, as long as freed storage chunks may make room.
    async fn write_again(&self, buf: Bytes, offset: u64, end: u64, error: StoreError) -> Result<()> {
        let mut left = ATTEMPTS;
        let mut failed = Err(error);
        while let Err(error) = failed {
            self.allocator.find_room(error, &mut left).await?;
            failed = self.write_once(buf.clone(), offset, end).await;
        }
        Ok(())
    }

    fn detects_zeros(&self, buf: &[u8]) -> bool {
        self.options.detect_zeroes != DetectZeroes::Off && is_zero(buf)
    }

    async fn zero_instead(&self, offset: u64, end: u64) -> Result<()> {
        self.counters.detected_zeroes.add(1);
        let space = match self.options.detect_zeroes {
            DetectZeroes::Unmap => self.space(),
            DetectZeroes::On | DetectZeroes::Off => Space::Keep,
        };
        self.zero(offset, end, space).await
    }

    /// Makes a request durable before it is acknowledged, if the cache mode asks for it.
    pub(super) async fn write_through(&self) -> Result<()> {
        match self.options.cache {
            CacheMode::Writethrough => self.flush().await,
            CacheMode::Writeback | CacheMode::Unsafe => Ok(()),
        }
    }

    /// Writes `buf` to `offset..end` (bytes, not empty).
    pub(super) async fn store(&self, buf: Bytes, offset: u64, end: u64) -> Stored<()> {
        let start = offset;
        let _pin = self.allocator.pin().filter(|_| !mutation::is(Mutation::WriteUncounted));
        self.allocator.extend(end).await?;
        self.metadata.load(self.file(), offset, end).await?;
        let extent = self.metadata.extent(offset, end)?;
        if extent.len == end - offset
            && let Mapping::Local { offset } = extent.mapping
        {
            // A write in place: no lock, and no change of metadata except of what copies have stored (I4,
            // I8).
            self.metadata.promote(start, end);
            return Ok(self.data().write(buf, offset).await?);
        }
        if let Some(bitmap) = self.metadata.bitmap() {
            let blocks = bitmap.blocks(offset, end);
            if !bitmap.all_local(&blocks) {
                return self.copy_on_write(bitmap, blocks, buf, offset, end).await;
            }
        }
        let mut pending_chunks = PendingChunks::begin(&self.metadata, offset, end);
        self.put(vec![buf], offset, end, &mut pending_chunks).await?;
        Ok(pending_chunks.publish(&Block::NONE)?)
    }

    async fn copy_on_write(
        &self,
        bitmap: &Bitmap,
        blocks: Range<Block>,
        buf: Bytes,
        offset: u64,
        end: u64,
    ) -> Stored<()> {
        let edges = || edges(bitmap, &blocks, offset, end);
        let stale = mutation::is(Mutation::EdgesBeforeLock).then(edges);
        let _filling = self.filling.lock(blocks.clone()).await;
        // Another writer, or a copy, may have filled an edge while this one waited.
        let edges = stale.unwrap_or_else(edges);
        self.fill_blocks(blocks, edges, buf, offset, end).await
    }

    /// Stores whole blocks, which are locked. Their edges come from the base.
    pub(super) async fn fill_blocks(
        &self,
        blocks: Range<Block>,
        (head, tail): Edges,
        buf: Bytes,
        offset: u64,
        end: u64,
    ) -> Stored<()> {
        let mut pending_chunks = PendingChunks::begin(&self.metadata, offset, end);
        if mutation::is(Mutation::PublishBeforeData) {
            PendingChunks::begin(&self.metadata, offset, end).publish(&blocks)?;
        }
        let missing = (head.end - head.start) + (tail.end - tail.start);
        self.recorder.note(head.clone());
        self.recorder.note(tail.clone());
        self.counters.filling_writes.add(1);
        self.counters.copy_on_write_bytes.add(missing);
        self.counters.base_reads_avoided.add(u64::from(missing == 0));
        if missing <= COPY_STEP {
            let mut bufs = Vec::with_capacity(3);
            self.push_base(&mut bufs, &head).await?;
            bufs.push(buf);
            self.push_base(&mut bufs, &tail).await?;
            self.put(bufs, head.start, tail.end, &mut pending_chunks).await?;
        } else {
            self.copy_base(head, &mut pending_chunks).await?;
            self.put(vec![buf], offset, end, &mut pending_chunks).await?;
            self.copy_base(tail, &mut pending_chunks).await?;
        }
        Ok(pending_chunks.publish(&blocks)?)
    }

    /// Appends the base data of the (possibly empty) range to `bufs`.
    async fn push_base(&self, bufs: &mut Vec<Bytes>, range: &Range<u64>) -> Stored<()> {
        if !range.is_empty() {
            let buf = IoBufMut::zeroed((range.end - range.start) as usize);
            bufs.push(
                self.read_base(buf, range.start)
                    .await
                    .map_err(StoreError::Base)?
                    .freeze(),
            );
        }
        Ok(())
    }

    /// Copies a range of any size from the base, without publishing it. Zeros are not stored: the cost
    /// depends on the data, not on the block size.
    pub(super) async fn copy_base(&self, range: Range<u64>, pending_chunks: &mut PendingChunks<'_>) -> Stored<()> {
        let mut start = range.start;
        while start < range.end {
            let Run { content, len, .. } = self
                .base_status(start, range.end - start)
                .await
                .map_err(StoreError::Base)?;
            if content == Content::Zero {
                self.zero_in_place(start, start + len, self.space(), pending_chunks)
                    .await?;
                start += len;
                continue;
            }
            let end = start + len.min(COPY_STEP);
            let buf = IoBufMut::zeroed((end - start) as usize);
            let data = self.read_base(buf, start).await.map_err(StoreError::Base)?.freeze();
            self.put_sparse(data, start, pending_chunks).await?;
            start = end;
        }
        Ok(())
    }

    /// Writes `bufs`, `end - offset` bytes in all, to the place of `offset..end` in the data file, and
    /// reserves storage chunks. Publishes nothing; adds the new chunks to `pending_chunks`.
    pub(super) async fn put(
        &self,
        bufs: Vec<Bytes>,
        offset: u64,
        end: u64,
        pending_chunks: &mut PendingChunks<'_>,
    ) -> Stored<()> {
        let mut bufs = Gather(bufs);
        for place in self.allocator.place(offset, end, pending_chunks).await? {
            let mut part = bufs.take(place.len as usize);
            match part.len() {
                1 => self.data().write(part.remove(0), place.offset).await?,
                _ => self.data().write_vectored(part, place.offset).await?,
            }
        }
        Ok(())
    }
}

/// The parts of the first and the last block that a write leaves, as far as the base has them. Bytes of the
/// disk.
pub(super) type Edges = (Range<u64>, Range<u64>);

/// The edges of a write of `offset..end` to `blocks`.
pub(super) fn edges(bitmap: &Bitmap, blocks: &Range<Block>, offset: u64, end: u64) -> Edges {
    (head_edge(bitmap, blocks, offset), tail_edge(bitmap, blocks, end))
}

/// The part of the first block before `offset`, if the base has it; else empty, at `offset`.
fn head_edge(bitmap: &Bitmap, blocks: &Range<Block>, offset: u64) -> Range<u64> {
    let block = blocks.start.alone();
    if bitmap.all_local(&block) {
        return offset..offset;
    }
    bitmap.bytes_of(&block).start..offset
}

/// The part of the last block after `end`, if the base has it; else empty, at `end`.
fn tail_edge(bitmap: &Bitmap, blocks: &Range<Block>, end: u64) -> Range<u64> {
    let block = Block::last(blocks).alone();
    if bitmap.all_local(&block) {
        return end..end;
    }
    // Beyond the base every byte is local: there is nothing to copy.
    end..bitmap.bytes_of(&block).end.max(end)
}

/// Buffers that are written one after the other.
struct Gather(Vec<Bytes>);

impl Gather {
    /// Removes `len` bytes from the front.
    fn take(&mut self, mut len: usize) -> Vec<Bytes> {
        let mut front = Vec::with_capacity(self.0.len());
        while len > 0 {
            let first = &mut self.0[0];
            if first.len() > len {
                front.push(first.split_to(len));
                break;
            }
            len -= first.len();
            front.push(self.0.remove(0));
        }
        front
    }
}
