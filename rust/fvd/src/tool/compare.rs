//! Compare: whether two disks have the same content.
//!
//! Worker threads take pieces of both disks in ascending order, read them and compare them. A piece that is
//! known to be zeros on both sides is skipped. A piece that is known to be zeros on one side is only read on
//! the other side. The difference with the lowest offset is the result.

use std::cmp::Ordering;
use std::sync::Mutex;

use pollster::block_on;

use super::lock;
use super::progress::{Callback, Meter, Total};
use crate::error::{Error, Result};
use crate::format::SECTOR;
use crate::process::Owned;
use crate::source::{BaseSource, Content, Run, is_zero};
use crate::storage::IoBufMut;

/// Bytes of each of the two buffers of a worker.
const BUFFER_LEN: u64 = 512 << 10;

const WORKERS: usize = 2;

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The disks are equal up to the end of the shorter one, and the rest of the longer one reads as zeros.
    Identical,
    /// The sector at `offset` is the first one with different bytes.
    ContentDiffers {
        /// Byte offset, a multiple of 512.
        offset: u64,
    },
    /// Strict mode only: the disks have different sizes.
    SizeDiffers,
    /// Strict mode only: at `offset`, one disk is present where the other is not, or one disk is known to be
    /// zeros where the other may hold data.
    StatusDiffers {
        /// Byte offset.
        offset: u64,
    },
}

impl Comparison {
    fn offset(self) -> u64 {
        match self {
            Self::ContentDiffers { offset } | Self::StatusDiffers { offset } => offset,
            Self::Identical | Self::SizeDiffers => u64::MAX,
        }
    }
}

/// The step of a comparison that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareStep {
    /// The lookup of the status of a range.
    Status,
    /// A read, or the progress callback.
    Read,
}

/// A comparison that failed.
#[derive(Clone, Debug)]
pub struct CompareError {
    /// The step that failed.
    pub step: CompareStep,
    /// The reason.
    pub error: Error,
}

/// Compares two disks with worker threads, and blocks until they have ended.
///
/// After the end of the shorter disk, the longer one must read as zeros. `strict`: the sizes must be equal,
/// and also the status of every range: whether a layer holds it, and whether it is known to be zeros.
///
/// `progress` is called on this thread; a Break cancels. Its total is the size of the longer disk.
///
/// # Errors
///
/// The first error of a lookup or a read; [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) after a
/// Break.
pub fn compare(
    a: &dyn BaseSource,
    b: &dyn BaseSource,
    strict: bool,
    progress: &mut Callback<'_>,
) -> Result<Comparison, CompareError> {
    if strict && a.len() != b.len() {
        return Ok(Comparison::SizeDiffers);
    }
    let end = a.len().max(b.len());
    let owned = Owned::new(Job {
        sides: [a, b],
        strict,
        plan: Mutex::new(Plan {
            at: 0,
            end,
            known: [None, None],
        }),
        found: Mutex::new(Comparison::Identical),
        failed_step: Mutex::new(CompareStep::Read),
        meter: Meter::default(),
    });
    let forked = |error| CompareError {
        step: CompareStep::Read,
        error,
    };
    let job = owned.get().map_err(forked)?;
    let total = Total {
        bytes: Some(end),
        is_final: true,
    };
    job.meter.run(WORKERS, || job.work(), progress, &mut || total);
    // Fails in a child process that the callback forked.
    let job = owned.get().map_err(forked)?;
    if !job.meter.is_stopped() {
        job.meter.report(progress, total.bytes);
    }
    let job = owned.get().map_err(forked)?;
    job.meter.outcome().map_err(|error| {
        let step = *lock(&job.failed_step);
        let op = match step {
            CompareStep::Status => "look up",
            CompareStep::Read => "read",
        };
        CompareError {
            step,
            error: error.during(op),
        }
    })?;
    Ok(*lock(&job.found))
}

struct Job<'a> {
    sides: [&'a dyn BaseSource; 2],
    strict: bool,
    plan: Mutex<Plan>,
    /// The difference with the lowest offset found until now.
    found: Mutex<Comparison>,
    failed_step: Mutex<CompareStep>,
    meter: Meter,
}

/// The range to compare next.
struct Plan {
    at: u64,
    end: u64,
    /// For each side, the last run that was looked up.
    known: [Option<Known>; 2],
}

/// The status of one side up to `end`.
#[derive(Clone, Copy)]
struct Known {
    end: u64,
    present: bool,
    content: Content,
}

/// A range to compare. `zero` says for each side whether it is known to be zeros.
struct Piece {
    offset: u64,
    len: u64,
    zero: [bool; 2],
}

impl Job<'_> {
    fn work(&self) {
        let mut bufs = [0, 1].map(|_| IoBufMut::zeroed(BUFFER_LEN as usize));
        while !self.meter.is_stopped() {
            let next = self.next();
            let piece = match next {
                Ok(Some(piece)) => piece,
                Ok(None) => return,
                Err(error) => {
                    *lock(&self.failed_step) = CompareStep::Status;
                    return self.meter.fail(error);
                }
            };
            match self.first_difference(&piece, bufs) {
                Ok((difference, returned)) => {
                    if let Some(at) = difference {
                        let offset = (piece.offset + at as u64) / SECTOR * SECTOR;
                        self.found(Comparison::ContentDiffers { offset });
                    }
                    bufs = returned;
                }
                Err(error) => return self.meter.fail(error),
            }
            self.meter.add(piece.len);
        }
    }

    /// Keeps `difference` if it is the one with the lowest offset.
    fn found(&self, difference: Comparison) {
        let mut found = lock(&self.found);
        if difference.offset() < found.offset() {
            *found = difference;
        }
    }

    /// The next piece that must be read. `None` at the end, or if a difference was found.
    fn next(&self) -> Result<Option<Piece>> {
        let mut plan = lock(&self.plan);
        let found_none = || *lock(&self.found) == Comparison::Identical;
        while plan.at < plan.end && found_none() && !self.meter.is_stopped() {
            let at = plan.at;
            let [a, b] = [plan.run(0, self.sides[0])?, plan.run(1, self.sides[1])?];
            if self.strict && (a.present, a.content) != (b.present, b.content) {
                self.found(Comparison::StatusDiffers { offset: at });
                return Ok(None);
            }
            let zero = [a, b].map(|known| known.content == Content::Zero);
            let mut end = a.end.min(b.end);
            if zero != [true, true] {
                end = end.min((at / BUFFER_LEN + 1) * BUFFER_LEN);
            }
            plan.at = end;
            let len = end - at;
            if zero == [true, true] {
                self.meter.add(len);
                continue;
            }
            return Ok(Some(Piece { offset: at, len, zero }));
        }
        Ok(None)
    }

    /// The offset in the piece of the first difference, and the buffers.
    fn first_difference(&self, piece: &Piece, bufs: [IoBufMut; 2]) -> Result<(Option<usize>, [IoBufMut; 2])> {
        let [a, b] = bufs;
        let len = piece.len as usize;
        if piece.zero[0] {
            let b = self.fill(self.sides[1], b, piece)?;
            return Ok((first_nonzero(&b.as_slice()[..len]), [a, b]));
        }
        let a = self.fill(self.sides[0], a, piece)?;
        if piece.zero[1] {
            return Ok((first_nonzero(&a.as_slice()[..len]), [a, b]));
        }
        let b = self.fill(self.sides[1], b, piece)?;
        let difference = first_mismatch(&a.as_slice()[..len], &b.as_slice()[..len]);
        Ok((difference, [a, b]))
    }

    /// Reads the piece into the start of the buffer.
    fn fill(&self, source: &dyn BaseSource, mut buf: IoBufMut, piece: &Piece) -> Result<IoBufMut> {
        let rest = buf.split_off(piece.len as usize);
        let filled = self.meter.wait(source.read(buf, piece.offset))?;
        Ok(filled.join(rest))
    }
}

impl Plan {
    /// End and status of the run of a side at the current position. After the end of a disk there are zeros
    /// that are not present.
    fn run(&mut self, side: usize, source: &dyn BaseSource) -> Result<Known> {
        if let Some(known) = self.known[side]
            && known.end > self.at
        {
            return Ok(known);
        }
        let run = match source.len().cmp(&self.at) {
            Ordering::Greater => block_on(source.status(self.at, source.len() - self.at))?,
            _ => Run::zeros(self.end - self.at),
        };
        let known = Known {
            end: self.at + run.len,
            present: run.present,
            content: run.content,
        };
        self.known[side] = Some(known);
        Ok(known)
    }
}

fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    if is_zero(bytes) {
        return None;
    }
    bytes.iter().position(|byte| *byte != 0)
}

fn first_mismatch(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    a.iter().zip(b).position(|(a, b)| a != b)
}
