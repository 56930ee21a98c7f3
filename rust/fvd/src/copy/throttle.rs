//! Throttle: contention is noticed by what prefetch itself gets, and answered with random pauses.
//!
//! Pure: time is passed in.

use std::time::Duration;

/// How one direction is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The shortest time that is measured.
    pub(super) measure_time: Duration,
    /// Weight of the old average, percent.
    pub(super) alpha: u32,
    /// Bytes a second below which there is contention.
    pub(super) min: u64,
    /// The longest pause.
    pub(super) throttle_time: Duration,
}

/// Throughput of one direction, bytes a second of the time in which something was under way.
///
/// Time in which prefetch waits, be it for a guest or for its own cap, says nothing about the
/// server: it does not count.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: Limits,
    under_way: u32,
    /// Since when something is under way and not yet counted in `busy`.
    since: Duration,
    /// When this measurement began.
    began: Option<Duration>,
    busy: Duration,
    bytes: u64,
    average: Option<u64>,
}

impl Throttle {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            under_way: 0,
            since: Duration::ZERO,
            began: None,
            busy: Duration::ZERO,
            bytes: 0,
            average: None,
        }
    }

    /// An operation begins.
    pub(super) fn begin(&mut self, now: Duration) {
        if self.under_way == 0 {
            self.since = now;
        }
        self.began.get_or_insert(now);
        self.under_way += 1;
    }

    /// An operation has moved `bytes`, 0 if it failed. Gives a pause that is to be made.
    pub(super) fn end(&mut self, now: Duration, bytes: u64, rng: &mut fastrand::Rng) -> Option<Duration> {
        self.under_way = self.under_way.saturating_sub(1);
        self.busy += now.saturating_sub(self.since);
        self.since = now;
        self.bytes += bytes;
        let began = self.began.unwrap_or(now);
        if now.saturating_sub(began) < self.limits.measure_time || self.busy.is_zero() || self.bytes == 0 {
            return None;
        }
        let this = per_second(self.bytes, self.busy);
        self.began = (self.under_way > 0).then_some(now);
        self.busy = Duration::ZERO;
        self.bytes = 0;
        let average = self.fold(this);
        if average >= self.limits.min {
            return None;
        }
        // What was measured before a pause says nothing about the time behind it either.
        self.average = None;
        rng.bool().then(|| random(self.limits.throttle_time, rng))
    }

    fn fold(&mut self, this: u64) -> u64 {
        let (this, alpha) = (u128::from(this), u128::from(self.limits.alpha));
        let old = self.average.map_or(this, u128::from);
        // An average of two u64 is one.
        let new = ((alpha * old + (100 - alpha) * this) / 100) as u64;
        self.average = Some(new);
        new
    }
}

/// Bytes a second; the time is not 0.
pub(super) fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos();
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A time up to the longest.
pub(super) fn random(longest: Duration, rng: &mut fastrand::Rng) -> Duration {
    let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.u64(0..=nanos))
}
