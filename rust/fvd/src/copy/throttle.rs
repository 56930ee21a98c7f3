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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn throttle(alpha: u32, min: u64) -> Throttle {
        Throttle::new(Limits {
            measure_time: 100 * MS,
            alpha,
            min,
            throttle_time: 30_000 * MS,
        })
    }

    /// Operations of `time` that move `bytes`, one behind the other; gives the last pause.
    fn repeat(throttle: &mut Throttle, now: &mut Duration, count: u32, time: Duration, bytes: u64) -> Option<Duration> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut pause = None;
        for _ in 0..count {
            throttle.begin(*now);
            *now += time;
            pause = throttle.end(*now, bytes, &mut rng).or(pause);
        }
        pause
    }

    #[test]
    fn the_average_moves_by_what_alpha_leaves() {
        let (mut throttle, mut now) = (throttle(80, 0), Duration::ZERO);
        repeat(&mut throttle, &mut now, 10, 10 * MS, 1000);
        assert_eq!(throttle.average, Some(100_000), "the first measurement is the average");
        repeat(&mut throttle, &mut now, 10, 10 * MS, 2000);
        assert_eq!(throttle.average, Some(120_000), "0.8 * 100000 + 0.2 * 200000");
        repeat(&mut throttle, &mut now, 1, 200 * MS, 0);
        assert_eq!(
            throttle.average,
            Some(120_000),
            "nothing was moved: nothing is measured yet"
        );
        repeat(&mut throttle, &mut now, 1, 100 * MS, 6000);
        assert_eq!(throttle.average, Some(100_000), "0.8 * 120000 + 0.2 * 20000");
    }

    #[test]
    fn time_without_an_operation_does_not_count() {
        let (mut throttle, mut now) = (throttle(0, 0), Duration::ZERO);
        for _ in 0..10 {
            repeat(&mut throttle, &mut now, 1, 10 * MS, 1000);
            now += 500 * MS;
        }
        assert_eq!(throttle.average, Some(100_000));
    }

    #[test]
    fn operations_at_once_share_their_time() {
        let (mut throttle, mut rng) = (throttle(0, 0), fastrand::Rng::with_seed(1));
        throttle.begin(Duration::ZERO);
        throttle.begin(Duration::ZERO);
        assert_eq!(throttle.end(50 * MS, 1000, &mut rng), None);
        assert_eq!(throttle.end(100 * MS, 1000, &mut rng), None);
        assert_eq!(throttle.average, Some(20_000));
    }

    proptest! {
        #[test]
        fn below_the_threshold_about_every_other_measurement_pauses_and_all_are_forgotten(seed: u64) {
            let (mut throttle, mut now) = (throttle(80, 1_000_000), Duration::ZERO);
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut pauses = Vec::new();
            for _ in 0..400 {
                throttle.begin(now);
                now += 100 * MS;
                pauses.extend(throttle.end(now, 99_000, &mut rng));
                prop_assert_eq!(throttle.average, None);
            }
            prop_assert!((120..280).contains(&pauses.len()), "{} pauses", pauses.len());
            prop_assert!(pauses.iter().all(|pause| *pause <= 30_000 * MS));
            let mean = pauses.iter().sum::<Duration>() / u32::try_from(pauses.len()).unwrap();
            prop_assert!((10_000 * MS..20_000 * MS).contains(&mean), "{mean:?}");
        }

        #[test]
        fn above_the_threshold_nothing_pauses(bytes in 100_000_u64..1 << 40, alpha in 0..=100_u32) {
            let (mut throttle, mut now) = (throttle(alpha, 1_000_000), Duration::ZERO);
            prop_assert_eq!(repeat(&mut throttle, &mut now, 50, 100 * MS, bytes), None);
            prop_assert!(throttle.average.is_some());
        }

        #[test]
        fn the_average_lies_between_what_was_measured(
            alpha in 0..=100_u32,
            all in prop::collection::vec((1_u64..1 << 50, 100_u64..10_000), 1..20),
        ) {
            let (mut throttle, mut now) = (throttle(alpha, 0), Duration::ZERO);
            let rates: Vec<u64> = all.iter().map(|(bytes, ms)| per_second(*bytes, Duration::from_millis(*ms))).collect();
            for (bytes, ms) in all {
                repeat(&mut throttle, &mut now, 1, Duration::from_millis(ms), bytes);
            }
            let average = throttle.average.unwrap();
            // Each average is rounded down.
            prop_assert!(average + 20 >= *rates.iter().min().unwrap() && average <= *rates.iter().max().unwrap());
        }
    }
}
