//! Images that write to their base: power cuts at every boundary, where image and base have separate volatile
//! caches, and the content of both afterwards.
//!
//! `FVD_CRASH_IMAGES`: minimum number of crash images to check in each mode.

use bytes::Bytes;
use fvd::copy::copy_on_read;
use fvd::format::BaseUpdate;
use fvd::image::CacheMode;
use fvd::storage::IoBufMut;
use fvd_sim::check::{check_closed, check_crashed};
use fvd_sim::cut::Cut;
use fvd_sim::executor::{Executor, run_now};
use fvd_sim::fault::{Faults, Lie, Target};
use fvd_sim::model::Model;
use fvd_sim::rig::{Rig, SimImage, read_all};
use fvd_sim::run::{Failure, Plan, run};
use fvd_sim::shape::Shape;
use fvd_sim::workload::content;
use fvd_sim::world::World;

const KIB: u64 = 1024;
const MODES: [BaseUpdate; 3] = [
    BaseUpdate::Writethrough,
    BaseUpdate::Writeback,
    BaseUpdate::Writenocache,
];

/// Crash images for each mode.
const IMAGES: u64 = 1500;

fn crash(updates: BaseUpdate) {
    let wanted = std::env::var("FVD_CRASH_IMAGES").map_or(IMAGES, |text| text.parse().expect("a number"));
    let mut images = 0;
    for seed in 1.. {
        if images >= wanted {
            return;
        }
        let plan = Plan {
            updates: Some(updates),
            ..Plan::new(seed)
        };
        match run(&plan) {
            Ok(report) => images += report.images,
            Err(failure) => panic!("{}: {failure}", updates.name()),
        }
    }
}

#[test]
fn writethrough_survives_a_power_cut_at_any_boundary() {
    crash(BaseUpdate::Writethrough);
}

#[test]
fn writeback_survives_a_power_cut_at_any_boundary() {
    crash(BaseUpdate::Writeback);
}

#[test]
fn writenocache_survives_a_power_cut_at_any_boundary() {
    crash(BaseUpdate::Writenocache);
}

#[test]
fn an_unsynced_base_is_detected() {
    for updates in MODES {
        let found = |seed| -> Option<Failure> {
            let plan = Plan {
                lie: Lie::DropEverySync,
                updates: Some(updates),
                ..Plan::new(seed)
            };
            run(&plan).err()
        };
        assert!((1..10).any(|seed| found(seed).is_some()), "{}", updates.name());
    }
}

fn shape(updates: BaseUpdate) -> Shape {
    Shape {
        base_size: Some(100 * KIB - 100),
        block_size: 8 * KIB,
        updates,
        ..Shape::small()
    }
}

fn open(rig: &Rig) -> SimImage {
    run_now(rig.open(true, CacheMode::Writeback)).expect("no faults yet")
}

fn write(image: &SimImage, model: &mut Model, offset: u64, len: u64, number: u64) -> fvd::Result<()> {
    let bytes = content(number, len);
    let id = model.begin_write(offset, &bytes);
    let result = run_now(image.write(Bytes::from(bytes), offset));
    match result {
        Ok(()) => model.ack_write(id, false),
        Err(_) => model.fail_write(id),
    }
    result
}

/// The content of the base in the size of the base's region; zeros after the end of the base.
fn base(rig: &Rig) -> Vec<u8> {
    let mut bytes = vec![0; rig.shape.base_img_size() as usize];
    rig.base.content().read(&mut bytes, 0);
    bytes
}

#[test]
fn writes_that_overlap_end_alike_on_both_sides() {
    for updates in MODES {
        for seed in 0..60 {
            let (rig, _) = Rig::create(&shape(updates), seed);
            let world = rig.file.world().clone();
            let image = open(&rig);
            world.set_queueing(true);
            let mut executor = Executor::new(&world, seed);
            for number in 0..4 {
                let image = &image;
                executor.spawn(async move {
                    let bytes = Bytes::from(content(number, 12 * KIB));
                    image.write(bytes, number % 2 * 512).await.expect("no faults");
                });
            }
            executor.settle();
            while executor.active() > 0 {
                executor.step();
                executor.settle();
            }
            world.set_queueing(false);
            let seen = run_now(read_all(&image)).expect("no faults");
            run_now(image.flush()).expect("no faults");
            assert_eq!(
                base(&rig)[..16 << 10],
                seen[..16 << 10],
                "{}, seed {seed}",
                updates.name()
            );
        }
    }
}

#[test]
fn the_sector_in_which_the_base_ends_is_written_like_any_other() {
    for updates in MODES {
        let (rig, before) = Rig::create(&shape(updates), 1);
        let mut model = Model::new(&before);
        let image = open(&rig);
        let last = 100 * KIB - 512;
        for (offset, len) in [(last, 450), (last, 512)] {
            write(&image, &mut model, offset, len, len).expect("no faults");
            let seen = run_now(read_all(&image)).expect("no faults");
            model.check_closed(&seen).expect("as written");
        }
        for seed in 0..100 {
            let media = rig.file.world().cut(Cut::Sectors(seed));
            check_crashed(&rig, &media, &model, seed).expect("the sector is old or new");
        }
    }
}

#[test]
fn an_error_before_a_write_does_not_tear_the_last_base_sector() {
    for updates in MODES {
        for fail_at in 1..10 {
            let (rig, before) = Rig::create(&shape(updates), fail_at);
            let world = rig.file.world().clone();
            let mut model = Model::new(&before);
            let image = open(&rig);
            let last = 100 * KIB - 512;
            world.set_faults(Faults {
                fail_at: Some(fail_at),
                ..Faults::default()
            });
            let _ = write(&image, &mut model, last, 450, 1);
            world.set_faults(Faults::default());
            let _ = write(&image, &mut model, last, 512, 2);
            for seed in 0..50 {
                let media = world.cut(Cut::Sectors(seed));
                let checked = check_crashed(&rig, &media, &model, seed);
                checked.unwrap_or_else(|detail| panic!("{}, failed at {fail_at}: {detail}", updates.name()));
            }
        }
    }
}

#[test]
fn a_copy_of_what_the_base_held_before_a_write_is_not_stored() {
    let shape = Shape {
        copy_on_read: true,
        ..shape(BaseUpdate::Writenocache)
    };
    let (rig, before) = Rig::create(&shape, 1);
    let mut model = Model::new(&before);
    let image = open(&rig);
    run_now(read_all(&image)).expect("no faults");
    write(&image, &mut model, 4096, 512, 1).expect("no faults");
    // Stores the blocks that reads fetched.
    run_now(image.close()).expect("no faults");
    assert!(image.stats().copied_on_read > 0);
    check_closed(&rig, &rig.media(), &model).expect("the write is newer");
}

#[test]
fn after_a_failed_write_the_next_flush_makes_both_sides_equal() {
    for updates in MODES {
        for fail_at in 1..16 {
            let (rig, before) = Rig::create(&shape(updates), fail_at);
            let world = rig.file.world().clone();
            let mut model = Model::new(&before);
            let image = open(&rig);
            write(&image, &mut model, 0, 12 * KIB, 1).expect("no faults yet");
            world.set_faults(Faults {
                fail_at: Some(fail_at),
                ..Faults::default()
            });
            let _ = write(&image, &mut model, 2 * KIB, 20 * KIB, 2);
            let flushed = run_now(image.flush());
            world.set_faults(Faults::default());
            if flushed.is_err() && run_now(image.flush()).is_err() {
                // The image is poisoned. A reopen recovers it.
                check_crashed(&rig, &rig.media(), &model, 1).expect("nothing is lost");
                continue;
            }
            let seen = run_now(read_all(&image)).expect("no faults any more");
            assert_eq!(
                base(&rig),
                seen[..base(&rig).len()],
                "{}, failed at {fail_at}",
                updates.name()
            );
            run_now(image.close()).expect("no faults any more");
            check_closed(&rig, &rig.media(), &model).expect("both sides agree");
        }
    }
}

/// Makes the first block local without a write of the guest.
fn copy_first_block(rig: &Rig, image: &SimImage, seed: u64) {
    let world = rig.file.world().clone();
    run_now(image.read(IoBufMut::zeroed(512), 0)).expect("no faults yet");
    world.set_queueing(true);
    let mut executor = Executor::new(&world, seed);
    executor.spawn_in_background(async {
        let _ = copy_on_read(image).await;
    });
    executor.settle();
    while world.is_busy() {
        executor.step();
        executor.settle();
    }
    world.set_queueing(false);
    assert!(image.stats().copied_on_read > 0);
}

#[test]
fn a_part_of_a_sector_meets_no_older_rest_in_the_base() {
    for updates in MODES {
        let shape = Shape {
            copy_on_read: true,
            ..shape(updates)
        };
        for seed in 0..60 {
            let (rig, before) = Rig::create(&shape, seed);
            let world = rig.file.world().clone();
            let mut model = Model::new(&before);
            let image = open(&rig);
            copy_first_block(&rig, &image, seed);
            write(&image, &mut model, 64 * KIB, 512, 7).expect("from here on the base is written to");
            // The sectors that the base will not get: a whole sector, or the part before or after that of the
            // next write.
            let (offset, len) = [(512, 1024), (1024, 100), (1300, 200)][(seed % 3) as usize];
            world.set_faults(Faults {
                fail_at: Some(seed / 3 % 2 + 1),
                ..Faults::default()
            });
            let _ = write(&image, &mut model, offset, len, 1);
            world.set_faults(Faults::default());
            let read = model.begin_read(0, 4096);
            let seen = run_now(image.read(IoBufMut::zeroed(4096), 0)).expect("no faults any more");
            model
                .end_read(read, seen.as_slice())
                .expect("each sector is old or new");
            for (offset, len) in [(1150, 100), (1024, 10), (1500, 36)] {
                write(&image, &mut model, offset, len, 2 + offset).expect("no faults any more");
                for cut in [Cut::Everything, Cut::Nothing, Cut::Sectors(seed)] {
                    let checked = check_crashed(&rig, &world.cut(cut), &model, seed);
                    checked.unwrap_or_else(|detail| panic!("{}, seed {seed}, {cut}: {detail}", updates.name()));
                }
            }
        }
    }
}

#[test]
fn a_crash_leaves_an_image_unclean_until_its_base_is_up_to_date() {
    for updates in [BaseUpdate::Writethrough, BaseUpdate::Writeback] {
        let (rig, before) = Rig::create(&shape(updates), 1);
        let mut model = Model::new(&before);
        let image = open(&rig);
        write(&image, &mut model, 0, 8 * KIB, 1).expect("no faults");
        let id = model.begin_flush();
        run_now(image.flush()).expect("no faults");
        model.ack_flush(id);
        // Written in place, and lost on one side.
        write(&image, &mut model, 0, 8 * KIB, 2).expect("no faults");
        let media = rig.file.world().cut(Cut::Nothing);
        check_crashed(&rig, &media, &model, 0).expect("the flushed content");
        let mut media = rig.media();
        media[1] = rig.file.world().cut(Cut::Nothing)[1].clone();
        let content = check_crashed(&rig, &media, &model, 0).expect("the image has the authority");
        assert_eq!(content[..8 << 10], fvd_sim::workload::content(2, 8 * KIB));
    }
}

#[test]
fn a_resync_takes_nothing_to_the_base_that_the_image_may_lose() {
    for updates in [BaseUpdate::Writethrough, BaseUpdate::Writeback] {
        let (rig, before) = Rig::create(&shape(updates), 1);
        let world = rig.file.world();
        let mut model = Model::new(&before);
        let image = open(&rig);
        write(&image, &mut model, 0, 8 * KIB, 1).expect("no faults");
        run_now(image.flush()).expect("no faults");
        write(&image, &mut model, 0, 8 * KIB, 2).expect("no faults");
        // The second write is in the cache of the image, marked clean, and never reaches its disk.
        world.set_faults(Faults {
            one_in: Some(1),
            target: Target::Syncs,
            ..Faults::default()
        });
        run_now(image.flush()).expect_err("a sync fails");
        world.set_faults(Faults::default());
        drop(image);
        run_now(open(&rig).close()).expect("no faults");
        let after = rig.on(&World::immediate(), &world.cut(Cut::Nothing));
        let seen = run_now(read_all(&open(&after))).expect("no faults");
        let base = base(&after);
        assert!(seen[..base.len()] == base, "{}: the two sides differ", updates.name());
    }
}
