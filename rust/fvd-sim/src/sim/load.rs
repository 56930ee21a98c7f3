//! Requests, drawn at random, before anything runs.

use fvd::image::DetectZeroes;

use crate::medium::SECTOR;
use crate::rig::landmarks;
use crate::shape::Shape;
use crate::workload::{Request, ZEROS};

/// Bytes that the requests of a session move at most before they get small.
const BUDGET: u64 = 4 << 20;
/// Bytes of a request at most.
const LONGEST: u64 = 2 << 20;

/// Draws requests for one session.
pub struct Load<'a> {
    shape: &'a Shape,
    rng: fastrand::Rng,
    /// Places where much happens, so that requests meet.
    hot: Vec<u64>,
    is_long: bool,
    flush_percent: u8,
    /// Chunks are freed. Where they are not, more of what is flushed goes through the journal.
    frees: bool,
    /// Some of the writes are of zeros.
    detects_zeroes: bool,
    budget: u64,
}

impl<'a> Load<'a> {
    /// Requests for a disk of this shape; `long`: up to five chunks. `image_seed` is that of the image.
    #[must_use]
    pub fn new(shape: &'a Shape, image_seed: u64, is_long: bool, mut rng: fastrand::Rng) -> Self {
        let landmarks = landmarks(shape, image_seed);
        let hot = (0..rng.usize(1..6)).map(|_| landmarks[rng.usize(..landmarks.len())]);
        Self {
            shape,
            hot: hot.collect(),
            is_long,
            flush_percent: [1, 1, 4, 12, 30][rng.usize(..5)],
            frees: rng.u8(..3) == 0,
            detects_zeroes: shape.detect_zeroes != DetectZeroes::Off,
            budget: BUDGET,
            rng,
        }
    }

    /// A request.
    pub fn request(&mut self) -> Request {
        let kind = self.rng.u8(..100);
        if kind < self.flush_percent {
            return Request::Flush;
        }
        let (offset, len) = self.range();
        let content = match self.rng.u64(1..) {
            number if self.detects_zeroes && number.is_multiple_of(4) => ZEROS,
            number => number,
        };
        match self.rng.u8(..100) {
            0..30 => Request::Read { offset, len },
            30..38 => Request::Zero {
                offset,
                len,
                no_hole: !self.frees || kind.is_multiple_of(4),
            },
            38..48 if self.frees => self.discard(offset, len),
            48..52 => Request::WriteFua { offset, len, content },
            _ => Request::Write { offset, len, content },
        }
    }

    /// Of whole chunks in two of three cases, where that is not too much.
    fn discard(&mut self, offset: u64, len: u64) -> Request {
        let (offset, len) = match self.rng.u8(..3) {
            0 => (offset, len),
            _ => self.shape.whole_chunks(offset, len, LONGEST),
        };
        Request::Discard { offset, len }
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
            // A little apart, so that they meet in a block more often than in a sector.
            1 | 2 => (self.hot[rng.usize(..self.hot.len())] + rng.u64(..2 * self.shape.block_size)).min(size - 1),
            _ => self.hot[rng.usize(..self.hot.len())],
        };
        let len = rng.u64(1..=longest.min(size));
        let offset = centre.saturating_sub(rng.u64(..=len)).min(size - 1);
        let len = len.min(size - offset);
        self.budget = self.budget.saturating_sub(len);
        if rng.u8(..8) == 0 {
            return (offset, len);
        }
        let start = offset / SECTOR * SECTOR;
        (start, (offset + len).next_multiple_of(SECTOR) - start)
    }
}
