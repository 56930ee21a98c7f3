//! Prefetch during requests of the guest.

use std::time::Duration;

use bytes::Bytes;
use fvd::copy::{Control, PrefetchOptions, PrefetchState};
use fvd::format::LayoutOptions;
use fvd::host::Clock;
use fvd::image::OpenOptions;
use fvd::storage::IoBufMut;

use super::support::{Disk, FakeClock, Read, TestBase, both, layout, run, within};
use super::{KIB, MIB};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_guest_write_during_the_fetch_of_its_block_stays() {
    // Whole blocks; one block in parts; one chunk for several blocks.
    for (block, compact) in [(64 * KIB, false), (2 * MIB, false), (64 * KIB, true), (2 * MIB, true)] {
        for seed in 0..20 {
            let clock = FakeClock::default();
            let base = TestBase::new(&clock, 4 * MIB).slow(10 * MS);
            let shape = LayoutOptions {
                block_size: Some(block),
                compact,
                ..layout(4 * MIB)
            };
            let disk = Disk::new(&clock, base, shape);
            let image = disk.open();
            let options = PrefetchOptions {
                bytes_per_prefetch: 256 * KIB,
                ..PrefetchOptions::default()
            };
            let control = Control::new();
            let prefetch = disk.prefetch(&image, options, &control);
            let mut expected = disk.base.content().to_vec();
            let guest = async {
                let mut rng = fastrand::Rng::with_seed(seed);
                while !control.status().state.is_final() {
                    let offset = rng.u64(..4 * MIB);
                    let longest = if rng.bool() { 4 * KIB } else { 300 * KIB };
                    let len = rng.u64(1..=longest).min(4 * MIB - offset);
                    let (bytes, range) = (
                        vec![rng.u8(1..); len as usize],
                        offset as usize..(offset + len) as usize,
                    );
                    expected[range].copy_from_slice(&bytes);
                    image.write(Bytes::from(bytes), offset).await.expect("writes");
                    clock.sleep(rng.u32(..20) * MS).await;
                }
            };
            run(&clock, async { both(prefetch.run(), guest).await.0.expect("finishes") });
            assert!(
                disk.read_all(&image) == expected,
                "block {block}, compact {compact}, seed {seed}"
            );
            run(&clock, image.close()).expect("closes");
            let image = disk.open_with(None, OpenOptions::default());
            assert!(
                disk.read_all(&image) == expected,
                "block {block}, compact {compact}, seed {seed}"
            );
        }
    }
}

#[test]
fn a_guest_write_counts_neither_as_fetched_nor_as_zeros() {
    // Blocks of one piece with data and zeros in it; one block in parts.
    for (block, guests) in [(64 * KIB, 64 * KIB), (MIB, 0)] {
        let clock = FakeClock::default();
        let zeros = 266 * KIB..512 * KIB;
        let base = TestBase::new(&clock, MIB).slow(10 * MS).with_zeros(zeros.clone());
        let shape = LayoutOptions {
            block_size: Some(block),
            ..layout(MIB)
        };
        let disk = Disk::new(&clock, base, shape);
        let image = disk.open();
        let options = PrefetchOptions {
            slots: 1,
            bytes_per_prefetch: if block == MIB { 128 * KIB } else { MIB },
            ..PrefetchOptions::default()
        };
        let control = Control::new();
        let guest = async {
            clock.sleep(MS).await;
            if guests > 0 {
                for offset in [0, 320 * KIB] {
                    let bytes = Bytes::from(vec![1; guests as usize]);
                    image.write(bytes, offset).await.expect("writes");
                }
            }
        };
        let prefetch = disk.prefetch(&image, options, &control);
        run(&clock, async { both(prefetch.run(), guest).await.0.expect("finishes") });
        let known = zeros.end - zeros.start;
        let (status, stats) = (control.status(), image.stats());
        assert_eq!((status.fetched, status.zeros), (MIB - known - guests, known - guests));
        assert_eq!(
            (stats.prefetched, stats.prefetched_zeros),
            (status.fetched, status.zeros)
        );
        assert_eq!(status.local, MIB);
    }
}

#[test]
fn a_cancelled_write_during_a_fetch_leaves_no_data() {
    for compact in [false, true] {
        let clock = FakeClock::default();
        let base = TestBase::new(&clock, 4 * MIB).slow(10 * MS);
        let shape = LayoutOptions {
            block_size: Some(4 * MIB),
            compact,
            ..layout(4 * MIB)
        };
        let disk = Disk::new(&clock, base, shape);
        let image = disk.open();
        let control = Control::new();
        let options = PrefetchOptions {
            bytes_per_prefetch: 256 * KIB,
            ..PrefetchOptions::default()
        };
        let prefetch = disk.prefetch(&image, options, &control);
        let guest = async {
            clock.sleep(55 * MS).await;
            // The write is stored; the rest of the block is still being fetched.
            let write = image.write(Bytes::from(vec![0; 4096]), 100 * KIB);
            assert!(within(&clock, 25 * MS, write).await.is_none(), "the write was too fast");
            let buf = image.read(IoBufMut::zeroed(4096), 100 * KIB).await.expect("reads");
            assert!(buf.as_slice() == &disk.base.content()[100 << 10..][..4096]);
        };
        run(&clock, async {
            both(prefetch.run(), guest).await.0.expect("finishes");
        });
        assert!(disk.read_all(&image) == disk.base.content(), "compact {compact}");
        assert!(disk.base.bytes_read() > 4 * MIB + 256 * KIB, "it was not disturbed");
    }
}

/// Reads of the base with this length belong to the guest.
const GUEST_READ: u64 = 4096;
/// Latency of a read of the base.
const LATENCY: Duration = Duration::from_millis(2);

/// The reads of prefetch from the base in `time`, while a guest also reads it, with pauses of `think`.
fn read_beside(think: Duration, time: Duration) -> Vec<Read> {
    let clock = FakeClock::default();
    let base = TestBase::new(&clock, 32 * MIB).slow(LATENCY);
    let disk = Disk::new(&clock, base, layout(32 * MIB));
    let image = disk.open();
    let control = Control::new();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    let guest = async {
        while clock.now() < time {
            let (begun, buf) = (clock.now(), IoBufMut::zeroed(GUEST_READ as usize));
            image.read(buf, 31 * MIB).await.expect("reads");
            assert!(clock.now() > begun, "prefetch has come this far already");
            if !think.is_zero() {
                clock.sleep(think).await;
            }
        }
        control.stop();
    };
    run(&clock, async {
        both(guest, prefetch.run()).await.1.expect("stops");
    });
    let reads = disk.base.reads().into_iter();
    reads.filter(|read| read.len() != GUEST_READ).collect()
}

#[test]
fn a_busy_guest_slows_prefetch_but_does_not_stop_it() {
    let reads = read_beside(Duration::ZERO, 10_000 * MS);
    assert!((30..=40).contains(&reads.len()), "{} reads in 10 s", reads.len());
    assert!(reads.iter().all(|read| read.len() == 128 * KIB));
}

#[test]
fn prefetch_takes_small_steps_while_the_guest_is_idle() {
    let reads = read_beside(10 * MS, 100 * MS);
    assert!(reads.len() > 20, "{} reads in 100 ms", reads.len());
    for read in reads {
        assert!(read.len() <= 128 * KIB, "{read:?}");
        // The guest is busy for 2 of every 12 ms. Then prefetch waits 3 ms to see whether it stays idle.
        let begun = read.at.saturating_sub(LATENCY).as_millis() % 12;
        assert!((5..12).contains(&begun), "{read:?}");
    }
}

#[test]
fn the_status_says_that_prefetch_waits_for_the_guest() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 8 * MIB).slow(1000 * MS), layout(8 * MIB));
    let image = disk.open();
    let control = Control::new();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    let guest = async {
        let buf = IoBufMut::zeroed(4096);
        image.read(buf, 7 * MIB).await.expect("reads");
    };
    let look = async {
        clock.sleep(100 * MS).await;
        assert_eq!(control.status().state, PrefetchState::Yielding);
        control.stop();
    };
    run(&clock, async {
        both(guest, both(prefetch.run(), look)).await.1.0.expect("stops");
    });
    assert_eq!(control.status().fetched, 0);
}
