//! Caps and contention.

use std::time::Duration;

use fvd::copy::{Control, PauseReason, PrefetchOptions, PrefetchState};
use fvd::format::LayoutOptions;
use fvd::host::Clock;

use super::support::{Disk, FakeClock, TestBase, both, layout, run};
use super::{KIB, MIB};

const WINDOW: Duration = Duration::from_secs(2);

/// The most bytes in any two seconds.
fn most_in_a_window(moved: &[(Duration, u64)]) -> u64 {
    let windows = moved.iter().map(|(start, _)| {
        let inside = moved.iter().filter(|(at, _)| (*start..=*start + WINDOW).contains(at));
        inside.map(|(_, bytes)| bytes).sum()
    });
    windows.max().unwrap_or(0)
}

#[test]
fn reads_use_their_cap_but_stay_within_it() {
    // (cap, block, latency in ms). Huge blocks are paced part by part.
    let cases = [
        (512 * KIB, 64 * KIB, 0),
        (512 * KIB, 64 * KIB, 700),
        (300 * KIB, 2 * MIB, 5),
        (64 * KIB, 512, 1),
        (20 * MIB, 64 * KIB, 3),
    ];
    for (cap, block, latency) in cases {
        let size = (cap * 8).min(24 * MIB);
        let clock = FakeClock::default();
        let base = TestBase::new(&clock, size).slow(Duration::from_millis(latency));
        let shape = LayoutOptions {
            block_size: Some(block),
            ..layout(size)
        };
        let disk = Disk::new(&clock, base, shape);
        let image = disk.open();
        let options = PrefetchOptions {
            max_read_throughput: Some(cap),
            min_read_throughput: 0,
            ..PrefetchOptions::default()
        };
        run(&clock, disk.prefetch(&image, options, &Control::new()).run()).expect("finishes");
        let reads = disk.base.reads();
        let reads: Vec<_> = reads.iter().map(|read| (read.at, read.len())).collect();
        let most = most_in_a_window(&reads);
        assert!(
            most <= cap * 2 * 11 / 10,
            "{most} bytes in two seconds, the cap is {cap} a second"
        );
        if latency < 100 {
            let percent = clock.now().as_millis() as u64 * cap / 10 / size;
            assert!((90..110).contains(&percent), "{percent} % of the time the cap asks for");
        }
    }
}

#[test]
fn writes_stay_within_their_cap() {
    for (cap, block) in [(512 * KIB, 64 * KIB), (512 * KIB, 2 * MIB), (100 * KIB, 64 * KIB)] {
        let clock = FakeClock::default();
        let base = TestBase::new(&clock, 4 * MIB).slow(Duration::from_millis(1));
        let shape = LayoutOptions {
            block_size: Some(block),
            ..layout(4 * MIB)
        };
        let disk = Disk::new(&clock, base, shape);
        let image = disk.open();
        let options = PrefetchOptions {
            max_write_throughput: Some(cap),
            min_write_throughput: 0,
            ..PrefetchOptions::default()
        };
        let control = Control::new();
        let prefetch = disk.prefetch(&image, options, &control);
        let watch = async {
            let (mut moved, mut before) = (Vec::new(), 0);
            while !control.status().state.is_final() {
                clock.sleep(Duration::from_millis(20)).await;
                let now = image.stats().prefetched;
                moved.push((clock.now(), now - before));
                before = now;
            }
            moved
        };
        let (outcome, moved) = run(&clock, both(prefetch.run(), watch));
        outcome.expect("finishes");
        let most = most_in_a_window(&moved);
        assert!(
            most <= cap * 2 * 11 / 10,
            "{most} bytes in two seconds, the cap is {cap} a second"
        );
        assert!(
            most >= cap * 2 * 9 / 10,
            "{most} bytes in two seconds, the cap is {cap} a second"
        );
    }
}

/// Prefetches 64 MiB from a base that other users begin to use after half a second: 40 MiB/s before, 2 MiB/s
/// after. `watch` runs concurrently.
fn contended<T>(seed: u64, watch: impl AsyncFnOnce(&FakeClock, &Control) -> T) -> (FakeClock, Control, T) {
    let clock = FakeClock::default();
    let base = TestBase::new(&clock, 64 * MIB).slow(Duration::from_millis(50));
    let disk = Disk::new(&clock, base, layout(64 * MIB));
    let image = disk.open();
    let control = Control::new();
    let options = PrefetchOptions::default();
    let prefetch = fvd::copy::Prefetch::new(&image, options, Vec::new(), control.clone(), &clock, seed);
    let others = async {
        clock.sleep(Duration::from_millis(500)).await;
        disk.base.becomes(Duration::from_secs(1));
    };
    let all = both(both(prefetch.run(), others), watch(&clock, &control));
    let ((outcome, ()), watched) = run(&clock, all);
    outcome.expect("finishes, or is stopped");
    (clock, control, watched)
}

#[test]
fn contention_makes_random_pauses() {
    let times: Vec<Duration> = [1, 2]
        .map(|seed| {
            let (clock, control, ()) = contended(seed, async |_, _| ());
            assert!(control.status().pauses > 0);
            clock.now()
        })
        .into();
    assert_ne!(times[0], times[1], "two hosts do not move in step");
    assert!(times.iter().all(|time| *time > Duration::from_secs(22)), "{times:?}");
}

#[test]
fn a_pause_because_of_contention_reports_its_reason() {
    let (clock, control, (pause, stopped)) = contended(1, async |clock, control| {
        let (count, pause) = control.pauses(0).await;
        assert_eq!(count, 1);
        let mut status = control.status();
        while status.state != PrefetchState::Throttled {
            status = control.changed(status.version).await;
        }
        assert_eq!(status.pause, Some(pause));
        control.stop();
        (pause, clock.now())
    });
    assert_eq!(pause.reason, PauseReason::SlowReads);
    assert!(pause.best_rate > 20 * MIB, "{pause}");
    assert!(pause.rate < 5 * MIB && !pause.time.is_zero(), "{pause}");
    assert_eq!(control.status().pause, None, "it has ended");
    assert!(clock.now() <= stopped + Duration::from_secs(1), "a stop cuts it short");
}

#[test]
fn a_base_of_constant_speed_is_not_contended() {
    for (latency, expected) in [(50, 400), (1000, 8000)] {
        let clock = FakeClock::default();
        let base = TestBase::new(&clock, 16 * MIB).slow(Duration::from_millis(latency));
        let disk = Disk::new(&clock, base, layout(16 * MIB));
        let image = disk.open();
        let control = Control::new();
        let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
        run(&clock, prefetch.run()).expect("finishes");
        assert_eq!(control.status().pauses, 0);
        assert_eq!(clock.now(), Duration::from_millis(expected), "two slots, 1 MiB each");
    }
}
