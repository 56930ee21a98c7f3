//! The numbers of chunks, as types of their own.

use std::fmt;
use std::ops::Range;

/// The number of a chunk in the data file: storage chunk `n` lies at `data_offset + n * chunk_size` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageChunk(u32);

impl StorageChunk {
    /// The first one in the data file.
    pub const FIRST: Self = Self(0);

    /// The largest number that is ever allocated.
    ///
    /// Numbers have 31 bits; bit 31 of an entry is the dirty flag of the original driver. `0x7FFF_FFFF` with
    /// this flag would be `0xFFFF_FFFF`, the value of an unallocated entry.
    pub const MAX: Self = Self(0x7FFF_FFFE);

    /// Storage chunk `number`, which may be above [`StorageChunk::MAX`]: an image can name any.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number, for sizes and offsets.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0 as u64
    }

    /// The storage chunk that lies `count` chunks after this one.
    ///
    /// # Panics
    ///
    /// If its number exceeds 32 bits. Numbers up to [`StorageChunk::MAX`] have room for a `count` up to that.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        let number = u32::try_from(self.index() + count);
        Self(number.expect("a number of 32 bits"))
    }

    /// The storage chunk after this one.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// `count` storage chunks in a row, from this one on.
    pub fn run(self, count: u64) -> impl Iterator<Item = Self> {
        (0..count).map(move |step| self.plus(step))
    }
}

impl fmt::Display for StorageChunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The number of a chunk of the disk: virtual chunk `n` begins at byte `n * chunk_size`, and entry `n` of the
/// table is about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualChunk(u64);

impl VirtualChunk {
    /// Virtual chunk `index`.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// Its index, from 0.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0
    }

    /// The byte of the disk where it begins, if chunks have `chunk_size` bytes; at most `u64::MAX`.
    #[must_use]
    pub const fn start(self, chunk_size: u64) -> u64 {
        self.0.saturating_mul(chunk_size)
    }

    /// The chunk that lies `count` chunks after this one.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// The chunk after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The range of this chunk alone.
    #[must_use]
    pub const fn alone(self) -> Range<Self> {
        self..self.next()
    }

    /// The chunks of a range, one after the other.
    pub fn each(chunks: &Range<Self>) -> impl Iterator<Item = Self> + use<> {
        (chunks.start.0..chunks.end.0).map(Self)
    }
}

impl fmt::Display for VirtualChunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
