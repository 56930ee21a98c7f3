//! Prefetch of what a profile names.

use super::flights::{Flight, What};
use super::machine::Pending;
use super::memory::{Entry, Waiter, units};
use super::world::World;

/// Bytes of a step while many are under way; as `MAX_HELPER_STEP` of `fvd::copy`.
const STEP: u64 = 512 << 10;

impl World<'_> {
    /// Begins as many steps as the window allows.
    pub(super) fn pump(&mut self, machine: usize) {
        loop {
            let of = &mut self.machines[machine];
            if of.is_local || of.steps.len() >= of.window.size() {
                return;
            }
            let Some(range) = of.plan.pop_front() else { return };
            let Some(mut bytes) = of.local.first_run(&range) else {
                continue;
            };
            bytes.end = bytes.end.min(bytes.start + STEP);
            if bytes.end < range.end {
                of.plan.push_front(bytes.end..range.end);
            }
            let step = of.next_step;
            of.next_step += 1;
            let pending = Pending {
                bytes: bytes.clone(),
                begun: self.now,
                answers: 1,
            };
            of.steps.insert(step, pending);
            let memory = &self.machines[machine].memory;
            let is_coming = units(&bytes).all(|unit| memory.entries.contains_key(&unit));
            if self.scenario.has_cache || is_coming {
                let answers = self.ask(machine, &bytes, Waiter::Step(step), false);
                if answers == 0 {
                    self.stepped(machine, step);
                } else if let Some(pending) = self.machines[machine].steps.get_mut(&step) {
                    pending.answers = answers;
                }
                continue;
            }
            let number = self.flights.len();
            let mut flight = Flight::new(machine, What::Exact(bytes), false, true);
            flight.waiting.push(Waiter::Step(step));
            self.flights.push(flight);
            self.machines[machine].memory.named.push(number);
            self.queue(number);
            self.grant(machine);
        }
    }

    pub(super) fn stepped(&mut self, machine: usize, step: usize) {
        let now = self.now;
        let of = &mut self.machines[machine];
        if let Some(pending) = of.steps.remove(&step) {
            of.local.set(&pending.bytes);
            of.window.note(now.saturating_sub(pending.begun));
        }
        self.pump(machine);
    }

    /// An answer of several has come.
    pub(super) fn one_answer(&mut self, machine: usize, waiter: Waiter) {
        let of = &mut self.machines[machine];
        let pending = match waiter {
            Waiter::Open => None,
            Waiter::Guest(read) => of.reads.get_mut(&read),
            Waiter::Step(step) => of.steps.get_mut(&step),
        };
        let left = pending.map_or(0, |pending| {
            pending.answers -= 1;
            pending.answers
        });
        if left == 0 {
            self.answered(machine, waiter);
        }
    }

    /// A unit has come to a process, from the store or (`keep` is false) from the cache of its host.
    pub(super) fn deliver(&mut self, machine: usize, unit: u64, keep: bool) {
        let memory = &mut self.machines[machine].memory;
        let Some(Entry::Flying(_, waiting)) = memory.entries.remove(&unit) else {
            return;
        };
        if keep {
            memory.keep(unit);
        }
        for waiter in waiting {
            self.one_answer(machine, waiter);
        }
    }
}
