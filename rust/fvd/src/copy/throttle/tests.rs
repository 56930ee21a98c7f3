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
        fall = throttle.end(*now, time, bytes, || Duration::ZERO, &mut rng).or(fall);
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
    assert_eq!(throttle.end(50 * MS, 50 * MS, 1000, || Duration::ZERO, &mut rng), None);
    assert_eq!(
        throttle.end(100 * MS, 100 * MS, 1000, || Duration::ZERO, &mut rng),
        None
    );
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

/// Operations after which the base has fallen, if they all count.
fn fall_while(starved: Duration) -> Option<Fall> {
    let (mut throttle, mut rng) = (throttle(0, MIB), fastrand::Rng::with_seed(7));
    let (mut now, mut lacked, mut fall) = (Duration::ZERO, Duration::ZERO, None);
    for (count, time, lacks) in [(100, 10 * MS, Duration::ZERO), (10, 100 * MS, starved)] {
        for _ in 0..count {
            throttle.begin(now);
            now += time;
            lacked += lacks;
            fall = throttle.end(now, time, 8192, || lacked, &mut rng).or(fall);
        }
    }
    fall
}

#[test]
fn a_process_without_a_processor_does_not_take_the_base_for_slow() {
    assert!(fall_while(50 * MS).is_some());
    assert_eq!(fall_while(51 * MS), None);
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
            let fall = throttle.end(now, 250 * MS, 99_000, || Duration::ZERO, &mut rng);
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
