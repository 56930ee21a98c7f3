//! Prefetch from the first block to the last one.

use std::time::Duration;

use fvd::copy::{Control, Prefetch, PrefetchOptions, PrefetchState};
use fvd::format::LayoutOptions;
use fvd::image::OpenOptions;

use super::support::{Disk, FakeClock, TestBase, both, layout, run};
use super::{KIB, MIB};

#[test]
fn every_block_becomes_local_and_the_base_is_not_needed() {
    let size = 3 * MIB + 4608;
    let shapes = [
        layout(size),
        LayoutOptions {
            block_size: Some(7680),
            compact: true,
            chunk_size: Some(12 * KIB),
            storage_grow_unit: Some(96 * KIB),
            ..layout(size)
        },
        LayoutOptions {
            virtual_size: 5 * MIB,
            block_size: Some(2 * MIB + 512),
            compact: true,
            ..layout(size)
        },
        LayoutOptions {
            block_size: Some(2 * MIB),
            journal_size: Some(-1),
            ..layout(size)
        },
        LayoutOptions {
            block_size: Some(512),
            ..layout(size)
        },
    ];
    for shape in shapes {
        for slots in [1, 2, 5] {
            let clock = FakeClock::default();
            let base = TestBase::new(&clock, size).slow(Duration::from_millis(3));
            let disk = Disk::new(&clock, base, shape);
            let image = disk.open();
            let control = Control::new();
            let options = PrefetchOptions {
                slots,
                bytes_per_prefetch: 200 * KIB,
                ..PrefetchOptions::default()
            };
            run(&clock, disk.prefetch(&image, options, &control).run()).expect("finishes");
            let status = control.status();
            assert_eq!(status.state, PrefetchState::Finished);
            assert_eq!((status.local, status.fetched, status.total), (size, size, size));
            assert_eq!(disk.base.bytes_read(), size, "each byte once");
            drop(image);
            assert!(disk.is_independent());
            let image = disk.open_with(None, OpenOptions::default());
            let content = disk.read_all(&image);
            assert!(content.starts_with(disk.base.content()), "{shape:?}");
            assert!(content[size as usize..].iter().all(|byte| *byte == 0), "{shape:?}");
        }
    }
}

#[test]
fn local_blocks_and_known_zeros_are_not_read() {
    let clock = FakeClock::default();
    let zeros = MIB + 10 * KIB..3 * MIB;
    let base = TestBase::new(&clock, 4 * MIB).with_zeros(zeros.clone());
    let disk = Disk::new(&clock, base, layout(4 * MIB));
    let image = disk.open();
    disk.write(&image, 3 * MIB, vec![7; MIB as usize]);
    let control = Control::new();
    run(
        &clock,
        disk.prefetch(&image, PrefetchOptions::default(), &control).run(),
    )
    .expect("finishes");
    assert_eq!(disk.base.bytes_read(), zeros.start);
    let (status, stats) = (control.status(), image.stats());
    assert_eq!(status.local, 4 * MIB);
    assert_eq!((status.fetched, status.zeros), (zeros.start, zeros.end - zeros.start));
    assert_eq!(
        (stats.prefetched, stats.prefetched_zeros),
        (status.fetched, status.zeros)
    );
    assert_eq!(stats.base_read_bytes, status.fetched);
    let mut expected = disk.base.content().to_vec();
    expected[3 * MIB as usize..].fill(7);
    assert_eq!(disk.read_all(&image), expected);
}

#[test]
fn the_first_ranges_are_read_first() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, 4 * MIB), layout(4 * MIB));
    let image = disk.open();
    let options = PrefetchOptions {
        slots: 1,
        ..PrefetchOptions::default()
    };
    // The second range is not aligned, and the third lies outside the disk.
    let first = vec![3 * MIB..3 * MIB + 128 * KIB, MIB + 1..MIB + 2, 9 * MIB..10 * MIB];
    let prefetch = Prefetch::new(&image, options, first, Control::new(), &clock, 1);
    run(&clock, prefetch.run()).expect("finishes");
    let reads: Vec<_> = disk.base.reads().into_iter().map(|read| read.bytes).collect();
    assert_eq!(
        reads[..4],
        [
            3 * MIB..3 * MIB + 128 * KIB,
            MIB..MIB + 64 * KIB,
            0..MIB,
            MIB + 64 * KIB..2 * MIB + 64 * KIB
        ]
    );
    assert_eq!(disk.base.bytes_read(), 4 * MIB);
}

#[test]
fn durable_blocks_are_not_fetched_again_after_a_crash() {
    let clock = FakeClock::default();
    let base = TestBase::new(&clock, 8 * MIB).slow(Duration::from_millis(10));
    let disk = Disk::new(&clock, base, layout(8 * MIB));
    let image = disk.open();
    let control = Control::new();
    let options = PrefetchOptions {
        bytes_per_prefetch: 256 * KIB,
        checkpoint_bytes: MIB,
        ..PrefetchOptions::default()
    };
    {
        let prefetch = disk.prefetch(&image, options.clone(), &control);
        let watch = async {
            let mut status = control.status();
            while status.fetched < 5 * MIB + 512 * KIB {
                status = control.changed(status.version).await;
            }
            control.stop();
        };
        run(&clock, async {
            both(prefetch.run(), watch).await.0.expect("stops");
        });
    }
    assert_eq!(control.status().state, PrefetchState::Stopped);
    // Dropped, not closed.
    drop(image);
    disk.base.forget_reads();
    let image = disk.open();
    run(&clock, disk.prefetch(&image, options, &Control::new()).run()).expect("finishes");
    let again = disk.base.bytes_read();
    assert!(again <= 3 * MIB + 512 * KIB, "{again} bytes read again");
    assert_eq!(disk.read_all(&image), disk.base.content());
}

#[test]
fn an_image_that_needs_no_base_is_finished_at_once() {
    let clock = FakeClock::default();
    let disk = Disk::new(&clock, TestBase::new(&clock, MIB), layout(MIB));
    let image = disk.open();
    run(
        &clock,
        disk.prefetch(&image, PrefetchOptions::default(), &Control::new()).run(),
    )
    .expect("finishes");
    drop(image);
    let image = disk.open_with(None, OpenOptions::default());
    let control = Control::new();
    let prefetch = disk.prefetch(&image, PrefetchOptions::default(), &control);
    assert_eq!(control.status().state, PrefetchState::Finished);
    run(&clock, prefetch.run()).expect("has finished");
}
