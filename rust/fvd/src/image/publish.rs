//! Publish: make stored data visible to readers and to the next commit.

use std::ops::Range;

use super::Image;
use crate::error::Result;
use crate::format::Entry;
use crate::storage::Storage;

/// A chunk that was not in the table when its data was stored, and its storage chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FreshChunk {
    chunk: u64,
    number: u32,
}

/// The chunks that a request has reserved.
///
/// Dropped unpublished, because the request failed or was cancelled, it publishes them all the
/// same: something of the request may have reached the storage. If the chunk stayed hidden, it
/// would read as zeros now, and show what was written once another request publishes it.
pub(super) struct Fresh<'a, S: Storage> {
    image: &'a Image<S>,
    chunks: Vec<FreshChunk>,
}

impl<'a, S: Storage> Fresh<'a, S> {
    pub(super) fn new(image: &'a Image<S>) -> Self {
        let chunks = Vec::new();
        Self { image, chunks }
    }

    pub(super) fn push(&mut self, chunk: u64, number: u32) {
        self.chunks.push(FreshChunk { chunk, number });
    }

    /// Makes the chunks and `blocks` visible; their data has been written.
    pub(super) fn publish(mut self, blocks: &Range<u64>) -> Result<()> {
        let chunks = std::mem::take(&mut self.chunks);
        self.image.publish(&chunks, blocks)
    }
}

impl<S: Storage> Drop for Fresh<'_, S> {
    fn drop(&mut self) {
        if !self.chunks.is_empty() {
            // Fails for a corrupt table only, of which the request that failed has told.
            let _ = self.image.publish(&self.chunks, &(0..0));
        }
    }
}

impl<S: Storage> Image<S> {
    /// Publishes `fresh` and `blocks`, whose data has been written (not necessarily synced).
    ///
    /// Entries come before bits: a reader that sees a bit sees the entries of the block. One
    /// mutex makes the step whole for a commit: it takes all of it or nothing.
    fn publish(&self, fresh: &[FreshChunk], blocks: &Range<u64>) -> Result<()> {
        let mut volatile = self.volatile();
        if let Some(table) = &self.table {
            for &FreshChunk { chunk, number } in fresh {
                // Two writers of one chunk share its reservation; the first one publishes it.
                if table.get(chunk)?.is_none() {
                    table.set(chunk, Entry::allocated(number));
                    volatile.pending.add_chunk(chunk);
                }
                volatile.allocator.published(chunk);
            }
        }
        if let Some(bitmap) = &self.bitmap
            && !bitmap.all_local(blocks)
        {
            bitmap.set(blocks);
            volatile.pending.add_blocks(blocks);
        }
        Ok(())
    }
}
