//! Requests: from their turn to the end of their answer, and after a refusal again.

use std::ops::Range;
use std::time::Duration;

use fvd_remote::policy::UNIT;

use super::memory::{Candidate, Entry, Number, Waiter};
use super::reads::NOTICED;
use super::store::Served;
use super::world::{Event, World};

/// The longest pause after others have noticed that the store answers again.
const TOGETHER: Duration = Duration::from_millis(100);
/// The end of an outage that has lasted for this long ends all pauses; as `retry/health.rs` of fvd-remote.
const LONG: Duration = Duration::from_secs(2);
/// A full copy comes in parts of this many bytes.
const PART: u64 = 4 << 20;

/// What a request brings.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Units, which are kept.
    Units(Vec<u64>),
    /// A range that a profile names.
    Exact(Range<u64>),
    /// All of the base, for the host.
    All(u64),
}

pub(super) struct Flight {
    pub(super) machine: usize,
    pub(super) what: What,
    pub(super) is_wanted: bool,
    is_background: bool,
    /// Whether it waits for its turn, as no reader waits for it.
    is_paced: bool,
    /// What waits for a range. What waits for units is in their entries.
    pub(super) waiting: Vec<Waiter>,
    /// Parts that have left the store, and that have come.
    sent: u64,
    came: u64,
    granted: Duration,
    /// Bytes that are counted as under way for prefetch.
    reserved: u64,
    failures: u32,
    pauses: u32,
}

impl Flight {
    pub(super) fn new(machine: usize, what: What, is_wanted: bool, is_background: bool) -> Self {
        Self {
            machine,
            what,
            is_wanted,
            is_background,
            is_paced: false,
            waiting: Vec::new(),
            sent: 0,
            came: 0,
            granted: Duration::ZERO,
            reserved: 0,
            failures: 0,
            pauses: 0,
        }
    }

    fn parts(&self) -> u64 {
        match &self.what {
            What::Units(units) => units.len() as u64,
            What::Exact(_) => 1,
            What::All(bytes) => bytes.div_ceil(PART),
        }
    }

    /// Bytes of each part.
    fn part(&self) -> u64 {
        match &self.what {
            What::Units(_) => UNIT,
            What::Exact(bytes) => bytes.end - bytes.start,
            What::All(_) => PART,
        }
    }

    fn left(&self) -> u64 {
        (self.parts() - self.came) * self.part()
    }
}

impl World<'_> {
    /// The first machine of a host fetches all of the base, and the others wait for it.
    pub(super) fn copy(&mut self, machine: usize) {
        if self.machines[machine].is_local {
            return self.up(machine);
        }
        let host = self.machines[machine].host;
        if let Some(waiting) = &mut self.hosts[host].copying {
            waiting.push(machine);
            return;
        }
        self.hosts[host].copying = Some(vec![machine]);
        self.flights
            .push(Flight::new(machine, What::All(self.scenario.base), true, false));
        self.queue(self.flights.len() - 1);
        self.grant(machine);
    }

    /// Sends the requests whose turn it is.
    pub(super) fn grant(&mut self, machine: usize) {
        let now = self.now;
        loop {
            let flights = &self.flights;
            let candidate = |number: Number| Candidate {
                is_wanted: flights[number].is_wanted,
                is_background: flights[number].is_background,
                bytes: flights[number].left(),
            };
            let of = &mut self.machines[machine];
            let Some(index) = of.memory.next(now, candidate) else {
                return;
            };
            let number = of.memory.waiting.remove(index).expect("it was found there");
            let flight = &mut self.flights[number];
            flight.granted = now;
            flight.sent = flight.came;
            flight.reserved = if flight.is_background && !flight.is_wanted {
                flight.left()
            } else {
                0
            };
            of.memory.background += flight.reserved;
            of.memory.flying.push(number);
            of.requests += 1;
            // A new connection takes a round trip. After a failure it is always a new one.
            let is_new = of.memory.idle == 0 || flight.failures > 0;
            if !is_new {
                of.memory.idle -= 1;
            }
            let trips = if is_new { 1.5 } else { 0.5 };
            self.at(now + self.scenario.trip.mul_f64(trips), Event::Arrive(number));
        }
    }

    pub(super) fn arrive(&mut self, number: Number) {
        match self.store.serve(self.now) {
            Served::At(time) => self.at(time, Event::Ready(number)),
            Served::No(demanded) => {
                self.at(self.now + self.scenario.trip / 2, Event::Refused(number, demanded));
            }
        }
    }

    pub(super) fn ready(&mut self, number: Number) {
        let time = self.store.pipe.send(self.now, self.flights[number].part());
        self.at(time, Event::Left(number));
    }

    pub(super) fn left(&mut self, number: Number) {
        let flight = &mut self.flights[number];
        let host = self.machines[flight.machine].host;
        flight.sent += 1;
        let is_last = flight.sent == flight.parts();
        let time = self.hosts[host].link.send(self.now, flight.part());
        self.at(time + self.scenario.trip / 2, Event::Came(number));
        if !is_last {
            self.at(self.now, Event::Ready(number));
        }
    }

    pub(super) fn came(&mut self, number: Number) {
        let now = self.now;
        let flight = &mut self.flights[number];
        let machine = flight.machine;
        let part = flight.part();
        let memory = &mut self.machines[machine].memory;
        if flight.came == 0 {
            memory.link.answered(now, now.saturating_sub(flight.granted));
        }
        memory.link.arrived(now, part);
        let freed = flight.reserved.min(part);
        flight.reserved -= freed;
        memory.background -= freed;
        let index = flight.came;
        flight.came += 1;
        flight.failures = 0;
        if flight.came == flight.parts() {
            memory.flying.retain(|other| *other != number);
            memory.idle += 1;
        }
        self.machines[machine].bytes += part;
        self.answers_again(machine);
        match self.flights[number].what.clone() {
            What::Units(units) => self.fetched(machine, units[index as usize]),
            What::Exact(_) => {
                self.machines[machine].memory.named.retain(|other| *other != number);
                for waiter in std::mem::take(&mut self.flights[number].waiting) {
                    self.one_answer(machine, waiter);
                }
            }
            What::All(_) if self.flights[number].left() == 0 => {
                let host = self.machines[machine].host;
                for machine in self.hosts[host].copying.take().unwrap_or_default() {
                    self.up(machine);
                }
                // Those that start later find it.
                self.copied(host);
            }
            What::All(_) => {}
        }
        self.grant(machine);
    }

    fn copied(&mut self, host: usize) {
        for machine in 0..self.machines.len() {
            if self.machines[machine].host == host {
                self.machines[machine].is_local = true;
            }
        }
    }

    fn fetched(&mut self, machine: usize, unit: u64) {
        let has_cache = self.scenario.has_cache;
        if has_cache {
            let host = self.machines[machine].host;
            let others = self.hosts[host].cache.insert(unit, None).flatten().unwrap_or_default();
            for machine in others {
                let time = self.soon(NOTICED);
                self.at(time, Event::Cached { machine, unit });
            }
        }
        self.deliver(machine, unit, !has_cache);
    }

    /// Data has come: after a long outage all flights that pause try again.
    fn answers_again(&mut self, machine: usize) {
        let now = self.now;
        let memory = &mut self.machines[machine].memory;
        let outage = memory.outage_since.take();
        if outage.is_none_or(|since| now.saturating_sub(since) < LONG) {
            return;
        }
        for number in std::mem::take(&mut memory.paused) {
            self.flights[number].pauses += 1;
            let time = self.soon(TOGETHER);
            self.at(time, Event::Again(number, self.flights[number].pauses));
        }
    }

    pub(super) fn refused(&mut self, number: Number, demanded: Option<Duration>) {
        let now = self.now;
        let flight = &mut self.flights[number];
        let machine = flight.machine;
        flight.failures += 1;
        flight.pauses += 1;
        let of = &mut self.machines[machine];
        of.refused += 1;
        of.memory.flying.retain(|other| *other != number);
        of.memory.pace.refused(now);
        of.memory.background -= std::mem::take(&mut flight.reserved);
        of.memory.outage_since.get_or_insert(now);
        if let Some(demanded) = demanded {
            of.memory.not_before = of.memory.not_before.max(now + demanded);
        }
        if self.is_wanted(number) {
            let flight = &self.flights[number];
            let pause = self.backoff.pause(flight.failures, demanded, self.rng.f64());
            self.machines[machine].memory.paused.push(number);
            self.at(now + pause, Event::Again(number, self.flights[number].pauses));
        } else {
            self.give_up(number);
        }
        self.grant(machine);
    }

    fn is_wanted(&self, number: Number) -> bool {
        let flight = &self.flights[number];
        let entries = &self.machines[flight.machine].memory.entries;
        let has_waiters = |unit: &u64| matches!(entries.get(unit), Some(Entry::Flying(_, some)) if !some.is_empty());
        match &flight.what {
            What::Units(units) => self.scenario.has_cache || units.iter().any(has_waiters),
            What::Exact(_) | What::All(_) => true,
        }
    }

    /// What was fetched ahead is not tried again.
    fn give_up(&mut self, number: Number) {
        let flight = &self.flights[number];
        if let What::Units(units) = &flight.what {
            for unit in &units[flight.came as usize..] {
                self.machines[flight.machine].memory.entries.remove(unit);
            }
        }
    }

    pub(super) fn again(&mut self, number: Number, pause: u32) {
        let flight = &self.flights[number];
        if flight.pauses != pause {
            return;
        }
        let machine = flight.machine;
        let memory = &mut self.machines[machine].memory;
        if self.now < memory.not_before {
            let time = memory.not_before + TOGETHER.mul_f64(self.rng.f64());
            self.at(time, Event::Again(number, pause));
            return;
        }
        memory.paused.retain(|other| *other != number);
        self.queue(number);
        self.grant(machine);
    }

    /// A flight waits for its turn, first for that of its pace; as `wait_for_turn` of fvd-remote.
    pub(super) fn queue(&mut self, number: Number) {
        let now = self.now;
        let flight = &mut self.flights[number];
        let memory = &mut self.machines[flight.machine].memory;
        let wait = if flight.is_wanted {
            Duration::ZERO
        } else {
            memory.pace.turn(now)
        };
        if wait.is_zero() {
            memory.waiting.push_back(number);
        } else {
            flight.is_paced = true;
            self.at(now + wait, Event::Turn(number));
        }
    }

    /// The turn of a flight has come, or a reader waits for it now.
    pub(super) fn turn(&mut self, number: Number) {
        let flight = &mut self.flights[number];
        if std::mem::take(&mut flight.is_paced) {
            let machine = flight.machine;
            self.machines[machine].memory.waiting.push_back(number);
            self.grant(machine);
        }
    }
}
