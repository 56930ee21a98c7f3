//! All background work together.

use std::time::{Duration, Instant};

use fvd::copy::{Background, Control, PrefetchOptions, PrefetchState, background};
use fvd::host::{BoxFuture, Clock};
use fvd::image::OpenOptions;
use fvd::storage::IoBufMut;
use pollster::block_on;

use super::MIB;
use super::support::{Disk, FakeClock, TestBase, both, layout, run};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn prefetch_starts_after_its_delay_and_ends_the_background() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 4 * MIB), layout(4 * MIB));
    let image = disk.open();
    let control = Control::new();
    let options = PrefetchOptions {
        start_delay: Some(5 * SECOND),
        ..PrefetchOptions::default()
    };
    let all = Background::new(&image, options, Vec::new(), control.clone(), &clock, 1);
    let look = async {
        clock.sleep(4900 * SECOND / 1000).await;
        assert_eq!(control.status().state, PrefetchState::Waiting);
        assert!(disk.base.reads().is_empty());
    };
    run(&clock, both(all.run(), look));
    assert_eq!(control.status().state, PrefetchState::Finished);
    assert!((5 * SECOND..6 * SECOND).contains(&clock.now()), "{:?}", clock.now());
    assert!(disk.is_independent());
}

#[test]
fn without_a_delay_prefetch_waits_until_it_is_resumed() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 4 * MIB), layout(4 * MIB));
    let image = disk.open();
    let control = Control::new();
    let user = async {
        clock.sleep(1000 * SECOND).await;
        assert_eq!(control.status().state, PrefetchState::Waiting);
        assert!(disk.base.reads().is_empty());
        control.resume();
    };
    run(&clock, both(background(&image, control.clone(), &clock, 1), user));
    assert_eq!(control.status().state, PrefetchState::Finished);
}

#[test]
fn a_stop_ends_a_prefetch_that_has_not_started() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 4 * MIB), layout(4 * MIB));
    let image = disk.open();
    let control = Control::new();
    let user = async {
        clock.sleep(SECOND).await;
        control.stop();
    };
    run(&clock, both(background(&image, control.clone(), &clock, 1), user));
    assert_eq!(control.status().state, PrefetchState::Stopped);
    assert!(clock.now() < 2 * SECOND);
}

#[test]
fn copies_of_readers_are_stored_and_made_durable() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 4 * MIB), layout(4 * MIB));
    let options = OpenOptions {
        copy_on_read: Some(true),
        ..OpenOptions::default()
    };
    let image = disk.open_with(Some(Box::new(disk.base.clone())), options);
    let control = Control::new();
    let guest = async {
        image.read(IoBufMut::zeroed(4096), MIB).await.expect("reads");
        clock.sleep(31 * SECOND).await;
        control.stop();
    };
    run(&clock, both(background(&image, control.clone(), &clock, 1), guest));
    assert_eq!(image.stats().copied_on_read, 64 << 10);
    assert_eq!(image.stats().checkpoints, 1);
    // Dropped, not closed.
    drop(image);
    disk.base.forget_reads();
    let image = disk.open();
    run(&clock, image.read(IoBufMut::zeroed(4096), MIB)).expect("reads");
    assert!(disk.base.reads().is_empty());
}

#[test]
fn a_read_only_image_has_no_background() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, MIB), layout(MIB));
    let image = disk.open_read_only();
    run(&clock, background(&image, Control::new(), &clock, 1));
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &Control::new());
    let error = run(&clock, prefetch.run()).expect_err("cannot be");
    assert_eq!(error.kind(), fvd::ErrorKind::NotPermitted);
    assert!(disk.base.reads().is_empty());
}

/// The real time. Each sleep has a thread.
struct ThreadClock(Instant);

impl Clock for ThreadClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        let mut waits = true;
        Box::pin(std::future::poll_fn(move |context| {
            if !std::mem::replace(&mut waits, false) {
                return std::task::Poll::Ready(());
            }
            let waker = context.waker().clone();
            std::thread::spawn(move || {
                std::thread::sleep(time);
                waker.wake();
            });
            std::task::Poll::Pending
        }))
    }
}

#[test]
fn each_part_can_run_on_its_own_thread() {
    for seed in 0..20 {
        let fake = FakeClock::default();
        let disk = Disk::new(&fake, TestBase::new(&fake, 16 * MIB), layout(16 * MIB));
        let image = disk.open();
        let control = Control::new();
        let clock = ThreadClock(Instant::now());
        let options = PrefetchOptions {
            start_delay: Some(Duration::from_millis(1)),
            slots: 4,
            bytes_per_prefetch: 64 << 10,
            min_read_throughput: 0,
            min_write_throughput: 0,
            ..PrefetchOptions::default()
        };
        let all = Background::new(&image, options, Vec::new(), control.clone(), &clock, seed);
        std::thread::scope(|threads| {
            for worker in all.workers() {
                threads.spawn(|| block_on(worker));
            }
        });
        assert_eq!(control.status().state, PrefetchState::Finished);
        assert_eq!(disk.base.bytes_read(), 16 * MIB);
        assert_eq!(disk.read_all(&image), disk.base.content());
    }
}
