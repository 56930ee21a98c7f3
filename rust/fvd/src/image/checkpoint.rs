//! Checkpoint: bitmap and table in place, after which the journal starts anew.

use bytes::Bytes;
use rangemap::RangeSet;

use super::Image;
use super::commit::Taken;
use super::words::Words;
use crate::error::Result;
use crate::format::PAGE;
use crate::storage::Storage;

/// Pages written with one operation at most.
const PAGES_PER_WRITE: u64 = 256;

/// Bytes for one place in the image file.
struct Patch {
    offset: u64,
    bytes: Bytes,
}

impl<S: Storage> Image<S> {
    /// Syncs data, writes the changed pages of the table, then those of the bitmap, and syncs
    /// each. The caller holds the flush round.
    ///
    /// Stale sectors stay in the journal: a bit only goes from 0 to 1 and an entry never changes,
    /// so replaying them changes nothing.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        let (taken, table, bitmap) = self.snapshot();
        if table.is_empty() && bitmap.is_empty() {
            taken.done();
            return self.sync_data().await;
        }
        self.sync_data_and_mark().await?;
        // Entries first: a bit must not become durable before them.
        self.write_patches(table).await?;
        self.write_patches(bitmap).await?;
        self.committer().position = 0;
        taken.done();
        Ok(())
    }

    /// Takes everything that is not in place, with the bytes as they are now: what is published
    /// from here on is not covered by the sync that follows.
    fn snapshot(&self) -> (Taken<'_, S>, Vec<Patch>, Vec<Patch>) {
        let mut volatile = self.volatile();
        let pages = volatile.pending.pages();
        let patches = |words: Option<&Words>, pages| words.map_or_else(Vec::new, |w| copy_pages(w, pages));
        let table = patches(self.table.as_ref().map(super::table::Table::words), &pages.table);
        let bitmap = patches(self.bitmap.as_ref().map(super::bitmap::Bitmap::words), &pages.bitmap);
        let taken = volatile.pending.take();
        drop(volatile);
        (Taken::new(self, taken), table, bitmap)
    }

    async fn write_patches(&self, patches: Vec<Patch>) -> Result<()> {
        if patches.is_empty() {
            return Ok(());
        }
        for Patch { offset, bytes } in patches {
            self.write_metadata(bytes, offset).await?;
        }
        self.sync_file().await
    }
}

fn copy_pages(words: &Words, pages: &RangeSet<u64>) -> Vec<Patch> {
    let mut patches = Vec::new();
    for run in pages.iter() {
        for first in (run.start..run.end).step_by(PAGES_PER_WRITE as usize) {
            let end = run.end.min(first + PAGES_PER_WRITE);
            let mut bytes = Vec::with_capacity(((end - first) * PAGE) as usize);
            for page in first..end {
                words.copy_page(page, &mut bytes);
            }
            patches.push(Patch {
                offset: words.page_offset(first),
                bytes: Bytes::from(bytes),
            });
        }
    }
    patches
}
