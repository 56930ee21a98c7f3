//! The rate that a user sees, in bytes per second, waits included.

use std::time::Duration;

use super::throttle::per_second;

/// The shortest time of a measurement.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct ShownRate {
    since: Duration,
    bytes: u64,
    average: Option<u64>,
}

impl ShownRate {
    pub(super) fn new(now: Duration) -> Self {
        let since = now;
        Self {
            since,
            ..Self::default()
        }
    }

    /// Counts bytes. Returns the recent rate in bytes per second.
    pub(super) fn add(&mut self, now: Duration, bytes: u64) -> u64 {
        self.bytes += bytes;
        let time = now.saturating_sub(self.since);
        if time < PERIOD {
            return self.average.unwrap_or(0);
        }
        let this = per_second(self.bytes, time);
        let average = self.average.map_or(this, |old| old / 2 + this / 2);
        (self.since, self.bytes, self.average) = (now, 0, Some(average));
        average
    }
}
