//! Parts of objects that a profile names. Each is fetched by a request of its own, without what lies around it,
//! and is not kept: prefetch stores it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use fvd::host::BoxFuture;
use fvd::remote::Urgency;
use fvd::{Error, Result};
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::admission::{Reservation, Ticket};
use super::memory::{Key, Memory, State};
use super::units;
use super::wanted::Piece;
use crate::fetch::{Sink, UNIT};

/// Requests begin and end at multiples of this many bytes.
const GRAIN: u64 = 4 << 10;

/// Where what comes is sent, one for each reader.
type Waiting = Vec<Sender<Result<Piece>>>;

/// A range that is on its way.
pub(super) struct Named {
    object: u64,
    bytes: Range<u64>,
    ticket: Arc<Ticket>,
    waiting: Waiting,
    /// What has come, by the number of its unit.
    parts: BTreeMap<u64, Bytes>,
}

/// What one fetch brings. If this is dropped before it has come, its readers ask again.
pub(super) struct Scattered {
    memory: Arc<Memory>,
    bytes: Range<u64>,
    ticket: Arc<Ticket>,
    /// The memory of the attempt that runs.
    reservation: Mutex<Option<Arc<Reservation>>>,
}

impl Memory {
    /// A flight for `bytes` of an object of `len` bytes, and what it brings. None: their units are there, or
    /// coming.
    pub(super) fn scatter(
        self: &Arc<Self>,
        object: u64,
        len: u64,
        bytes: &Range<u64>,
    ) -> Option<(Scattered, Receiver<Result<Piece>>)> {
        let bytes = bytes.start / GRAIN * GRAIN..bytes.end.next_multiple_of(GRAIN).min(len);
        let mut state = self.lock();
        if units(&bytes).all(|unit| state.entries.contains_key(&Key { object, unit })) {
            return None;
        }
        let ticket = Arc::new(Ticket::new(false, Urgency::Scattered));
        let (sender, receiver) = oneshot::channel();
        state.named.push(Named {
            object,
            bytes: bytes.clone(),
            ticket: Arc::clone(&ticket),
            waiting: vec![sender],
            parts: BTreeMap::new(),
        });
        drop(state);
        let flight = Scattered {
            memory: Arc::clone(self),
            bytes,
            ticket,
            reservation: Mutex::default(),
        };
        Some((flight, receiver))
    }
}

impl State {
    /// Whether a range with `part` is on its way.
    pub(super) fn is_named(&self, object: u64, part: &Range<u64>) -> bool {
        self.named.iter().any(|named| named.covers(object, part))
    }

    /// The ticket of the fetch that brings `part`, and its readers.
    pub(super) fn named(&mut self, object: u64, part: &Range<u64>) -> Option<(&Arc<Ticket>, &mut Waiting)> {
        let named = self.named.iter_mut().find(|named| named.covers(object, part))?;
        Some((&named.ticket, &mut named.waiting))
    }
}

impl Named {
    fn covers(&self, object: u64, part: &Range<u64>) -> bool {
        self.object == object && self.bytes.start <= part.start && part.end <= self.bytes.end
    }
}

impl Scattered {
    /// The fetch has ended. An error goes to all its readers.
    pub(super) fn end(&self, result: &Result<()>) {
        if let Err(error) = result {
            self.fail(error);
        }
    }

    pub(super) fn fail(&self, error: &Error) {
        for sender in self.remove().map(|named| named.waiting).unwrap_or_default() {
            // A reader that has gone needs no error.
            _ = sender.send(Err(error.clone()));
        }
    }

    fn remove(&self) -> Option<Named> {
        let mut state = self.memory.lock();
        let index = self.find(&state)?;
        Some(state.named.swap_remove(index))
    }

    /// None: it has ended.
    fn find(&self, state: &State) -> Option<usize> {
        let mut all = state.named.iter();
        all.position(|named| Arc::ptr_eq(&named.ticket, &self.ticket))
    }

    /// What is wanted of a unit.
    fn part(&self, unit: u64) -> Range<u64> {
        self.bytes.start.max(unit * UNIT)..self.bytes.end.min((unit + 1) * UNIT)
    }
}

impl Drop for Scattered {
    fn drop(&mut self) {
        drop(self.remove());
    }
}

impl Sink for Scattered {
    fn missing(&self) -> Option<Range<u64>> {
        let state = self.memory.lock();
        let named = &state.named[self.find(&state)?];
        let first = units(&self.bytes).find(|unit| !named.parts.contains_key(unit))?;
        Some(self.part(first).start..self.bytes.end)
    }

    fn put(&self, index: u64, unit: Bytes) {
        let part = self.part(index);
        assert_eq!(unit.len() as u64, part.end - part.start, "all that was asked for");
        let reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut state = self.memory.lock();
        let Some(at) = self.find(&state) else { return };
        if let Some(reservation) = reservation {
            state.came(self.memory.now(), &reservation, unit.len() as u64);
        }
        let parts = &mut state.named[at].parts;
        parts.insert(index, unit);
        if units(&self.bytes).any(|unit| !parts.contains_key(&unit)) {
            return;
        }
        let Named { waiting, parts, .. } = state.named.swap_remove(at);
        drop(state);
        let piece = Piece {
            start: self.bytes.start,
            bytes: joined(parts),
        };
        for sender in waiting {
            // A reader that has gone needs nothing.
            _ = sender.send(Ok(piece.clone()));
        }
    }

    fn is_wanted(&self) -> bool {
        let state = self.memory.lock();
        self.find(&state)
            .is_some_and(|at| state.named[at].waiting.iter().any(|sender| !sender.is_closed()))
    }

    fn demanded(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ticket.demanded())
    }

    fn asked_again(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ticket.asked_again())
    }

    fn admit(&self) -> BoxFuture<'_, Box<dyn Send>> {
        let bytes = self.missing().map_or(0, |range| range.end - range.start);
        self.memory.admit(&self.ticket, &self.reservation, bytes)
    }
}

/// The parts one after the other.
fn joined(parts: BTreeMap<u64, Bytes>) -> Bytes {
    let mut parts: Vec<Bytes> = parts.into_values().collect();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        all.extend_from_slice(&part);
    }
    all.freeze()
}
