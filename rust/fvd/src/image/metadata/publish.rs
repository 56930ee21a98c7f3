//! Publish: makes stored data visible to readers and to the next commit.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::{Block, Entry, StorageChunk, VirtualChunk};
use crate::image::metadata::{Metadata, Volatile};
use crate::mutation::{self, Mutation};

/// A virtual chunk that was not in the table when its data was stored, and its storage chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingChunk {
    chunk: VirtualChunk,
    storage: StorageChunk,
}

/// Why data is stored, which decides whether its metadata must go to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A write of the guest: the next commit makes its metadata durable.
    Guest,
    /// A copy of what the base holds: if its metadata is lost, the base still has the bytes.
    Copy,
}

/// The chunks that a request has reserved.
///
/// If it is dropped unpublished, because the request failed or was cancelled, it publishes the chunks all the
/// same: a part of the request may have reached the storage. If a chunk stayed hidden, it would read as zeros
/// now, and show that part when another request publishes it.
pub(in crate::image) struct PendingChunks<'a> {
    metadata: &'a Metadata,
    cause: Cause,
    chunks: Vec<PendingChunk>,
}

impl<'a> PendingChunks<'a> {
    /// For a write of the guest to `start..end` (bytes of the disk). What copies have stored there is
    /// promoted first (I8).
    pub(in crate::image) fn begin(metadata: &'a Metadata, start: u64, end: u64) -> Self {
        metadata.promote(start, end);
        Self::with_cause(metadata, Cause::Guest)
    }

    /// For a copy from the base.
    pub(in crate::image) fn copy(metadata: &'a Metadata) -> Self {
        Self::with_cause(metadata, Cause::Copy)
    }

    fn with_cause(metadata: &'a Metadata, cause: Cause) -> Self {
        let chunks = Vec::new();
        Self {
            metadata,
            cause,
            chunks,
        }
    }

    pub(in crate::image) fn push(&mut self, chunk: VirtualChunk, storage: StorageChunk) {
        self.chunks.push(PendingChunk { chunk, storage });
    }

    /// Makes the chunks and `blocks` visible; their data has been written.
    pub(in crate::image) fn publish(mut self, blocks: &Range<Block>) -> Result<()> {
        let chunks = std::mem::take(&mut self.chunks);
        self.metadata.publish(self.cause, &chunks, blocks)
    }
}

impl Drop for PendingChunks<'_> {
    fn drop(&mut self) {
        if !self.chunks.is_empty() && !mutation::is(Mutation::HideFailedWrite) {
            // Fails for a corrupt table only; then the request has failed with that error.
            let _ = self.metadata.publish(self.cause, &self.chunks, &Block::NONE);
        }
    }
}

impl Metadata {
    /// Publishes `pending_chunks` and `blocks`, whose data has been written (not necessarily synced).
    ///
    /// Entries come before bits: a reader that sees a bit sees the entries of the block (I1). The mutex makes
    /// this one step for a commit, which takes all of it or nothing (I2).
    fn publish(&self, cause: Cause, pending_chunks: &[PendingChunk], blocks: &Range<Block>) -> Result<()> {
        if cause == Cause::Copy {
            self.copied.store(true, Ordering::Release);
        }
        let mut volatile = self.volatile();
        let mut cause_of_next = cause;
        for chunk in pending_chunks {
            self.publish_chunk(cause_of_next, *chunk, &mut volatile)?;
            if mutation::is(Mutation::JournalOneChunk) {
                cause_of_next = Cause::Copy;
            }
        }
        if let Some(bitmap) = &self.bitmap
            && !bitmap.all_local(blocks)
        {
            match cause {
                Cause::Guest => {
                    bitmap.set(blocks);
                    volatile.pending.add_blocks(blocks);
                    if !mutation::is(Mutation::ForgetUnloggedChunk) {
                        self.promote_chunks_of(blocks, &mut volatile);
                    }
                }
                Cause::Copy => {
                    bitmap.set_unlogged(blocks);
                    volatile.pending.add_unlogged_blocks(blocks);
                }
            }
        }
        Ok(())
    }

    fn publish_chunk(&self, cause: Cause, pending_chunk: PendingChunk, volatile: &mut Volatile) -> Result<()> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        let PendingChunk { chunk, storage } = pending_chunk;
        // Two writers of one chunk share its reservation; the first one publishes it.
        let is_new = match table.get(chunk)? {
            None if volatile.pool.has_reserved(chunk, storage) => true,
            Some(now) if now == storage => false,
            // The chunk was discarded after the lookup, so the storage does not belong to it any more (I15).
            None if mutation::is(Mutation::PublishDiscarded) => true,
            _ => return Ok(()),
        };
        match cause {
            Cause::Guest => {
                if is_new {
                    table.set(chunk, Entry::allocated(storage));
                }
                if is_new || (!mutation::is(Mutation::ForgetUnloggedChunk) && table.promote(chunk)) {
                    volatile.pending.add_chunk(chunk);
                }
            }
            Cause::Copy if is_new => {
                table.set_unlogged(chunk, Entry::allocated(storage));
                volatile.pending.add_unlogged_chunk(chunk);
            }
            Cause::Copy => {}
        }
        volatile.pool.published(chunk);
        Ok(())
    }

    /// Promotes the unlogged blocks and chunks of `offset..end`. Must be called before a guest write there:
    /// from then on the base does not have the same bytes, so the next commit must record them (I8).
    ///
    /// The data of the copies has been written, so their metadata may become durable at any time. The write
    /// that follows is one in place.
    pub(in crate::image) fn promote(&self, offset: u64, end: u64) {
        if offset >= end || !self.copied.load(Ordering::Acquire) {
            return;
        }
        let blocks = self.bitmap.as_ref();
        let blocks = blocks.map_or(Block::NONE, |bitmap| bitmap.blocks(offset, end));
        let unlogged_block = self.bitmap.as_ref().and_then(|bitmap| bitmap.next_unlogged(&blocks));
        let chunks = self.table.as_ref().map(|table| table.chunks_of(offset, end));
        let chunks = chunks.unwrap_or_default();
        let is_unlogged = |chunk| self.table.as_ref().is_some_and(|table| table.is_unlogged(chunk));
        if unlogged_block.is_none() && !VirtualChunk::each(&chunks).any(is_unlogged) {
            return;
        }
        let mut volatile = self.volatile();
        if let Some(bitmap) = &self.bitmap {
            let mut rest = blocks;
            while let Some(unlogged) = bitmap.next_unlogged(&rest) {
                bitmap.promote(&unlogged);
                if !mutation::is(Mutation::ForgetUnloggedBlock) {
                    volatile.pending.add_blocks(&unlogged);
                }
                self.promote_chunks_of(&unlogged, &mut volatile);
                rest.start = unlogged.end;
            }
        }
        self.promote_chunks(&chunks, &mut volatile);
    }

    /// Promotes all chunks that the blocks touch: a bit becomes durable with the entries of its block (I5).
    fn promote_chunks_of(&self, blocks: &Range<Block>, volatile: &mut Volatile) {
        if let (Some(bitmap), Some(table)) = (&self.bitmap, &self.table) {
            let bytes = bitmap.bytes_of(blocks);
            self.promote_chunks(&table.chunks_of(bytes.start, bytes.end), volatile);
        }
    }

    fn promote_chunks(&self, chunks: &Range<VirtualChunk>, volatile: &mut Volatile) {
        let Some(table) = self.table.as_ref().filter(|_| self.copied.load(Ordering::Acquire)) else {
            return;
        };
        for chunk in VirtualChunk::each(chunks) {
            if table.promote(chunk) {
                volatile.pending.add_chunk(chunk);
            }
        }
    }
}
