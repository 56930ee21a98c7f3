//! A set of storage chunk numbers: bits, in segments that are allocated when they are first needed.

use crate::format::table::MAX_CHUNK_NUMBER;

/// Words of a segment: 512 bytes, 4096 numbers. The whole set takes at most 260 MiB, and little memory if the
/// numbers are close together, as those of an image are.
const SEGMENT_WORDS: usize = 64;
const SEGMENT_BITS: u32 = SEGMENT_WORDS as u32 * u64::BITS;

type Segment = [u64; SEGMENT_WORDS];

/// Numbers up to [`MAX_CHUNK_NUMBER`].
#[derive(Clone, Debug, Default)]
pub(in crate::image) struct ChunkSet {
    segments: Vec<Option<Box<Segment>>>,
    len: u64,
    /// One more than the highest number that has ever been in the set.
    end: u32,
    /// No number below this one is in the set.
    start: u32,
}

fn locate(number: u32) -> (usize, usize, u64) {
    let bit = number % SEGMENT_BITS;
    (
        (number / SEGMENT_BITS) as usize,
        (bit / u64::BITS) as usize,
        1 << (bit % u64::BITS),
    )
}

impl ChunkSet {
    /// Adds the number. Returns false if it was there already.
    pub(in crate::image) fn insert(&mut self, number: u32) -> bool {
        assert!(number <= MAX_CHUNK_NUMBER, "a number that can be in use");
        let (segment, word, mask) = locate(number);
        if segment >= self.segments.len() {
            self.segments.resize(segment + 1, None);
        }
        let segment = self.segments[segment].get_or_insert_with(|| Box::new([0; SEGMENT_WORDS]));
        let is_new = segment[word] & mask == 0;
        segment[word] |= mask;
        self.len += u64::from(is_new);
        self.end = self.end.max(number + 1);
        self.start = self.start.min(number);
        is_new
    }

    /// Removes the number. Returns false if it was not there.
    pub(in crate::image) fn remove(&mut self, number: u32) -> bool {
        let (segment, word, mask) = locate(number);
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

    /// The numbers below `end` that are not in the set.
    pub(in crate::image) fn missing_below(&self, end: u32) -> Self {
        let mut missing = Self::default();
        for first in (0..end).step_by(SEGMENT_BITS as usize) {
            let (segment, ..) = locate(first);
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
        let (segment, ..) = locate(first);
        self.segments.resize(segment + 1, None);
        self.len += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.end = first + (last as u32 + 1) * u64::BITS - words[last].leading_zeros();
        self.segments[segment] = Some(words);
    }

    pub(in crate::image) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lowest number.
    pub(in crate::image) fn first(&mut self) -> Option<u32> {
        let first = self.next(self.start, true)?;
        self.start = first;
        Some(first)
    }

    /// How many numbers there are.
    pub(in crate::image) fn len(&self) -> u64 {
        self.len
    }

    /// One more than the highest number that has ever been in the set; 0 for a new set.
    pub(in crate::image) fn end(&self) -> u32 {
        self.end
    }

    /// The first number from `from` on, below [`ChunkSet::end`], that is in the set (with `false`: that is
    /// not in it).
    pub(in crate::image) fn next(&self, from: u32, is_in: bool) -> Option<u32> {
        let mut number = from;
        while number < self.end {
            let (segment, word, _) = locate(number);
            let Some(words) = &self.segments[segment] else {
                if !is_in {
                    return Some(number);
                }
                number = (segment as u32 + 1).saturating_mul(SEGMENT_BITS);
                continue;
            };
            let bits = if is_in { words[word] } else { !words[word] };
            let bits = bits >> (number % u64::BITS);
            if bits != 0 {
                return Some(number + bits.trailing_zeros()).filter(|found| *found < self.end);
            }
            number = (number / u64::BITS + 1) * u64::BITS;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut set = ChunkSet::default();
        for number in [0, 63, 64, 4095, 4096, MAX_CHUNK_NUMBER] {
            assert!(set.insert(number));
            assert!(!set.insert(number));
            assert_eq!(set.next(number, true), Some(number));
        }
        assert_eq!((set.len(), set.end()), (6, MAX_CHUNK_NUMBER + 1));
    }

    #[test]
    fn removing_leaves_a_gap_and_first_finds_the_lowest_number() {
        let mut set = ChunkSet::default();
        for number in [3, 4097, 70] {
            set.insert(number);
        }
        assert_eq!(set.first(), Some(3));
        assert!(set.remove(3));
        assert!(!set.remove(3));
        assert!(!set.remove(1 << 30));
        assert_eq!((set.first(), set.len()), (Some(70), 2));
        set.insert(1);
        assert_eq!(set.first(), Some(1));
    }

    #[test]
    fn append_unites_two_sets() {
        let mut set = ChunkSet::default();
        let mut other = ChunkSet::default();
        for number in [5, 6, 9000] {
            set.insert(number);
        }
        for number in [6, 7, 20_000] {
            other.insert(number);
        }
        set.append(other);
        assert_eq!((set.len(), set.end()), (5, 20_001));
        for number in [5, 6, 7, 9000, 20_000] {
            assert!(set.remove(number), "{number}");
        }
        assert!(set.is_empty());
        assert_eq!(set.first(), None);
    }

    #[test]
    fn missing_below_is_all_that_the_set_lacks_up_to_an_end() {
        let mut set = ChunkSet::default();
        for number in [0, 3, 63, 64, 4095, 9000] {
            set.insert(number);
        }
        for end in [
            0, 1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 9000, 9001, 9100, 12_288, 20_000,
        ] {
            let missing = set.missing_below(end);
            let expected: Vec<u32> = (0..end)
                .filter(|number| set.next(*number, true) != Some(*number))
                .collect();
            assert_eq!(missing.len(), expected.len() as u64, "{end}");
            assert_eq!(missing.end(), expected.last().map_or(0, |last| last + 1), "{end}");
            for number in expected {
                assert_eq!(missing.next(number, true), Some(number), "{end}");
            }
        }
    }

    #[test]
    fn gaps_and_members_are_found_across_words_and_segments() {
        let mut set = ChunkSet::default();
        for number in [0, 1, 64, 9000] {
            set.insert(number);
        }
        assert_eq!(set.next(0, false), Some(2));
        assert_eq!(set.next(64, false), Some(65));
        assert_eq!(set.next(2, true), Some(64));
        assert_eq!(set.next(65, true), Some(9000));
        assert_eq!(set.next(9000, false), None);
        assert_eq!(set.next(9001, true), None);
        assert_eq!(ChunkSet::default().next(0, false), None);
    }
}
