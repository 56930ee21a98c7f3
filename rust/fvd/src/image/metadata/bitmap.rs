//! Which blocks are local: one bit per block, which only changes from 0 to 1.
//!
//! A second bit marks a local block as *unlogged*: a background copy has stored it, and nothing on disk says
//! so. That bit goes back to 0 when a guest write promotes the block, or when a checkpoint records it.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::{Block, Geometry, Region, bitmap};
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
    pub(in crate::image) fn blocks(&self, offset: u64, end: u64) -> Range<Block> {
        bitmap::blocks_of(offset, end, self.base_size, self.block_size)
    }

    /// The bytes of the disk that the bits of the blocks describe: those of the base, beyond which the last
    /// block may reach.
    pub(in crate::image) fn bytes_of(&self, blocks: &Range<Block>) -> Range<u64> {
        blocks.start.start(self.block_size)..blocks.end.start(self.block_size).min(self.base_size)
    }

    fn words_of(blocks: &Range<Block>) -> Range<u64> {
        bitmap::word_index(blocks.start)..blocks.end.index().div_ceil(WORD_BITS)
    }

    pub(super) fn is_loaded(&self, blocks: &Range<Block>) -> bool {
        blocks.is_empty() || self.words.is_loaded(&Self::words_of(blocks))
    }

    /// Bytes of memory that setting the bits of the (non-empty) blocks would add.
    pub(in crate::image) fn missing_bytes(&self, blocks: &Range<Block>) -> u64 {
        self.words.missing_bytes(&Self::words_of(blocks))
    }

    pub(in crate::image) async fn load<S: Storage>(&self, storage: &S, blocks: &Range<Block>) -> Result<()> {
        self.words.load(storage, Self::words_of(blocks)).await
    }

    /// Whether `blocks.start` is local, and the first block of the range where that changes.
    pub(in crate::image) fn run(&self, blocks: &Range<Block>) -> (bool, Block) {
        run(&self.words, blocks)
    }

    pub(in crate::image) fn all_local(&self, blocks: &Range<Block>) -> bool {
        blocks.is_empty() || self.run(blocks) == (true, blocks.end)
    }

    /// Marks the blocks local.
    pub(in crate::image) fn set(&self, blocks: &Range<Block>) {
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
    pub(super) fn set_unlogged(&self, blocks: &Range<Block>) {
        // The unlogged bit is set first: a task that sees the block as local also sees that it must be
        // promoted (I9).
        for (index, mask) in masks(blocks) {
            self.unlogged.word(index).fetch_or(mask, Ordering::AcqRel);
        }
        self.set(blocks);
    }

    /// The first run of unlogged blocks in the range.
    pub(super) fn next_unlogged(&self, blocks: &Range<Block>) -> Option<Range<Block>> {
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
    pub(super) fn promote(&self, blocks: &Range<Block>) {
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
    pub(in crate::image) fn pages(blocks: &Range<Block>) -> Range<u64> {
        let per_page = PAGE_WORDS * WORD_BITS;
        let pages = blocks.start.index() / per_page..blocks.end.index().div_ceil(per_page);
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
fn run(words: &RegionCache, blocks: &Range<Block>) -> (bool, Block) {
    // The bits of a word from `block` up; the bit of `block` is the lowest.
    let bits = |block| words.get(bitmap::word_index(block)) >> bit_in_word(block);
    let set = bits(blocks.start) & 1 == 1;
    let mut block = blocks.start;
    while block < blocks.end {
        if !set && let Some(end) = words.hole_end(bitmap::word_index(block)) {
            block = Block::new(end * WORD_BITS);
            continue;
        }
        let bits = bits(block);
        let same = if set {
            bits.trailing_ones()
        } else {
            bits.trailing_zeros()
        };
        let left = WORD_BITS - bit_in_word(block);
        if u64::from(same) < left {
            block = block.plus(same.into());
            break;
        }
        block = block.plus(left);
    }
    (set, block.min(blocks.end))
}

/// The words that hold the bits of the blocks: the index of each, and a mask of these bits.
fn masks(blocks: &Range<Block>) -> impl Iterator<Item = (u64, u32)> {
    let mut rest = blocks.clone();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let index = bitmap::word_index(rest.start);
        let bit = bit_in_word(rest.start);
        let count = (WORD_BITS - bit).min(Block::count(&rest));
        let mask = (u32::MAX >> (WORD_BITS - count)) << bit;
        rest.start = rest.start.plus(count);
        Some((index, mask))
    })
}

/// Which bit of its word is that of `block`.
fn bit_in_word(block: Block) -> u64 {
    block.index() % WORD_BITS
}
