//! What to copy next: the source's runs, cut into batches that fit a buffer.

use std::fs::File;

use pollster::block_on;

use super::stream::read_full;
use crate::error::Result;
use crate::source::{BaseSource, Content};
use crate::storage::IoBufMut;

/// Most pieces of one batch: bounds its memory however fragmented the source is.
const MAX_PIECES: usize = 512;

/// Zeros in one piece at most, where they are written and where the target makes them itself: the
/// longest that nobody hears of progress.
const ZEROS_WRITTEN: u64 = 16 << 20;
const ZEROS_MADE: u64 = 1 << 30;

/// What becomes of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zeros {
    /// The target reads as zeros where nothing is written. `unit`: bytes judged at once.
    Skip { unit: u64 },
    /// The target holds something else: it is told to make zeros.
    Make { unit: u64 },
    /// They are data like any other: nothing is searched, everything is written.
    Write,
}

impl Zeros {
    /// Bytes judged at once.
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
    /// Bytes from the start of the disk.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) len: u64,
    /// Data is read into the buffer, one piece behind the other; zeros are not.
    pub(super) content: Content,
}

/// What one worker copies with one buffer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Its place in the order of all batches.
    pub(super) ticket: u64,
    /// Ascending.
    pub(super) pieces: Vec<Piece>,
    /// Bytes of the buffer that are filled with data.
    pub(super) data_len: usize,
    /// Whether the data is in the buffer already.
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

/// Where data comes from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// A disk, read by any number of threads.
    Disk(&'a dyn BaseSource),
    /// A pipe, read up to its end.
    Stream(&'a File),
}

/// Hands out batches in ascending order.
pub(super) struct Plan<'a> {
    input: Input<'a>,
    zeros: Zeros,
    /// Next byte of the disk.
    at: u64,
    /// The status of `at..end` is known.
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

    /// Bytes of the disk that have been handed out or skipped.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next batch for `buf`, which a stream fills at once. None: there is nothing more.
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

    /// Bytes of a run of `left` that go into a buffer with `room`: as far as a multiple of the
    /// buffer's length, so that batches agree with chunks and large pages of the target.
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

/// Counts the bytes that a conversion will copy.
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

    /// Counts one run; false at the end. An error ends it too: the copy meets it as well.
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

    /// Bytes to copy; an upper bound until the end is reached.
    pub(super) fn total(&self) -> u64 {
        self.counted + (self.source.len() - self.at)
    }
}
