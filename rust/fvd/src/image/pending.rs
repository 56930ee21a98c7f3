//! What has been published in memory and is not on disk yet.

use std::ops::Range;

use rangemap::RangeSet;

use super::bitmap::Bitmap;
use super::chunk_set::ChunkSet;
use super::table::Table;
use crate::format::{PAGE, SECTOR};

/// Separate ranges remembered at most: the memory for them stays bounded when nobody flushes for a
/// long time.
const RANGE_LIMIT: usize = 1 << 16;

/// Separate ranges that are always worth their sectors in the journal, 1 MiB: a checkpoint, which
/// erases the journal, is not cheaper.
const FEW_RANGES: usize = 1 << 11;

/// So many separate ranges take as much of the journal as a page takes in place.
const RANGES_OF_PAGE: u64 = PAGE / SECTOR;

/// After so many ranges it is asked again whether a checkpoint has become cheaper.
const ASK_AGAIN: usize = 1 << 8;

/// Two levels: `changes` are in neither the journal nor in place; `pages` are not in place.
#[derive(Default)]
pub(super) struct Pending {
    changes: Changes,
    pages: Pages,
    /// Storage chunks that were freed: on disk their old entries count.
    freed: ChunkSet,
}

/// Blocks that became local and chunks that were allocated since the last commit.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) blocks: RangeSet<u64>,
    pub(super) chunks: RangeSet<u64>,
    /// There were too many to remember, or a checkpoint costs less than their journal: only a
    /// checkpoint makes them durable.
    pub(super) overflowed: bool,
    /// How many ranges there were when it was asked last whether a checkpoint is cheaper.
    asked: u32,
}

/// Pages of the regions that differ from what lies in place.
#[derive(Default)]
pub(super) struct Pages {
    pub(super) bitmap: RangeSet<u64>,
    pub(super) table: RangeSet<u64>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        !self.overflowed && self.blocks.is_empty() && self.chunks.is_empty()
    }

    /// Forgets the ranges if there are too many, seeing that `pages` would go in place instead.
    fn limit(&mut self, pages: &Pages) {
        let count = self.blocks.len() + self.chunks.len();
        let is_asked = count >= FEW_RANGES.max(self.asked as usize) + ASK_AGAIN;
        if is_asked {
            self.asked = count.min(RANGE_LIMIT) as u32;
        }
        if self.overflowed || count > RANGE_LIMIT || (is_asked && pages.cost_less_than(count)) {
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
    pub(super) fn is_empty(&self) -> bool {
        self.bitmap.is_empty() && self.table.is_empty()
    }

    /// Whether to write them, all over their regions, is cheaper than that many sectors in a row: a
    /// page counts twice.
    fn cost_less_than(&self, ranges: usize) -> bool {
        let runs = self.bitmap.iter().chain(self.table.iter());
        let pages: u64 = runs.map(|run| run.end - run.start).sum();
        (ranges as u64) > 2 * RANGES_OF_PAGE * pages
    }
}

impl Pending {
    /// The blocks are in memory only until a checkpoint: no commit speaks of them.
    pub(super) fn add_unlogged_blocks(&mut self, blocks: &Range<u64>) {
        self.pages.bitmap.insert(Bitmap::pages(blocks));
    }

    /// As [`Pending::add_unlogged_blocks`].
    pub(super) fn add_unlogged_chunk(&mut self, chunk: u64) {
        self.pages.table.insert(Table::pages(&(chunk..chunk + 1)));
    }

    pub(super) fn add_blocks(&mut self, blocks: &Range<u64>) {
        self.pages.bitmap.insert(Bitmap::pages(blocks));
        if !self.changes.overflowed {
            self.changes.blocks.insert(blocks.clone());
            self.changes.limit(&self.pages);
        }
    }

    pub(super) fn add_chunk(&mut self, chunk: u64) {
        let chunks = chunk..chunk + 1;
        self.pages.table.insert(Table::pages(&chunks));
        if !self.changes.overflowed {
            self.changes.chunks.insert(chunks);
            self.changes.limit(&self.pages);
        }
    }

    /// The entries of the chunks named storage chunks from `number` on, and name nothing any more.
    pub(super) fn free_chunks(&mut self, chunks: &Range<u64>, number: u32) {
        self.pages.table.insert(Table::pages(chunks));
        self.changes.chunks.remove(chunks.clone());
        self.changes.limit(&self.pages);
        for (_, number) in chunks.clone().zip(number..) {
            self.freed.insert(number);
        }
    }

    /// Storage chunks that were freed, and that a checkpoint has to settle before anything else goes
    /// to the journal.
    pub(super) fn freed(&self) -> &ChunkSet {
        &self.freed
    }

    /// As [`Pending::freed`], removed.
    pub(super) fn take_freed(&mut self) -> ChunkSet {
        self.freed.take()
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Takes what a commit to the journal makes durable.
    pub(super) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Takes everything, for a checkpoint.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Gives back what a failed or cancelled commit or checkpoint took.
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

    /// `count` single blocks, each `stride` behind the last one.
    fn scattered(count: u64, stride: u64) -> Pending {
        let mut pending = Pending::default();
        for block in 0..count {
            let block = block * stride;
            pending.add_blocks(&(block..block + 1));
        }
        pending
    }

    #[test]
    fn few_ranges_go_to_the_journal_wherever_they_are() {
        for stride in [2, 1 << 20] {
            let pending = scattered(FEW_RANGES as u64, stride);
            assert!(!pending.changes().overflowed);
            assert_eq!(pending.changes().blocks.len(), FEW_RANGES);
        }
    }

    #[test]
    fn many_ranges_in_few_pages_wait_for_a_checkpoint_and_those_in_many_pages_do_not() {
        let many = (FEW_RANGES + ASK_AGAIN) as u64;
        let dense = scattered(many, 2);
        assert!(dense.changes().overflowed && dense.changes().blocks.is_empty());
        assert_eq!(dense.pages().bitmap.len(), 1, "a checkpoint knows what to write");
        let sparse = scattered(many, 1 << 20);
        assert!(!sparse.changes().overflowed);
    }

    #[test]
    fn the_ranges_that_are_remembered_are_bounded() {
        let pending = scattered(RANGE_LIMIT as u64 + 1, 1 << 20);
        assert!(pending.changes().overflowed);
    }

    #[test]
    fn what_a_failed_commit_gives_back_counts_as_before() {
        let half = (FEW_RANGES / 2 + ASK_AGAIN / 2) as u64;
        let mut pending = scattered(half, 2);
        let taken: Pending = pending.take_changes().into();
        for block in half..2 * half {
            pending.add_blocks(&(2 * block..2 * block + 1));
        }
        assert!(!pending.changes().overflowed);
        pending.restore(taken);
        assert!(pending.changes().overflowed);
    }
}
