//! Which blocks are local: one bit per block, which only changes from 0 to 1.
//!
//! A second bit marks a local block as *unlogged*: a background copy has stored it, and nothing on disk says
//! so. That bit goes back to 0 when a guest write promotes the block, or when a checkpoint records it.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::{Geometry, Region, bitmap};
use crate::image::metadata::region_cache::{PAGE_WORDS, RegionCache};
use crate::image::populate::tally::Tally;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

pub(in crate::image) const WORD_BITS: u64 = 32;

pub(in crate::image) struct Bitmap {
    /// Local blocks, unlogged ones included.
    words: RegionCache,
    unlogged: RegionCache,
    /// Counts the local blocks.
    pub(in crate::image) tally: Tally,
    block_size: u64,
    base_size: u64,
}

impl Bitmap {
    pub(super) fn new(region: Region, geometry: &Geometry) -> Self {
        Self {
            words: RegionCache::new(region),
            unlogged: RegionCache::zeroed(region),
            tally: Tally::default(),
            block_size: geometry.block_size,
            base_size: geometry.base_size,
        }
    }

    pub(in crate::image) fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Bytes of the disk that have a bit.
    pub(in crate::image) fn base_size(&self) -> u64 {
        self.base_size
    }

    /// Blocks touched by the bytes `offset..end`; empty beyond the base.
    pub(in crate::image) fn blocks(&self, offset: u64, end: u64) -> Range<u64> {
        bitmap::blocks_of(offset, end, self.base_size, self.block_size)
    }

    /// The part of a block that its bit describes, in bytes of the disk.
    pub(in crate::image) fn block_range(&self, block: u64) -> Range<u64> {
        let start = block * self.block_size;
        start..(start + self.block_size).min(self.base_size)
    }

    fn words_of(blocks: &Range<u64>) -> Range<u64> {
        blocks.start / WORD_BITS..blocks.end.div_ceil(WORD_BITS)
    }

    pub(super) fn is_loaded(&self, blocks: &Range<u64>) -> bool {
        blocks.is_empty() || self.words.is_loaded(&Self::words_of(blocks))
    }

    /// Bytes of memory that setting the bits of the (non-empty) blocks would add.
    pub(in crate::image) fn missing_bytes(&self, blocks: &Range<u64>) -> u64 {
        self.words.missing_bytes(&Self::words_of(blocks))
    }

    pub(in crate::image) async fn load<S: Storage>(&self, storage: &S, blocks: &Range<u64>) -> Result<()> {
        self.words.load(storage, Self::words_of(blocks)).await
    }

    /// Whether `blocks.start` is local, and the first block of the range where that changes.
    pub(in crate::image) fn run(&self, blocks: &Range<u64>) -> (bool, u64) {
        run(&self.words, blocks)
    }

    pub(in crate::image) fn all_local(&self, blocks: &Range<u64>) -> bool {
        blocks.is_empty() || self.run(blocks) == (true, blocks.end)
    }

    /// Marks the blocks local.
    pub(in crate::image) fn set(&self, blocks: &Range<u64>) {
        let mut tally = self.tally.lock();
        for (index, mask) in masks(blocks) {
            let before = self.words.word(index).fetch_or(mask, Ordering::AcqRel);
            if index < tally.words {
                self.add(&mut tally, index, mask & !before);
            }
        }
    }

    /// Marks the blocks local and unlogged. None of them is local yet, and the caller makes sure that none
    /// becomes local meanwhile.
    pub(super) fn set_unlogged(&self, blocks: &Range<u64>) {
        // The unlogged bit is set first: a task that sees the block as local also sees that it must be
        // promoted (I9).
        for (index, mask) in masks(blocks) {
            self.unlogged.word(index).fetch_or(mask, Ordering::AcqRel);
        }
        self.set(blocks);
    }

    /// The first run of unlogged blocks in the range.
    pub(super) fn next_unlogged(&self, blocks: &Range<u64>) -> Option<Range<u64>> {
        if blocks.is_empty() {
            return None;
        }
        let start = match run(&self.unlogged, blocks) {
            (true, end) => return Some(blocks.start..end),
            (false, end) if end == blocks.end => return None,
            (false, end) => end,
        };
        Some(start..run(&self.unlogged, &(start..blocks.end)).1)
    }

    /// Makes the blocks ordinary local blocks.
    pub(super) fn promote(&self, blocks: &Range<u64>) {
        for (index, mask) in masks(blocks) {
            self.unlogged.word(index).fetch_and(!mask, Ordering::AcqRel);
        }
    }

    /// The words of the page that have unlogged bits: the index of each, and these bits.
    pub(super) fn unlogged_words(&self, page: u64) -> impl Iterator<Item = (u64, u32)> {
        let words = self.unlogged.page(page).enumerate();
        let first = page * PAGE_WORDS;
        words
            .filter(|(_, bits)| *bits != 0)
            .map(move |(index, bits)| (first + index as u64, bits))
    }

    /// Clears the unlogged bits that [`Bitmap::unlogged_words`] returned: they are on disk now.
    pub(super) fn recorded(&self, words: &[(u64, u32)]) {
        for (index, bits) in words {
            self.unlogged.word(*index).fetch_and(!bits, Ordering::AcqRel);
        }
    }

    /// Pages of the region that hold the bits of the blocks.
    pub(in crate::image) fn pages(blocks: &Range<u64>) -> Range<u64> {
        let per_page = PAGE_WORDS * WORD_BITS;
        let pages = blocks.start / per_page..blocks.end.div_ceil(per_page);
        if mutation::is(Mutation::LastPageMissed) {
            return pages.start..(pages.end - 1).max(pages.start + 1);
        }
        pages
    }

    pub(in crate::image) fn words(&self) -> &RegionCache {
        &self.words
    }
}

/// Whether the bit of `blocks.start` is set, and the first block of the range where that changes.
fn run(words: &RegionCache, blocks: &Range<u64>) -> (bool, u64) {
    // The bits of a word from `block` up; the bit of `block` is the lowest.
    let bits = |block: u64| words.get(block / WORD_BITS) >> (block % WORD_BITS);
    let set = bits(blocks.start) & 1 == 1;
    let mut block = blocks.start;
    while block < blocks.end {
        if !set && let Some(end) = words.hole_end(block / WORD_BITS) {
            block = end * WORD_BITS;
            continue;
        }
        let bits = bits(block);
        let same = if set {
            bits.trailing_ones()
        } else {
            bits.trailing_zeros()
        };
        let left = WORD_BITS - block % WORD_BITS;
        if u64::from(same) < left {
            block += u64::from(same);
            break;
        }
        block += left;
    }
    (set, block.min(blocks.end))
}

/// The words that hold the bits of the blocks: the index of each, and a mask of these bits.
fn masks(blocks: &Range<u64>) -> impl Iterator<Item = (u64, u32)> {
    let end = blocks.end;
    let mut block = blocks.start;
    std::iter::from_fn(move || {
        if block >= end {
            return None;
        }
        let bit = block % WORD_BITS;
        let count = (WORD_BITS - bit).min(end - block);
        let mask = (u32::MAX >> (WORD_BITS - count)) << bit;
        let index = block / WORD_BITS;
        block += count;
        Some((index, mask))
    })
}
