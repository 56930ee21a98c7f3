//! The best recent speed of a base or an image.
//!
//! Pure: time is passed in.

use std::time::Duration;

/// The best covers the last 2 to 4 minutes: two windows of this length, of which the older one is dropped.
const OF_LATE: Duration = Duration::from_secs(120);

/// How fast something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Speed {
    /// Bytes per second.
    pub(super) rate: u64,
    /// Mean time of an operation.
    pub(super) latency: Duration,
}

impl Speed {
    /// Less than half the rate, with more than twice the latency: so the rate is not low only because few
    /// operations ran.
    pub(super) fn has_fallen(self, best: Self) -> bool {
        self.rate < best.rate / 2 && self.latency > best.latency * 2
    }

    fn best_of(self, other: Self) -> Self {
        Self {
            rate: self.rate.max(other.rate),
            latency: self.latency.min(other.latency),
        }
    }
}

/// The highest rate and the lowest latency of the last minutes. They may come from different measurements.
#[derive(Debug, Default)]
pub(super) struct Best {
    /// When the measurements of `now` began.
    since: Duration,
    now: Option<Speed>,
    before: Option<Speed>,
}

impl Best {
    /// Adds a measurement. Returns the best, this one included.
    pub(super) fn note(&mut self, now: Duration, speed: Speed) -> Speed {
        if now.saturating_sub(self.since) >= OF_LATE {
            (self.since, self.before) = (now, self.now.take());
        }
        let of_now = self.now.map_or(speed, |best| best.best_of(speed));
        self.now = Some(of_now);
        self.before.map_or(of_now, |before| before.best_of(of_now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn speed(rate: u64, latency_ms: u64) -> Speed {
        let latency = Duration::from_millis(latency_ms);
        Speed { rate, latency }
    }

    #[test]
    fn rate_and_latency_have_separate_bests() {
        let mut best = Best::default();
        assert_eq!(best.note(SECOND, speed(10, 5)), speed(10, 5));
        assert_eq!(best.note(2 * SECOND, speed(4, 2)), speed(10, 2));
        assert_eq!(best.note(3 * SECOND, speed(20, 9)), speed(20, 2));
    }

    #[test]
    fn old_measurements_are_forgotten() {
        let mut best = Best::default();
        best.note(SECOND, speed(100, 1));
        for second in 2..=239 {
            assert_eq!(best.note(second * SECOND, speed(10, 5)), speed(100, 1), "{second}");
        }
        assert_eq!(best.note(240 * SECOND, speed(10, 5)), speed(10, 5));
    }

    #[test]
    fn a_fall_has_half_the_rate_and_twice_the_latency() {
        let best = speed(100, 10);
        assert!(speed(49, 21).has_fallen(best));
        assert!(!speed(50, 21).has_fallen(best));
        assert!(!speed(49, 20).has_fallen(best));
    }
}
