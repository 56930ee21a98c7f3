//! A step of prefetch: reads without any lock, then stores what is still missing.

use std::future::Future;
use std::ops::Range;
use std::slice;

use rangemap::RangeSet;

use super::account::{Amount, len_of};
use super::direction::Direction;
use super::machine::Fault;
use super::prefetch::Prefetch;
use super::waits::Goal;
use crate::error::Result;
use crate::image::{BaseCopy, CopyData, Part, StoreError, Watch};
use crate::remote::{Urgency, with_urgency};
use crate::source::Content;
use crate::storage::{IoBufMut, Storage};

/// A range that one slot works on. Dropping it ends the step.
pub(super) struct Step<'a, S: Storage> {
    prefetch: &'a Prefetch<'a, S>,
    /// Whole blocks, in bytes of the disk, without the parts that are stored.
    bytes: Range<u64>,
    kind: Kind,
    /// Belongs to the first ranges.
    first: bool,
}

/// How a step is moved.
pub(super) enum Kind {
    /// Read and stored at once.
    Whole,
    /// Known zeros: not read.
    Zeros,
    /// One block, part by part. It is published with the last part. The watch is that of the part before.
    Parts(Option<Watch>),
}

/// What was read for a step, or for a part of it.
pub(super) struct Fetched {
    bytes: Range<u64>,
    data: CopyData,
    /// Which ranges were read from the base. The rest are known zeros.
    read: RangeSet<u64>,
}

/// What was stored.
pub(super) enum Stored {
    /// A part of the block. More parts follow.
    Part(Amount),
    /// The step, or the last part of it.
    All(Amount),
    /// Nothing: another task has stored the block.
    Local,
    /// Nothing: the guest wrote to the block meanwhile. Its parts must be stored again.
    Disturbed,
}

impl<'a, S: Storage> Step<'a, S> {
    /// The caller has counted it with [`Work::begin`](super::work::Work::begin).
    pub(super) fn new(prefetch: &'a Prefetch<'a, S>, bytes: Range<u64>, kind: Kind, first: bool) -> Self {
        Self {
            prefetch,
            bytes,
            kind,
            first,
        }
    }
}

impl<S: Storage> Drop for Step<'_, S> {
    fn drop(&mut self) {
        self.prefetch.shared().work.end(self.first);
        self.prefetch.ended.notify(usize::MAX);
    }
}

impl<S: Storage> Prefetch<'_, S> {
    /// Reads `step`, or its next part, from the base.
    pub(super) async fn fetch(&self, step: &Step<'_, S>) -> Result<Fetched, Fault> {
        let bytes = step.bytes.clone();
        match step.kind {
            Kind::Whole => self.read(bytes, step.first).await,
            Kind::Parts(_) => {
                let end = bytes.end.min(bytes.start + self.piece_len());
                self.read(bytes.start..end, step.first).await
            }
            Kind::Zeros => {
                self.admitted(Goal::Move).await?;
                Ok(Fetched {
                    bytes,
                    data: CopyData::Zeros,
                    read: RangeSet::new(),
                })
            }
        }
    }

    /// Stores what was fetched of `step`.
    pub(super) async fn store(&self, step: &mut Step<'_, S>, fetched: Fetched) -> Result<Stored, Fault> {
        let Fetched { bytes, data, read } = fetched;
        let blocks = self.image.blocks_of(&bytes);
        let len = len_of(&read);
        let Kind::Parts(watch) = &mut step.kind else {
            let store = self.image.store_copy(BaseCopy { blocks, data });
            let stored = self.write(len, store).await?;
            return Ok(Stored::All(Amount::of(&stored, &read)));
        };
        let amount = Amount::of(slice::from_ref(&bytes), &read);
        step.bytes.start = bytes.end;
        let store = self.image.store_part(blocks.start, bytes, data, *watch);
        match self.write(len, store).await? {
            Part::Local => Ok(Stored::Local),
            Part::Disturbed => Ok(Stored::Disturbed),
            Part::Stored(_) if step.bytes.is_empty() => Ok(Stored::All(amount)),
            Part::Stored(next) => {
                *watch = Some(next);
                Ok(Stored::Part(amount))
            }
        }
    }

    /// Reads from the base, except what are known zeros. `first`: a profile names it.
    async fn read(&self, bytes: Range<u64>, first: bool) -> Result<Fetched, Fault> {
        let urgency = if first { Urgency::Scattered } else { Urgency::Background };
        let _announced = first.then(|| self.image.announce(&bytes));
        let failures = self.shared().backoff.failures();
        let base = |error| Fault::Base { error, failures };
        let mut done = IoBufMut::zeroed((bytes.end - bytes.start) as usize);
        let mut rest = done.split_off(0);
        let mut at = bytes.start;
        let mut were_read = RangeSet::new();
        while at < bytes.end {
            self.admitted(Goal::Look).await?;
            let run = self.image.base_status(at, bytes.end - at).await.map_err(base)?;
            let mut len = run.len;
            if run.content == Content::Data {
                // The guest may have become active since the step was taken.
                len = len.min(self.piece_len());
            }
            let mut part = rest;
            rest = part.split_off(len as usize);
            if run.content == Content::Data {
                were_read.insert(at..at + len);
                self.pace(Direction::Read, len).await?;
                self.admitted(Goal::Move).await?;
                let read = with_urgency(urgency, self.image.read_base(part, at));
                let read = self.moving(Direction::Read, len, read);
                part = self.unless_stopped(read).await?.map_err(base)?;
            }
            done = done.join(part);
            at += len;
        }
        let data = if were_read.is_empty() {
            CopyData::Zeros
        } else {
            CopyData::Bytes(done.freeze())
        };
        Ok(Fetched {
            bytes,
            data,
            read: were_read,
        })
    }

    /// Runs a write to the image. `len` bytes of it were read from the base; the rest are known zeros, which
    /// move no data.
    async fn write<T>(&self, len: u64, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, Fault> {
        let failures = self.shared().backoff.failures();
        let stored = if len == 0 {
            // A measurement of 0 bytes would look like a slow medium.
            write.await
        } else {
            self.pace(Direction::Write, len).await?;
            self.moving(Direction::Write, len, write).await
        };
        stored.map_err(|error| store_failed(error, failures))
    }
}

fn store_failed(error: StoreError, failures: u32) -> Fault {
    match error {
        StoreError::Base(error) => Fault::Base { error, failures },
        error => Fault::Image(error.into()),
    }
}
