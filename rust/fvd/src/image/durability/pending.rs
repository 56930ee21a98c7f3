//! Changes that have been published in memory and are not on disk yet.

use std::ops::Range;

use rangemap::RangeSet;

use crate::format::{Block, PAGE, SECTOR, StorageChunk, VirtualChunk};
use crate::image::metadata::bitmap::Bitmap;
use crate::image::metadata::table::Table;
use crate::image::space::chunk_set::ChunkSet;

/// Most separate ranges that are remembered. It bounds the memory for them if there is no flush for a long
/// time.
const RANGE_LIMIT: usize = 1 << 16;

/// Up to this many separate ranges always go to the journal, 1 MiB: a checkpoint is not cheaper than that.
const FEW_RANGES: usize = 1 << 11;

/// This many separate ranges take as much of the journal as one page takes in place.
const RANGES_OF_PAGE: u64 = PAGE / SECTOR;

/// After this many more ranges, the costs of journal and checkpoint are compared again.
const COMPARE_STEP: usize = 1 << 8;

/// Two levels: `changes` are neither in the journal nor in place; `pages` are not in place.
#[derive(Default)]
pub(in crate::image) struct Pending {
    changes: Changes,
    pages: Pages,
    /// Storage chunks that were freed: on disk their old entries still count.
    freed: ChunkSet,
}

/// Blocks that became local and chunks that were allocated since the last commit.
#[derive(Default)]
pub(super) struct Changes {
    pub(in crate::image) blocks: RangeSet<Block>,
    pub(in crate::image) chunks: RangeSet<VirtualChunk>,
    /// There were too many ranges to remember, or a checkpoint costs less than to journal them: only a
    /// checkpoint makes them durable.
    pub(in crate::image) overflowed: bool,
    /// The number of ranges when the costs were last compared.
    compared_at: u32,
}

/// Pages of the regions that differ from those on disk.
#[derive(Default)]
pub(in crate::image) struct Pages {
    pub(in crate::image) bitmap: RangeSet<u64>,
    pub(in crate::image) table: RangeSet<u64>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        !self.overflowed && self.blocks.is_empty() && self.chunks.is_empty()
    }

    /// Forgets the ranges if there are too many, or if it costs less to write `pages` in place.
    fn limit(&mut self, pages: &Pages) {
        let count = self.blocks.len() + self.chunks.len();
        let is_due = count >= FEW_RANGES.max(self.compared_at as usize) + COMPARE_STEP;
        if is_due {
            self.compared_at = count.min(RANGE_LIMIT) as u32;
        }
        if self.overflowed || count > RANGE_LIMIT || (is_due && pages.cost_less_than(count)) {
            *self = Self {
                overflowed: true,
                ..Self::default()
            };
        }
    }

    fn merge(&mut self, other: Self) {
        self.overflowed |= other.overflowed;
        self.blocks.extend(other.blocks);
        self.chunks.extend(other.chunks);
    }
}

impl Pages {
    pub(in crate::image) fn is_empty(&self) -> bool {
        self.bitmap.is_empty() && self.table.is_empty()
    }

    /// Whether it is cheaper to write these pages, scattered over their regions, than `ranges` consecutive
    /// sectors. A page counts twice.
    fn cost_less_than(&self, ranges: usize) -> bool {
        let runs = self.bitmap.iter().chain(self.table.iter());
        let pages: u64 = runs.map(|run| run.end - run.start).sum();
        (ranges as u64) > 2 * RANGES_OF_PAGE * pages
    }
}

impl Pending {
    /// Adds unlogged blocks: no commit records them, only a checkpoint.
    pub(in crate::image) fn add_unlogged_blocks(&mut self, blocks: &Range<Block>) {
        self.pages.bitmap.insert(Bitmap::pages(blocks));
    }

    /// As [`Pending::add_unlogged_blocks`].
    pub(in crate::image) fn add_unlogged_chunk(&mut self, chunk: VirtualChunk) {
        self.pages.table.insert(Table::pages(&chunk.alone()));
    }

    pub(in crate::image) fn add_blocks(&mut self, blocks: &Range<Block>) {
        self.pages.bitmap.insert(Bitmap::pages(blocks));
        if !self.changes.overflowed {
            self.changes.blocks.insert(blocks.clone());
            self.changes.limit(&self.pages);
        }
    }

    pub(in crate::image) fn add_chunk(&mut self, chunk: VirtualChunk) {
        let chunks = chunk.alone();
        self.pages.table.insert(Table::pages(&chunks));
        if !self.changes.overflowed {
            self.changes.chunks.insert(chunks);
            self.changes.limit(&self.pages);
        }
    }

    /// Adds chunks that were freed. Their entries named the storage chunks from `storage` on.
    pub(in crate::image) fn free_chunks(&mut self, chunks: &Range<VirtualChunk>, storage: StorageChunk) {
        self.pages.table.insert(Table::pages(chunks));
        self.changes.chunks.remove(chunks.clone());
        self.changes.limit(&self.pages);
        for storage in storage.run(chunks.end.index() - chunks.start.index()) {
            self.freed.insert(storage);
        }
    }

    /// Storage chunks that were freed. A checkpoint must clear their entries before anything else goes to the
    /// journal (I14).
    pub(in crate::image) fn freed(&self) -> &ChunkSet {
        &self.freed
    }

    /// Removes what [`Pending::freed`] returns, and returns it.
    pub(super) fn take_freed(&mut self) -> ChunkSet {
        self.freed.take()
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(in crate::image) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Takes what a commit to the journal makes durable.
    pub(super) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Takes everything, for a checkpoint.
    pub(in crate::image) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Takes back what a failed or cancelled commit or checkpoint took.
    pub(super) fn restore(&mut self, taken: Self) {
        self.changes.merge(taken.changes);
        self.pages.bitmap.extend(taken.pages.bitmap);
        self.pages.table.extend(taken.pages.table);
        self.freed.append(taken.freed);
        self.changes.limit(&self.pages);
    }
}

impl From<Changes> for Pending {
    fn from(changes: Changes) -> Self {
        Self {
            changes,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` single blocks, `stride` apart.
    fn scattered(count: u64, stride: u64) -> Pending {
        let mut pending = Pending::default();
        for block in 0..count {
            pending.add_blocks(&Block::new(block * stride).alone());
        }
        pending
    }

    #[test]
    fn few_ranges_go_to_the_journal_however_scattered() {
        for stride in [2, 1 << 20] {
            let pending = scattered(FEW_RANGES as u64, stride);
            assert!(!pending.changes().overflowed);
            assert_eq!(pending.changes().blocks.len(), FEW_RANGES);
        }
    }

    #[test]
    fn many_ranges_wait_for_a_checkpoint_if_their_pages_are_few() {
        let many = (FEW_RANGES + COMPARE_STEP) as u64;
        let dense = scattered(many, 2);
        assert!(dense.changes().overflowed && dense.changes().blocks.is_empty());
        assert_eq!(dense.pages().bitmap.len(), 1, "a checkpoint knows what to write");
        let sparse = scattered(many, 1 << 20);
        assert!(!sparse.changes().overflowed);
    }

    #[test]
    fn the_number_of_remembered_ranges_is_bounded() {
        let pending = scattered(RANGE_LIMIT as u64 + 1, 1 << 20);
        assert!(pending.changes().overflowed);
    }

    #[test]
    fn changes_of_a_failed_commit_count_as_before() {
        let half = (FEW_RANGES / 2 + COMPARE_STEP / 2) as u64;
        let mut pending = scattered(half, 2);
        let taken: Pending = pending.take_changes().into();
        for block in half..2 * half {
            pending.add_blocks(&Block::new(2 * block).alone());
        }
        assert!(!pending.changes().overflowed);
        pending.restore(taken);
        assert!(pending.changes().overflowed);
    }
}
