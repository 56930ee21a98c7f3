//! Snapshot: the bytes that a checkpoint writes in place.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use rangemap::RangeSet;

use crate::format::{Entry, PAGE, StorageChunk, VirtualChunk};
use crate::image::durability::pending::Pending;
use crate::image::metadata::bitmap::Bitmap;
use crate::image::metadata::region_cache::RegionCache;
use crate::image::metadata::table::Table;
use crate::image::metadata::{Metadata, Volatile};

/// Most pages written with one operation.
const PAGES_PER_WRITE: u64 = 256;

/// What a checkpoint writes, as of the moment when everything pending was taken.
pub(in crate::image) struct Snapshot {
    pub(in crate::image) table: Vec<Patch>,
    pub(in crate::image) bitmap: Vec<Patch>,
    pub(in crate::image) unlogged: Unlogged,
}

/// Unlogged blocks and chunks: only memory knows that they are local or allocated.
#[derive(Default)]
pub(in crate::image) struct Unlogged {
    /// Index of a word of the bitmap, and the unlogged bits in it.
    bits: Vec<(u64, u32)>,
    /// Virtual chunk, and its storage chunk.
    chunks: Vec<(VirtualChunk, StorageChunk)>,
}

/// Bytes for one place in the image file.
pub(in crate::image) struct Patch {
    pub(in crate::image) offset: u64,
    pub(in crate::image) bytes: Bytes,
}

impl Metadata {
    /// Takes everything that is not in place, with the bytes as they are now. The sync that follows does not
    /// cover the data of later publications (I6).
    pub(in crate::image) fn snapshot(&self) -> (Pending, Snapshot) {
        let mut volatile = self.volatile();
        let pages = volatile.pending.pages();
        let table = self.table.as_ref().map(Table::words);
        let bitmap = self.bitmap.as_ref().map(Bitmap::words);
        let snapshot = Snapshot {
            // The unlogged flag (bit 31) exists in memory only: `Entry::from_disk` clears it.
            table: copy_pages(table, &pages.table, |word| Entry::from_disk(word).raw()),
            bitmap: copy_pages(bitmap, &pages.bitmap, |word| word),
            unlogged: self.unlogged(&volatile),
        };
        let taken = volatile.pending.take();
        drop(volatile);
        (taken, snapshot)
    }

    /// The unlogged blocks and chunks on the changed pages.
    fn unlogged(&self, volatile: &Volatile) -> Unlogged {
        let mut unlogged = Unlogged::default();
        if self.copied.load(Ordering::Acquire) {
            let pages = volatile.pending.pages();
            if let Some(bitmap) = &self.bitmap {
                let pages = pages.bitmap.iter().flat_map(Clone::clone);
                unlogged.bits = pages.flat_map(|page| bitmap.unlogged_words(page)).collect();
            }
            if let Some(table) = &self.table {
                let pages = pages.table.iter().flat_map(Clone::clone);
                let chunks = pages.flat_map(|page| VirtualChunk::each(&table.chunks_on(page)));
                unlogged.chunks = chunks
                    .filter_map(|chunk| Some((chunk, table.unlogged(chunk)?)))
                    .collect();
            }
        }
        unlogged
    }

    /// Makes what was unlogged ordinary local blocks and chunks. It is on disk now, so a guest write there
    /// adds nothing to a commit.
    pub(in crate::image) fn recorded(&self, unlogged: &Unlogged) {
        // Under the mutex: a guest write promotes before this step, or not at all.
        let _volatile = self.volatile();
        if let Some(bitmap) = &self.bitmap {
            bitmap.recorded(&unlogged.bits);
        }
        if let Some(table) = &self.table {
            for &(chunk, storage) in &unlogged.chunks {
                // The chunk may have been discarded and copied again since. The disk does not know its new
                // storage chunk.
                if table.unlogged(chunk) == Some(storage) {
                    table.promote(chunk);
                }
            }
        }
    }
}

/// The pages of `words`, each word converted by `on_disk`.
fn copy_pages(words: Option<&RegionCache>, pages: &RangeSet<u64>, on_disk: fn(u32) -> u32) -> Vec<Patch> {
    let mut patches = Vec::new();
    let Some(words) = words else {
        return patches;
    };
    for run in pages.iter() {
        for first in (run.start..run.end).step_by(PAGES_PER_WRITE as usize) {
            let end = run.end.min(first + PAGES_PER_WRITE);
            let mut bytes = Vec::with_capacity(((end - first) * PAGE) as usize);
            for page in first..end {
                bytes.extend(words.page(page).flat_map(|word| on_disk(word).to_le_bytes()));
            }
            patches.push(Patch {
                offset: words.page_offset(first),
                bytes: Bytes::from(bytes),
            });
        }
    }
    patches
}
