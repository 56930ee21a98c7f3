//! Units that one fetch brings.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fvd::host::BoxFuture;
use fvd::{Error, Result};

use super::admission::{Reservation, Ticket};
use super::memory::{Entry, Key, Memory};
use super::wanted::Piece;
use crate::fault::fault;
use crate::fetch::{Sink, UNIT};

/// A run of neighbours. When it is dropped, units that have not come are missing again, and their readers ask
/// again.
pub(super) struct Flight(Arc<Inner>);

struct Inner {
    memory: Arc<Memory>,
    object: u64,
    /// Length of the object in bytes.
    len: u64,
    units: Range<u64>,
    ticket: Arc<Ticket>,
    /// The memory of the attempt that runs.
    reservation: Mutex<Option<Arc<Reservation>>>,
}

/// Ends a flight that could not begin.
pub(super) struct Handle(Arc<Inner>);

impl Handle {
    pub(super) fn fail(&self, error: &Error) {
        self.0.clear(&Err(error.clone()));
    }
}

impl Flight {
    pub(super) fn new(memory: Arc<Memory>, object: u64, len: u64, units: Range<u64>, ticket: Arc<Ticket>) -> Self {
        Self(Arc::new(Inner {
            memory,
            object,
            len,
            units,
            ticket,
            reservation: Mutex::default(),
        }))
    }

    pub(super) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.0))
    }

    pub(super) fn units(&self) -> Range<u64> {
        self.0.units.clone()
    }

    /// Units that have not come.
    pub(super) fn missing_units(&self) -> Vec<u64> {
        let inner = &self.0;
        let state = inner.memory.lock();
        let is_missing = |unit: &u64| inner.is_missing(state.entries.get(&inner.key(*unit)));
        inner.units.clone().filter(is_missing).collect()
    }

    /// As [`Sink::missing`], of some units.
    pub(super) fn missing_in(&self, units: Range<u64>) -> Option<Range<u64>> {
        self.0.missing(units)
    }

    /// A unit from the host cache: it stays there, and not in memory.
    pub(super) fn bring(&self, index: u64, unit: &Bytes) {
        self.0.deliver(index, unit, false);
    }

    /// Drops a unit from the memory when it is called: another place has it.
    pub(super) fn forget_later(&self, index: u64) -> impl FnOnce() + Send + 'static {
        let (memory, key) = (Arc::clone(&self.0.memory), self.0.key(index));
        move || memory.drop_kept(key)
    }

    /// The fetch has ended. An error goes to all who wait for what has not come.
    pub(super) fn end(self, result: &Result<()>) {
        self.0.clear(result);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.clear(&Ok(()));
    }
}

impl Inner {
    fn key(&self, unit: u64) -> Key {
        Key {
            object: self.object,
            unit,
        }
    }

    /// Whether `entry` is a unit of this flight that has not come.
    fn is_missing(&self, entry: Option<&Entry>) -> bool {
        matches!(entry, Some(Entry::Flying { ticket, .. }) if Arc::ptr_eq(ticket, &self.ticket))
    }

    /// Takes what has not come out of the table.
    fn clear(&self, result: &Result<()>) {
        if fault!(FlightUncleared) {
            return;
        }
        let mut waiting = Vec::new();
        let mut state = self.memory.lock();
        for unit in self.units.clone() {
            let key = self.key(unit);
            if self.is_missing(state.entries.get(&key))
                && let Some(Entry::Flying { waiting: some, .. }) = state.entries.remove(&key)
            {
                waiting.extend(some);
            }
        }
        drop(state);
        if let Err(error) = result {
            // A reader that has gone needs no error.
            for sender in waiting {
                _ = sender.send(Err(error.clone()));
            }
        }
    }

    /// From the first of `units` that is missing to their end, in bytes.
    fn missing(&self, units: Range<u64>) -> Option<Range<u64>> {
        let state = self.memory.lock();
        let mut rest = units.clone();
        let first = rest.find(|&unit| self.is_missing(state.entries.get(&self.key(unit))))?;
        Some(first * UNIT..(units.end * UNIT).min(self.len))
    }

    /// Gives a unit to those who wait. `keep`: those who come later get it from the memory.
    fn deliver(&self, index: u64, unit: &Bytes, keep: bool) {
        let key = self.key(index);
        let whole = UNIT.min(self.len.saturating_sub(index * UNIT));
        assert_eq!(unit.len() as u64, whole, "only whole units are kept");
        let reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut state = self.memory.lock();
        if !self.is_missing(state.entries.get(&key)) {
            return;
        }
        let Some(Entry::Flying { waiting, .. }) = state.entries.remove(&key) else {
            return;
        };
        if keep {
            if let Some(reservation) = reservation {
                state.came(self.memory.now(), &reservation, whole);
            }
            state.keep(key, unit.clone());
            state.evict(0);
        }
        drop(state);
        let piece = Piece {
            start: index * UNIT,
            bytes: unit.clone(),
        };
        for sender in waiting {
            // A reader that has gone needs no unit.
            _ = sender.send(Ok(piece.clone()));
        }
    }
}

impl Sink for Flight {
    fn missing(&self) -> Option<Range<u64>> {
        self.0.missing(self.0.units.clone())
    }

    fn put(&self, index: u64, unit: Bytes) {
        self.0.deliver(index, &unit, true);
    }

    fn is_wanted(&self) -> bool {
        let inner = &self.0;
        let state = inner.memory.lock();
        inner
            .units
            .clone()
            .any(|unit| match state.entries.get(&inner.key(unit)) {
                Some(Entry::Flying { ticket, waiting }) if Arc::ptr_eq(ticket, &inner.ticket) => {
                    waiting.iter().any(|sender| !sender.is_closed())
                }
                _ => false,
            })
    }

    fn demanded(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.ticket.demanded())
    }

    fn asked_again(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.ticket.asked_again())
    }

    fn admit(&self) -> BoxFuture<'_, Box<dyn Send>> {
        let inner = &self.0;
        let bytes = inner
            .missing(inner.units.clone())
            .map_or(0, |range| range.end - range.start);
        inner.memory.admit(&inner.ticket, &inner.reservation, bytes)
    }
}
