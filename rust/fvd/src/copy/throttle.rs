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
            average: None,
            best: Best::default(),
        }
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
    pub(super) fn end(&mut self, now: Duration, time: Duration, bytes: u64, rng: &mut fastrand::Rng) -> Option<Fall> {
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
        self.began = (self.in_flight > 0).then_some(now);
        (self.busy, self.waited) = (Duration::ZERO, Duration::ZERO);
        (self.bytes, self.operations) = (0, 0);
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MIB: u64 = 1 << 20;

    fn throttle(alpha: u32, min: u64) -> Throttle {
        Throttle::new(Limits {
            measure_time: 100 * MS,
            alpha,
            min,
            throttle_time: 30_000 * MS,
        })
    }

    fn rate(throttle: &Throttle) -> Option<u64> {
        throttle.average.map(|average| average.rate)
    }

    /// Operations of `time` that move `bytes`, one after the other. Returns the last fall.
    fn repeat(throttle: &mut Throttle, now: &mut Duration, count: u32, time: Duration, bytes: u64) -> Option<Fall> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut fall = None;
        for _ in 0..count {
            throttle.begin(*now);
            *now += time;
            fall = throttle.end(*now, time, bytes, &mut rng).or(fall);
        }
        fall
    }

    #[test]
    fn the_average_moves_by_what_alpha_leaves() {
        let (mut throttle, mut now) = (throttle(80, 0), Duration::ZERO);
        repeat(&mut throttle, &mut now, 10, 10 * MS, 1000);
        assert_eq!(rate(&throttle), Some(100_000), "the first measurement is the average");
        repeat(&mut throttle, &mut now, 10, 10 * MS, 2000);
        assert_eq!(rate(&throttle), Some(120_000), "0.8 * 100000 + 0.2 * 200000");
        repeat(&mut throttle, &mut now, 1, 200 * MS, 0);
        assert_eq!(
            rate(&throttle),
            Some(120_000),
            "nothing was moved: nothing is measured yet"
        );
        repeat(&mut throttle, &mut now, 1, 100 * MS, 6000);
        assert_eq!(rate(&throttle), Some(100_000), "0.8 * 120000 + 0.2 * 20000");
    }

    #[test]
    fn time_without_an_operation_does_not_count() {
        let (mut throttle, mut now) = (throttle(0, 0), Duration::ZERO);
        for _ in 0..10 {
            repeat(&mut throttle, &mut now, 1, 10 * MS, 1000);
            now += 500 * MS;
        }
        assert_eq!(rate(&throttle), Some(100_000));
    }

    #[test]
    fn operations_at_once_share_their_time() {
        let (mut throttle, mut rng) = (throttle(0, 0), fastrand::Rng::with_seed(1));
        throttle.begin(Duration::ZERO);
        throttle.begin(Duration::ZERO);
        assert_eq!(throttle.end(50 * MS, 50 * MS, 1000, &mut rng), None);
        assert_eq!(throttle.end(100 * MS, 100 * MS, 1000, &mut rng), None);
        assert_eq!(rate(&throttle), Some(20_000));
    }

    #[test]
    fn a_remote_base_is_slow_without_contention() {
        for (latency, bytes) in [(30, 4096), (100, 128 << 10), (1000, MIB)] {
            let (mut throttle, mut now) = (throttle(80, 5 * MIB), Duration::ZERO);
            let fall = repeat(&mut throttle, &mut now, 1000, latency * MS, bytes);
            assert_eq!(fall, None, "{latency} ms, {bytes} bytes");
        }
    }

    #[test]
    fn a_low_rate_with_little_in_flight_is_no_fall() {
        let (mut throttle, mut now) = (throttle(80, 5 * MIB), Duration::ZERO);
        // 1 MiB takes 40 ms, 4 KiB take 31 ms.
        assert_eq!(repeat(&mut throttle, &mut now, 100, 40 * MS, MIB), None);
        assert_eq!(repeat(&mut throttle, &mut now, 1000, 31 * MS, 4096), None);
    }

    #[test]
    fn contention_ends_when_the_best_rate_is_forgotten() {
        let (mut throttle, mut now) = (throttle(80, 5 * MIB), Duration::ZERO);
        assert_eq!(repeat(&mut throttle, &mut now, 100, 20 * MS, MIB), None);
        let fall = repeat(&mut throttle, &mut now, 20, 1000 * MS, MIB).expect("a fall");
        assert!(fall.best.rate == 50 * MIB && fall.now.rate < 5 * MIB, "{fall:?}");
        repeat(&mut throttle, &mut now, 300, 1000 * MS, MIB);
        assert_eq!(repeat(&mut throttle, &mut now, 100, 1000 * MS, MIB), None);
    }

    /// A throttle with a best rate of 100 MB/s.
    fn fast(min: u64) -> (Throttle, Duration) {
        let (mut throttle, mut now) = (throttle(80, min), Duration::ZERO);
        repeat(&mut throttle, &mut now, 1, 100 * MS, 10_000_000);
        throttle.average = None;
        (throttle, now)
    }

    proptest! {
        #[test]
        fn about_every_other_fall_pauses_and_clears_the_average(seed: u64) {
            let (mut throttle, mut now) = fast(1_000_000);
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut pauses = Vec::new();
            for _ in 0..400 {
                throttle.begin(now);
                now += 250 * MS;
                let fall = throttle.end(now, 250 * MS, 99_000, &mut rng);
                pauses.extend(fall.expect("a fall").pause);
                prop_assert_eq!(throttle.average, None);
            }
            prop_assert!((120..280).contains(&pauses.len()), "{} pauses", pauses.len());
            prop_assert!(pauses.iter().all(|pause| *pause <= 30_000 * MS));
            let mean = pauses.iter().sum::<Duration>() / u32::try_from(pauses.len()).unwrap();
            prop_assert!((10_000 * MS..20_000 * MS).contains(&mean), "{mean:?}");
        }

        #[test]
        fn nothing_pauses_at_or_above_the_minimum(bytes in 300_000_u64..1 << 40, alpha in 0..=100_u32) {
            let (mut throttle, mut now) = fast(1_000_000);
            throttle.limits.alpha = alpha;
            prop_assert_eq!(repeat(&mut throttle, &mut now, 50, 300 * MS, bytes), None);
            prop_assert!(throttle.average.is_some());
        }

        #[test]
        fn the_average_lies_between_the_measurements(
            alpha in 0..=100_u32,
            all in prop::collection::vec((1_u64..1 << 50, 100_u64..10_000), 1..20),
        ) {
            let (mut throttle, mut now) = (throttle(alpha, 0), Duration::ZERO);
            let rates: Vec<u64> = all.iter().map(|(bytes, ms)| per_second(*bytes, Duration::from_millis(*ms))).collect();
            for (bytes, ms) in all {
                repeat(&mut throttle, &mut now, 1, Duration::from_millis(ms), bytes);
            }
            let average = rate(&throttle).unwrap();
            // Each average is rounded down.
            prop_assert!(average + 20 >= *rates.iter().min().unwrap() && average <= *rates.iter().max().unwrap());
        }
    }
}
