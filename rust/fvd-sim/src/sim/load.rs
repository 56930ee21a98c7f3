//! Requests, drawn at random before the session runs.

use std::collections::VecDeque;

use fvd::image::DetectZeroes;

use crate::medium::SECTOR;
use crate::rig::landmarks;
use crate::shape::Shape;
use crate::workload::{Request, ZEROS};

/// Bytes that the requests of a session move before they become small.
const BUDGET: u64 = 4 << 20;
/// Maximum length of a request in bytes.
const LONGEST: u64 = 2 << 20;

/// Bytes that some requests zero or discard at once in a large disk.
const SWEEP: u64 = 8 << 20;
/// Number of recent writes whose offsets are remembered, to return to them.
const RECENT: usize = 24;

/// The kind of requests that are drawn for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// All kinds of requests, mostly at a few offsets.
    Mixed,
    /// Writes to new places, with a flush after nearly each: journals fill up.
    Commits,
    /// Discards of what was written a while ago, and writes to other places.
    Discards,
    /// Reads of what was written a while ago, while other requests free and reuse its storage.
    Reads,
    /// A discard, then commits until a small journal is full, then another discard.
    Laps,
}

impl Mood {
    fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..9) {
            0..2 => Self::Mixed,
            2..5 => Self::Commits,
            5..7 => Self::Discards,
            7 => Self::Laps,
            _ => Self::Reads,
        }
    }

    /// For how many requests it lasts.
    fn length(self, rng: &mut fastrand::Rng) -> u32 {
        match self {
            Self::Laps => rng.u32(30..120),
            _ => rng.u32(3..40),
        }
    }
}

/// Draws the requests of one session.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says what a session has, apart from the others"
)]
pub struct Load<'a> {
    shape: &'a Shape,
    rng: fastrand::Rng,
    /// Offsets with many requests, so that requests overlap.
    hot: Vec<u64>,
    is_long: bool,
    flush_percent: u8,
    /// Whether chunks are freed. If not, more of the flushed records go through the journal.
    frees: bool,
    /// Whether some writes are of zeros.
    detects_zeroes: bool,
    /// One in this many requests begins or ends within a sector.
    odd: u8,
    budget: u64,
    mood: Mood,
    /// Requests until the mood changes.
    left: u32,
    /// Whether the mood changes at all.
    is_moody: bool,
    /// Offsets of recent writes.
    recent: VecDeque<u64>,
    /// Offset and length of the last write.
    last: Option<(u64, u64)>,
}

impl<'a> Load<'a> {
    /// Requests for a disk of this shape. `is_long`: requests are up to five chunks long. `image_seed` is the
    /// seed of the image.
    #[must_use]
    pub fn new(shape: &'a Shape, image_seed: u64, is_long: bool, mut rng: fastrand::Rng) -> Self {
        let landmarks = landmarks(shape, image_seed);
        let edges = shape.metadata_edges();
        let hot = (0..rng.usize(1..6)).map(|_| {
            if !edges.is_empty() && rng.bool() {
                return edges[rng.usize(..edges.len())];
            }
            landmarks[rng.usize(..landmarks.len())]
        });
        Self {
            shape,
            hot: hot.collect(),
            is_long,
            flush_percent: [1, 1, 4, 12, 30][rng.usize(..5)],
            frees: rng.u8(..3) == 0,
            detects_zeroes: shape.detect_zeroes != DetectZeroes::Off,
            odd: [8, 8, 2][rng.usize(..3)],
            budget: BUDGET,
            mood: Mood::Mixed,
            left: 0,
            is_moody: rng.bool(),
            recent: VecDeque::new(),
            last: None,
            rng,
        }
    }

    /// Draws a request.
    pub fn request(&mut self) -> Request {
        if self.is_moody && self.left == 0 {
            self.mood = Mood::random(&mut self.rng);
            self.left = self.mood.length(&mut self.rng);
        }
        self.left = self.left.saturating_sub(1);
        let request = match self.mood {
            _ if self.rng.u8(..24) == 0 => self.around_last(),
            Mood::Mixed => self.mixed(),
            Mood::Commits => self.commit(),
            Mood::Discards => self.around_discards(),
            Mood::Reads => self.around_reads(),
            Mood::Laps => self.lap(),
        };
        if let Request::Write { offset, len, .. } | Request::WriteFua { offset, len, .. } = request {
            self.last = Some((offset, len));
            self.recent.push_back(offset);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        request
    }

    fn mixed(&mut self) -> Request {
        let kind = self.rng.u8(..100);
        if kind < self.flush_percent {
            return Request::Flush;
        }
        let (offset, len) = self.range();
        match self.rng.u8(..100) {
            0..30 => Request::Read { offset, len },
            30..38 => self.zero(offset, len, !self.frees || kind.is_multiple_of(4)),
            38..48 if self.frees => self.discard(offset, len),
            48..52 => self.write_fua(offset, len),
            _ => self.write(offset, len),
        }
    }

    fn commit(&mut self) -> Request {
        let (offset, len) = self.new_place();
        match self.rng.u8(..100) {
            0..40 => Request::Flush,
            40..60 => self.write_fua(offset, len),
            60..95 => self.write(offset, len),
            _ => Request::Read { offset, len },
        }
    }

    fn around_discards(&mut self) -> Request {
        let (recent, len) = self.recent_place();
        match self.rng.u8(..100) {
            0..30 => self.discard(recent, len),
            30..40 => self.zero(recent, len, false),
            40..55 => Request::Flush,
            55..65 => Request::Read { offset: recent, len },
            65..80 => self.write(recent, len),
            _ => {
                let (offset, len) = self.new_place();
                self.write(offset, len)
            }
        }
    }

    fn around_reads(&mut self) -> Request {
        let (recent, len) = self.recent_place();
        match self.rng.u8(..100) {
            0..50 => Request::Read { offset: recent, len },
            50..65 => self.discard(recent, len),
            65..73 => Request::Flush,
            73..85 => self.write(recent, len),
            _ => {
                let (offset, len) = self.new_place();
                self.write(offset, len)
            }
        }
    }

    /// A discard, followed by a dozen commits of writes to new places.
    fn lap(&mut self) -> Request {
        let (recent, len) = self.recent_place();
        match self.left % 24 {
            0 => self.discard(recent, len),
            number if number % 2 == 1 => Request::Flush,
            _ => {
                let (offset, len) = self.new_place();
                self.write(offset, len)
            }
        }
    }

    /// Reads what was written last, which may have failed or been cancelled, or writes a part of one of its
    /// sectors.
    fn around_last(&mut self) -> Request {
        let Some((offset, len)) = self.last else {
            return self.mixed();
        };
        let len = len.min(LONGEST);
        if self.rng.bool() {
            return Request::Read { offset, len };
        }
        let offset = offset + self.rng.u64(..len);
        let len = self.rng.u64(1..SECTOR).min(self.shape.virtual_size - offset);
        self.write(offset, len)
    }

    fn content(&mut self) -> u64 {
        match self.rng.u64(1..) {
            number if self.detects_zeroes && number.is_multiple_of(4) => ZEROS,
            number => number,
        }
    }

    fn write(&mut self, offset: u64, len: u64) -> Request {
        let content = self.content();
        Request::Write { offset, len, content }
    }

    fn write_fua(&mut self, offset: u64, len: u64) -> Request {
        let content = self.content();
        Request::WriteFua { offset, len, content }
    }

    /// Sometimes widens the range to more than one page of metadata describes, if the disk is large enough.
    fn swept(&mut self, offset: u64, len: u64) -> (u64, u64) {
        if self.shape.virtual_size < 2 * SWEEP || self.rng.u8(..64) > 0 {
            return (offset, len);
        }
        let start = offset.saturating_sub(self.rng.u64(..SWEEP)) / SECTOR * SECTOR;
        (start, SWEEP.min(self.shape.virtual_size - start))
    }

    fn zero(&mut self, offset: u64, len: u64, no_hole: bool) -> Request {
        let (offset, len) = self.swept(offset, len);
        Request::Zero { offset, len, no_hole }
    }

    /// A discard. Two of three cover whole chunks, if that is not too long.
    fn discard(&mut self, offset: u64, len: u64) -> Request {
        let (offset, len) = match self.rng.u8(..3) {
            0 => (offset, len),
            _ => self.shape.whole_chunks(offset, len, LONGEST),
        };
        let (offset, len) = self.swept(offset, len);
        Request::Discard { offset, len }
    }

    /// A few sectors anywhere, mostly ones that were never written to.
    fn new_place(&mut self) -> (u64, u64) {
        let len = self.rng.u64(1..=8) * SECTOR;
        let centre = self.rng.u64(..self.shape.virtual_size);
        self.place(centre, len)
    }

    /// A few sectors at the offset of a recent write.
    fn recent_place(&mut self) -> (u64, u64) {
        if self.recent.is_empty() {
            return self.range();
        }
        let centre = self.recent[self.rng.usize(..self.recent.len())];
        let len = self.rng.u64(1..=8) * SECTOR;
        self.place(centre + len / 2, len)
    }

    fn range(&mut self) -> (u64, u64) {
        let rng = &mut self.rng;
        let size = self.shape.virtual_size;
        let unit = if self.shape.compact {
            self.shape.chunk_size
        } else {
            self.shape.block_size
        };
        let longest = match rng.u8(..10) {
            _ if self.budget == 0 => 8 * SECTOR,
            0..4 if self.is_long => (5 * unit).min(LONGEST),
            0..8 => 8 * SECTOR,
            _ => 64 * SECTOR,
        };
        let centre = match rng.u8(..6) {
            0 => rng.u64(..size),
            // Slightly apart, so that requests overlap in a block more often than in a sector.
            1 | 2 => (self.hot[rng.usize(..self.hot.len())] + rng.u64(..2 * self.shape.block_size)).min(size - 1),
            _ => self.hot[rng.usize(..self.hot.len())],
        };
        let len = rng.u64(1..=longest.min(size));
        let (offset, len) = self.place(centre, len);
        self.budget = self.budget.saturating_sub(len);
        (offset, len)
    }

    /// A range of about `len` bytes around `centre`, mostly of whole sectors.
    fn place(&mut self, centre: u64, len: u64) -> (u64, u64) {
        let rng = &mut self.rng;
        let size = self.shape.virtual_size;
        let offset = centre.saturating_sub(rng.u64(..=len)).min(size - 1);
        let len = len.min(size - offset);
        if rng.u8(..self.odd) == 0 {
            return (offset, len);
        }
        let start = offset / SECTOR * SECTOR;
        (start, (offset + len).next_multiple_of(SECTOR) - start)
    }
}
