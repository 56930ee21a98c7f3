//! Requests, drawn at random, and the tasks that carry them out and tell the model.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use fvd::image::CacheMode;
use fvd::storage::IoBufMut;

use crate::medium::SECTOR;
use crate::model::Model;
use crate::rig::SimImage;
use crate::shape::Shape;
use crate::shared::{Guard, Id, Shared, SharedRef};

/// A request of the guest.
#[derive(Clone, Debug)]
pub enum Request {
    /// A write.
    Write {
        /// Offset on the disk in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// The number that determines the content.
        content: u64,
    },
    /// A write that is durable when it is acknowledged.
    WriteFua {
        /// Offset on the disk in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// The number that determines the content.
        content: u64,
    },
    /// A zeroing.
    Zero {
        /// Offset on the disk in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// Whether chunks keep their storage.
        no_hole: bool,
    },
    /// A discard.
    Discard {
        /// Offset on the disk in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A read. The result is compared with the model.
    Read {
        /// Offset on the disk in bytes.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A flush.
    Flush,
}

impl Request {
    /// Offset and length of what the request writes, zeroes or discards.
    #[must_use]
    pub fn written(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Write { offset, len, .. } | Self::WriteFua { offset, len, .. } | Self::Zero { offset, len, .. } => {
                Some((offset, len))
            }
            Self::Discard { offset, len } => {
                let sectors = whole_sectors(offset, len);
                Some((sectors.start, sectors.end - sectors.start))
            }
            Self::Read { .. } | Self::Flush => None,
        }
    }

    /// Whether it is a read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

/// The whole sectors within the range, as a range of bytes.
fn whole_sectors(offset: u64, len: u64) -> Range<u64> {
    let start = offset.next_multiple_of(SECTOR);
    start..((offset + len) / SECTOR * SECTOR).max(start)
}

/// The range that a discard makes zeros, and, on either side of it, the range that it may leave unchanged:
/// parts of blocks of the base.
fn discarded(image: &SimImage, offset: u64, len: u64) -> (Range<u64>, [Range<u64>; 2]) {
    let mut range = whole_sectors(offset, len);
    let geometry = image.geometry();
    let (base, block) = (geometry.base_size, geometry.block_size.max(SECTOR));
    if image.updates_base() {
        // In the base's region, such a discard changes nothing.
        range.start = range.start.max(base).min(range.end);
    }
    let Range { start, end } = range;
    let first = if start < base {
        start.next_multiple_of(block).min(base).min(end)
    } else {
        start
    };
    let last = if end < base {
        (end / block * block).max(first)
    } else {
        end
    };
    (first..last, [start..first, last..end])
}

/// Draws requests for one image.
pub struct Generator {
    shape: Shape,
    rng: fastrand::Rng,
    /// Offsets with many requests, so that requests overlap.
    hot: Vec<u64>,
    number: u64,
}

impl Generator {
    /// Requests for disks of this shape.
    #[must_use]
    pub fn new(shape: &Shape, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut hot = Vec::new();
        let base_end = shape.base_size.unwrap_or(0).next_multiple_of(SECTOR);
        for _ in 0..rng.usize(1..5) {
            let unit = if rng.bool() { shape.block_size } else { shape.chunk_size };
            hot.push(match rng.u8(..6) {
                0 => rng.u64(..shape.virtual_size),
                1 => base_end,
                _ => rng.u64(..=shape.virtual_size / unit) * unit,
            });
        }
        Self {
            shape: shape.clone(),
            rng,
            hot,
            number: 0,
        }
    }

    /// Draws a request. `model` says where writes of parts of a sector are possible at the moment.
    pub fn next(&mut self, model: &Model) -> Request {
        let kind = self.rng.u8(..100);
        if kind < 17 {
            return Request::Flush;
        }
        let (offset, len) = self.range();
        match kind {
            17..33 => Request::Read { offset, len },
            _ if model.meets_part(offset, offset + len) => Request::Read { offset, len },
            33..38 => Request::Zero {
                offset,
                len,
                no_hole: false,
            },
            38..40 => Request::Zero {
                offset,
                len,
                no_hole: true,
            },
            40..48 => self.discard(model, offset, len),
            _ => {
                self.number += 1;
                let content = self.rng.u64(..1 << 40) << 20 | self.number;
                Request::Write { offset, len, content }
            }
        }
    }

    /// A discard. Half of them cover whole chunks, if the range is not too long and `model` can predict the
    /// result.
    fn discard(&mut self, model: &Model, offset: u64, len: u64) -> Request {
        if self.rng.bool() {
            let (start, len) = self.shape.whole_chunks(offset, len, 1 << 20);
            if !model.meets_part(start, start + len) {
                return Request::Discard { offset: start, len };
            }
        }
        Request::Discard { offset, len }
    }

    fn range(&mut self) -> (u64, u64) {
        let rng = &mut self.rng;
        let size = self.shape.virtual_size;
        let unit = if self.shape.compact && rng.bool() {
            self.shape.chunk_size
        } else {
            self.shape.block_size
        };
        let longest = match rng.u8(..10) {
            0..5 => 8 * SECTOR,
            5..8 => 64 * SECTOR,
            _ => 5 * unit,
        };
        let centre = if rng.u8(..3) == 0 {
            rng.u64(..size)
        } else {
            self.hot[rng.usize(..self.hot.len())]
        };
        let len = rng.u64(1..=longest.min(size).min(160 << 10));
        let offset = centre.saturating_sub(rng.u64(..=len)).min(size - 1);
        let len = len.min(size - offset);
        if rng.u8(..8) == 0 {
            return (offset, len);
        }
        let start = offset / SECTOR * SECTOR;
        (start, (offset + len).next_multiple_of(SECTOR) - start)
    }
}

/// The bytes of a write. The content of every write, and of every sector in it, is different.
#[must_use]
pub fn content(number: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    fastrand::Rng::with_seed(number).fill(&mut bytes);
    bytes
}

/// The content number of a write of zeros.
pub const ZEROS: u64 = 0;

/// The bytes that a request writes.
fn payload(number: u64, len: u64) -> Bytes {
    if number == ZEROS {
        return Bytes::from(vec![0; len as usize]);
    }
    Bytes::from(content(number, len))
}

/// Carries out one request.
pub async fn perform(request: Request, image: Rc<SimImage>, cache: CacheMode, shared: SharedRef) {
    let world = image.file().world().clone();
    world.tell(|| format!("request   {request:?}"));
    let label = request.clone();
    let result = match request {
        Request::Write {
            offset,
            len,
            content: number,
        } => {
            let bytes = payload(number, len);
            let id = shared.borrow_mut().begin_write(offset, &bytes);
            let guard = Guard::new(&shared, Shared::fail_write, id);
            let result = image.write(bytes, offset).await;
            end_write(guard, id, cache == CacheMode::Writethrough, result)
        }
        Request::WriteFua {
            offset,
            len,
            content: number,
        } => {
            let bytes = payload(number, len);
            let id = shared.borrow_mut().begin_write(offset, &bytes);
            let guard = Guard::new(&shared, Shared::fail_write, id);
            let result = match image.write(bytes, offset).await {
                Ok(()) => image.flush().await,
                error => error,
            };
            end_write(guard, id, true, result)
        }
        Request::Zero { offset, len, no_hole } => {
            let id = shared.borrow_mut().begin_write(offset, &vec![0; len as usize]);
            let guard = Guard::new(&shared, Shared::fail_write, id);
            let result = if no_hole {
                image.write_zeroes_no_hole(offset, len).await
            } else {
                image.write_zeroes(offset, len).await
            };
            end_write(guard, id, cache == CacheMode::Writethrough, result)
        }
        Request::Discard { offset, len } => discard(&shared, &image, cache, offset, len).await,
        Request::Read { offset, len } => read(&shared, &image, offset, len).await,
        Request::Flush => {
            let id = shared.borrow_mut().begin_flush();
            let guard = Guard::new(&shared, Shared::fail_flush, id);
            let result = image.flush().await;
            if result.is_ok() {
                guard.disarm();
                shared.borrow_mut().ack_flush(id);
            }
            result
        }
    };
    world.tell(|| format!("ended     {label:?}: {result:?}"));
    if let Err(error) = result {
        shared.borrow_mut().errors.push(error);
    }
}

fn end_write(guard: Guard<'_>, id: Id, durable: bool, result: fvd::Result<()>) -> fvd::Result<()> {
    if result.is_ok() {
        let shared = guard.shared;
        guard.disarm();
        shared.borrow_mut().ack_write(id, durable);
    }
    result
}

async fn discard(shared: &SharedRef, image: &SimImage, cache: CacheMode, offset: u64, len: u64) -> fvd::Result<()> {
    let (zeros, either) = discarded(image, offset, len);
    let begin = |range: &Range<u64>| {
        let zeros = vec![0; (range.end - range.start) as usize];
        shared.borrow_mut().begin_write(range.start, &zeros)
    };
    // In the models, these writes end as failed: each sector is old or new.
    let either = either.map(|range| Guard::new(shared, Shared::fail_write, begin(&range)));
    let id = begin(&zeros);
    let guard = Guard::new(shared, Shared::fail_write, id);
    let result = image.discard(offset, len).await;
    drop(either);
    end_write(guard, id, cache == CacheMode::Writethrough, result)
}

async fn read(shared: &SharedRef, image: &SimImage, offset: u64, len: u64) -> fvd::Result<()> {
    let id = shared.borrow_mut().begin_read(offset, len);
    let guard = Guard::new(shared, Shared::fail_read, id);
    let buf = image.read(IoBufMut::zeroed(len as usize), offset).await?;
    guard.disarm();
    let mut shared = shared.borrow_mut();
    if let Err(mismatch) = shared.end_read(id, buf.as_slice()) {
        let text = format!("a read of {len} bytes at {offset}: {}", mismatch.detail);
        shared.wrong.get_or_insert(text);
    }
    Ok(())
}
