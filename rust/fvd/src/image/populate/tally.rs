//! Tally: how many bytes of the base's region are local. They are counted once, and the count is kept up to
//! date.
//!
//! Nothing is counted before the first question, so an image of any size opens at once. What is in memory is
//! counted there. The rest is read from the file and not kept; holes are not read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::format::{Block, bitmap};
use crate::image::Image;
use crate::image::metadata::bitmap::{Bitmap, WORD_BITS};
use crate::image::metadata::scan::{Piece, RegionReader};
use crate::storage::Storage;

/// Bytes of a word of the bitmap.
const WORD_SIZE: u64 = 4;

/// The count. Bits are set only under this lock, so each of them counts once.
#[derive(Debug, Default)]
pub(in crate::image) struct Tally(Mutex<Counted>);

/// See [`Tally`].
#[derive(Debug, Default)]
pub(in crate::image) struct Counted {
    /// Number of words, from the start of the bitmap, that have been counted.
    pub(in crate::image) words: u64,
    /// Local blocks in these words.
    blocks: u64,
    /// Whether the last block of the base's region is one of these: it may be shorter than the others.
    last: bool,
}

impl Tally {
    pub(in crate::image) fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bitmap {
    /// How many blocks have a bit.
    fn block_count(&self) -> u64 {
        bitmap::blocks(self.base_size(), self.block_size())
    }

    /// Number of words that hold these bits.
    fn word_count(&self) -> u64 {
        self.block_count().div_ceil(WORD_BITS)
    }

    /// Adds the blocks whose bits are `bits` of a word. Bits after the last block do not count.
    pub(in crate::image) fn add(&self, counted: &mut Counted, index: u64, bits: u32) {
        let first = Block::new(index * WORD_BITS);
        let left = Block::count(&(first..Block::new(self.block_count())));
        let bits = match left {
            0 => return,
            left if left < WORD_BITS => bits & ((1 << left) - 1),
            _ => bits,
        };
        counted.blocks += u64::from(bits.count_ones());
        counted.last |= left <= WORD_BITS && bits >> (left - 1) & 1 == 1;
    }

    /// Counts the words of `piece`, which was read from the file, if they are the next ones to count. Words
    /// that are in memory are counted there. Returns how many words have been counted.
    fn count(&self, piece: &Piece) -> u64 {
        let mut counted = self.tally.lock();
        let first = piece.offset / WORD_SIZE;
        let end = ((piece.offset + piece.len) / WORD_SIZE).min(self.word_count());
        if !(first..end).contains(&counted.words) {
            return counted.words;
        }
        let mut at = counted.words;
        while at < end {
            let (in_memory, stop) = self.words().memory_run(at, end);
            if in_memory {
                (at..stop).for_each(|index| self.add(&mut counted, index, self.words().get(index)));
            } else if !piece.is_hole() {
                (at..stop).for_each(|index| self.add(&mut counted, index, piece.word(index - first)));
            }
            at = stop;
        }
        counted.words = end;
        end
    }

    /// Bytes of the local blocks that have been counted.
    fn counted_bytes(&self) -> u64 {
        let counted = self.tally.lock();
        let missing = self.block_count() * self.block_size() - self.base_size();
        counted.blocks * self.block_size() - if counted.last { missing } else { 0 }
    }
}

impl<S: Storage> Image<S> {
    /// Bytes of the base's region that are local now, for whatever reason; 0 if nothing can come from a base.
    /// Unlogged blocks, which a crash would lose, count (P5).
    ///
    /// The first call reads the part of the bitmap that is not in memory, without holes. Later calls read
    /// nothing.
    pub async fn local_bytes(&self) -> Result<u64> {
        let Some(bitmap) = self.metadata.bitmap() else {
            return Ok(0);
        };
        let mut at = bitmap.tally.lock().words;
        while at < bitmap.word_count() {
            let mut reader = RegionReader::new(self.file(), bitmap.words().region(), at * WORD_SIZE);
            let Some(piece) = reader.next().await? else {
                break;
            };
            at = bitmap.count(&piece);
        }
        Ok(bitmap.counted_bytes())
    }

    /// As [`Image::local_bytes`], as far as it has been counted.
    pub(crate) fn local_bytes_counted(&self) -> u64 {
        self.metadata.bitmap().map_or(0, Bitmap::counted_bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pollster::block_on;

    use super::*;
    use crate::image::inspect::local::tests::{BASE, BLOCK, empty, local, open, write};
    use crate::storage::MemoryStorage;

    fn count(image: &Image<MemoryStorage>) -> u64 {
        block_on(image.local_bytes()).expect("memory does not fail")
    }

    #[test]
    fn every_local_block_is_counted_once() {
        let file = empty();
        let image = open(&file);
        write(&image, 10..20);
        assert_eq!(image.local_bytes_counted(), 0, "not counted yet");
        assert_eq!(count(&image), 10 * BLOCK);
        // Over what is local, next to it, again, the last block, which is shorter, and beyond the base.
        for blocks in [15..25, 25..26, 25..26, 99..100, 110..120] {
            write(&image, blocks);
        }
        block_on(crate::copy::fetch(&image, 50 * BLOCK..51 * BLOCK)).expect("memory does not fail");
        block_on(image.discard(60 * BLOCK, BLOCK)).expect("memory does not fail");
        let expected = 19 * BLOCK - 512;
        assert_eq!(image.local_bytes_counted(), expected, "kept up to date");
        assert_eq!(count(&image), expected);
        block_on(image.close()).expect("memory does not fail");
        assert_eq!(local(&file), expected);
        assert_eq!(count(&open(&file)), expected, "read from the file");
    }

    #[test]
    fn bits_that_belong_to_no_block_do_not_count() {
        let file = empty();
        let head = block_on(crate::image::read_head(&file)).expect("sound");
        let bitmap = head.geometry.bitmap.expect("there is a base");
        block_on(file.write(Bytes::from(vec![0xFF; 64]), bitmap.offset)).expect("memory does not fail");
        assert_eq!(count(&open(&file)), BASE);
    }

    #[test]
    fn everything_local_is_all_of_the_base() {
        let file = empty();
        let image = open(&file);
        assert_eq!(count(&image), 0);
        write(&image, 0..128);
        assert_eq!(count(&image), BASE);
    }
}
