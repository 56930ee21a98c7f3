//! Which blocks of a disk are local.

use std::ops::Range;

const BLOCK: u64 = 4 << 10;

#[derive(Clone, Debug)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// For a disk of `len` bytes.
    pub(super) fn new(len: u64) -> Self {
        Self(vec![0; len.div_ceil(BLOCK * 64) as usize])
    }

    fn is_set(&self, block: u64) -> bool {
        self.0[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    /// Marks the whole blocks around `bytes`.
    pub(super) fn set(&mut self, bytes: &Range<u64>) {
        for block in bytes.start / BLOCK..bytes.end.div_ceil(BLOCK).min(self.0.len() as u64 * 64) {
            self.0[(block / 64) as usize] |= 1 << (block % 64);
        }
    }

    /// From the first block of `bytes` that is not set to the last one; bytes. None: all are set.
    pub(super) fn missing(&self, bytes: &Range<u64>) -> Option<Range<u64>> {
        let mut blocks = bytes.start / BLOCK..bytes.end.div_ceil(BLOCK);
        let first = blocks.clone().find(|block| !self.is_set(*block))?;
        let last = blocks.rfind(|block| !self.is_set(*block))?;
        Some(first * BLOCK..(last + 1) * BLOCK)
    }

    /// The first run of blocks of `bytes` that are not set; bytes.
    pub(super) fn first_run(&self, bytes: &Range<u64>) -> Option<Range<u64>> {
        let Range { start, end } = self.missing(bytes)?;
        let stop = (start / BLOCK..end / BLOCK).find(|block| self.is_set(*block));
        Some(start..stop.map_or(end, |block| block * BLOCK))
    }
}
