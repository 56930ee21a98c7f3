//! A set of storage chunk numbers: bits, in segments that exist once something in them does.

use crate::format::table::MAX_CHUNK_NUMBER;

/// Words of a segment: 512 bytes, 4096 numbers. The whole set is at most 260 MiB, and small
/// while the numbers are close together, as those of an image are.
const SEGMENT_WORDS: usize = 64;
const SEGMENT_BITS: u32 = SEGMENT_WORDS as u32 * u64::BITS;

type Segment = [u64; SEGMENT_WORDS];

/// Numbers up to [`MAX_CHUNK_NUMBER`].
#[derive(Clone, Debug, Default)]
pub(super) struct NumberSet {
    segments: Vec<Option<Box<Segment>>>,
    len: u64,
    /// One more than the highest number.
    end: u32,
}

fn locate(number: u32) -> (usize, usize, u64) {
    let bit = number % SEGMENT_BITS;
    (
        (number / SEGMENT_BITS) as usize,
        (bit / u64::BITS) as usize,
        1 << (bit % u64::BITS),
    )
}

impl NumberSet {
    /// Adds the number. False if it was there already.
    pub(super) fn insert(&mut self, number: u32) -> bool {
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
        is_new
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// One more than the highest number; 0 of an empty set.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// The first number from `from` on that is (or, with `false`, is not) in the set, below
    /// [`NumberSet::end`].
    pub(super) fn next(&self, from: u32, is_in: bool) -> Option<u32> {
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
        let mut set = NumberSet::default();
        for number in [0, 63, 64, 4095, 4096, MAX_CHUNK_NUMBER] {
            assert!(set.insert(number));
            assert!(!set.insert(number));
            assert_eq!(set.next(number, true), Some(number));
        }
        assert_eq!((set.len(), set.end()), (6, MAX_CHUNK_NUMBER + 1));
    }

    #[test]
    fn gaps_and_members_are_found_across_words_and_segments() {
        let mut set = NumberSet::default();
        for number in [0, 1, 64, 9000] {
            set.insert(number);
        }
        assert_eq!(set.next(0, false), Some(2));
        assert_eq!(set.next(64, false), Some(65));
        assert_eq!(set.next(2, true), Some(64));
        assert_eq!(set.next(65, true), Some(9000));
        assert_eq!(set.next(9000, false), None);
        assert_eq!(set.next(9001, true), None);
        assert_eq!(NumberSet::default().next(0, false), None);
    }
}
