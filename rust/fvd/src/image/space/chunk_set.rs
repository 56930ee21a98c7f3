//! A set of storage chunks: bits, in segments that are allocated when they are first needed.

use crate::format::StorageChunk;

/// Words of a segment: 512 bytes, 4096 numbers. The whole set takes at most 260 MiB, and little memory if the
/// numbers are close together, as those of an image are.
const SEGMENT_WORDS: usize = 64;
const SEGMENT_BITS: u32 = SEGMENT_WORDS as u32 * u64::BITS;

type Segment = [u64; SEGMENT_WORDS];

/// Storage chunks up to [`StorageChunk::MAX`].
#[derive(Clone, Debug, Default)]
pub(in crate::image) struct ChunkSet {
    segments: Vec<Option<Box<Segment>>>,
    len: u64,
    /// The one after the highest that has ever been in the set.
    end: StorageChunk,
    /// None below this one is in the set.
    start: StorageChunk,
}

fn locate(storage: StorageChunk) -> (usize, usize, u64) {
    let number = storage.number();
    let bit = number % SEGMENT_BITS;
    (
        (number / SEGMENT_BITS) as usize,
        (bit / u64::BITS) as usize,
        1 << (bit % u64::BITS),
    )
}

impl ChunkSet {
    /// Adds the storage chunk. Returns false if it was there already.
    pub(in crate::image) fn insert(&mut self, storage: StorageChunk) -> bool {
        assert!(storage <= StorageChunk::MAX, "a number that can be in use");
        let (segment, word, mask) = locate(storage);
        if segment >= self.segments.len() {
            self.segments.resize(segment + 1, None);
        }
        let segment = self.segments[segment].get_or_insert_with(|| Box::new([0; SEGMENT_WORDS]));
        let is_new = segment[word] & mask == 0;
        segment[word] |= mask;
        self.len += u64::from(is_new);
        self.end = self.end.max(storage.next());
        self.start = self.start.min(storage);
        is_new
    }

    /// Removes the storage chunk. Returns false if it was not there.
    pub(in crate::image) fn remove(&mut self, storage: StorageChunk) -> bool {
        let (segment, word, mask) = locate(storage);
        let Some(slot) = self.segments.get_mut(segment) else {
            return false;
        };
        let Some(words) = slot.as_mut().filter(|words| words[word] & mask != 0) else {
            return false;
        };
        words[word] &= !mask;
        self.len -= 1;
        if words[word] == 0 && words.iter().all(|word| *word == 0) {
            *slot = None;
        }
        true
    }

    /// Adds all of `other`.
    pub(in crate::image) fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        if self.segments.len() < other.segments.len() {
            self.segments.resize(other.segments.len(), None);
        }
        for (mine, theirs) in self.segments.iter_mut().zip(other.segments) {
            let Some(theirs) = theirs else { continue };
            let Some(mine) = mine else {
                self.len += theirs.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
                *mine = Some(theirs);
                continue;
            };
            for (mine, theirs) in mine.iter_mut().zip(*theirs) {
                self.len += u64::from((theirs & !*mine).count_ones());
                *mine |= theirs;
            }
        }
        self.end = self.end.max(other.end);
        self.start = self.start.min(other.start);
    }

    /// Removes everything, and returns it.
    pub(in crate::image) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The storage chunks below `end` that are not in the set.
    pub(in crate::image) fn missing_below(&self, end: StorageChunk) -> Self {
        let mut missing = Self::default();
        let end = end.number();
        for first in (0..end).step_by(SEGMENT_BITS as usize) {
            let (segment, ..) = locate(StorageChunk::new(first));
            let mine = self.segments.get(segment).and_then(Option::as_deref);
            let mut words = mine.map_or([u64::MAX; SEGMENT_WORDS], |words| words.map(|word| !word));
            let last = end - first;
            for (bit, word) in (0..).step_by(u64::BITS as usize).zip(&mut words) {
                if last < bit + u64::BITS {
                    *word &= !(u64::MAX << last.saturating_sub(bit));
                }
            }
            missing.add_segment(first, Box::new(words));
        }
        missing
    }

    /// Adds a segment after all existing ones. Its first bit is for `first`.
    fn add_segment(&mut self, first: u32, words: Box<Segment>) {
        let Some(last) = words.iter().rposition(|word| *word != 0) else {
            return;
        };
        let (segment, ..) = locate(StorageChunk::new(first));
        self.segments.resize(segment + 1, None);
        self.len += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.end = StorageChunk::new(first + (last as u32 + 1) * u64::BITS - words[last].leading_zeros());
        self.segments[segment] = Some(words);
    }

    pub(in crate::image) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lowest storage chunk.
    pub(in crate::image) fn first(&mut self) -> Option<StorageChunk> {
        let first = self.next(self.start, true)?;
        self.start = first;
        Some(first)
    }

    /// How many storage chunks there are.
    pub(in crate::image) fn len(&self) -> u64 {
        self.len
    }

    /// The storage chunk after the highest that has ever been in the set; the first one for a new set.
    pub(in crate::image) fn end(&self) -> StorageChunk {
        self.end
    }

    /// The first storage chunk from `from` on, below [`ChunkSet::end`], that is in the set (with `false`: that is
    /// not in it).
    pub(in crate::image) fn next(&self, from: StorageChunk, is_in: bool) -> Option<StorageChunk> {
        let mut storage = from;
        while storage < self.end {
            let number = storage.number();
            let (segment, word, _) = locate(storage);
            let Some(words) = &self.segments[segment] else {
                if !is_in {
                    return Some(storage);
                }
                storage = StorageChunk::new((segment as u32 + 1).saturating_mul(SEGMENT_BITS));
                continue;
            };
            let bits = if is_in { words[word] } else { !words[word] };
            let bits = bits >> (number % u64::BITS);
            if bits != 0 {
                return Some(storage.plus(bits.trailing_zeros().into())).filter(|found| *found < self.end);
            }
            storage = StorageChunk::new((number / u64::BITS + 1) * u64::BITS);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u32) -> StorageChunk {
        StorageChunk::new(number)
    }

    #[test]
    fn a_number_is_new_once() {
        let mut set = ChunkSet::default();
        for storage in [0, 63, 64, 4095, 4096, StorageChunk::MAX.number()].map(at) {
            assert!(set.insert(storage));
            assert!(!set.insert(storage));
            assert_eq!(set.next(storage, true), Some(storage));
        }
        assert_eq!((set.len(), set.end()), (6, StorageChunk::MAX.next()));
    }

    #[test]
    fn removing_leaves_a_gap_and_first_finds_the_lowest_number() {
        let mut set = ChunkSet::default();
        for storage in [3, 4097, 70].map(at) {
            set.insert(storage);
        }
        assert_eq!(set.first(), Some(at(3)));
        assert!(set.remove(at(3)));
        assert!(!set.remove(at(3)));
        assert!(!set.remove(at(1 << 30)));
        assert_eq!((set.first(), set.len()), (Some(at(70)), 2));
        set.insert(at(1));
        assert_eq!(set.first(), Some(at(1)));
    }

    #[test]
    fn append_unites_two_sets() {
        let mut set = ChunkSet::default();
        let mut other = ChunkSet::default();
        for storage in [5, 6, 9000].map(at) {
            set.insert(storage);
        }
        for storage in [6, 7, 20_000].map(at) {
            other.insert(storage);
        }
        set.append(other);
        assert_eq!((set.len(), set.end()), (5, at(20_001)));
        for storage in [5, 6, 7, 9000, 20_000].map(at) {
            assert!(set.remove(storage), "{storage}");
        }
        assert!(set.is_empty());
        assert_eq!(set.first(), None);
    }

    #[test]
    fn missing_below_is_all_that_the_set_lacks_up_to_an_end() {
        let mut set = ChunkSet::default();
        for storage in [0, 3, 63, 64, 4095, 9000].map(at) {
            set.insert(storage);
        }
        for end in [
            0, 1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 9000, 9001, 9100, 12_288, 20_000,
        ] {
            let missing = set.missing_below(at(end));
            let expected: Vec<StorageChunk> = (0..end)
                .map(at)
                .filter(|storage| set.next(*storage, true) != Some(*storage))
                .collect();
            assert_eq!(missing.len(), expected.len() as u64, "{end}");
            assert_eq!(
                missing.end(),
                expected.last().map_or(at(0), |last| last.next()),
                "{end}"
            );
            for storage in expected {
                assert_eq!(missing.next(storage, true), Some(storage), "{end}");
            }
        }
    }

    #[test]
    fn gaps_and_members_are_found_across_words_and_segments() {
        let mut set = ChunkSet::default();
        for storage in [0, 1, 64, 9000].map(at) {
            set.insert(storage);
        }
        assert_eq!(set.next(at(0), false), Some(at(2)));
        assert_eq!(set.next(at(64), false), Some(at(65)));
        assert_eq!(set.next(at(2), true), Some(at(64)));
        assert_eq!(set.next(at(65), true), Some(at(9000)));
        assert_eq!(set.next(at(9000), false), None);
        assert_eq!(set.next(at(9001), true), None);
        assert_eq!(ChunkSet::default().next(at(0), false), None);
    }
}
