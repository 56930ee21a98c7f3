//! The copy loop of a conversion.
//!
//! Worker threads read batches, search them for zeros and write them. The queue (module `queue`) decides
//! which worker reads and which one writes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;

use super::plan::{Batch, Census, Input, Piece, Plan, Zeros};
use super::queue::{Filled, Queue, Task};
use super::sink::Sink;
use crate::error::Result;
use crate::process::Owned;
use crate::source::{BaseSource, Content, Part, parts};
use crate::storage::IoBufMut;
use crate::tool::lock;
use crate::tool::pace::Pace;
use crate::tool::progress::{Callback, Meter, Total};

/// Bytes of a buffer, unless zeros are searched in larger units. After each batch the writing worker wakes
/// another one. With smaller buffers these wake-ups take a large part of the time.
const BUFFER_LEN: u64 = 2 << 20;

/// Number of buffers for reading ahead, in addition to one per worker.
const BUFFERS_AHEAD: usize = 2;

/// Bytes written between two calls of [`Sink::start_writeback`].
const WRITEBACK_LEN: u64 = 16 << 20;

/// The most workers. This bounds the memory for buffers. More would not help much, because a target
/// serializes writes.
const MAX_WORKERS: usize = 4;

/// Source buffer for zeros that are written as data.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// How to copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    zeros: Zeros,
    out_of_order: bool,
    /// Most bytes of data per second.
    rate: Option<u64>,
}

impl How {
    pub(super) fn new(zeros: Zeros, out_of_order: bool, rate: Option<u64>) -> Self {
        Self {
            zeros,
            out_of_order,
            rate,
        }
    }
}

/// Copies all of `input` to `sink`. Returns the size of the disk in bytes, which for a stream is not known in
/// advance.
pub(super) fn copy(input: Input<'_>, sink: &dyn Sink, how: How, callback: &mut Callback<'_>) -> Result<u64> {
    let How {
        zeros,
        out_of_order,
        rate,
    } = how;
    let workers = workers(out_of_order);
    let buffer_len = BUFFER_LEN.max(zeros.unit().unwrap_or(0));
    let owned = Owned::new(Job {
        plan: Mutex::new(Plan::new(input, zeros)),
        source: match input {
            Input::Disk(source) => Some(source),
            Input::Stream(_) => None,
        },
        sink,
        zeros,
        pace: rate.map(Pace::new),
        written: AtomicU64::new(0),
        queue: Queue::new(workers + BUFFERS_AHEAD, buffer_len, !out_of_order),
        meter: Meter::default(),
    });
    let job = owned.get()?;
    let mut census = job.source.map(|source| Census::new(source, zeros));
    let mut count = || match &mut census {
        Some(census) => {
            let is_final = !census.step();
            let bytes = Some(census.total());
            Total { bytes, is_final }
        }
        // The length of a stream is unknown.
        None => Total {
            bytes: None,
            is_final: true,
        },
    };
    job.meter.run(workers, || job.work(), callback, &mut count);
    // Fails in a child process that the callback forked.
    let job = owned.get()?;
    if !job.meter.is_stopped() {
        let total = job.source.map(|_| job.meter.done());
        job.meter.report(callback, total);
    }
    let job = owned.get()?;
    job.meter.outcome()?;
    Ok(lock(&job.plan).position())
}

fn workers(out_of_order: bool) -> usize {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    // In order, only one worker writes, and the others read the next batches.
    if out_of_order {
        cores.clamp(2, MAX_WORKERS)
    } else {
        cores.clamp(2, 3)
    }
}

struct Job<'a> {
    plan: Mutex<Plan<'a>>,
    source: Option<&'a dyn BaseSource>,
    sink: &'a dyn Sink,
    zeros: Zeros,
    pace: Option<Pace>,
    queue: Queue,
    /// Bytes of all buffers that were written, including their unused parts.
    written: AtomicU64,
    meter: Meter,
}

impl Job<'_> {
    /// The main function of a worker. Returns when nothing is left, or when the job was stopped.
    fn work(&self) {
        let _wake = WakeOnPanic(self);
        if let Err(error) = self.copy_batches() {
            self.meter.fail(error);
        }
        if self.meter.is_stopped() {
            self.queue.wake();
        }
    }

    fn copy_batches(&self) -> Result<()> {
        let stopped = || self.meter.is_stopped();
        loop {
            match self.queue.next(&stopped) {
                Task::Done => return Ok(()),
                Task::Read(mut buf) => {
                    let Some(batch) = lock(&self.plan)
                        .next(&mut buf, &stopped)
                        .map_err(|error| error.during("read"))?
                    else {
                        self.queue.end(buf);
                        continue;
                    };
                    if let Some(pace) = &self.pace {
                        pace.wait(data_of(&batch).map(|piece| piece.len).sum(), &stopped);
                    }
                    if !batch.filled {
                        buf = self.read(&batch, buf).map_err(|error| error.during("read"))?;
                    }
                    let found = self.search(&batch, buf.as_slice());
                    self.queue.filled(batch, found, buf);
                }
                Task::Write(filled) => {
                    self.write(&filled, &stopped).map_err(|error| error.during("write"))?;
                    let len = filled.bytes.len() as u64;
                    self.queue.written(filled);
                    let before = self.written.fetch_add(len, Ordering::Relaxed);
                    if before / WRITEBACK_LEN != (before + len) / WRITEBACK_LEN {
                        self.sink.start_writeback();
                    }
                }
            }
        }
    }

    fn read(&self, batch: &Batch, mut rest: IoBufMut) -> Result<IoBufMut> {
        let source = self.source.expect("a stream fills the buffer in the plan");
        let mut whole: Option<IoBufMut> = None;
        for piece in data_of(batch) {
            let remaining = rest.split_off(piece.len as usize);
            let filled = self.meter.wait(source.read(rest, piece.offset))?;
            whole = Some(match whole {
                None => filled,
                Some(front) => front.join(filled),
            });
            rest = remaining;
        }
        Ok(match whole {
            None => rest,
            Some(front) => front.join(rest),
        })
    }

    /// The parts of all pieces of data, in order. Empty if zeros are not searched.
    fn search(&self, batch: &Batch, buf: &[u8]) -> Vec<Part> {
        let Some(unit) = self.zeros.unit() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut at = 0;
        for piece in data_of(batch) {
            let end = at + piece.len as usize;
            let parts = parts(&buf[at..end], piece.offset, unit);
            found.extend(parts.into_iter().map(|part| Part {
                range: at + part.range.start..at + part.range.end,
                ..part
            }));
            at = end;
        }
        found
    }

    fn write(&self, filled: &Filled, stopped: &dyn Fn() -> bool) -> Result<()> {
        let Filled { batch, found, bytes } = filled;
        let mut at = 0;
        let mut found = found.iter();
        for piece in &batch.pieces {
            if piece.content == Content::Zero {
                self.write_hole(piece, stopped)?;
                continue;
            }
            let end = at + piece.len as usize;
            if self.zeros == Zeros::Write {
                self.sink.write(bytes.slice(at..end), piece.offset, stopped)?;
            }
            let start = at;
            while self.zeros != Zeros::Write && at < end {
                let part = found.next().expect("the parts cover all data");
                let offset = piece.offset + (at - start) as u64;
                self.write_part(part, offset, bytes, stopped)?;
                at = part.range.end;
            }
            at = end;
            self.meter.add(piece.len);
        }
        Ok(())
    }

    fn write_part(&self, part: &Part, offset: u64, bytes: &Bytes, stopped: &dyn Fn() -> bool) -> Result<()> {
        if !part.zero {
            return self.sink.write(bytes.slice(part.range.clone()), offset, stopped);
        }
        match self.zeros {
            Zeros::Make { .. } => self.sink.zero(offset, part.range.len() as u64),
            Zeros::Skip { .. } | Zeros::Write => Ok(()),
        }
    }

    /// Writes a run that the source knows to be zeros, and that the plan did not skip.
    fn write_hole(&self, piece: &Piece, stopped: &dyn Fn() -> bool) -> Result<()> {
        if self.zeros != Zeros::Write {
            return self.sink.zero(piece.offset, piece.len);
        }
        let mut done = 0;
        while done < piece.len && !stopped() {
            let len = (ZEROS.len() as u64).min(piece.len - done);
            let zeros = Bytes::from_static(&ZEROS[..len as usize]);
            self.sink.write(zeros, piece.offset + done, stopped)?;
            self.meter.add(len);
            done += len;
        }
        Ok(())
    }
}

fn data_of(batch: &Batch) -> impl Iterator<Item = &Piece> {
    let pieces = batch.pieces.iter();
    pieces.filter(|piece| piece.content == Content::Data)
}

/// Stops the job and wakes all workers if this worker panics. Otherwise they would wait for it forever.
struct WakeOnPanic<'a, 'j>(&'a Job<'j>);

impl Drop for WakeOnPanic<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.meter.stop();
            self.0.queue.wake();
        }
    }
}

#[cfg(test)]
mod tests;
