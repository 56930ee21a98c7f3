//! Errors of the medium: they reach the caller, poison the image where they must, and lose nothing else.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use fvd::ErrorKind;
use fvd::image::CacheMode;
use fvd_sim::check::check_crashed;
use fvd_sim::cut::Cut;
use fvd_sim::executor::{Executor, run_now};
use fvd_sim::fault::Faults;
use fvd_sim::medium::Medium;
use fvd_sim::model::Model;
use fvd_sim::rig::{Rig, SimImage, read_all};
use fvd_sim::shape::Shape;
use fvd_sim::shared::{Shared, SharedRef};
use fvd_sim::workload::{Generator, Request, content, perform};

const KIB: u64 = 1024;

fn plain() -> Shape {
    Shape {
        base_size: Some(100 * KIB + 77),
        block_size: 7680,
        chunk_size: 12_288,
        grow_unit: 12_288,
        ..Shape::small()
    }
}

fn shapes() -> Vec<Shape> {
    let compact = Shape {
        compact: true,
        ..plain()
    };
    vec![
        plain(),
        compact.clone(),
        Shape {
            data_file: true,
            ..compact.clone()
        },
        Shape {
            journal_size: -1,
            ..compact.clone()
        },
        Shape {
            base_size: None,
            ..compact.clone()
        },
        Shape {
            device: true,
            ..compact.clone()
        },
        Shape {
            cache: CacheMode::Writethrough,
            ..compact
        },
    ]
}

fn shared(content: &[u8]) -> SharedRef {
    Rc::new(RefCell::new(Shared::new(Medium::from_bytes(content))))
}

/// A small workload with every kind of operation: writes, a commit, a checkpoint.
fn requests(shape: &Shape) -> Vec<Request> {
    let mut requests = Vec::new();
    let model = Model::new(&vec![0; shape.virtual_size as usize]);
    let mut generator = Generator::new(shape, 7);
    for number in 0..12 {
        requests.push(generator.next(&model));
        if number % 3 == 2 {
            requests.push(Request::Flush);
        }
    }
    requests
}

/// Opens the image, runs the workload and closes the image. Errors go to `shared`.
/// Returns the number of operations before the close.
fn run_workload(rig: &Rig, shared: &SharedRef) -> u64 {
    let cache = rig.shape.cache;
    let image = match run_now(rig.open(true, cache)) {
        Ok(image) => Rc::new(image),
        Err(error) => {
            shared.borrow_mut().errors.push(error);
            return rig.file.world().operations();
        }
    };
    for request in requests(&rig.shape) {
        run_now(perform(request, image.clone(), cache, shared.clone()));
    }
    let before_close = rig.file.world().operations();
    let id = shared.borrow_mut().model.begin_flush();
    match run_now(image.close()) {
        Ok(()) => shared.borrow_mut().model.ack_flush(id),
        Err(error) => shared.borrow_mut().errors.push(error),
    }
    before_close
}

fn assert_consistent(rig: &Rig, shared: &SharedRef, what: &str) {
    assert_eq!(shared.borrow().wrong, None, "{what}: {}", rig.shape);
    let world = rig.file.world();
    world.set_faults(Faults::default());
    let cuts = [
        Cut::Nothing,
        Cut::Everything,
        Cut::MetadataOnly,
        Cut::Sectors(1),
        Cut::Sectors(2),
    ];
    for cut in cuts {
        let media = world.cut(cut);
        if let Err(detail) = check_crashed(rig, &media, &shared.borrow().model, 0) {
            panic!("{what}, {cut}: {}: {detail}", rig.shape);
        }
    }
}

/// Runs the workload on a new image under `faults`.
fn run_with(shape: &Shape, faults: Faults) -> (Rig, SharedRef) {
    let (rig, content) = Rig::create(shape, 1);
    let shared = shared(&content);
    rig.file.world().set_faults(faults);
    run_workload(&rig, &shared);
    (rig, shared)
}

fn operations_of(shape: &Shape) -> u64 {
    let (rig, shared) = run_with(shape, Faults::default());
    let count = rig.file.world().operations();
    assert!(shared.borrow().errors.is_empty());
    assert_consistent(&rig, &shared, "no faults");
    assert!(count > 20, "{count} operations are a workload");
    count
}

fn operations_before_close(shape: &Shape) -> u64 {
    let (rig, content) = Rig::create(shape, 1);
    rig.file.world().set_faults(Faults::default());
    run_workload(&rig, &shared(&content))
}

#[test]
fn an_error_reaches_a_caller_and_the_image_stays_consistent() {
    for shape in shapes() {
        let mut unreported = Vec::new();
        for nth in 1..=operations_of(&shape) {
            let fail_at = Some(nth);
            let (rig, shared) = run_with(
                &shape,
                Faults {
                    fail_at,
                    ..Faults::default()
                },
            );
            if shared.borrow().errors.is_empty() {
                unreported.push(nth);
            }
            assert_consistent(&rig, &shared, &format!("EIO at operation {nth}"));
        }
        // Only the totals, which are a hint, may fail unreported: a close reads and writes them, one after the
        // other.
        let before_close = operations_before_close(&shape);
        let are_totals = unreported.len() <= 2
            && unreported.iter().all(|nth| *nth > before_close)
            && unreported.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(
            are_totals,
            "operations {unreported:?}, close after {before_close}: {shape}"
        );
    }
}

#[test]
fn a_medium_that_fails_for_good_leaves_the_image_consistent() {
    for shape in shapes() {
        for nth in 1..=operations_of(&shape) {
            let fail_from = Some(nth);
            let (rig, shared) = run_with(
                &shape,
                Faults {
                    fail_from,
                    ..Faults::default()
                },
            );
            assert_consistent(&rig, &shared, &format!("EIO from operation {nth}"));
        }
    }
}

#[test]
fn a_full_disk_fails_requests_and_loses_nothing_else() {
    for shape in shapes() {
        for pages in 0..30 {
            let space = Some(pages * 4096);
            let (rig, shared) = run_with(
                &shape,
                Faults {
                    space,
                    ..Faults::default()
                },
            );
            let only_space = shared
                .borrow()
                .errors
                .iter()
                .all(|error| error.kind() == ErrorKind::NoSpace);
            assert!(only_space, "{pages} pages: {shape}: {:?}", shared.borrow().errors);
            assert_consistent(&rig, &shared, &format!("ENOSPC after {pages} pages"));
        }
    }
}

fn write(image: &SimImage, offset: u64, number: u64) -> fvd::Result<()> {
    run_now(image.write(Bytes::from(content(number, 4096)), offset))
}

#[test]
fn a_flush_on_a_full_disk_succeeds_once_there_is_space_again() {
    let shape = Shape {
        compact: true,
        data_file: true,
        ..plain()
    };
    let (rig, mut expected) = Rig::create(&shape, 1);
    let world = rig.file.world().clone();
    let image = run_now(rig.open(true, CacheMode::Writeback)).expect("no faults yet");
    write(&image, 8192, 5).expect("no faults yet");
    expected[8192..12_288].copy_from_slice(&content(5, 4096));
    world.set_faults(Faults {
        space: Some(0),
        ..Faults::default()
    });
    let error = run_now(image.flush()).expect_err("the journal has no storage yet");
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    world.set_faults(Faults::default());
    run_now(image.flush()).expect("there is space again");
    let media = world.cut(Cut::Nothing);
    let found = check_crashed(&rig, &media, &Model::new(&expected), 0).expect("the flush made it durable");
    assert_eq!(found, expected);
}

#[test]
fn a_failed_sync_poisons_the_image_with_the_first_error() {
    for shape in shapes() {
        let (rig, before) = Rig::create(&shape, 1);
        let world = rig.file.world().clone();
        let image = run_now(rig.open(true, CacheMode::Writeback)).expect("no faults yet");
        write(&image, 0, 5).expect("no faults yet");
        world.set_faults(Faults {
            fail_from: Some(1),
            ..Faults::default()
        });
        let first = run_now(image.flush()).expect_err("a sync fails");
        assert_eq!(first.kind(), ErrorKind::Io);
        world.set_faults(Faults::default());
        let later = [
            run_now(image.flush()).expect_err("poisoned"),
            write(&image, 0, 6).expect_err("poisoned"),
            run_now(image.write_zeroes(0, 512)).expect_err("poisoned"),
            run_now(image.close()).expect_err("poisoned"),
        ];
        for error in later {
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{shape}");
            assert_eq!(error.errno(), first.errno(), "{shape}");
        }
        let mut after = before.clone();
        after[..4096].copy_from_slice(&content(5, 4096));
        assert_eq!(run_now(read_all(&image)).expect("a poisoned image can be read"), after);
        let mut model = Model::new(&before);
        let id = model.begin_write(0, &after[..4096]);
        model.fail_write(id);
        for cut in [Cut::Nothing, Cut::Everything, Cut::MetadataOnly, Cut::DataOnly] {
            check_crashed(&rig, &world.cut(cut), &model, 0).expect("old or new, sector by sector");
        }
    }
}

#[test]
fn a_failed_sync_that_no_task_waited_for_fails_the_next_flush() {
    for data_file in [false, true] {
        let shape = Shape { data_file, ..plain() };
        let (rig, before) = Rig::create(&shape, 1);
        let world = rig.file.world().clone();
        let image = run_now(rig.open(true, CacheMode::Writeback)).expect("no faults yet");
        run_now(image.flush()).expect("no faults yet");
        write(&image, 0, 5).expect("no faults yet");
        world.set_faults(Faults {
            fail_from: Some(3),
            ..Faults::default()
        });
        world.set_queueing(true);
        let mut executor = Executor::new(&world, 1);
        let task = executor.spawn(async {
            let _ = image.flush().await;
        });
        executor.settle();
        // A sync follows the mark, which is read and written first.
        for _ in 0..2 {
            executor.step();
            executor.settle();
        }
        executor.step();
        executor.cancel(task);
        world.set_queueing(false);
        world.set_faults(Faults::default());
        let error = run_now(image.flush()).expect_err("what the sync has lost does not come back");
        assert_eq!(error.kind(), ErrorKind::Io);
        let error = run_now(image.flush()).expect_err("poisoned");
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        let mut model = Model::new(&before);
        let id = model.begin_write(0, &content(5, 4096));
        model.ack_write(id, false);
        check_crashed(&rig, &world.cut(Cut::Nothing), &model, 1).expect("nothing was promised");
    }
}
