//! Bugs of the engine that the simulator has found, each in the smallest form.

use std::future::Future;

use bytes::Bytes;
use fvd::ErrorKind;
use fvd::image::dump::JournalSectors;
use fvd::image::{CacheMode, read_head};
use fvd::storage::{Allocation, IoBufMut, Storage};
use fvd_sim::check::check_crashed;
use fvd_sim::cut::Cut;
use fvd_sim::executor::{Executor, run_now};
use fvd_sim::fault::Faults;
use fvd_sim::model::Model;
use fvd_sim::rig::{Rig, SimImage, read_all};
use fvd_sim::shape::Shape;
use fvd_sim::workload::content;
use fvd_sim::world::World;

const KIB: u64 = 1024;

fn compact() -> Shape {
    Shape {
        compact: true,
        data_file: true,
        ..Shape::small()
    }
}

fn open(rig: &Rig) -> SimImage {
    run_now(rig.open(true, CacheMode::Writeback)).expect("no faults yet")
}

fn read(image: &SimImage, offset: u64, len: usize) -> Vec<u8> {
    let buf = run_now(image.read(IoBufMut::zeroed(len), offset)).expect("reads do not fail");
    buf.as_slice().to_vec()
}

#[test]
fn two_writers_share_the_last_chunk_that_fits_on_a_device() {
    let shape = Shape {
        virtual_size: 100 * KIB,
        chunk_size: 1024 * KIB,
        device: true,
        ..compact()
    };
    for seed in 0..20 {
        let (rig, _) = Rig::create(&shape, seed);
        let world = rig.file.world().clone();
        let image = open(&rig);
        world.set_queueing(true);
        let mut executor = Executor::new(&world, seed);
        for number in 0..4 {
            let image = &image;
            executor.spawn(async move {
                let bytes = Bytes::from(content(number, 4096));
                image
                    .write(bytes, number * 4096)
                    .await
                    .expect("there is room for one chunk");
            });
        }
        executor.settle();
        while executor.active() > 0 {
            executor.step();
            executor.settle();
        }
    }
}

#[test]
fn a_writer_waiting_for_room_shares_a_concurrent_writers_chunk() {
    const CHUNK: u64 = 256 * KIB;
    let shape = Shape {
        virtual_size: 2 * CHUNK,
        chunk_size: CHUNK,
        device: true,
        ..compact()
    };
    for journal_size in [-1, 4096] {
        let shape = Shape {
            journal_size,
            ..shape.clone()
        };
        for seed in 0..300 {
            let (rig, _) = Rig::create(&shape, seed);
            let world = rig.file.world().clone();
            let image = open(&rig);
            for chunk in 0..2 {
                let bytes = Bytes::from(content(chunk, 4 * KIB));
                run_now(image.write(bytes, chunk * CHUNK)).expect("there is room for every chunk");
            }
            run_now(image.discard(CHUNK, CHUNK)).expect("no faults");
            world.set_queueing(true);
            let mut executor = Executor::new(&world, seed);
            let mut rng = fastrand::Rng::with_seed(seed);
            for number in 0..4 {
                let image = &image;
                executor.spawn(async move {
                    let bytes = Bytes::from(content(number, 4096));
                    let written = image.write(bytes, CHUNK + number * 4096).await;
                    written.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                });
                // Each flush takes a commit round that a writer also waits for.
                executor.spawn(async move { image.flush().await.expect("no faults") });
                executor.settle();
                for _ in 0..rng.u8(..6) {
                    executor.step();
                    executor.settle();
                }
            }
            while executor.active() > 0 {
                executor.step();
                executor.settle();
            }
        }
    }
}

#[test]
fn a_device_has_room_for_every_chunk_after_most_were_freed() {
    let shape = Shape {
        virtual_size: 512 * KIB,
        chunk_size: 4 * KIB,
        device: true,
        ..compact()
    };
    let (rig, _) = Rig::create(&shape, 1);
    let fill = |image: &SimImage| {
        for chunk in 0..128 {
            let bytes = Bytes::from(content(chunk, 4 * KIB));
            run_now(image.write(bytes, chunk * 4 * KIB)).expect("there is room for every chunk");
        }
    };
    let image = open(&rig);
    fill(&image);
    // The chunk with the highest number remains.
    run_now(image.discard(0, 508 * KIB)).expect("no faults");
    run_now(image.close()).expect("no faults");
    fill(&open(&rig));
}

#[test]
fn a_sector_in_which_the_file_ended_is_not_torn() {
    let shape = Shape {
        compact: false,
        ..compact()
    };
    for journal_size in [4096, 1000] {
        // Without bitmap and table, an unrounded journal size only moves the data.
        for data_file in [true, false] {
            let shape = Shape {
                journal_size,
                data_file,
                ..shape.clone()
            };
            let (rig, before) = Rig::create(&shape, 1);
            let world = rig.file.world().clone();
            let image = open(&rig);
            let mut model = Model::new(&before);
            for (offset, len) in [(0, 700), (512, 1536)] {
                let bytes = content(offset, len);
                let id = model.begin_write(offset, &bytes);
                run_now(image.write(Bytes::from(bytes), offset)).expect("no faults");
                model.ack_write(id, false);
            }
            for seed in 0..200 {
                let media = world.cut(Cut::Sectors(seed));
                check_crashed(&rig, &media, &model, seed).expect("each sector is old or new");
            }
        }
    }
}

/// Two writes that share a sector. With `steps`, a third one comes first and is cancelled after that many
/// operations.
fn write_around_the_end(rig: &Rig, seed: u64, steps: Option<u64>) -> (SimImage, Model) {
    let mut before = vec![0; rig.shape.virtual_size as usize];
    let world = rig.file.world().clone();
    let image = open(rig);
    let read = run_now(read_all(&image)).expect("no faults yet");
    before.copy_from_slice(&read);
    let mut model = Model::new(&before);
    if let Some(steps) = steps {
        let bytes = content(9, 700);
        let id = model.begin_write(0, &bytes);
        cancel_after(&world, seed, steps, image.write(Bytes::from(bytes), 0));
        model.fail_write(id);
    }
    for (offset, len) in [(0, 700), (512, 1536)] {
        let bytes = content(offset, len);
        let id = model.begin_write(offset, &bytes);
        run_now(image.write(Bytes::from(bytes), offset)).expect("there is room for it");
        model.ack_write(id, false);
    }
    (image, model)
}

#[test]
fn a_cancelled_length_change_does_not_tear_a_sector() {
    let shape = Shape {
        compact: false,
        data_file: false,
        journal_size: 1000,
        ..compact()
    };
    for seed in 0..40 {
        let (rig, _) = Rig::create(&shape, seed);
        let (_image, model) = write_around_the_end(&rig, seed, Some(seed % 4));
        for cut in 0..50 {
            let media = rig.file.world().cut(Cut::Sectors(cut));
            check_crashed(&rig, &media, &model, seed).expect("each sector is old or new");
        }
    }
}

#[test]
fn no_sector_is_torn_if_the_file_cannot_reach_the_disk_size() {
    for data_file in [true, false] {
        let shape = Shape {
            compact: false,
            data_file,
            ..compact()
        };
        let (rig, _) = Rig::create(&shape, 1);
        rig.file.world().set_faults(Faults {
            longest: Some(64 * KIB),
            ..Faults::default()
        });
        let (image, model) = write_around_the_end(&rig, 1, None);
        for cut in 0..200 {
            let media = rig.file.world().cut(Cut::Sectors(cut));
            check_crashed(&rig, &media, &model, cut).expect("each sector is old or new");
        }
        let beyond = run_now(image.write(Bytes::from(content(3, 512)), shape.virtual_size - 512));
        assert_eq!(beyond.expect_err("it does not fit").kind(), ErrorKind::NoSpace);
    }
}

#[test]
fn data_of_a_failed_write_in_a_new_chunk_does_not_reappear() {
    for seed in 0..20 {
        let (rig, _) = Rig::create(&compact(), seed);
        let world = rig.file.world().clone();
        let image = open(&rig);
        // The third operation is the write itself, after the truncation and the extension of the file.
        for fail_at in 1..5 {
            let chunk = (fail_at - 1) % 2 * 64 * KIB;
            world.set_faults(Faults {
                fail_at: Some(fail_at),
                ..Faults::default()
            });
            let _ = run_now(image.write(Bytes::from(content(seed, 8192)), chunk));
            world.set_faults(Faults::default());
            let seen = read(&image, chunk, 8192);
            run_now(image.flush()).expect("no faults any more");
            let other = Bytes::from(content(!seed, 512));
            run_now(image.write(other, chunk + 32 * KIB)).expect("no faults any more");
            assert_eq!(read(&image, chunk, 8192), seen, "seed {seed}, failed at {fail_at}");
        }
    }
}

#[test]
fn data_of_a_cancelled_write_in_a_new_chunk_does_not_reappear() {
    for seed in 0..20 {
        let (rig, _) = Rig::create(&compact(), seed);
        let world = rig.file.world().clone();
        let image = open(&rig);
        run_now(image.write(Bytes::from(content(seed, 512)), 64 * KIB)).expect("no faults");
        world.set_queueing(true);
        let mut executor = Executor::new(&world, seed);
        let task = executor.spawn(async {
            let _ = image.write(Bytes::from(content(seed, 8192)), 0).await;
        });
        for _ in 0..seed % 3 {
            executor.settle();
            executor.step();
        }
        executor.settle();
        executor.cancel(task);
        world.set_queueing(false);
        let seen = run_now(read_all(&image)).expect("reads do not fail");
        run_now(image.write(Bytes::from(content(seed, 512)), 32 * KIB)).expect("no faults");
        assert_eq!(
            read(&image, 0, 32 * KIB as usize),
            seen[..32 * KIB as usize],
            "seed {seed}"
        );
    }
}

/// Starts `future`, completes `steps` operations, and cancels it.
fn cancel_after(world: &World, seed: u64, steps: u64, future: impl Future) {
    world.set_queueing(true);
    let mut executor = Executor::new(world, seed);
    let task = executor.spawn(async {
        future.await;
    });
    executor.settle();
    for _ in 0..steps {
        if executor.active() > 0 {
            executor.step();
            executor.settle();
        }
    }
    executor.cancel(task);
    world.set_queueing(false);
}

/// Whether the journal holds records although the image is marked clean.
fn has_ignored_records(rig: &Rig, cut: Cut) -> bool {
    let rig = rig.on(&World::immediate(), &rig.file.world().cut(cut));
    let head = run_now(read_head(&rig.file)).expect("the header is good");
    let mut sectors = JournalSectors::new(&rig.file, &head);
    let first = run_now(sectors.next()).expect("reads do not fail");
    head.header.clean_shutdown && first.is_some()
}

#[test]
fn after_a_cancelled_flush_the_unclean_mark_precedes_records() {
    for seed in 0..100 {
        let (rig, _) = Rig::create(&compact(), seed);
        let world = rig.file.world().clone();
        let image = open(&rig);
        run_now(image.write(Bytes::from(content(seed, 512)), 0)).expect("no faults");
        cancel_after(&world, seed, seed % 5, image.flush());
        cancel_after(&world, seed, seed / 5 % 8, image.flush());
        for cut in 0..20 {
            assert!(!has_ignored_records(&rig, Cut::Sectors(cut)), "seed {seed}, cut {cut}");
        }
    }
}

#[test]
fn a_flush_after_a_cancelled_close_survives() {
    for data_file in [true, false] {
        for seed in 0..100 {
            let shape = Shape { data_file, ..compact() };
            let (rig, mut expected) = Rig::create(&shape, seed);
            let world = rig.file.world().clone();
            let image = open(&rig);
            for (offset, steps) in [(0, Some(seed % 12)), (64 * KIB, None)] {
                let bytes = content(seed + offset, 512);
                expected[offset as usize..][..512].copy_from_slice(&bytes);
                run_now(image.write(Bytes::from(bytes), offset)).expect("no faults");
                match steps {
                    Some(steps) => cancel_after(&world, seed, steps, image.close()),
                    None => run_now(image.flush()).expect("no faults"),
                }
            }
            let found = check_crashed(&rig, &world.cut(Cut::Nothing), &Model::new(&expected), seed);
            assert_eq!(found.expect("the flush made it durable"), expected, "seed {seed}");
        }
    }
}

#[test]
fn a_close_after_a_failed_flush_fails_too() {
    for fail_at in 1..8 {
        let (rig, _) = Rig::create(&compact(), fail_at);
        let world = rig.file.world().clone();
        let image = open(&rig);
        run_now(image.write(Bytes::from(content(1, 512)), 0)).expect("no faults");
        world.set_faults(Faults {
            fail_at: Some(fail_at),
            ..Faults::default()
        });
        world.set_queueing(true);
        let (mut flushed, mut closed) = (None, None);
        let mut executor = Executor::new(&world, fail_at);
        executor.spawn(async { flushed = Some(image.flush().await) });
        executor.settle();
        executor.spawn(async { closed = Some(image.close().await) });
        executor.settle();
        while executor.active() > 0 {
            executor.step();
            executor.settle();
        }
        drop(executor);
        if flushed.expect("it has ended").is_err() {
            closed
                .expect("it has ended")
                .expect_err("what was lost does not come back");
        }
    }
}

#[test]
fn what_an_unsafe_flush_covered_survives_the_process() {
    for compact_image in [true, false] {
        let shape = Shape {
            base_size: Some(100 * KIB),
            compact: compact_image,
            cache: CacheMode::Unsafe,
            ..compact()
        };
        let (rig, mut expected) = Rig::create(&shape, 1);
        let image = run_now(rig.open(true, CacheMode::Unsafe)).expect("no faults");
        let bytes = content(2, 512);
        expected[..512].copy_from_slice(&bytes);
        run_now(image.write(Bytes::from(bytes), 0)).expect("no faults");
        run_now(image.flush()).expect("no faults");
        drop(image);
        let found = check_crashed(&rig, &rig.media(), &Model::new(&expected), 1);
        assert_eq!(found.expect("the image is as good as any"), expected);
    }
}

#[test]
fn zeroing_across_the_base_end_stores_no_zeros_after_it() {
    let shape = Shape {
        virtual_size: 4096 * KIB,
        base_size: Some(100 * KIB),
        block_size: 64 * KIB,
        ..compact()
    };
    for compact_image in [true, false] {
        let shape = Shape {
            compact: compact_image,
            ..shape.clone()
        };
        let (rig, mut expected) = Rig::create(&shape, 1);
        let image = open(&rig);
        let start = 90 * KIB;
        run_now(image.write_zeroes(start, shape.virtual_size - start)).expect("no faults");
        expected[start as usize..].fill(0);
        assert_eq!(run_now(read_all(&image)).expect("reads do not fail"), expected);
        let end = 128 * KIB;
        let status = run_now(rig.data.allocation(end, shape.virtual_size - end));
        let hole = (Allocation::Hole, shape.virtual_size - end);
        assert_eq!(status.expect("no faults"), hole, "{shape}");
    }
}
