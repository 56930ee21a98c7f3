//! Which blocks are local. One bit a block; a bit only ever goes from 0 to 1.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::words::{PAGE_WORDS, Words};
use crate::error::Result;
use crate::format::{Geometry, Region};
use crate::storage::Storage;

const WORD_BITS: u64 = 32;

pub(super) struct Bitmap {
    words: Words,
    block_size: u64,
    base_size: u64,
}

impl Bitmap {
    pub(super) fn new(region: Region, geometry: &Geometry) -> Self {
        Self {
            words: Words::new(region),
            block_size: geometry.block_size,
            base_size: geometry.base_size,
        }
    }

    pub(super) fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Bytes of the disk that have a bit.
    pub(super) fn base_size(&self) -> u64 {
        self.base_size
    }

    /// Blocks touched by the bytes `offset..end`; empty beyond the base.
    pub(super) fn blocks(&self, offset: u64, end: u64) -> Range<u64> {
        let end = end.min(self.base_size);
        if offset >= end {
            return 0..0;
        }
        offset / self.block_size..end.div_ceil(self.block_size)
    }

    /// The part of a block that its bit speaks of, in bytes of the disk.
    pub(super) fn block_range(&self, block: u64) -> Range<u64> {
        let start = block * self.block_size;
        start..(start + self.block_size).min(self.base_size)
    }

    fn words_of(blocks: &Range<u64>) -> Range<u64> {
        blocks.start / WORD_BITS..blocks.end.div_ceil(WORD_BITS)
    }

    pub(super) fn is_loaded(&self, blocks: &Range<u64>) -> bool {
        blocks.is_empty() || self.words.is_loaded(&Self::words_of(blocks))
    }

    /// Bytes of memory that setting the bits of the (not empty) blocks would add.
    pub(super) fn missing_bytes(&self, blocks: &Range<u64>) -> u64 {
        self.words.missing_bytes(&Self::words_of(blocks))
    }

    pub(super) async fn load<S: Storage>(&self, storage: &S, blocks: &Range<u64>) -> Result<()> {
        self.words.load(storage, Self::words_of(blocks)).await
    }

    /// Whether `blocks.start` is local, and the first block of the range where that changes.
    pub(super) fn run(&self, blocks: &Range<u64>) -> (bool, u64) {
        let local = self.bits(blocks.start) & 1 == 1;
        let mut block = blocks.start;
        while block < blocks.end {
            let word = block / WORD_BITS;
            if !local && let Some(end) = self.words.hole_end(word) {
                block = end * WORD_BITS;
                continue;
            }
            let bits = self.bits(block);
            let same = if local {
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
        (local, block.min(blocks.end))
    }

    /// The bits of the word from `block` up, that of `block` lowest.
    fn bits(&self, block: u64) -> u32 {
        self.words.get(block / WORD_BITS) >> (block % WORD_BITS)
    }

    pub(super) fn all_local(&self, blocks: &Range<u64>) -> bool {
        blocks.is_empty() || self.run(blocks) == (true, blocks.end)
    }

    /// Marks the blocks local.
    pub(super) fn set(&self, blocks: &Range<u64>) {
        let mut block = blocks.start;
        while block < blocks.end {
            let bit = block % WORD_BITS;
            let count = (WORD_BITS - bit).min(blocks.end - block);
            let mask = (u32::MAX >> (WORD_BITS - count)) << bit;
            self.words.word(block / WORD_BITS).fetch_or(mask, Ordering::AcqRel);
            block += count;
        }
    }

    /// Pages of the region that hold the bits of the blocks.
    pub(super) fn pages(blocks: &Range<u64>) -> Range<u64> {
        let per_page = PAGE_WORDS * WORD_BITS;
        blocks.start / per_page..blocks.end.div_ceil(per_page)
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }
}
