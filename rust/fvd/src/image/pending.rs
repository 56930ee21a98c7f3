//! What has been published in memory and is not on disk yet.

use std::ops::Range;

use rangemap::RangeSet;

use super::bitmap::Bitmap;
use super::numbers::NumberSet;
use super::table::Table;

/// Separate ranges remembered at most. With more, a checkpoint costs less than the journal does,
/// and the memory for them stays bounded when nobody flushes for a long time.
const RANGE_LIMIT: usize = 1 << 16;

/// Two levels: `changes` are in neither the journal nor in place; `pages` are not in place.
#[derive(Default)]
pub(super) struct Pending {
    changes: Changes,
    pages: Pages,
    /// Storage chunks that were freed: on disk their old entries count.
    freed: NumberSet,
}

/// Blocks that became local and chunks that were allocated since the last commit.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) blocks: RangeSet<u64>,
    pub(super) chunks: RangeSet<u64>,
    /// There were too many to remember: only a checkpoint makes them durable.
    pub(super) overflowed: bool,
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

    fn limit(&mut self) {
        if self.overflowed || self.blocks.len() + self.chunks.len() > RANGE_LIMIT {
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
        self.limit();
    }
}

impl Pages {
    pub(super) fn is_empty(&self) -> bool {
        self.bitmap.is_empty() && self.table.is_empty()
    }
}

impl Pending {
    /// The blocks are in memory only until a checkpoint: no commit speaks of them.
    pub(super) fn add_quiet_blocks(&mut self, blocks: &Range<u64>) {
        self.pages.bitmap.insert(Bitmap::pages(blocks));
    }

    /// As [`Pending::add_quiet_blocks`].
    pub(super) fn add_quiet_chunk(&mut self, chunk: u64) {
        self.pages.table.insert(Table::pages(&(chunk..chunk + 1)));
    }

    pub(super) fn add_blocks(&mut self, blocks: &Range<u64>) {
        self.pages.bitmap.insert(Bitmap::pages(blocks));
        if !self.changes.overflowed {
            self.changes.blocks.insert(blocks.clone());
            self.changes.limit();
        }
    }

    pub(super) fn add_chunk(&mut self, chunk: u64) {
        let chunks = chunk..chunk + 1;
        self.pages.table.insert(Table::pages(&chunks));
        if !self.changes.overflowed {
            self.changes.chunks.insert(chunks);
            self.changes.limit();
        }
    }

    /// The entries of the chunks named storage chunks from `number` on, and name nothing any more.
    pub(super) fn free_chunks(&mut self, chunks: &Range<u64>, number: u32) {
        self.pages.table.insert(Table::pages(chunks));
        self.changes.chunks.remove(chunks.clone());
        self.changes.limit();
        for (_, number) in chunks.clone().zip(number..) {
            self.freed.insert(number);
        }
    }

    /// Storage chunks that were freed, and that a checkpoint has to settle before anything else goes
    /// to the journal.
    pub(super) fn freed(&self) -> &NumberSet {
        &self.freed
    }

    /// As [`Pending::freed`], removed.
    pub(super) fn take_freed(&mut self) -> NumberSet {
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
