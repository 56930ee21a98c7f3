//! The plan of a copy: cuts the runs of the source into batches that fit into a buffer.

use std::fs::File;

use pollster::block_on;

use super::stream::read_full;
use crate::error::Result;
use crate::source::{BaseSource, Content};
use crate::storage::IoBufMut;

/// The most pieces of a batch. This bounds its memory if the source is fragmented.
const MAX_PIECES: usize = 512;

/// The most bytes of zeros in one piece if they are written as data. The limit bounds the time for one batch.
const ZEROS_WRITTEN: u64 = 16 << 20;
/// The most bytes of zeros in one piece if the target makes the zeros itself.
const ZEROS_MADE: u64 = 1 << 30;

/// How zeros are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zeros {
    /// Zeros are skipped, because the target reads as zeros where nothing is written. Zeros are searched in
    /// units of `unit` bytes.
    Skip { unit: u64 },
    /// [`Sink::zero`](super::sink::Sink::zero) makes the zeros, because the target may hold other data. Zeros
    /// are searched in units of `unit` bytes.
    Make { unit: u64 },
    /// Zeros are written like other data. They are not searched.
    Write,
}

impl Zeros {
    /// Bytes of a unit in which zeros are searched. `None` if they are not searched.
    pub(super) fn unit(self) -> Option<u64> {
        match self {
            Self::Skip { unit } | Self::Make { unit } => Some(unit),
            Self::Write => None,
        }
    }

    fn longest(self) -> u64 {
        match self {
            Self::Write => ZEROS_WRITTEN,
            _ => ZEROS_MADE,
        }
    }
}

/// A range of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Byte offset on the disk.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u64,
    /// Pieces of data are read into the buffer without gaps. Pieces of zeros take no room in it.
    pub(super) content: Content,
}

/// The work for one buffer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The number of the batch, counted from 0 in the order of the disk.
    pub(super) ticket: u64,
    /// The pieces, in ascending order of their offsets.
    pub(super) pieces: Vec<Piece>,
    /// Bytes of all data pieces together.
    pub(super) data_len: usize,
    /// Whether the data is already in the buffer, because it came from a stream.
    pub(super) filled: bool,
}

impl Batch {
    fn push(&mut self, offset: u64, len: u64, content: Content) {
        if content == Content::Data {
            self.data_len += len as usize;
        }
        match self.pieces.last_mut() {
            Some(last) if last.content == content && last.offset + last.len == offset => {
                last.len += len;
            }
            _ => self.pieces.push(Piece { offset, len, content }),
        }
    }
}

/// The source of a copy.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// A disk with random access. Several threads read it.
    Disk(&'a dyn BaseSource),
    /// A pipe. It is read in order up to its end.
    Stream(&'a File),
}

/// The batches of a disk, in ascending order.
pub(super) struct Plan<'a> {
    input: Input<'a>,
    zeros: Zeros,
    /// Byte offset of the next batch.
    at: u64,
    /// End and content of the run that was looked up last.
    run: Option<(u64, Content)>,
    next_ticket: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(input: Input<'a>, zeros: Zeros) -> Self {
        Self {
            input,
            zeros,
            at: 0,
            run: None,
            next_ticket: 0,
        }
    }

    /// Bytes of the disk that are already in batches or skipped.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next batch, with data for at most `buf.len()` bytes. A stream fills `buf` at once. `None` at the
    /// end.
    pub(super) fn next(&mut self, buf: &mut IoBufMut, stopped: &dyn Fn() -> bool) -> Result<Option<Batch>> {
        let mut batch = Batch {
            ticket: self.next_ticket,
            ..Batch::default()
        };
        match self.input {
            Input::Disk(source) => self.fill_batch(&mut batch, source, buf.len() as u64)?,
            Input::Stream(file) => {
                let len = read_full(file, buf.as_mut_slice(), stopped)?;
                if len > 0 {
                    batch.push(self.at, len as u64, Content::Data);
                    batch.filled = true;
                    self.at += len as u64;
                }
            }
        }
        if batch.pieces.is_empty() {
            return Ok(None);
        }
        self.next_ticket += 1;
        Ok(Some(batch))
    }

    fn fill_batch(&mut self, batch: &mut Batch, source: &dyn BaseSource, buffer_len: u64) -> Result<()> {
        while self.at < source.len() && batch.pieces.len() < MAX_PIECES {
            let (run_end, content) = self.run(source)?;
            let left = run_end - self.at;
            let len = match content {
                Content::Zero if matches!(self.zeros, Zeros::Skip { .. }) => {
                    self.at = run_end;
                    continue;
                }
                Content::Zero => left.min(self.zeros.longest()),
                Content::Data => {
                    let room = buffer_len - batch.data_len as u64;
                    self.cut(left, room, buffer_len)
                }
            };
            if len == 0 {
                break;
            }
            batch.push(self.at, len, content);
            self.at += len;
            if len < left {
                break;
            }
        }
        Ok(())
    }

    /// How many of the `left` bytes of a run go into a buffer with `room` bytes free. A cut is made at a
    /// multiple of the buffer length if possible, so that batches are aligned to chunks and large pages of
    /// the target.
    fn cut(&self, left: u64, room: u64, buffer_len: u64) -> u64 {
        if left <= room {
            return left;
        }
        let boundary = (self.at + room) / buffer_len * buffer_len;
        if boundary > self.at { boundary - self.at } else { room }
    }

    /// End and content of the run at the current position.
    fn run(&mut self, source: &dyn BaseSource) -> Result<(u64, Content)> {
        if let Some((end, content)) = self.run
            && end > self.at
        {
            return Ok((end, content));
        }
        let run = block_on(source.status(self.at, source.len() - self.at))?;
        let end = (self.at + run.len).min(source.len());
        self.run = Some((end, run.content));
        Ok((end, run.content))
    }
}

/// Counts the bytes that a conversion will copy, for progress reports.
pub(super) struct Census<'a> {
    source: &'a dyn BaseSource,
    zeros: Zeros,
    at: u64,
    counted: u64,
}

impl<'a> Census<'a> {
    pub(super) fn new(source: &'a dyn BaseSource, zeros: Zeros) -> Self {
        Self {
            source,
            zeros,
            at: 0,
            counted: 0,
        }
    }

    /// Counts one run. Returns false at the end. An error also ends the count, because the copy will report
    /// it.
    pub(super) fn step(&mut self) -> bool {
        let left = self.source.len() - self.at;
        if left == 0 || self.zeros == Zeros::Write {
            return false;
        }
        let Ok(run) = block_on(self.source.status(self.at, left)) else {
            return false;
        };
        let len = run.len.min(left);
        self.at += len;
        if run.content == Content::Data {
            self.counted += len;
        }
        true
    }

    /// Bytes to copy. An upper bound until the end is reached.
    pub(super) fn total(&self) -> u64 {
        self.counted + (self.source.len() - self.at)
    }
}
