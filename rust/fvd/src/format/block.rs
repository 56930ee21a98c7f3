//! The number of a block, as a type of its own.

use std::fmt;
use std::ops::Range;

/// The number of a block, the unit of the bitmap: block `n` begins at byte `n * block_size` of the disk, and
/// bit `n` of the bitmap is about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(u64);

impl Block {
    /// The first one of the disk.
    pub const FIRST: Self = Self(0);

    /// No blocks.
    pub const NONE: Range<Self> = Self::FIRST..Self::FIRST;

    /// Block `index`.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The block that contains byte `offset` of the disk, if blocks have `block_size` bytes.
    ///
    /// # Panics
    ///
    /// If `block_size` is 0.
    #[must_use]
    pub const fn containing(offset: u64, block_size: u64) -> Self {
        Self(offset / block_size)
    }

    /// Its index, from 0.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0
    }

    /// The byte of the disk where it begins, if blocks have `block_size` bytes; at most `u64::MAX`.
    #[must_use]
    pub const fn start(self, block_size: u64) -> u64 {
        self.0.saturating_mul(block_size)
    }

    /// The block that lies `count` blocks after this one.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// The block after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The range of this block alone.
    #[must_use]
    pub const fn alone(self) -> Range<Self> {
        self..self.next()
    }

    /// The number of blocks in a range.
    #[must_use]
    pub const fn count(blocks: &Range<Self>) -> u64 {
        blocks.end.0.saturating_sub(blocks.start.0)
    }

    /// The last block of a range that is not empty.
    #[must_use]
    pub const fn last(blocks: &Range<Self>) -> Self {
        Self(blocks.end.0 - 1)
    }

    /// The blocks of a range, one after the other.
    pub fn each(blocks: &Range<Self>) -> impl Iterator<Item = Self> + use<> {
        (blocks.start.0..blocks.end.0).map(Self)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
