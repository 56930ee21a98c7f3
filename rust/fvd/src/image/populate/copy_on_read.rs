//! Copy-on-read, the reader's half: the reader gets its data, and leaves a copy in a queue to be stored
//! (`docs/design/copies.md`, "Copies").

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use event_listener::Event;
use tracing::{debug, warn};

use crate::error::{Error, Result};
use crate::format::Block;
use crate::image::Image;
use crate::image::metadata::bitmap::Bitmap;
use crate::image::populate::fill::{BaseCopy, CopyData};
use crate::image::populate::read_unit::{Fetch, Fetching};
use crate::image::space::store_error::StoreError;
use crate::image::write::COPY_STEP;
use crate::mutation::{self, Mutation};
use crate::storage::{IoBufMut, Storage};

/// The queue of copies that wait to be stored.
pub(in crate::image) struct CopyQueue {
    /// No more copies are accepted while more than this many bytes wait.
    limit: u64,
    /// Whether copies are accepted from readers.
    enabled: AtomicBool,
    fetching: Fetching,
    state: Mutex<State>,
    arrived: Event,
}

#[derive(Default)]
struct State {
    queue: VecDeque<BaseCopy>,
    /// Bytes of the disk that wait or are being stored.
    outstanding: u64,
    /// Why copies are no longer stored.
    failed: Option<Error>,
}

/// A copy that is being stored, until this is dropped.
pub(crate) struct Storing<'a> {
    copies: &'a CopyQueue,
    len: u64,
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        let mut state = self.copies.state();
        if mutation::is(Mutation::OutstandingForEver) {
            return;
        }
        // After a failure `outstanding` is 0.
        state.outstanding = state.outstanding.saturating_sub(self.len);
    }
}

impl CopyQueue {
    /// `limit`: no more copies are accepted while more than this many bytes wait to be stored.
    pub(in crate::image) fn new(enabled: bool, limit: u64) -> Self {
        Self {
            limit,
            enabled: AtomicBool::new(enabled),
            fetching: Fetching::default(),
            state: Mutex::default(),
            arrived: Event::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.is_enabled() && self.state().outstanding <= self.limit
    }

    fn offer(&self, copy: BaseCopy, len: u64) {
        let mut state = self.state();
        state.outstanding += len;
        state.queue.push_back(copy);
        drop(state);
        self.arrived.notify(1);
    }

    fn take(&self, len: impl Fn(&Range<Block>) -> u64) -> Option<(BaseCopy, Storing<'_>)> {
        let copy = self.state().queue.pop_front()?;
        let len = len(&copy.blocks);
        Some((copy, Storing { copies: self, len }))
    }

    /// Accepts no more copies, and drops those that wait.
    fn fail(&self, error: Error) {
        self.enabled.store(false, Ordering::Relaxed);
        let mut state = self.state();
        state.queue.clear();
        state.outstanding = 0;
        state.failed.get_or_insert(error);
    }
}

impl<S: Storage> Image<S> {
    /// Fills `buf` from the base. The bytes of the disk from `start` on are a run that is not local.
    pub(in crate::image) async fn read_missing(&self, mut buf: IoBufMut, start: u64) -> Result<IoBufMut> {
        self.recorder.note(start..start + buf.len() as u64);
        let Some(bitmap) = self.metadata.bitmap().filter(|_| self.copies.is_enabled()) else {
            return self.read_base(buf, start).await;
        };
        let end = start + buf.len() as u64;
        let mut at = start;
        while at < end && self.copies.has_room() {
            let stop = step_end(bitmap, at, end);
            let (blocks, _fetch) = self.blocks_to_fetch(bitmap, at..stop).await;
            let bytes = bitmap.bytes_of(&blocks);
            let len = bytes.end - bytes.start;
            if len > 2 * COPY_STEP {
                // Large blocks are left to prefetch, which copies them part by part.
                break;
            }
            let data = match self.read_base(IoBufMut::zeroed(len as usize), bytes.start).await {
                Ok(data) => data.freeze(),
                // The bytes that failed may lie outside the request, so only the request is read now. After a
                // timeout the request fails at once: a base that hangs would hang again.
                Err(error) if len > stop - at && error.errno() != Some(libc::ETIMEDOUT) => {
                    debug!(%error, "a read of whole blocks of the base failed: tried again without a copy");
                    break;
                }
                Err(error) => return Err(error),
            };
            let part = &data[(at - bytes.start) as usize..(stop - bytes.start) as usize];
            buf.as_mut_slice()[(at - start) as usize..(stop - start) as usize].copy_from_slice(part);
            self.enqueue(blocks, data);
            at = stop;
        }
        if at == end {
            return Ok(buf);
        }
        let rest = buf.split_off((at - start) as usize);
        let rest = self.read_base(rest, at).await?;
        Ok(if buf.is_empty() { rest } else { buf.join(rest) })
    }

    /// The blocks to read for these bytes. They are widened to whole units, unless another reader is fetching
    /// one of these, or a profile is recorded: what a wider read makes local would never be noted. Until the
    /// second value is dropped, this reader counts as fetching them.
    async fn blocks_to_fetch(&self, bitmap: &Bitmap, bytes: Range<u64>) -> (Range<Block>, Option<Fetch<'_>>) {
        let wanted = bitmap.blocks(bytes.start, bytes.end);
        if self.recorder.is_recording() {
            return (wanted, None);
        }
        let Some(fetch) = self.copies.fetching.begin(&bytes) else {
            return (wanted, None);
        };
        let around = bitmap.blocks(fetch.bytes().start, fetch.bytes().end);
        if bitmap.load(self.file(), &around).await.is_err() {
            return (wanted, None);
        }
        (fetch.blocks(bitmap, &wanted), Some(fetch))
    }

    /// Until the result is dropped, a reader who needs a part of `bytes` reads only that part, which is on its way
    /// already, and not the unit around it.
    pub(crate) fn announce(&self, bytes: &Range<u64>) -> impl Sized + '_ {
        self.copies.fetching.begin(bytes)
    }

    fn enqueue(&self, blocks: Range<Block>, data: Bytes) {
        let len = data.len() as u64;
        let data = CopyData::Bytes(data);
        self.copies.offer(BaseCopy { blocks, data }, len);
    }

    /// Stores one copy that a reader has left. Returns false if there is none.
    pub(crate) async fn store_next_copy(&self) -> Result<bool> {
        let Some(bitmap) = self.metadata.bitmap() else {
            return Ok(false);
        };
        let len = |blocks: &Range<Block>| {
            let bytes = bitmap.bytes_of(blocks);
            bytes.end - bytes.start
        };
        let Some((copy, _storing)) = self.copies.take(len) else {
            return Ok(false);
        };
        match self.store_copy(copy).await {
            Ok(stored) => {
                let stored = stored.iter().map(|range| range.end - range.start).sum();
                self.counters.copied_on_read.add(stored);
                Ok(true)
            }
            // The reader has its data, so only this copy is lost. The base may have recovered when the next
            // one is stored.
            Err(StoreError::Base(error)) => {
                debug!(%error, "a copy was not stored, because the base failed");
                Ok(true)
            }
            Err(error) => {
                let error = Error::from(error);
                warn!("Copy-on-read has stopped: {error}");
                self.copies.fail(error.clone());
                Err(error)
            }
        }
    }

    /// Waits until a reader leaves a copy.
    pub(crate) async fn copy_arrives(&self) {
        loop {
            let listener = self.copies.arrived.listen();
            if !self.copies.state().queue.is_empty() {
                return;
            }
            listener.await;
        }
    }

    /// Whether data that is read from the base is stored in the image.
    #[must_use]
    pub fn copies_on_read(&self) -> bool {
        self.copies.is_enabled()
    }

    /// Bytes that readers have fetched from the base and that are not stored yet. 0 in a forked child.
    #[must_use]
    pub fn outstanding_copies(&self) -> u64 {
        self.check_process().map_or(0, |()| self.copies.state().outstanding)
    }

    /// Why copy-on-read has stopped: the error of the first copy that could not be stored. None while it has
    /// not stopped.
    #[must_use]
    pub fn copy_on_read_error(&self) -> Option<Error> {
        match self.check_process() {
            Ok(()) => self.copies.state().failed.clone(),
            Err(error) => Some(error),
        }
    }
}

/// The end of what is read and copied in one step: whole blocks, unless `end` cuts the last one.
fn step_end(bitmap: &Bitmap, at: u64, end: u64) -> u64 {
    if end - at <= COPY_STEP {
        return end;
    }
    let size = bitmap.block_size();
    let stop = Block::containing(at + COPY_STEP, size).start(size);
    if stop > at {
        stop
    } else {
        end.min(Block::containing(at, size).next().start(size))
    }
}
