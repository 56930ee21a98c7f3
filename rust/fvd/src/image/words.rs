//! A metadata region in memory: an array of little-endian u32 words, loaded on demand.
//!
//! A disk of 16 TiB has a table of 64 MiB; loading a segment when it is first needed makes
//! opening such an image as quick as any. Once loaded, a segment stays, and memory is the truth.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::Result;
use crate::format::{PAGE, Region};
use crate::storage::{IoBufMut, Storage};

/// Words per page of metadata.
pub(super) const PAGE_WORDS: u64 = PAGE / 4;
/// Words per segment: 64 KiB, what one read of a cold segment costs.
const SEGMENT_WORDS: u64 = 16 * PAGE_WORDS;
/// Segments read at once at most, so that a scan of a large region needs few system calls.
const READ_SEGMENTS: u64 = 16;

type Segment = Box<[AtomicU32]>;

pub(super) struct Words {
    region: Region,
    segments: Box<[OnceLock<Segment>]>,
    /// How many of them are loaded.
    loaded: AtomicU64,
}

impl Words {
    /// Nothing is read yet. The size of `region` has been checked against the file.
    pub(super) fn new(region: Region) -> Self {
        let count = (region.size / 4).div_ceil(SEGMENT_WORDS);
        Self {
            region,
            segments: (0..count).map(|_| OnceLock::new()).collect(),
            loaded: AtomicU64::new(0),
        }
    }

    /// Bytes that are in memory.
    pub(super) fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed) * SEGMENT_WORDS * 4
    }

    /// Whether every word of the (non-empty) range is in memory.
    pub(super) fn is_loaded(&self, words: &Range<u64>) -> bool {
        let first = words.start / SEGMENT_WORDS;
        let last = (words.end - 1) / SEGMENT_WORDS;
        (first..=last).all(|s| self.segments[s as usize].get().is_some())
    }

    /// Brings the words of the range into memory.
    ///
    /// Two tasks may read a segment at once. The first to finish installs it, and only then can
    /// it be changed, so what the second one drops is never newer.
    pub(super) async fn load<S: Storage>(&self, storage: &S, words: Range<u64>) -> Result<()> {
        let end = words.end.div_ceil(SEGMENT_WORDS);
        let mut segment = words.start / SEGMENT_WORDS;
        while segment < end {
            if self.segments[segment as usize].get().is_some() {
                segment += 1;
                continue;
            }
            let mut count = 1;
            while count < READ_SEGMENTS
                && segment + count < end
                && self.segments[(segment + count) as usize].get().is_none()
            {
                count += 1;
            }
            self.read_segments(storage, segment, count).await?;
            segment += count;
        }
        Ok(())
    }

    async fn read_segments<S: Storage>(&self, storage: &S, first: u64, count: u64) -> Result<()> {
        let start = first * SEGMENT_WORDS * 4;
        let end = (start + count * SEGMENT_WORDS * 4).min(self.region.size);
        let buf = IoBufMut::zeroed((end - start) as usize);
        let buf = storage.read(buf, self.region.offset + start).await?;
        let pieces = buf.as_slice().chunks(SEGMENT_WORDS as usize * 4);
        for (slot, bytes) in self.segments[first as usize..].iter().zip(pieces) {
            let (words, _) = bytes.as_chunks::<4>();
            let segment = words.iter().map(|w| AtomicU32::new(u32::from_le_bytes(*w))).collect();
            if slot.set(segment).is_ok() {
                self.loaded.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The word at `index`, which has been loaded.
    pub(super) fn word(&self, index: u64) -> &AtomicU32 {
        let segment = self.segments[(index / SEGMENT_WORDS) as usize].get();
        let segment = segment.expect("a request loads the metadata of its range before it looks it up");
        &segment[(index % SEGMENT_WORDS) as usize]
    }

    /// Bytes of the page, as they belong on disk.
    pub(super) fn copy_page(&self, page: u64, out: &mut Vec<u8>) {
        let first = page * PAGE_WORDS;
        for index in first..first + PAGE_WORDS {
            // Acquire: an entry is stored before the bits that rely on it.
            out.extend_from_slice(&self.word(index).load(Ordering::Acquire).to_le_bytes());
        }
    }

    /// Offset of the page in the image file, bytes.
    pub(super) fn page_offset(&self, page: u64) -> u64 {
        self.region.offset + page * PAGE
    }
}
