//! Publish: make stored data visible to readers and to the next commit.

use std::ops::Range;

use super::Image;
use crate::error::Result;
use crate::storage::Storage;

/// A chunk that was not in the table when its data was stored, and its storage chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreshChunk {
    pub(super) chunk: u64,
    pub(super) number: u32,
}

impl<S: Storage> Image<S> {
    /// Publishes `fresh` and `blocks`, whose data has been written (not necessarily synced).
    ///
    /// Entries come before bits: a reader that sees a bit sees the entries of the block. One
    /// mutex makes the step whole for a commit: it takes all of it or nothing.
    pub(super) fn publish(&self, fresh: &[FreshChunk], blocks: &Range<u64>) -> Result<()> {
        let mut volatile = self.volatile();
        if let Some(table) = &self.table {
            for &FreshChunk { chunk, number } in fresh {
                // Two writers of one chunk share its reservation; the first one publishes it.
                if table.get(chunk)?.is_none() {
                    table.set(chunk, number);
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
