//! Power cuts while a prefetch profile is written. They leave the old profile, the new one, or none.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use fvd::image::profile::{empty_profile, read_profile, write_profile};
use fvd::image::read_head;
use fvd::storage::IoBufMut;
use fvd_sim::cut::Cut;
use fvd_sim::executor::{Executor, run_now};
use fvd_sim::fault::Faults;
use fvd_sim::medium::Medium;
use fvd_sim::rig::{Rig, read_all};
use fvd_sim::shape::Shape;
use fvd_sim::workload::content;
use fvd_sim::world::World;

const KIB: u64 = 1024;

/// Power cuts at each step.
const CUTS: u64 = 12;

fn shape(compact: bool, data_file: bool) -> Shape {
    Shape {
        virtual_size: 512 * KIB,
        base_size: Some(500 * KIB + 100),
        block_size: 4 * KIB,
        compact,
        data_file,
        ..Shape::small()
    }
}

/// Runs `future`, and calls `check` with what power cuts leave at every step from its start to its end.
/// Returns the number of steps.
fn cut_everywhere(world: &World, seed: u64, future: impl Future, mut check: impl FnMut(&[Medium], &str)) -> u64 {
    world.set_queueing(true);
    let mut executor = Executor::new(world, seed);
    executor.spawn(async {
        future.await;
    });
    let (mut seen, mut moment) = (None, 0);
    loop {
        executor.settle();
        if seen.replace(world.step()) != Some(world.step()) {
            for number in 0..CUTS {
                let cut = Cut::numbered(seed, moment, number);
                check(&world.cut(cut), &format!("seed {seed}, moment {moment}, {cut}"));
            }
            moment += 1;
        }
        if executor.active() == 0 {
            break;
        }
        executor.step();
    }
    world.set_queueing(false);
    moment
}

fn profile_of(rig: &Rig) -> Vec<Range<u64>> {
    let head = run_now(read_head(&rig.file)).expect("the header is good");
    let profile = run_now(read_profile(&rig.file, &head.geometry)).expect("reads do not fail");
    profile.expect("there is room").ranges()
}

/// `count` ranges, different for each `start`.
fn ranges(start: u64, count: u64) -> Vec<Range<u64>> {
    let at = |number| (start + number * 2) % 120 * 4096;
    (0..count).map(|number| at(number)..at(number) + 4096).collect()
}

async fn set(rig: &Rig, ranges: &[Range<u64>]) -> fvd::Result<()> {
    let head = read_head(&rig.file).await?;
    let mut profile = empty_profile(&head.geometry).expect("there is room");
    for range in ranges {
        profile.add(range.clone());
    }
    write_profile(&rig.file, &head.geometry, &profile).await
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_profile_or_none() {
    for seed in 0..20 {
        let (rig, _) = Rig::create(&shape(seed % 2 == 0, seed % 3 == 0), seed);
        let old = ranges(0, 50);
        // Shorter, longer, and empty.
        let new = ranges(7, [20, 60, 0][(seed % 3) as usize]);
        run_now(set(&rig, &old)).expect("no faults");
        let mut found = [0; 3];
        let moments = cut_everywhere(rig.file.world(), seed, set(&rig, &new), |media, case| {
            let left = profile_of(&rig.on(&World::immediate(), media));
            let known = [&old, &new, &Vec::new()].iter().position(|known| **known == left);
            found[known.unwrap_or_else(|| panic!("garbage after {case}: {left:?}"))] += 1;
        });
        assert!(moments >= 4 && found[0] > 0 && found[1] > 0, "{moments}, {found:?}");
        let media = rig.file.world().cut(Cut::Nothing);
        assert_eq!(profile_of(&rig.on(&World::immediate(), &media)), new, "it is durable");
    }
}

#[test]
fn a_power_cut_at_session_end_keeps_data_and_profile_or_none() {
    for seed in 0..20 {
        let shape = shape(seed % 2 == 0, seed % 3 == 0);
        let (rig, mut expected) = Rig::create(&shape, seed);
        let image = run_now(rig.open(true, shape.cache)).expect("no faults");
        for range in ranges(seed, 50) {
            run_now(image.read(IoBufMut::zeroed(4096), range.start)).expect("no faults");
        }
        let bytes = content(seed, 5000);
        expected[20_000..25_000].copy_from_slice(&bytes);
        run_now(image.write(Bytes::from(bytes), 20_000)).expect("no faults");
        run_now(image.flush()).expect("no faults");
        let mut found = [0; 2];
        let recorded = |left: &[Range<u64>]| left.len() >= 50 && left[..50] == ranges(seed, 50);
        cut_everywhere(rig.file.world(), seed, image.close(), |media, case| {
            let left = rig.on(&World::immediate(), media);
            let profile = profile_of(&left);
            assert!(
                profile.is_empty() || recorded(&profile),
                "garbage after {case}: {profile:?}"
            );
            found[usize::from(profile.is_empty())] += 1;
            let image = run_now(left.open(true, shape.cache)).expect("it opens");
            assert!(run_now(read_all(&image)).expect("reads") == expected, "{case}");
        });
        assert!(found[0] > 0 && found[1] > 0, "{found:?}");
        let media = rig.file.world().cut(Cut::Nothing);
        assert!(
            recorded(&profile_of(&rig.on(&World::immediate(), &media))),
            "it is durable"
        );
    }
}

#[test]
fn an_error_while_the_profile_is_written_leaves_a_good_image() {
    for fail_at in 1..20 {
        let shape = shape(false, false);
        let (rig, expected) = Rig::create(&shape, fail_at);
        let image = run_now(rig.open(true, shape.cache)).expect("no faults");
        run_now(image.read(IoBufMut::zeroed(4096), 8192)).expect("no faults");
        rig.file.world().set_faults(Faults {
            fail_at: Some(fail_at),
            ..Faults::default()
        });
        let closed = run_now(image.close());
        let failed = rig.file.world().operations() >= fail_at;
        assert_eq!(closed.is_err(), failed, "the caller is told");
        rig.file.world().set_faults(Faults::default());
        let profile = profile_of(&rig);
        let recorded = 8192..12288;
        assert!(profile.is_empty() || profile == [recorded], "{profile:?}");
        let image = run_now(rig.open(true, shape.cache)).expect("it opens");
        assert!(run_now(read_all(&image)).expect("reads") == expected);
    }
}
