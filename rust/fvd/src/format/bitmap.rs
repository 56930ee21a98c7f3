//! The bitmap: one bit per block, 0 while the block is in the base image (docs/design/format.md, section 3).
//!
//! On disk, block `n` is bit `n % 8` of byte `n / 8`, least significant bit first. In memory the same bytes
//! are little-endian `u32` words, and block `n` is bit `n % 32` of word `n / 32`.

use std::ops::Range;

use super::Block;

/// The largest bitmap that an image may have, in bytes: 64 GiB.
pub const MAX_SIZE: u64 = 64 << 30;

/// The most bytes of a bitmap whose block size was chosen by default.
const DEFAULT_BYTES: u64 = 32 << 20;

/// The smallest block size that is chosen by default.
const DEFAULT_LEAST: u64 = 4096;

/// Number of bits in use: the blocks of `block_size` bytes that cover the first `base_size` bytes of the
/// disk.
///
/// # Panics
///
/// If `block_size` is 0.
#[must_use]
pub const fn blocks(base_size: u64, block_size: u64) -> u64 {
    base_size.div_ceil(block_size)
}

/// The blocks of `block_size` bytes that contain bytes of `offset..end`, cut at `base_size`. Empty if no
/// byte of the range lies in the first `base_size` bytes of the disk.
///
/// # Panics
///
/// If `block_size` is 0.
#[must_use]
pub const fn blocks_of(offset: u64, end: u64, base_size: u64, block_size: u64) -> Range<Block> {
    let end = if end < base_size { end } else { base_size };
    if offset >= end {
        return Block::NONE;
    }
    Block::containing(offset, block_size)..Block::new(end.div_ceil(block_size))
}

/// Bytes of a bitmap with one bit per block of `block_size` bytes in the first `base_size` bytes of the disk.
///
/// # Panics
///
/// If `block_size` is 0.
#[must_use]
pub const fn bytes_needed(base_size: u64, block_size: u64) -> u64 {
    blocks(base_size, block_size).div_ceil(8)
}

/// The default block size, in bytes: the smallest power of two, at least 4096, whose bitmap has at most 32 MiB.
///
/// File systems write 4096 bytes at a time. Larger blocks would make such a write copy the rest of its block, and
/// smaller ones only make the bitmap larger.
#[must_use]
pub const fn default_block_size(base_size: u64) -> u64 {
    let mut block_size = DEFAULT_LEAST;
    while bytes_needed(base_size, block_size) > DEFAULT_BYTES {
        block_size *= 2;
    }
    block_size
}

/// Index of the `u32` word that holds the bit of `block`.
#[must_use]
pub const fn word_index(block: Block) -> u64 {
    block.index() / 32
}

/// Mask of the bit of `block` in its word.
#[must_use]
pub const fn word_mask(block: Block) -> u32 {
    1 << (block.index() % 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_partial_last_block_has_a_bit_too() {
        assert_eq!(blocks(15_729_152, 7680), 2049);
        assert_eq!(bytes_needed(15_729_152, 7680), 257);
        assert_eq!(bytes_needed(0, 512), 0);
        assert_eq!(bytes_needed(512, 512), 1);
        assert_eq!(bytes_needed(8 * 512 + 1, 512), 2);
    }

    #[test]
    fn a_range_touches_its_blocks_up_to_the_end_of_the_base() {
        let blocks = |offset, end| {
            let blocks = blocks_of(offset, end, 7000, 1536);
            blocks.start.index()..blocks.end.index()
        };
        assert_eq!(blocks(0, 1), 0..1);
        assert_eq!(blocks(1535, 1537), 0..2);
        assert_eq!(blocks(1536, 3072), 1..2);
        assert_eq!(blocks(6999, u64::MAX), 4..5);
        assert_eq!(blocks(7000, 7001), 0..0);
        assert_eq!(blocks(512, 512), 0..0);
    }

    #[test]
    fn the_default_block_doubles_to_keep_the_bitmap_at_32_mib() {
        const TIB: u64 = 1 << 40;
        assert_eq!(default_block_size(0), 4096);
        assert_eq!(default_block_size(TIB), 4096);
        assert_eq!(default_block_size(TIB + 512), 8192);
        assert_eq!(default_block_size(2 * TIB), 8192);
        assert_eq!(default_block_size(16 * TIB), 65536);
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        assert_eq!(bytes_needed(u64::MAX, 1), 1 << 61);
        assert_eq!(default_block_size(u64::MAX), 1 << 36);
    }

    proptest! {
        #[test]
        fn a_bit_in_a_word_is_the_bit_that_the_format_defines(index in 0_u64..4096) {
            let block = Block::new(index);
            let mut words = [0_u32; 128];
            words[word_index(block) as usize] |= word_mask(block);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut expected = vec![0_u8; 512];
            expected[(index / 8) as usize] = 1 << (index % 8);
            prop_assert_eq!(bytes, expected);
        }
    }
}
