//! A metadata region in memory: an array of little-endian u32 words, loaded on demand.
//!
//! The table of a disk of 16 TiB has 64 MiB. Because a segment is loaded when it is first needed, such an
//! image opens as fast as a small one. Once loaded, a segment stays in memory, and memory is the truth. A
//! segment that is a hole in the file takes no memory until one of its words changes, so a large region costs
//! nothing by its size alone.

use std::ops::Range;
use std::sync::atomic::AtomicU32;

use crate::error::Result;
use crate::format::{PAGE, Region};
use crate::image::metadata::segment::Segment;
use crate::storage::{Allocation, IoBufMut, Storage};

/// Words per page of metadata.
pub(super) const PAGE_WORDS: u64 = PAGE / 4;
/// Words per segment: 64 KiB, the size of the read that loads a segment.
const SEGMENT_WORDS: u64 = 16 * PAGE_WORDS;
const SEGMENT_SIZE: u64 = SEGMENT_WORDS * 4;
/// Most segments read at once, so that a scan of a large region needs few system calls.
const READ_SEGMENTS: u64 = 16;

pub(in crate::image) struct RegionCache {
    region: Region,
    segments: Box<[Segment]>,
}

impl RegionCache {
    /// Reads nothing yet. The size of `region` has been checked against the file.
    pub(super) fn new(region: Region) -> Self {
        let count = region.size.div_ceil(SEGMENT_SIZE);
        Self {
            region,
            segments: (0..count).map(|_| Segment::default()).collect(),
        }
    }

    /// Zeros in memory, with the shape of `region`. Nothing is ever read from the file, or written to it.
    pub(super) fn zeroed(region: Region) -> Self {
        let cache = Self::new(region);
        for segment in &cache.segments {
            segment.set_hole();
        }
        cache
    }

    pub(in crate::image) fn region(&self) -> Region {
        self.region
    }

    fn segments_of(&self, words: &Range<u64>) -> &[Segment] {
        let end = words.end.div_ceil(SEGMENT_WORDS);
        &self.segments[(words.start / SEGMENT_WORDS) as usize..end as usize]
    }

    /// Whether every word of the (non-empty) range is loaded.
    pub(super) fn is_loaded(&self, words: &Range<u64>) -> bool {
        self.segments_of(words).iter().all(Segment::is_loaded)
    }

    /// Bytes of memory that would be added if all words of the range were changed.
    pub(in crate::image) fn missing_bytes(&self, words: &Range<u64>) -> u64 {
        let missing = self.segments_of(words).iter().filter(|segment| !segment.takes_memory());
        missing.count() as u64 * SEGMENT_SIZE
    }

    /// Whether the word at `index` takes memory, and the first word after it where that changes (at most
    /// `end`).
    pub(in crate::image) fn memory_run(&self, index: u64, end: u64) -> (bool, u64) {
        let segments = self.segments_of(&(index..end));
        let first = segments[0].takes_memory();
        let is_same = |segment: &&Segment| segment.takes_memory() == first;
        let same = segments.iter().take_while(is_same).count() as u64;
        (first, ((index / SEGMENT_WORDS + same) * SEGMENT_WORDS).min(end))
    }

    /// If the word at `index` lies in a segment of zeros that takes no memory: the first word after that
    /// segment.
    pub(super) fn hole_end(&self, index: u64) -> Option<u64> {
        let number = index / SEGMENT_WORDS;
        let in_memory = self.segments[number as usize].takes_memory();
        (!in_memory).then_some((number + 1) * SEGMENT_WORDS)
    }

    /// Loads the words of the range. Holes take no memory.
    pub(super) async fn load<S: Storage>(&self, storage: &S, words: Range<u64>) -> Result<()> {
        let end = words.end.div_ceil(SEGMENT_WORDS);
        let mut segment = words.start / SEGMENT_WORDS;
        while segment < end {
            if self.segments[segment as usize].is_loaded() {
                segment += 1;
                continue;
            }
            let start = segment * SEGMENT_SIZE;
            let left = (end * SEGMENT_SIZE).min(self.region.size) - start;
            let (allocation, len) = storage.allocation(self.region.offset + start, left).await?;
            // The last segment of a region may be shorter.
            let whole = if len >= left { end - segment } else { len / SEGMENT_SIZE };
            if allocation == Allocation::Hole && whole > 0 {
                for hole in &self.segments[segment as usize..(segment + whole) as usize] {
                    hole.set_hole();
                }
                segment += whole;
                continue;
            }
            let most = len.div_ceil(SEGMENT_SIZE).clamp(1, READ_SEGMENTS) as usize;
            let unread = self.segments[segment as usize..end as usize].iter().take(most);
            let count = unread.take_while(|segment| !segment.is_loaded()).count() as u64;
            self.read_segments(storage, segment, count.max(1)).await?;
            segment += count.max(1);
        }
        Ok(())
    }

    async fn read_segments<S: Storage>(&self, storage: &S, first: u64, count: u64) -> Result<()> {
        let start = first * SEGMENT_SIZE;
        let end = (start + count * SEGMENT_SIZE).min(self.region.size);
        let buf = IoBufMut::zeroed((end - start) as usize);
        let buf = storage.read(buf, self.region.offset + start).await?;
        let pieces = buf.as_slice().chunks(SEGMENT_SIZE as usize);
        for (segment, bytes) in self.segments[first as usize..].iter().zip(pieces) {
            let (words, _) = bytes.as_chunks::<4>();
            segment.install(words.iter().map(|word| u32::from_le_bytes(*word)));
        }
        Ok(())
    }

    /// The word at `index`, which has been loaded.
    pub(in crate::image) fn get(&self, index: u64) -> u32 {
        self.segments[(index / SEGMENT_WORDS) as usize].get((index % SEGMENT_WORDS) as usize)
    }

    /// The word at `index`, which has been loaded, for a change. The word gets memory if it has none yet.
    pub(super) fn word(&self, index: u64) -> &AtomicU32 {
        let number = index / SEGMENT_WORDS;
        let size = (self.region.size - number * SEGMENT_SIZE).min(SEGMENT_SIZE);
        self.segments[number as usize].word((index % SEGMENT_WORDS) as usize, (size / 4) as usize)
    }

    /// The words of a page.
    pub(super) fn page(&self, page: u64) -> impl Iterator<Item = u32> {
        let first = page * PAGE_WORDS;
        (first..first + PAGE_WORDS).map(|index| self.get(index))
    }

    /// Offset of the page in the image file, bytes.
    pub(super) fn page_offset(&self, page: u64) -> u64 {
        self.region.offset + page * PAGE
    }
}
