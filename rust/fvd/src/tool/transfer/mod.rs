//! Transfer: makes one disk have what an image has, where the two differ (commit and rebase).
//!
//! Worker threads take pieces of the image in ascending order, and read and compare both disks. What differs is
//! written, in whole units. What is equal already is not written, so a transfer that was cut short is continued
//! by the next one.

mod plan;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::lock;
use super::progress::{Callback, Meter, Total};
use crate::error::{ErrorKind, Result};
use crate::process::Owned;
use crate::source::{BaseSource, Content, WritableBase, is_zero};
use crate::storage::{IoBufMut, Space};
use crate::tool::pace::Pace;

use plan::{Piece, Plan};

pub(super) use plan::Select;

/// Least bytes of each of the two buffers of a worker.
const BUFFER_LEN: u64 = 512 << 10;

/// Most bytes of a unit. Larger blocks are compared in parts.
const MAX_UNIT: u64 = 2 << 20;

const WORKERS: usize = 2;

/// What is transferred.
pub(super) struct Transfer<'a> {
    /// The image.
    pub(super) from: &'a dyn BaseSource,
    /// Which parts of it.
    pub(super) select: Select,
    /// What the parts are compared with. What lies beyond its end is written whatever it is. None: all is
    /// written.
    pub(super) than: Option<&'a dyn BaseSource>,
    /// Where they are written, at the same offsets.
    pub(super) to: &'a dyn WritableBase,
    /// Bytes that are compared and written at once, best the size of a block of the target.
    pub(super) unit: u64,
    /// Most bytes per second. None: no limit.
    pub(super) rate: Option<u64>,
}

/// Runs the transfer, and blocks until it has ended. Returns the bytes that were written or zeroed. Nothing is
/// synced.
///
/// `progress` is called on this thread; a Break cancels. Its total is the size of the image.
///
/// # Errors
///
/// The first error of a read or a write; [`ErrorKind::Cancelled`] after a Break. It says how far the
/// transfer came.
pub(super) fn transfer(transfer: &Transfer<'_>, progress: &mut Callback<'_>) -> Result<u64> {
    let size = transfer.from.len();
    let unit = transfer.unit.clamp(1, MAX_UNIT);
    let owned = Owned::new(Job {
        transfer,
        unit,
        buffer_len: BUFFER_LEN.max(unit) / unit * unit,
        plan: Mutex::new(Plan::new(size)),
        pace: transfer.rate.map(Pace::new),
        written: AtomicU64::new(0),
        meter: Meter::default(),
    });
    let total = Total {
        bytes: Some(size),
        is_final: true,
    };
    let job = owned.get()?;
    job.meter.run(WORKERS, || job.work(), progress, &mut || total);
    // Fails in a child process that the callback forked.
    let job = owned.get()?;
    if !job.meter.is_stopped() {
        job.meter.report(progress, total.bytes);
    }
    let job = owned.get()?;
    let done = job.meter.done();
    job.meter.outcome().map_err(|error| match error.kind() {
        ErrorKind::Cancelled => {
            error.with_context(ErrorKind::Cancelled, &format!("Stopped after {done} of {size} bytes"))
        }
        _ => error,
    })?;
    Ok(job.written.load(Ordering::Relaxed))
}

struct Job<'a> {
    transfer: &'a Transfer<'a>,
    unit: u64,
    /// Bytes of a buffer, whole units.
    buffer_len: u64,
    plan: Mutex<Plan>,
    pace: Option<Pace>,
    written: AtomicU64,
    meter: Meter,
}

/// What has to be done with a run of units.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Keep,
    Zero,
    Write,
}

impl Job<'_> {
    /// The main function of a worker. Returns when nothing is left, or when the job was stopped.
    fn work(&self) {
        if let Err(error) = self.transfer_pieces() {
            self.meter.fail(error);
        }
    }

    fn transfer_pieces(&self) -> Result<()> {
        while !self.meter.is_stopped() {
            let next = lock(&self.plan).next(self.transfer, self.buffer_len, &self.meter);
            let Some(piece) = next.map_err(|error| error.during("look up"))? else {
                return Ok(());
            };
            self.one(&piece)?;
            self.meter.add(piece.len);
        }
        Ok(())
    }

    fn one(&self, piece: &Piece) -> Result<()> {
        if piece.content == Content::Zero {
            return self.zero(piece.offset, piece.len);
        }
        if let Some(pace) = &self.pace {
            pace.wait(piece.len, &|| self.meter.is_stopped());
        }
        let from = self.fill(self.transfer.from, piece)?.freeze();
        let than = match self.transfer.than {
            Some(than) if piece.other == Some(Content::Data) => Some(self.fill(than, piece)?),
            _ => None,
        };
        let is_known_zero = piece.other == Some(Content::Zero);
        let step = |unit: &Range<usize>| {
            let new = &from[unit.clone()];
            match &than {
                Some(than) if than.as_slice()[unit.clone()] == *new => Step::Keep,
                _ if !is_zero(new) => Step::Write,
                _ if is_known_zero => Step::Keep,
                _ => Step::Zero,
            }
        };
        let mut at = 0;
        while at < from.len() && !self.meter.is_stopped() {
            let first = self.unit_at(piece, at);
            let todo = step(&first);
            let mut end = first.end;
            while end < from.len() {
                let unit = self.unit_at(piece, end);
                if step(&unit) != todo {
                    break;
                }
                end = unit.end;
            }
            self.make(todo, &from, at..end, piece.offset)?;
            at = end;
        }
        Ok(())
    }

    /// The unit of the disk in which byte `at` of the piece lies, from there to its end.
    fn unit_at(&self, piece: &Piece, at: usize) -> Range<usize> {
        let offset = piece.offset + at as u64;
        let end = (offset / self.unit + 1) * self.unit - piece.offset;
        at..end.min(piece.len) as usize
    }

    fn make(&self, step: Step, bytes: &Bytes, range: Range<usize>, start: u64) -> Result<()> {
        let (offset, len) = (start + range.start as u64, range.len() as u64);
        match step {
            Step::Keep => Ok(()),
            Step::Zero => self.zero(offset, len),
            Step::Write => {
                // Not given up half way: a stop waits for the end of a write.
                let written = pollster::block_on(self.transfer.to.write(bytes.slice(range), offset));
                written.map_err(|error| error.during("write"))?;
                self.written.fetch_add(len, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        let zeroed = pollster::block_on(self.transfer.to.write_zeroes(offset, len, Space::Free));
        zeroed.map_err(|error| error.during("write"))?;
        self.written.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn fill(&self, source: &dyn BaseSource, piece: &Piece) -> Result<IoBufMut> {
        let filled = self
            .meter
            .wait(source.read(IoBufMut::zeroed(piece.len as usize), piece.offset));
        filled.map_err(|error| error.during("read"))
    }
}
