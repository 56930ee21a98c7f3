//! Discard: the guest no longer needs a range (`docs/design/engine.md`, "Discard and space").
//!
//! Unlike zeroing, a discard is advice. It leaves alone: blocks that are still in the base and only partly in
//! the range, parts of sectors, and, in an image that writes to its base, the region of the base.

use super::{Discard, Image};
use crate::error::Result;
use crate::format::{Block, SECTOR};
use crate::image::metadata::bitmap::Bitmap;
use crate::image::metadata::publish::PendingChunks;
use crate::image::space::store_error::Stored;
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

impl<S: Storage> Image<S> {
    /// Whether discards have an effect: the image was opened with [`Discard::Unmap`].
    #[must_use]
    pub fn discards(&self) -> bool {
        self.options.discard == Discard::Unmap
    }

    /// Gives up the content of `len` bytes from `offset` (any alignment), and their space. Durable after the
    /// next successful [`Image::flush`].
    ///
    /// Afterwards the whole sectors of the range read as zeros. Blocks that are still in the base and only
    /// partly in the range keep their content, and so do parts of sectors. Blocks of the base that are in the
    /// range as a whole become local without being read or stored. In an image that writes to its base (see
    /// [`Image::updates_base`]) all blocks of the base's region stay as they are. With [`Discard::Ignore`]
    /// nothing changes.
    pub async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        let end = self.check_range(offset, len)?;
        let _request = self.inflight.enter();
        self.counters.discards.add(1);
        self.counters.discarded_bytes.add(len);
        let mut start = offset.next_multiple_of(SECTOR);
        let end = end / SECTOR * SECTOR;
        if self.writeback.is_some() {
            start = start.max(self.metadata.base_size());
        }
        if start >= end || !self.discards() {
            return Ok(());
        }
        while start < end {
            let stop = self.metadata.lookup_end(start, end);
            self.discard_range(start, stop).await?;
            start = stop;
        }
        self.allocator.checkpoint_many_freed().await?;
        self.write_through().await
    }

    async fn discard_range(&self, start: u64, end: u64) -> Stored<()> {
        let _pin = self
            .allocator
            .pin()
            .filter(|_| !mutation::is(Mutation::DiscardUncounted));
        self.metadata.load(self.file(), start, end).await?;
        let Some(bitmap) = self.metadata.bitmap() else {
            return self.zero_local(start, end, Space::Free).await;
        };
        let blocks = bitmap.blocks(start, end);
        if bitmap.all_local(&blocks) {
            return self.zero_local(start, end, Space::Free).await;
        }
        // Blocks that are left alone are locked, too: a task that fills one stores data in chunks that are
        // freed here (I16).
        let _filling = if mutation::is(Mutation::DiscardUnlocked) {
            None
        } else {
            Some(self.filling.lock(blocks).await)
        };
        let (start, end) = without_parts(bitmap, start, end);
        if start >= end {
            return Ok(());
        }
        let mut pending_chunks = PendingChunks::begin(&self.metadata, start, end);
        self.zero_stored(start, end, Space::Free, &mut pending_chunks).await?;
        Ok(pending_chunks.publish(&bitmap.blocks(start, end))?)
    }
}

/// The range without its first and its last block, where these are in the base and only partly in the range.
fn without_parts(bitmap: &Bitmap, start: u64, end: u64) -> (u64, u64) {
    let blocks = bitmap.blocks(start, end);
    let (first, last) = (blocks.start.alone(), Block::last(&blocks).alone());
    let (first_bytes, last_bytes) = (bitmap.bytes_of(&first), bitmap.bytes_of(&last));
    (
        if first_bytes.start < start && !bitmap.all_local(&first) {
            first_bytes.end
        } else {
            start
        },
        // Beyond the base everything is local.
        if end < last_bytes.end && !bitmap.all_local(&last) {
            last_bytes.start
        } else {
            end
        },
    )
}
