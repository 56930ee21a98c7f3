//! The copying itself.
//!
//! Workers read batches and look for zeros in them, and write those whose turn it is: see `queue`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use pollster::block_on;

use super::plan::{Batch, Census, Input, Piece, Plan, Zeros};
use super::queue::{Filled, Queue, Task};
use super::sink::Sink;
use crate::error::Result;
use crate::process::Owned;
use crate::source::{BaseSource, Content, Part, parts};
use crate::storage::IoBufMut;
use crate::tool::lock;
use crate::tool::progress::{Callback, Meter, Total};

/// Bytes of a buffer, unless zeros are searched in larger units. A worker that hands over its turn
/// wakes another one: with less in a turn, waking takes a good part of the time.
const BUFFER_LEN: u64 = 2 << 20;

/// Buffers beside one for each worker: how far is read ahead.
const BUFFERS_AHEAD: usize = 2;

/// Bytes written between two calls of [`Sink::start_writeback`].
const SETTLE_LEN: u64 = 16 << 20;

/// Most workers: memory is bounded by their buffers, and a target serialises its writers anyway.
const MAX_WORKERS: usize = 4;

/// Zeros written where the source has none stored.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Copies all of `input` to `sink`, and gives the bytes of the disk, which a stream has not told
/// beforehand.
pub(super) fn copy(
    input: Input<'_>,
    sink: &dyn Sink,
    zeros: Zeros,
    out_of_order: bool,
    callback: &mut Callback<'_>,
) -> Result<u64> {
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
        // A stream does not tell.
        None => Total {
            bytes: None,
            is_final: true,
        },
    };
    job.meter.run(workers, || job.work(), callback, &mut count);
    // Fails in a process that the callback has forked.
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
    // In order, one writes and the others have the next batches ready.
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
    queue: Queue,
    /// Bytes of all buffers that were written.
    written: AtomicU64,
    meter: Meter,
}

impl Job<'_> {
    /// One worker, until nothing is left or somebody failed.
    fn work(&self) {
        let _alarm = Alarm(self);
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
                    if before / SETTLE_LEN != (before + len) / SETTLE_LEN {
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
            let behind = rest.split_off(piece.len as usize);
            let filled = block_on(source.read(rest, piece.offset))?;
            whole = Some(match whole {
                None => filled,
                Some(front) => front.join(filled),
            });
            rest = behind;
        }
        Ok(match whole {
            None => rest,
            Some(front) => front.join(rest),
        })
    }

    /// The parts of every piece of data, one behind the other. Empty where nothing is searched.
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

    /// A run that the source knows to be zeros, and that the plan did not skip.
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

/// Wakes those that wait for a worker which panicked.
struct Alarm<'a, 'j>(&'a Job<'j>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.meter.stop();
            self.0.queue.wake();
        }
    }
}

#[cfg(test)]
mod tests;
