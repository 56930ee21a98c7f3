//! What reads ask for.

use std::ops::Range;
use std::time::Duration;

use fvd_remote::policy::UNIT;

use super::flights::{Flight, What};
use super::machine::Pending;
use super::memory::{Entry, Number, Waiter, units};
use super::scenario::How;
use super::world::{Event, World};

/// The unit in which a guest's reads are copied to its image, in bytes; as `populate/read_unit.rs` of fvd.
const READ_UNIT: u64 = 64 << 10;
/// Units of the longest request; as `Tuning::request`.
const LONGEST: usize = 4;
/// How long a process takes to notice what another one has put into the host cache, at most.
pub(super) const NOTICED: Duration = Duration::from_millis(20);

impl World<'_> {
    /// Opening asks for the first unit.
    pub(super) fn open(&mut self, machine: usize) {
        if self.ask(machine, &(0..1), Waiter::Open, true) == 0 {
            self.opened(machine);
        }
    }

    /// A guest begins a read.
    pub(super) fn read(&mut self, machine: usize, read: usize) {
        let of = &self.machines[machine];
        let wanted = &self.trace.reads[read].bytes;
        let missing = of.local.missing(wanted).filter(|_| !of.is_local);
        let Some(missing) = missing else {
            self.at(self.now + self.scenario.local_read, Event::Done { machine, read });
            return;
        };
        let around = missing.start / READ_UNIT * READ_UNIT..missing.end.next_multiple_of(READ_UNIT);
        // What prefetch fetches at this moment is not fetched again.
        let overlaps = |step: &Pending| step.bytes.start < around.end && around.start < step.bytes.end;
        let bytes = if of.steps.values().any(overlaps) {
            missing
        } else {
            around
        };
        let pending = Pending {
            bytes: bytes.clone(),
            begun: self.now,
            answers: 0,
        };
        self.machines[machine].reads.insert(read, pending);
        let answers = self.ask(machine, &bytes, Waiter::Guest(read), true);
        if answers == 0 {
            self.has_read(machine, read);
        } else if let Some(pending) = self.machines[machine].reads.get_mut(&read) {
            pending.answers = answers;
        }
    }

    pub(super) fn has_read(&mut self, machine: usize, read: usize) {
        let of = &mut self.machines[machine];
        if let Some(pending) = of.reads.remove(&read) {
            of.local.set(&pending.bytes);
        }
        self.at(self.now + self.scenario.local_read, Event::Done { machine, read });
    }

    /// Asks for the units of `bytes`. Returns for how many answers `waiter` has to wait.
    pub(super) fn ask(&mut self, machine: usize, bytes: &Range<u64>, waiter: Waiter, is_demand: bool) -> usize {
        let host = self.machines[machine].host;
        let mut answers = 0;
        let mut missing = Vec::new();
        for unit in units(bytes) {
            if self.has_cached(host, unit) || self.machines[machine].memory.has(unit) {
                continue;
            }
            answers += 1;
            let part = bytes.start.max(unit * UNIT)..bytes.end.min((unit + 1) * UNIT);
            let memory = &mut self.machines[machine].memory;
            let flight = if let Some(Entry::Flying(flight, waiting)) = memory.entries.get_mut(&unit) {
                waiting.push(waiter);
                *flight
            } else {
                let named = self.named(machine, &part);
                if let Some(flight) = named {
                    self.flights[flight].waiting.push(waiter);
                } else {
                    missing.push((unit, Some(waiter)));
                }
                named
            };
            if let Some(flight) = flight.filter(|_| is_demand) {
                self.flights[flight].is_wanted = true;
                self.turn(flight);
            }
        }
        if answers > 0 && is_demand {
            let now = self.now;
            self.machines[machine].memory.link.demanded(now);
        }
        if answers > 0 {
            missing.extend(self.ahead(machine, bytes).into_iter().map(|unit| (unit, None)));
        }
        self.fly(machine, &missing, is_demand);
        self.grant(machine);
        answers
    }

    fn has_cached(&self, host: usize, unit: u64) -> bool {
        matches!(self.hosts[host].cache.get(&unit), Some(None))
    }

    /// The flight for an exact range that has `part`.
    fn named(&self, machine: usize, part: &Range<u64>) -> Option<Number> {
        let named = self.machines[machine].memory.named.iter().copied();
        named
            .into_iter()
            .find(|flight| matches!(&self.flights[*flight].what, What::Exact(bytes) if bytes.start <= part.start && part.end <= bytes.end))
    }

    /// Units that are missing after a sequential read.
    fn ahead(&mut self, machine: usize, bytes: &Range<u64>) -> Vec<u64> {
        let host = self.machines[machine].host;
        let end = match self.scenario.how {
            How::Local | How::FullCopy => 0,
            How::OnDemand | How::Profile => self.scenario.base,
        };
        let ahead = self.machines[machine].memory.streams.read(bytes, self.window);
        let ahead = ahead.start.div_ceil(UNIT)..ahead.end.min(end).div_ceil(UNIT);
        let after = units(bytes).end;
        ahead
            .filter(|unit| *unit >= after && !self.has_cached(host, *unit))
            .filter(|unit| !self.machines[machine].memory.entries.contains_key(unit))
            .collect()
    }

    /// Begins flights for units that are missing, in order. Each unit comes with what waits for it.
    fn fly(&mut self, machine: usize, missing: &[(u64, Option<Waiter>)], is_demand: bool) {
        let host = self.machines[machine].host;
        let mut run: Vec<u64> = Vec::new();
        let mut is_wanted = false;
        for &(unit, waiter) in missing {
            let waiting: Vec<_> = waiter.into_iter().collect();
            if self.scenario.has_cache {
                if let Some(Some(others)) = self.hosts[host].cache.get_mut(&unit) {
                    others.push(machine);
                    let entry = Entry::Flying(None, waiting);
                    self.machines[machine].memory.entries.insert(unit, entry);
                    continue;
                }
                self.hosts[host].cache.insert(unit, Some(Vec::new()));
            }
            if run.last().is_some_and(|last| last + 1 != unit || run.len() == LONGEST) {
                self.launch(machine, std::mem::take(&mut run), is_wanted, is_demand);
            }
            if run.is_empty() {
                is_wanted = is_demand && waiter.is_some();
            }
            run.push(unit);
            let flight = Some(self.flights.len());
            let entry = Entry::Flying(flight, waiting);
            self.machines[machine].memory.entries.insert(unit, entry);
        }
        if !run.is_empty() {
            self.launch(machine, run, is_wanted, is_demand);
        }
    }

    fn launch(&mut self, machine: usize, units: Vec<u64>, is_wanted: bool, is_demand: bool) {
        // Units that are being added belong to the flight that comes next.
        let number = self.flights.len();
        for unit in &units {
            if let Some(Entry::Flying(flight, _)) = self.machines[machine].memory.entries.get_mut(unit) {
                *flight = Some(number);
            }
        }
        let flight = Flight::new(machine, What::Units(units), is_wanted, !is_demand);
        self.flights.push(flight);
        self.queue(number);
    }
}
