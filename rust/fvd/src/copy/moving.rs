//! Measures what prefetch moves: its rate, contention, the latency of the base.

use std::future::Future;
use std::time::Duration;

use super::direction::Direction;
use super::pause::{Pause, PauseReason};
use super::prefetch::Prefetch;
use super::status::PrefetchStatus;
use super::throttle::Fall;
use crate::error::Result;
use crate::storage::Storage;

/// An operation in flight. It ends when this is dropped.
struct Moving<'a, S: Storage> {
    prefetch: &'a Prefetch<'a, S>,
    direction: Direction,
    began: Duration,
    /// Bytes that it has moved.
    bytes: u64,
}

impl<S: Storage> Drop for Moving<'_, S> {
    fn drop(&mut self) {
        let now = self.prefetch.clock.now();
        let mut guard = self.prefetch.shared();
        let shared = &mut *guard;
        let mut rng = shared.rng.fork();
        let (direction, time) = (shared.direction(self.direction), now.saturating_sub(self.began));
        let starved = || self.prefetch.clock.starved();
        let fall = direction.throttle.end(now, time, self.bytes, starved, &mut rng);
        let rate = direction.rate.add(now, self.bytes);
        // The guest needs the first ranges now, so there is no pause, even under contention.
        let at_first = shared.work.is_at_first();
        let pause = fall.as_ref().filter(|_| !at_first).and_then(|fall| self.pause(fall));
        if let Some(pause) = &pause {
            shared.phase.hold(now, pause);
        }
        let has_widened = self.direction == Direction::Read && self.bytes > 0 && at_first && shared.window.note(time);
        drop(guard);
        if has_widened {
            self.prefetch.widened.notify(usize::MAX);
        }
        let rates = |status: &mut PrefetchStatus| match self.direction {
            Direction::Read => status.read_rate = rate,
            Direction::Write => status.write_rate = rate,
        };
        match pause {
            None => self.prefetch.control.update(rates),
            Some(pause) => self.prefetch.control.pause_for(pause, |status| {
                status.pauses += 1;
                rates(status);
            }),
        }
    }
}

impl<S: Storage> Moving<'_, S> {
    fn pause(&self, fall: &Fall) -> Option<Pause> {
        let reason = match self.direction {
            Direction::Read => PauseReason::SlowReads,
            Direction::Write => PauseReason::SlowWrites,
        };
        fall.pause.map(|time| Pause::of_fall(reason, fall, time))
    }
}

impl<S: Storage> Prefetch<'_, S> {
    /// Measures an operation that moves `len` bytes.
    pub(super) async fn moving<T, E>(
        &self,
        direction: Direction,
        len: u64,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let now = self.clock.now();
        self.shared().direction(direction).throttle.begin(now);
        let mut moving = Moving {
            prefetch: self,
            direction,
            began: now,
            bytes: 0,
        };
        let result = operation.await;
        if result.is_ok() {
            moving.bytes = len;
        }
        result
    }
}
