//! Faults that a scenario of their own shows.

use fvd::image::CacheMode;
use fvd::mutation::{self, Mutation};
use fvd::storage::IoBufMut;
use fvd_sim::check::check_crashed;
use fvd_sim::cut::Cut;
use fvd_sim::executor::run_now;
use fvd_sim::fault::Faults;
use fvd_sim::model::Model;
use fvd_sim::rig::{Rig, SimImage};
use fvd_sim::shape::Shape;
use fvd_sim::workload::content;
use fvd_sim::world::World;

fn open(rig: &Rig) -> SimImage {
    run_now(rig.open(true, CacheMode::Writeback)).expect("opens")
}

/// Whether what `is_lost` looks for happens with this fault, and not without it.
fn shows(mutation: Mutation, mut is_lost: impl FnMut() -> bool) -> bool {
    mutation::set(Some(mutation));
    let lost = is_lost();
    mutation::set(None);
    assert!(!is_lost(), "without the fault nothing is lost");
    lost
}

/// Whether a flushed write is lost if operation `fail_at` of the close fails, then a new process opens the
/// image on the same machine, and then the power is cut.
fn is_lost(fail_at: u64) -> bool {
    let shape = Shape {
        virtual_size: 512 << 10,
        base_size: Some(512 << 10),
        block_size: 4096,
        ..Shape::small()
    };
    let (rig, _) = Rig::create(&shape, 1);
    let world = rig.file.world().clone();
    let image = open(&rig);
    run_now(image.write(vec![0xAA; 4096].into(), 0)).expect("written");
    run_now(image.flush()).expect("durable from here on");
    world.set_faults(Faults {
        fail_at: Some(fail_at),
        ..Faults::default()
    });
    let _ = run_now(image.close());
    drop(image);
    world.set_faults(Faults::default());
    drop(open(&rig));
    let after = rig.on(&World::immediate(), &world.cut(Cut::Nothing));
    let bytes = run_now(open(&after).read(IoBufMut::zeroed(512), 0)).expect("read");
    bytes.as_slice()[0] != 0xAA
}

#[test]
fn an_engine_that_believes_the_cache_loses_what_was_flushed() {
    assert!(shows(Mutation::BelieveCache, || (1..16).any(is_lost)));
}

/// Whether a power cut can tear a sector if operation `fail_at` of a write fails. The file ends within a
/// sector, and the write moves its end.
fn is_torn(fail_at: u64) -> bool {
    let shape = Shape {
        journal_size: 1000,
        ..Shape::small()
    };
    let (rig, before) = Rig::create(&shape, fail_at);
    let world = rig.file.world().clone();
    let image = open(&rig);
    let mut model = Model::new(&before);
    world.set_faults(Faults {
        fail_at: Some(fail_at),
        ..Faults::default()
    });
    for (offset, len) in [(0, 700), (512, 1536)] {
        let bytes = content(offset, len);
        let id = model.begin_write(offset, &bytes);
        match run_now(image.write(bytes.into(), offset)) {
            Ok(()) => model.ack_write(id, false),
            Err(_) => model.fail_write(id),
        }
    }
    (0..200).any(|cut| check_crashed(&rig, &world.cut(Cut::Sectors(cut)), &model, cut).is_err())
}

#[test]
fn an_engine_that_ignores_a_failed_sync_of_the_length_tears_a_sector() {
    assert!(shows(Mutation::OddEndSwallowed, || (1..8).any(is_torn)));
}
