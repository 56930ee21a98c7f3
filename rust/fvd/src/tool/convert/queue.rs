//! The queue that tells each worker what to do next: read the next batch, or write a batch that is ready.
//!
//! In order, only the batch with the next ticket may be written. A worker that finds this batch writes it and
//! asks for its next task, so it writes on as long as batches are ready. All other workers read ahead as long
//! as there are buffers. A worker takes a ticket only after it has a buffer, so the batch with the next
//! ticket always becomes ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

use super::plan::Batch;
use crate::source::Part;
use crate::storage::IoBufMut;
use crate::tool::lock;

/// A batch that is ready to be written.
pub(super) struct Filled {
    pub(super) batch: Batch,
    /// The parts, data or zeros, of all data in `bytes`, in order. Empty if zeros are not searched.
    pub(super) found: Vec<Part>,
    pub(super) bytes: Bytes,
}

/// The next task of a worker.
pub(super) enum Task {
    /// Read the next batch of the plan into this buffer, then call [`Queue::filled`] or [`Queue::end`].
    Read(IoBufMut),
    /// Write the batch, then call [`Queue::written`].
    Write(Filled),
    /// Nothing is left to do.
    Done,
}

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    pool: Pool,
    in_order: bool,
}

#[derive(Default)]
struct State {
    /// The batches that are ready, by ticket.
    ready: BTreeMap<u64, Filled>,
    /// In order: the ticket to write next, and whether its batch is being written.
    turn: u64,
    writing: bool,
    /// Number of workers that are reading.
    reading: usize,
    /// The plan has no more batches.
    ended: bool,
}

impl State {
    fn take_ready(&mut self, in_order: bool) -> Option<Filled> {
        if !in_order {
            return self.ready.pop_first().map(|(_, filled)| filled);
        }
        if self.writing {
            return None;
        }
        let filled = self.ready.remove(&self.turn)?;
        self.writing = true;
        Some(filled)
    }
}

impl Queue {
    /// A queue with `buffers` buffers of `buffer_len` bytes.
    pub(super) fn new(buffers: usize, buffer_len: u64, in_order: bool) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            pool: Pool::new(buffers, buffer_len as usize),
            in_order,
        }
    }

    /// The next task. Waits until there is one. [`Task::Done`] once `stopped`.
    pub(super) fn next(&self, stopped: &dyn Fn() -> bool) -> Task {
        let mut state = lock(&self.state);
        loop {
            if stopped() {
                return Task::Done;
            }
            if let Some(filled) = state.take_ready(self.in_order) {
                return Task::Write(filled);
            }
            if state.ended && state.reading == 0 && state.ready.is_empty() {
                return Task::Done;
            }
            if !state.ended
                && let Some(buf) = self.pool.take()
            {
                state.reading += 1;
                return Task::Read(buf);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds a batch that was read. No other worker is woken: the caller asks for its next task, which may be
    /// to write this batch.
    pub(super) fn filled(&self, batch: Batch, found: Vec<Part>, buf: IoBufMut) {
        let bytes = self.pool.lease(buf);
        let mut state = lock(&self.state);
        state.reading -= 1;
        state.ready.insert(batch.ticket, Filled { batch, found, bytes });
    }

    /// Returns a buffer for which the plan had no batch.
    pub(super) fn end(&self, buf: IoBufMut) {
        drop(self.pool.lease(buf));
        let mut state = lock(&self.state);
        state.reading -= 1;
        state.ended = true;
        self.changed.notify_all();
    }

    /// Records that the batch was written, and wakes a waiting worker.
    pub(super) fn written(&self, filled: Filled) {
        // Return its buffer to the pool before another worker is woken.
        drop(filled);
        let mut state = lock(&self.state);
        state.turn += 1;
        state.writing = false;
        if state.ended {
            self.changed.notify_all();
        } else {
            self.changed.notify_one();
        }
    }

    /// Wakes all workers, so that they notice that the job was stopped.
    pub(super) fn wake(&self) {
        // With the lock, a worker either has not yet checked `stopped`, or already waits and is woken.
        let _state = lock(&self.state);
        self.changed.notify_all();
    }
}

/// Buffers. They are allocated on demand, and reused after the last reference to their bytes is dropped.
struct Pool {
    stock: Arc<Mutex<Stock>>,
    len: usize,
}

struct Stock {
    free: Vec<IoBufMut>,
    /// Number of buffers that may still be allocated.
    unmade: usize,
}

impl Pool {
    fn new(count: usize, len: usize) -> Self {
        let stock = Stock {
            free: Vec::new(),
            unmade: count,
        };
        Self {
            stock: Arc::new(Mutex::new(stock)),
            len,
        }
    }

    /// The free buffer that was used last, because its memory is most likely in the CPU cache. `None` if all
    /// buffers are in use.
    fn take(&self) -> Option<IoBufMut> {
        let mut stock = lock(&self.stock);
        if let Some(buf) = stock.free.pop() {
            return Some(buf);
        }
        stock.unmade = stock.unmade.checked_sub(1)?;
        drop(stock);
        Some(IoBufMut::zeroed(self.len))
    }

    /// The buffer as `Bytes`. It returns to the pool when the last reference is dropped.
    fn lease(&self, buf: IoBufMut) -> Bytes {
        Bytes::from_owner(LeasedBuf {
            buf: Some(buf),
            stock: Arc::clone(&self.stock),
        })
    }
}

/// A buffer of the pool that is in use. Dropping it returns the buffer.
struct LeasedBuf {
    /// `None` only during drop.
    buf: Option<IoBufMut>,
    stock: Arc<Mutex<Stock>>,
}

impl AsRef<[u8]> for LeasedBuf {
    fn as_ref(&self) -> &[u8] {
        self.buf.as_ref().map_or(&[], IoBufMut::as_slice)
    }
}

impl Drop for LeasedBuf {
    fn drop(&mut self) {
        lock(&self.stock).free.extend(self.buf.take());
    }
}
