//! What a process leaves in the page cache is not durable. What a failed sync leaves there is not on the
//! disk.

use bytes::Bytes;
use fvd::format::Value;
use fvd::image::CacheMode;
use fvd::image::amend::{Changes, amend};
use fvd::image::check::{Repair, check};
use fvd::storage::IoBufMut;
use fvd_sim::check::check_reopened_in;
use fvd_sim::cut::Cut;
use fvd_sim::disk::SimDisk;
use fvd_sim::executor::{Executor, run_now};
use fvd_sim::fault::Faults;
use fvd_sim::medium::Medium;
use fvd_sim::model::Model;
use fvd_sim::rig::{Rig, SimImage};
use fvd_sim::shape::Shape;
use fvd_sim::world::World;

const KIB: u64 = 1024;
/// More operations than a close or an open takes here.
const OPERATIONS: u64 = 16;

fn shape() -> Shape {
    Shape {
        virtual_size: 512 * KIB,
        compact: true,
        journal_size: -1,
        ..Shape::small()
    }
}

fn open(rig: &Rig) -> SimImage {
    run_now(rig.open(true, CacheMode::Writeback)).expect("opens")
}

fn fill(byte: u8, len: u64) -> Bytes {
    Bytes::from(vec![byte; len as usize])
}

fn first(image: &SimImage, offset: u64) -> u8 {
    run_now(image.read(IoBufMut::zeroed(512), offset))
        .expect("read")
        .as_slice()[0]
}

/// An open image over a base, with a flushed write of 0xAA at its start.
fn flushed() -> (Rig, World, SimImage) {
    let shape = Shape {
        base_size: Some(512 * KIB),
        block_size: 4096,
        compact: false,
        journal_size: 4096,
        ..shape()
    };
    let (rig, _) = Rig::create(&shape, 1);
    let world = rig.file.world().clone();
    let image = open(&rig);
    run_now(image.write(fill(0xAA, 4096), 0)).expect("written");
    run_now(image.flush()).expect("durable from here on");
    (rig, world, image)
}

fn fail_at(world: &World, fail_at: Option<u64>) {
    world.set_faults(Faults {
        fail_at,
        ..Faults::default()
    });
}

/// Whether the flushed write survives a power cut that loses everything that no sync has covered.
fn survives(rig: &Rig, world: &World) -> bool {
    let after = rig.on(&World::immediate(), &world.cut(Cut::Nothing));
    first(&open(&after), 0) == 0xAA
}

#[test]
fn a_flushed_write_survives_a_failed_close_and_a_restart() {
    for number in 1..OPERATIONS {
        let (rig, world, image) = flushed();
        fail_at(&world, Some(number));
        let _ = run_now(image.close());
        drop(image);
        fail_at(&world, None);
        drop(open(&rig)); // a new process on the same machine
        assert!(survives(&rig, &world), "operation {number} of the close failed");
    }
}

/// Runs `work` on an image that was not closed, with one of its operations failing (each in turn), then again
/// without errors.
fn survives_a_second_try(work: impl Fn(&Rig) -> bool) {
    for number in 1..OPERATIONS {
        let (rig, world, image) = flushed();
        drop(image);
        fail_at(&world, Some(number));
        let _ = work(&rig);
        fail_at(&world, None);
        assert!(work(&rig), "the second try works");
        assert!(survives(&rig, &world), "operation {number} of the first try failed");
    }
}

#[test]
fn a_flushed_write_survives_a_recovery_that_fails_once() {
    survives_a_second_try(|rig| run_now(rig.open(true, CacheMode::Writeback)).is_ok());
}

#[test]
fn a_flushed_write_survives_a_repair_that_fails_once() {
    survives_a_second_try(|rig| run_now(check(&rig.file, None::<&SimDisk>, Repair::All)).is_ok());
}

#[test]
fn a_flushed_write_survives_an_amend_that_fails_once() {
    survives_a_second_try(|rig| {
        let mut changes = Changes::new(false);
        changes.set("size", Value::Int(1024 * 1024)).expect("a size");
        run_now(amend(&rig.file, None, &changes)).is_ok()
    });
}

/// A chunk was discarded, and the change of the metadata is only in the page cache. The next session writes
/// another chunk, and the power is cut before any sync. `chunk 0` must show its old content or zeros.
fn check_discarded(rig: &Rig) {
    let world = rig.file.world();
    let image = open(rig);
    run_now(image.write(fill(0xCC, 64 * KIB), 128 * KIB)).expect("written");
    drop(image);
    let media = world.cut(Cut::DataOnly);
    let found = first(&open(&rig.on(&World::immediate(), &media)), 0);
    assert!(
        found == 0xAA || found == 0,
        "chunk 0 shows what was written to chunk 2: {found:#x}"
    );
}

/// A closed image with two chunks.
fn two_chunks(shape: &Shape) -> Rig {
    let (rig, _) = Rig::create(shape, 1);
    let image = open(&rig);
    run_now(image.write(fill(0xAA, 64 * KIB), 0)).expect("written");
    run_now(image.write(fill(0xBB, 64 * KIB), 64 * KIB)).expect("written");
    run_now(image.close()).expect("closed");
    rig
}

#[test]
fn a_discarded_chunk_shows_no_other_after_an_unsafe_session() {
    let rig = two_chunks(&Shape {
        journal_size: 4096,
        ..shape()
    });
    let image = run_now(rig.open(true, CacheMode::Unsafe)).expect("opens");
    run_now(image.discard(0, 64 * KIB)).expect("discarded");
    run_now(image.close()).expect("closed");
    drop(image);
    check_discarded(&rig);
}

/// The process is killed while it settles a discard of the chunk at `offset`: the page of the table has
/// reached the cache, and no sync has covered it.
fn killed_while_it_settles(rig: &Rig, offset: u64) {
    let world = rig.file.world().clone();
    let image = open(rig);
    run_now(image.discard(offset, 64 * KIB)).expect("discarded");
    world.set_queueing(true);
    {
        let mut executor = Executor::new(&world, 7);
        executor.spawn(async {
            let _ = image.flush().await;
        });
        executor.settle();
        while !world.has_unsynced_metadata() {
            executor.step();
            executor.settle();
        }
        executor.step(); // the table page is written; its sync is next
    }
    world.set_queueing(false);
}

#[test]
fn a_discarded_chunk_shows_no_other_after_a_kill() {
    let rig = two_chunks(&shape());
    killed_while_it_settles(&rig, 0);
    check_discarded(&rig);
}

#[test]
fn a_repair_cuts_off_no_chunk_that_the_disk_still_names() {
    let rig = two_chunks(&Shape {
        data_file: true,
        ..shape()
    });
    killed_while_it_settles(&rig, 64 * KIB);
    let world = rig.file.world();
    run_now(check(&rig.file, Some(&rig.data), Repair::Leaks)).expect("repaired");
    let after = rig.on(&World::immediate(), &world.cut(Cut::Nothing));
    let report = run_now(check(&after.file, Some(&after.data), Repair::None)).expect("checked");
    assert_eq!(report.corruptions, 0, "{:?}", report.findings);
}

#[test]
fn a_discarded_chunk_shows_no_other_once_its_storage_is_used_again() {
    let rig = two_chunks(&Shape {
        journal_size: 4096,
        ..shape()
    });
    let image = open(&rig);
    run_now(image.write(fill(0xDD, 64 * KIB), 192 * KIB)).expect("written");
    run_now(image.flush()).expect("the journal names its storage");
    run_now(image.discard(192 * KIB, 64 * KIB)).expect("discarded");
    run_now(image.flush()).expect("its storage is free");
    run_now(image.write(fill(0xCC, 64 * KIB), 256 * KIB)).expect("written");
    drop(image);
    let media = rig.file.world().cut(Cut::DataOnly);
    let found = first(&open(&rig.on(&World::immediate(), &media)), 192 * KIB);
    assert_eq!(found, 0, "what was discarded and flushed");
}

/// Commits before the one that matters: its record lies on a page of the journal that the next session does
/// not write.
const COMMITS: u64 = 12;

#[test]
fn a_journal_that_was_not_erased_on_the_disk_names_no_storage_that_is_used_again() {
    for number in 1..OPERATIONS {
        let (rig, _) = Rig::create(
            &Shape {
                virtual_size: 1024 * KIB,
                journal_size: 8192,
                ..shape()
            },
            1,
        );
        let world = rig.file.world().clone();
        let image = open(&rig);
        for chunk in 0..COMMITS {
            run_now(image.write(fill(0xAA, 4 * KIB), chunk * 64 * KIB)).expect("written");
            run_now(image.flush()).expect("flushed");
        }
        let last = (COMMITS - 1) * 64 * KIB;
        run_now(image.discard(last, 64 * KIB)).expect("discarded");
        fail_at(&world, Some(number));
        let _ = run_now(image.flush());
        drop(image);
        fail_at(&world, None);
        let image = open(&rig); // the process comes back on the same machine
        run_now(image.write(fill(0xCC, 4 * KIB), COMMITS * 64 * KIB)).expect("written");
        run_now(image.flush()).expect("flushed");
        drop(image);
        let after = rig.on(&World::immediate(), &world.cut(Cut::Nothing));
        let image = open(&after);
        let found = (first(&image, last), first(&image, COMMITS * 64 * KIB));
        assert!(
            matches!(found, (0 | 0xAA, 0xCC)),
            "operation {number} of the flush failed: {found:x?}"
        );
    }
}

/// A session without syncs writes a chunk that its base has, while the kernel's writeback fails once. It writes
/// the same again, so no page is given up when it dies, but the next sync still reports the failure. Returns
/// what the simulator says of the next process.
fn reopened_after_a_session_without_syncs(durable: bool) -> Result<Option<Vec<Medium>>, String> {
    let shape = Shape {
        base_size: Some(512 * KIB),
        data_file: true,
        ..shape()
    };
    let (rig, before) = Rig::create(&shape, 1);
    let world = rig.file.world().clone();
    let mut model = Model::new(&before);
    let image = run_now(rig.open(true, CacheMode::Unsafe)).expect("opens");
    for writeback in [None, Some(1), None] {
        world.set_faults(Faults {
            writeback,
            ..Faults::default()
        });
        let bytes = fill(0xAA, 64 * KIB);
        let write = model.begin_write(0, &bytes);
        run_now(image.write(bytes, 0)).expect("written");
        model.ack_write(write, false);
    }
    run_now(image.flush()).expect("the metadata is in the cache");
    drop(image);
    assert!(world.has_unseen_failure() && !world.has_given_up());
    let whole = 0..model.size();
    check_reopened_in(&rig, &model, std::slice::from_ref(&whole), durable, 1)
}

#[test]
fn nothing_is_promised_once_a_sync_fails_after_a_session_without_syncs() {
    let media = reopened_after_a_session_without_syncs(false).expect("the engine promises nothing");
    assert!(media.is_none());
    let wrong = reopened_after_a_session_without_syncs(true).expect_err("the data is lost, the entry is not");
    assert!(wrong.contains("sector 0"), "{wrong}");
}
