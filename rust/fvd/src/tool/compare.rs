//! Compare: do two disks hold the same?
//!
//! Workers take pieces of both disks in ascending order, read and compare them. Pieces that are
//! known to be zeros on both sides are skipped, those known to be zeros on one side are read on the
//! other only. The difference with the lowest offset counts.

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

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same, as far as the shorter disk goes; the rest of the longer one reads as zeros.
    Identical,
    /// Bytes differ in the sector at `offset`, and nowhere before it.
    ContentDiffers {
        /// Bytes; a multiple of 512.
        offset: u64,
    },
    /// Strict only: one of the disks has more bytes.
    SizeDiffers,
    /// Strict only: from `offset` on, one disk holds something (or zeros) where the other
    /// holds nothing, or data.
    StatusDiffers {
        /// Bytes.
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

/// What a comparison was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareStep {
    /// Asking where data is.
    Status,
    /// Reading, or reporting progress.
    Read,
}

/// A comparison that failed.
#[derive(Clone, Debug)]
pub struct CompareError {
    /// What it was doing.
    pub step: CompareStep,
    /// Why.
    pub error: Error,
}

/// Compares two disks, on this thread and others.
///
/// The longer disk may have zeros where the shorter one has nothing. `strict`: sizes must be
/// equal, and so must what is known of every range without reading it: whether a layer
/// holds it, and whether it is a hole or zeros.
///
/// `progress` is called on this thread; a Break cancels. Its total is that of the longer disk.
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
    // Fails in a process that the callback has forked.
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
    /// The difference with the lowest offset so far.
    found: Mutex<Comparison>,
    failed_step: Mutex<CompareStep>,
    meter: Meter,
}

/// What to compare next.
struct Plan {
    at: u64,
    end: u64,
    /// For each side the last run that was asked for.
    known: [Option<Known>; 2],
}

/// What a side holds up to `end`.
#[derive(Clone, Copy)]
struct Known {
    end: u64,
    present: bool,
    content: Content,
}

/// A range to compare. `zero`: which sides are known to be zeros.
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

    /// Nothing behind `difference` matters any more.
    fn found(&self, difference: Comparison) {
        let mut found = lock(&self.found);
        if difference.offset() < found.offset() {
            *found = difference;
        }
    }

    /// The next piece that has to be read. None: there is none, or a difference was found.
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

    /// Where in the piece the sides differ first, and the buffers.
    fn first_difference(&self, piece: &Piece, bufs: [IoBufMut; 2]) -> Result<(Option<usize>, [IoBufMut; 2])> {
        let [a, b] = bufs;
        let len = piece.len as usize;
        if piece.zero[0] {
            let b = fill(self.sides[1], b, piece)?;
            return Ok((first_nonzero(&b.as_slice()[..len]), [a, b]));
        }
        let a = fill(self.sides[0], a, piece)?;
        if piece.zero[1] {
            return Ok((first_nonzero(&a.as_slice()[..len]), [a, b]));
        }
        let b = fill(self.sides[1], b, piece)?;
        let difference = first_mismatch(&a.as_slice()[..len], &b.as_slice()[..len]);
        Ok((difference, [a, b]))
    }
}

impl Plan {
    /// The end of the run of a side at the current position, and what it is. Behind the end of a
    /// disk there are zeros that nobody holds.
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

/// Reads the piece into the front of the buffer.
fn fill(source: &dyn BaseSource, mut buf: IoBufMut, piece: &Piece) -> Result<IoBufMut> {
    let rest = buf.split_off(piece.len as usize);
    let filled = block_on(source.read(buf, piece.offset))?;
    Ok(filled.join(rest))
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
