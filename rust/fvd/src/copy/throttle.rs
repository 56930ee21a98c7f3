//! Throttle: detects contention from the speed of prefetch itself, and pauses for a random time.
//!
//! Pure: time is passed in.

use std::time::Duration;

use super::best::{Best, Speed};

/// The limits for one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The shortest time of a measurement.
    pub(super) measure_time: Duration,
    /// Weight of the old average, in percent.
    pub(super) alpha: u32,
    /// With this many bytes per second or more, there is no contention.
    pub(super) min: u64,
    /// The longest pause.
    pub(super) throttle_time: Duration,
}

/// A sign of contention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fall {
    pub(super) now: Speed,
    pub(super) best: Speed,
    /// None: no pause this time.
    pub(super) pause: Option<Duration>,
}

/// Throughput of one direction, in bytes per second of the time with an operation in flight.
///
/// Time in which prefetch waits, for the guest or for its own cap, does not count: it says nothing about the
/// server.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: Limits,
    in_flight: u32,
    /// Since when an operation is in flight, for the time that `busy` does not contain yet.
    since: Duration,
    /// When this measurement began.
    began: Option<Duration>,
    busy: Duration,
    bytes: u64,
    /// The number of operations that have ended. `waited`: the sum of their times.
    operations: u32,
    waited: Duration,
    /// [`Clock::starved`](crate::host::Clock::starved) at the end of the last measurement.
    starved: Duration,
    average: Option<Speed>,
    best: Best,
}

impl Throttle {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            in_flight: 0,
            since: Duration::ZERO,
            began: None,
            busy: Duration::ZERO,
            bytes: 0,
            operations: 0,
            waited: Duration::ZERO,
            starved: Duration::ZERO,
            average: None,
            best: Best::default(),
        }
    }

    /// Changes the rate from which on there is no contention, in bytes per second.
    pub(super) fn set_min(&mut self, min: u64) {
        self.limits.min = min;
    }

    /// An operation begins.
    pub(super) fn begin(&mut self, now: Duration) {
        if self.in_flight == 0 {
            self.since = now;
        }
        self.began.get_or_insert(now);
        self.in_flight += 1;
    }

    /// An operation ends that took `time` and moved `bytes` (0 if it failed). Returns a sign of contention.
    ///
    /// A low rate alone is no such sign: an idle base is slow too if little is in flight, or if it is far
    /// away. So contention is a fall: less than half of the best recent rate, and more than twice the best
    /// recent latency.
    ///
    /// `starved`: how long threads of this process have been without a processor. A measurement is dropped if that
    /// is more than half of its time, because operations then take twice as long whatever the medium does.
    pub(super) fn end(
        &mut self,
        now: Duration,
        time: Duration,
        bytes: u64,
        starved: impl FnOnce() -> Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Fall> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.busy += now.saturating_sub(self.since);
        self.since = now;
        self.bytes += bytes;
        self.operations += 1;
        self.waited += time;
        let began = self.began.unwrap_or(now);
        if now.saturating_sub(began) < self.limits.measure_time || self.busy.is_zero() || self.bytes == 0 {
            return None;
        }
        let this = Speed {
            rate: per_second(self.bytes, self.busy),
            latency: self.waited / self.operations,
        };
        let starved = starved();
        let is_starved = starved.saturating_sub(std::mem::replace(&mut self.starved, starved)) > self.busy / 2;
        self.began = (self.in_flight > 0).then_some(now);
        (self.busy, self.waited) = (Duration::ZERO, Duration::ZERO);
        (self.bytes, self.operations) = (0, 0);
        if is_starved {
            return None;
        }
        let average = self.fold(this);
        let best = self.best.note(now, average);
        if average.rate >= self.limits.min || !average.has_fallen(best) {
            return None;
        }
        // After a pause, old measurements say nothing.
        self.average = None;
        let pause = rng.bool().then(|| random(self.limits.throttle_time, rng));
        let now = average;
        Some(Fall { now, best, pause })
    }

    fn fold(&mut self, this: Speed) -> Speed {
        let old = self.average.unwrap_or(this);
        let new = Speed {
            rate: self.weigh(u128::from(old.rate), u128::from(this.rate)),
            latency: Duration::from_nanos(self.weigh(old.latency.as_nanos(), this.latency.as_nanos())),
        };
        self.average = Some(new);
        new
    }

    fn weigh(&self, old: u128, this: u128) -> u64 {
        let alpha = u128::from(self.limits.alpha);
        let new = (alpha * old + (100 - alpha) * this) / 100;
        u64::try_from(new).unwrap_or(u64::MAX)
    }
}

/// Bytes per second. `time` must not be 0.
pub(super) fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos();
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A random time of at most `longest`.
pub(super) fn random(longest: Duration, rng: &mut fastrand::Rng) -> Duration {
    let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.u64(0..=nanos))
}

#[cfg(test)]
mod tests;
