//! Who does what: read the next batch, or write one that is ready.
//!
//! Whoever finds the batch whose turn it is writes it and looks again, so a writer goes on without
//! waiting for anybody as long as batches are ready; all others read ahead while there are buffers.
//! A ticket is only handed to somebody who has a buffer: the batch whose turn it is always arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

use super::plan::Batch;
use crate::source::Part;
use crate::storage::IoBufMut;
use crate::tool::lock;

/// A batch ready to be written.
pub(super) struct Filled {
    pub(super) batch: Batch,
    /// The parts of all its data, one behind the other; empty where nothing is searched.
    pub(super) found: Vec<Part>,
    pub(super) bytes: Bytes,
}

/// The next thing to do for a worker.
pub(super) enum Task {
    /// Take the next batch of the plan with this buffer, then [`Queue::filled`] or [`Queue::end`].
    Read(IoBufMut),
    /// Write, then [`Queue::written`].
    Write(Filled),
    /// Nothing is left.
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
    /// By ticket.
    ready: BTreeMap<u64, Filled>,
    /// In order: the ticket whose turn it is, and whether it is being written.
    turn: u64,
    writing: bool,
    /// Workers that were told to read and have not come back.
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
    /// Reads into `buffers` buffers of `buffer_len` bytes.
    pub(super) fn new(buffers: usize, buffer_len: u64, in_order: bool) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            pool: Pool::new(buffers, buffer_len as usize),
            in_order,
        }
    }

    /// The next task; waits until there is one.
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

    /// The batch is read; the caller asks for its next task, which may be to write it.
    pub(super) fn filled(&self, batch: Batch, found: Vec<Part>, buf: IoBufMut) {
        let bytes = self.pool.lend(buf);
        let mut state = lock(&self.state);
        state.reading -= 1;
        state.ready.insert(batch.ticket, Filled { batch, found, bytes });
    }

    /// The plan had no batch for the buffer.
    pub(super) fn end(&self, buf: IoBufMut) {
        drop(self.pool.lend(buf));
        let mut state = lock(&self.state);
        state.reading -= 1;
        state.ended = true;
        self.changed.notify_all();
    }

    /// The batch is written.
    pub(super) fn written(&self, filled: Filled) {
        // Its buffer is free before anybody is told.
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

    /// Wakes everybody, to see that the job was stopped.
    pub(super) fn wake(&self) {
        // With the lock: a waiter is either before its look at `stopped`, or asleep.
        let _state = lock(&self.state);
        self.changed.notify_all();
    }
}

/// Buffers, made when first needed and used again when the last reader of their bytes is gone.
struct Pool {
    stock: Arc<Mutex<Stock>>,
    len: usize,
}

struct Stock {
    free: Vec<IoBufMut>,
    /// Buffers that may still be made.
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

    /// The buffer used last, whose memory is most likely in a cache.
    fn take(&self) -> Option<IoBufMut> {
        let mut stock = lock(&self.stock);
        if let Some(buf) = stock.free.pop() {
            return Some(buf);
        }
        stock.unmade = stock.unmade.checked_sub(1)?;
        drop(stock);
        Some(IoBufMut::zeroed(self.len))
    }

    fn lend(&self, buf: IoBufMut) -> Bytes {
        Bytes::from_owner(Lent {
            buf: Some(buf),
            stock: Arc::clone(&self.stock),
        })
    }
}

/// A buffer on its way.
struct Lent {
    /// None only while it is dropped.
    buf: Option<IoBufMut>,
    stock: Arc<Mutex<Stock>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buf.as_ref().map_or(&[], IoBufMut::as_slice)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.stock).free.extend(self.buf.take());
    }
}
