//! A base that fails, and a full image.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fvd::ErrorKind;
use fvd::copy::{Control, PrefetchOptions, PrefetchState};
use fvd::format::LayoutOptions;
use fvd::host::Clock;
use fvd::storage::{IoBufMut, MemoryStorage};

use super::support::{Disk, FakeClock, TestBase, both, layout, run};
use super::{KIB, MIB};

fn disk() -> Disk {
    let clock = FakeClock::default();
    let base = TestBase::new(&clock, 4 * MIB).slow(Duration::from_millis(1));
    Disk::new(&clock, base, layout(4 * MIB))
}

#[test]
fn a_base_that_keeps_failing_ends_prefetch() {
    let disk = disk();
    disk.base.fail_if(|_| true);
    let image = disk.open();
    let control = Control::new();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    let error = run(&disk.clock, prefetch.run()).expect_err("fails");
    assert_eq!(error.errno(), Some(5));
    let status = control.status();
    assert_eq!(status.state, PrefetchState::Failed);
    assert_eq!(status.error.expect("the reason").errno(), Some(5));
    assert_eq!((status.local, status.fetched, status.retries), (0, 0, 10));
    // Ten waits, each at least half of its maximum.
    assert!(disk.clock.now() >= Duration::from_secs(40), "{:?}", disk.clock.now());
    disk.base.heal();
    assert_eq!(disk.read_all(&image), disk.base.content());
    run(&disk.clock, image.close()).expect("closes");
    disk.base.forget_reads();
    assert!(!disk.is_independent());
    assert_eq!(disk.read_all(&disk.open()), disk.base.content());
    assert_eq!(disk.base.bytes_read(), 4 * MIB, "nothing is local");
}

#[test]
fn only_a_bad_block_stays_in_the_base() {
    for block in [64 * KIB, 2 * MIB] {
        let clock = FakeClock::default();
        let base = TestBase::new(&clock, 4 * MIB).slow(Duration::from_millis(1));
        let shape = LayoutOptions {
            block_size: Some(block),
            ..layout(4 * MIB)
        };
        let disk = Disk::new(&clock, base, shape);
        disk.base.fail_if(|bytes| bytes.contains(&(3 * MIB + 77)));
        let image = disk.open();
        let control = Control::new();
        let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
        run(&disk.clock, prefetch.run()).expect_err("fails in the end");
        assert_eq!(control.status().local, 4 * MIB - block);
        assert!(!disk.is_independent());
        disk.base.heal();
        disk.base.forget_reads();
        run(
            &clock,
            disk.prefetch(&image, PrefetchOptions::default(), &control).run(),
        )
        .expect("finishes");
        assert_eq!(disk.base.bytes_read(), block);
        assert!(disk.is_independent());
        assert_eq!(control.status().error.map(|error| error.to_string()), None);
    }
}

#[test]
fn prefetch_completes_after_the_base_recovers() {
    let disk = disk();
    let left = AtomicU32::new(7);
    disk.base.fail_if(move |_| {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
    });
    let image = disk.open();
    let control = Control::new();
    run(
        &disk.clock,
        disk.prefetch(&image, PrefetchOptions::default(), &control).run(),
    )
    .expect("finishes");
    let status = control.status();
    assert_eq!(status.state, PrefetchState::Finished);
    assert!((3..=7).contains(&status.retries), "{} retries", status.retries);
    assert_eq!(disk.read_all(&image), disk.base.content());
    assert!(disk.is_independent());
}

#[test]
fn only_failures_in_a_row_add_up() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 8 * MIB), layout(8 * MIB));
    let reads = AtomicU32::new(0);
    disk.base
        .fail_if(move |_| reads.fetch_add(1, Ordering::SeqCst).is_multiple_of(3));
    let image = disk.open();
    let control = Control::new();
    let options = PrefetchOptions {
        slots: 1,
        bytes_per_prefetch: 64 * KIB,
        ..PrefetchOptions::default()
    };
    run(&clock, disk.prefetch(&image, options, &control).run()).expect("finishes");
    assert!(control.status().retries > 50, "{} retries", control.status().retries);
    // Each wait is that of a first failure.
    assert!(clock.now() < Duration::from_secs(10), "{:?}", clock.now());
}

#[test]
fn no_read_reaches_the_base_during_a_backoff() {
    let disk = disk();
    disk.base.fail_if(|_| true);
    let image = disk.open();
    let control = Control::new();
    let options = PrefetchOptions {
        first_backoff: Duration::from_secs(10),
        ..PrefetchOptions::default()
    };
    let prefetch = disk.prefetch(&image, options, &control);
    let look = async {
        disk.clock.sleep(Duration::from_secs(4)).await;
        assert_eq!(control.status().state, PrefetchState::BackingOff);
        assert!(disk.base.reads().len() <= 2);
        control.stop();
    };
    run(&disk.clock, async {
        both(prefetch.run(), look).await.0.expect("stops");
    });
    assert!(disk.clock.now() < Duration::from_secs(5), "a stop cuts the wait short");
    assert_eq!(control.status().state, PrefetchState::Stopped);
}

#[test]
fn a_full_disk_ends_prefetch_and_the_guest_continues() {
    let clock = FakeClock::default();
    let shape = LayoutOptions {
        compact: true,
        chunk_size: Some(256 * KIB),
        storage_grow_unit: Some(256 * KIB),
        ..layout(4 * MIB)
    };
    let base = TestBase::new(&clock, 4 * MIB).slow(Duration::from_millis(1));
    let disk = Disk::with_data(&clock, base, shape, MemoryStorage::device(2 * MIB));
    let image = disk.open();
    let control = Control::new();
    let options = PrefetchOptions {
        bytes_per_prefetch: 256 * KIB,
        ..PrefetchOptions::default()
    };
    let error = run(&clock, disk.prefetch(&image, options, &control).run()).expect_err("no space");
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    let status = control.status();
    assert_eq!(status.state, PrefetchState::Failed);
    assert_eq!((status.local, status.retries), (2 * MIB, 0));
    disk.write(&image, 0, vec![9; 4096]);
    let buf = run(&clock, image.read(IoBufMut::zeroed(4096), 3 * MIB)).expect("reads");
    assert_eq!(buf.as_slice(), &disk.base.content()[3 * MIB as usize..][..4096]);
    run(&clock, image.flush()).expect("flushes");
}
