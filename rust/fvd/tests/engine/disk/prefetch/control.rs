//! Pause, resume, stop.

use std::future::Future as _;
use std::time::Duration;

use fvd::copy::{Control, PrefetchOptions, PrefetchState};
use fvd::host::Clock;

use super::MIB;
use super::support::{Disk, FakeClock, TestBase, both, layout, run};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_paused_prefetch_begins_no_step() {
    let clock = FakeClock::default();
    let base = TestBase::new(&clock, 8 * MIB).slow(Duration::from_millis(100));
    let disk = Disk::new(&clock, base, layout(8 * MIB));
    let image = disk.open();
    let control = Control::new();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    let user = async {
        clock.sleep(Duration::from_millis(150)).await;
        assert_eq!(control.status().state, PrefetchState::Running);
        control.pause();
        clock.sleep(SECOND).await;
        let status = control.status();
        assert_eq!(status.state, PrefetchState::Paused);
        assert_eq!(status.read_rate, 0);
        let reads = disk.base.reads().len();
        assert_eq!(reads, 4, "two that had ended, two that were under way");
        clock.sleep(100 * SECOND).await;
        assert_eq!(disk.base.reads().len(), reads);
        control.resume();
    };
    run(&clock, async { both(prefetch.run(), user).await.0.expect("finishes") });
    assert_eq!(control.status().state, PrefetchState::Finished);
    assert_eq!(disk.base.bytes_read(), 8 * MIB);
}

#[test]
fn a_stop_ends_a_paused_prefetch_for_good() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 8 * MIB), layout(8 * MIB));
    let image = disk.open();
    let control = Control::new();
    control.pause();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    let user = async {
        clock.sleep(SECOND).await;
        control.stop();
        control.resume();
    };
    run(&clock, async { both(prefetch.run(), user).await.0.expect("stops") });
    assert_eq!(control.status().state, PrefetchState::Stopped);
    assert!(disk.base.reads().is_empty());
}

#[test]
fn every_change_can_be_waited_for() {
    let clock = FakeClock::default();
    let base = TestBase::new(&clock, 8 * MIB).slow(Duration::from_millis(100));
    let disk = Disk::new(&clock, base, layout(8 * MIB));
    let image = disk.open();
    let control = Control::new();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    let watch = async {
        let (mut seen, mut status) = (Vec::new(), control.status());
        while !status.state.is_final() {
            status = control.changed(status.version).await;
            seen.push(status.local);
        }
        seen
    };
    let (outcome, seen) = run(&clock, both(prefetch.run(), watch));
    outcome.expect("finishes");
    assert!(seen.is_sorted());
    assert!(seen.contains(&(4 * MIB)) && seen.ends_with(&[8 * MIB]), "{seen:?}");
    let status = control.status();
    let late = control.changed_within(status.version, Duration::from_millis(1));
    assert_eq!(late.version, status.version, "nothing changed within that time");
}

#[test]
fn a_dropped_slot_ends_its_step() {
    let clock = FakeClock::default();
    let base = TestBase::new(&clock, 4 * MIB).slow(Duration::from_millis(100));
    let disk = Disk::new(&clock, base, layout(4 * MIB));
    let image = disk.open();
    let control = Control::new();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    let dropped = async {
        let mut slot = Box::pin(prefetch.slot());
        std::future::poll_fn(|context| {
            assert!(slot.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        clock.sleep(Duration::from_millis(50)).await;
    };
    run(&clock, async {
        both(prefetch.slot(), dropped).await.0.expect("finishes");
    });
    assert_eq!(control.status().state, PrefetchState::Finished);
    assert_eq!(disk.read_all(&image), disk.base.content());
}
