//! All units of a process, and the one budget for them (R4).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fvd::Result;
use fvd::host::Clock as _;
use fvd::remote::Urgency;
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::admission::{Queue, Ticket, send};
use super::flight::Flight;
use super::scattered::Named;
use super::wanted::{Piece, Taken, Wanted};
use crate::clock::IoClock;
use crate::fault::fault;
use crate::fetch::UNIT;
use crate::manifest::Budget;

/// A unit of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) unit: u64,
}

/// The memory that all objects share. One lock, which is never held over I/O or while a task is woken.
pub(crate) struct Memory {
    state: Mutex<State>,
    clock: IoClock,
}

pub(super) struct State {
    pub(super) entries: HashMap<Key, Entry>,
    /// Ranges on their way that a profile names.
    pub(super) named: Vec<Named>,
    /// Units that are kept, the least recently used first.
    uses: BTreeMap<u64, Key>,
    tick: u64,
    /// Bytes that are kept.
    kept: u64,
    pub(super) queue: Queue,
}

pub(super) enum Entry {
    Kept {
        bytes: Bytes,
        tick: u64,
    },
    /// Part of a flight, with those who wait for it.
    Flying {
        ticket: Arc<Ticket>,
        waiting: Vec<Sender<Result<Piece>>>,
    },
}

impl Memory {
    /// At most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            state: Mutex::new(State {
                entries: HashMap::new(),
                named: Vec::new(),
                uses: BTreeMap::new(),
                tick: 0,
                kept: 0,
                queue: Queue::new(limit),
            }),
            clock: IoClock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since it was made.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Changes the limit in bytes, from now on.
    pub(crate) fn set_limit(&self, limit: u64) {
        let mut state = self.lock();
        state.queue.limit = limit;
        state.evict(0);
    }

    /// Bytes that are kept, and those that memory is set aside for.
    pub(crate) fn used(&self) -> u64 {
        let state = self.lock();
        state.kept + state.queue.reserved
    }

    /// Flights for units that an answer is bringing already.
    pub(super) fn begin(self: &Arc<Self>, object: u64, len: u64, units: Range<u64>) -> Vec<Flight> {
        let wanted = Wanted {
            object,
            len,
            longest: units.end - units.start,
            bytes: units.start * UNIT..units.end * UNIT,
            units,
            ahead: 0..0,
            urgency: Urgency::Demand,
        };
        let mut state = self.lock();
        let runs = state.missing_runs(&wanted).into_iter();
        let ticket = || Ticket::new(true, Urgency::Demand);
        runs.map(|run| state.fly(self, object, len, run, ticket())).collect()
    }

    /// What is there of `wanted`, what is coming, and flights for the rest.
    pub(super) fn take(self: &Arc<Self>, wanted: &Wanted) -> Taken {
        let mut taken = Taken::default();
        let is_urgent = wanted.urgency == Urgency::Demand;
        let mut state = self.lock();
        for run in state.missing_runs(wanted) {
            let is_wanted = is_urgent && run.start < wanted.units.end;
            let ticket = Ticket::new(is_wanted, wanted.urgency);
            let flight = state.fly(self, wanted.object, wanted.len, run, ticket);
            taken.flights.push(flight);
        }
        let (mut again, mut demanded) = (Vec::new(), Vec::new());
        for unit in wanted.units.clone() {
            let key = Key {
                object: wanted.object,
                unit,
            };
            match state.join(key, &wanted.part(unit), is_urgent) {
                Joined::Kept(piece) => taken.kept.push(piece),
                Joined::Coming {
                    receiver,
                    given_up,
                    new,
                } => {
                    taken.coming.push((unit, receiver));
                    again.extend(given_up);
                    demanded.extend(new);
                }
            }
        }
        if is_urgent && !taken.coming.is_empty() {
            state.queue.link.demanded(self.now());
        }
        // A flight ahead may have become urgent.
        let granted = state.grant(self);
        drop(state);
        send(granted);
        for ticket in again {
            ticket.ask_again();
        }
        for ticket in demanded {
            ticket.demand();
        }
        taken
    }

    /// Counts `bytes` of something else than units as kept, until the result is dropped. Units make room for it.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Charge {
        let mut state = self.lock();
        state.kept += bytes;
        state.evict(0);
        Charge {
            memory: Arc::clone(self),
            bytes,
        }
    }

    /// Units of an object that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self, object: u64) -> Vec<(u64, Bytes)> {
        let state = self.lock();
        let kept = |(key, entry): (&Key, &Entry)| match entry {
            Entry::Kept { bytes, .. } if key.object == object => Some((key.unit, bytes.clone())),
            _ => None,
        };
        state.entries.iter().filter_map(kept).collect()
    }

    /// Drops a unit, if it is kept.
    pub(super) fn drop_kept(&self, key: Key) {
        let mut state = self.lock();
        let is_kept = matches!(state.entries.get(&key), Some(Entry::Kept { .. }));
        let dropped = is_kept.then(|| state.remove(key));
        drop(state);
        drop(dropped);
    }

    /// Keeps the units of the object `from` for the same object under the number `to`, too.
    pub(super) fn copy(&self, from: u64, to: u64) {
        let mut state = self.lock();
        let kept = state.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::Kept { bytes, .. } if key.object == from => Some((key.unit, bytes.clone())),
            _ => None,
        });
        for (unit, bytes) in kept.collect::<Vec<_>>() {
            state.keep(Key { object: to, unit }, bytes);
        }
        state.evict(0);
    }

    /// Drops all units of an object. Flights of it end by themselves.
    pub(crate) fn forget(&self, object: u64) {
        let mut state = self.lock();
        let gone = |key: &Key, entry: &Entry| key.object == object && matches!(entry, Entry::Kept { .. });
        let keys: Vec<_> = state
            .entries
            .iter()
            .filter(|(key, entry)| gone(key, entry))
            .map(|(key, _)| *key)
            .collect();
        let dropped: Vec<_> = keys.into_iter().filter_map(|key| state.remove(key)).collect();
        drop(state);
        drop(dropped);
    }
}

/// See [`Memory::charge`].
pub(crate) struct Charge {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.lock().kept -= self.bytes;
    }
}

impl Budget for Arc<Memory> {
    fn charge(&self, bytes: u64) -> Box<dyn Send + Sync> {
        Box::new(Memory::charge(self, bytes))
    }
}

enum Joined {
    Kept(Piece),
    Coming {
        receiver: Receiver<Result<Piece>>,
        /// The ticket, if all earlier readers have given up.
        given_up: Option<Arc<Ticket>>,
        /// The ticket, if this is the first reader who goes before prefetch.
        new: Option<Arc<Ticket>>,
    },
}

impl State {
    /// Runs of units that are neither there nor coming.
    fn missing_runs(&self, wanted: &Wanted) -> Vec<Range<u64>> {
        let ahead = wanted.ahead.start.max(wanted.units.end)..wanted.ahead.end;
        let mut runs: Vec<Range<u64>> = Vec::new();
        for unit in wanted.units.clone().chain(ahead) {
            let object = wanted.object;
            let is_coming = || wanted.units.contains(&unit) && self.is_named(object, &wanted.part(unit));
            match self.entries.get(&Key { object, unit }) {
                Some(Entry::Flying { waiting, .. }) if fault!(DoubleFlight) && waiting.is_empty() => {}
                Some(_) => continue,
                None if is_coming() => continue,
                None => {}
            }
            match runs.last_mut() {
                Some(run) if run.end == unit && run.end - run.start < wanted.longest => run.end += 1,
                _ => runs.push(unit..unit + 1),
            }
        }
        runs
    }

    /// Marks units that are missing as coming.
    fn fly(&mut self, memory: &Arc<Memory>, object: u64, len: u64, units: Range<u64>, ticket: Ticket) -> Flight {
        let ticket = Arc::new(ticket);
        for unit in units.clone() {
            let entry = Entry::Flying {
                ticket: Arc::clone(&ticket),
                waiting: Vec::new(),
            };
            let before = self.entries.insert(Key { object, unit }, entry);
            debug_assert!(
                before.is_none() || fault!(DoubleFlight),
                "a unit is fetched once at a time"
            );
        }
        Flight::new(Arc::clone(memory), object, len, units, ticket)
    }

    /// `part`: what is wanted of the unit.
    fn join(&mut self, key: Key, part: &Range<u64>, is_urgent: bool) -> Joined {
        self.tick += 1;
        let now = self.tick;
        let (ticket, waiting) = match self.entries.get_mut(&key) {
            Some(Entry::Kept { bytes, tick }) => {
                self.uses.remove(&std::mem::replace(tick, now));
                self.uses.insert(now, key);
                let (start, bytes) = (key.unit * UNIT, bytes.clone());
                return Joined::Kept(Piece { start, bytes });
            }
            Some(Entry::Flying { ticket, waiting }) => (&*ticket, waiting),
            None => self.named(key.object, part).expect("what is missing has a flight now"),
        };
        let new = (is_urgent && ticket.want()).then(|| Arc::clone(ticket));
        let had_readers = !waiting.is_empty();
        waiting.retain(|sender| !sender.is_closed());
        let given_up = (had_readers && waiting.is_empty()).then(|| Arc::clone(ticket));
        let (sender, receiver) = oneshot::channel();
        waiting.push(sender);
        Joined::Coming {
            receiver,
            given_up,
            new,
        }
    }

    /// Keeps a unit that has come.
    pub(super) fn keep(&mut self, key: Key, bytes: Bytes) {
        self.tick += 1;
        self.kept += bytes.len() as u64;
        self.uses.insert(self.tick, key);
        let tick = self.tick;
        self.entries.insert(key, Entry::Kept { bytes, tick });
    }

    /// Drops a unit that is kept. The caller drops the result without the lock.
    fn remove(&mut self, key: Key) -> Option<Bytes> {
        match self.entries.remove(&key)? {
            Entry::Kept { bytes, tick } => {
                self.uses.remove(&tick);
                self.kept -= bytes.len() as u64;
                Some(bytes)
            }
            Entry::Flying { .. } => unreachable!("only flights end flights"),
        }
    }

    /// Drops units until there is room for `more` bytes, or none are left.
    pub(super) fn evict(&mut self, more: u64) {
        while self.kept + self.queue.reserved + more > self.queue.limit {
            let Some((_, &key)) = self.uses.first_key_value() else {
                break;
            };
            drop(self.remove(key));
        }
    }
}
