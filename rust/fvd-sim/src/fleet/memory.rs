//! What one process has in memory, what is on its way, and whose turn it is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use fvd_remote::policy::{AHEAD, Link, Pace, REQUESTS, Streams, UNIT};

/// Bytes of units that are kept.
const LIMIT: u64 = 64 << 20;

/// Number of a flight.
pub(super) type Number = usize;

/// What waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The opening of the image.
    Open,
    /// A read of the trace.
    Guest(usize),
    /// A step of prefetch.
    Step(usize),
}

#[derive(Debug)]
pub(super) enum Entry {
    /// The tick of its last use.
    Kept(u64),
    /// The flight, or None: another process of the host fetches it.
    Flying(Option<Number>, Vec<Waiter>),
}

#[derive(Default)]
pub(super) struct Memory {
    pub(super) entries: HashMap<u64, Entry>,
    uses: BTreeMap<u64, u64>,
    tick: u64,
    pub(super) link: Link,
    pub(super) streams: Streams,
    pub(super) pace: Pace,
    /// Flights that wait for their turn.
    pub(super) waiting: VecDeque<Number>,
    /// Flights for exact ranges, which are in no entry.
    pub(super) named: Vec<Number>,
    /// Those with a request.
    pub(super) flying: Vec<Number>,
    /// Bytes that are under way for prefetch.
    pub(super) background: u64,
    /// Connections without a request.
    pub(super) idle: usize,
    /// After a pause that the store has demanded.
    pub(super) not_before: Duration,
    pub(super) outage_since: Option<Duration>,
    pub(super) paused: Vec<Number>,
}

/// What admission needs to know of a flight.
pub(super) struct Candidate {
    pub(super) is_wanted: bool,
    pub(super) is_background: bool,
    pub(super) bytes: u64,
}

impl Memory {
    /// Keeps a unit, and drops what was not used for long.
    pub(super) fn keep(&mut self, unit: u64) {
        self.tick += 1;
        self.entries.insert(unit, Entry::Kept(self.tick));
        self.uses.insert(self.tick, unit);
        while self.uses.len() as u64 * UNIT > LIMIT {
            let Some((_, unit)) = self.uses.pop_first() else { break };
            self.entries.remove(&unit);
        }
    }

    /// Whether a unit is there. It counts as used.
    pub(super) fn has(&mut self, unit: u64) -> bool {
        let Some(Entry::Kept(tick)) = self.entries.get_mut(&unit) else {
            return false;
        };
        self.tick += 1;
        self.uses.remove(tick);
        *tick = self.tick;
        self.uses.insert(self.tick, unit);
        true
    }

    /// The place in the queue of the flight whose turn it is; as `units/admission.rs` of fvd-remote.
    pub(super) fn next(&self, now: Duration, flight: impl Fn(Number) -> Candidate) -> Option<usize> {
        if let Some(first) = self.waiting.iter().position(|number| flight(*number).is_wanted) {
            return (self.flying.len() < REQUESTS).then_some(first);
        }
        let first = flight(*self.waiting.front()?);
        let is_demanded = || self.flying.iter().any(|number| flight(*number).is_wanted);
        let has_room = !first.is_background
            || self.background == 0
            || self
                .link
                .room(now, is_demanded())
                .is_none_or(|room| self.background + first.bytes <= room);
        (self.flying.len() < AHEAD && has_room).then_some(0)
    }
}

/// The units that have bytes of `range`.
pub(super) fn units(range: &Range<u64>) -> Range<u64> {
    range.start / UNIT..range.end.div_ceil(UNIT)
}
