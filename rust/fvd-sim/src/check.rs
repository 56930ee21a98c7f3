//! What must hold of the disks after a power cut.

use std::ops::Range;
use std::slice::from_ref;

use fvd::image::CacheMode;

use crate::cut::Cut;
use crate::executor::{Executor, run_now};
use crate::medium::Medium;
use crate::model::Model;
use crate::rig::{Rig, read_ranges};
use crate::verify::verify;
use crate::world::World;

/// Opens the disks that a power cut left in several ways, which must all give the same content. Returns that
/// content. `seed` decides which of the expensive ways are tried.
pub fn check_crashed(rig: &Rig, media: &[Medium], model: &Model, seed: u64) -> Result<Vec<u8>, String> {
    check_crashed_in(rig, media, model, from_ref(&(0..model.size())), seed)
}

/// As [`check_crashed`], for some ranges of the disk (bytes, whole sectors, ascending).
pub fn check_crashed_in(
    rig: &Rig,
    media: &[Medium],
    model: &Model,
    ranges: &[Range<u64>],
    seed: u64,
) -> Result<Vec<u8>, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    verify_media(rig, media, false)?;
    let content = read_only(rig, media, ranges)?;
    let checked = model.check_crashed_in(ranges, &content);
    checked.map_err(|mismatch| mismatch.detail)?;
    let same = |found: &[u8], when: &str| same(ranges, &content, found, when);
    let recovered = recovered(rig, media, ranges, same)?;
    if rig.shape.writes_base() {
        let closed = closed(rig, media)?;
        same(&read_only(rig, &closed, ranges)?, "after a recovery and a close")?;
        check_base(rig, &closed, ranges, &content)?;
    }
    if rng.u8(..4) == 0 {
        same(
            &read_only(rig, &recovered, ranges)?,
            "after a recovery and another power cut",
        )?;
    }
    if rng.u8(..4) == 0 {
        let cut = cut_in_recovery(rig, media, &mut rng);
        verify_media(rig, &cut, false)?;
        same(&read_only(rig, &cut, ranges)?, "after a power cut during recovery")?;
        if rig.shape.writes_base() {
            check_base(rig, &closed(rig, &cut)?, ranges, &content)?;
        }
    }
    Ok(content)
}

/// Checks the disks of an image that was closed. Returns the content of the disk.
pub fn check_closed(rig: &Rig, media: &[Medium], model: &Model) -> Result<Vec<u8>, String> {
    check_closed_in(rig, media, model, from_ref(&(0..model.size())))
}

/// As [`check_closed`], for some ranges of the disk (bytes, whole sectors, ascending).
pub fn check_closed_in(rig: &Rig, media: &[Medium], model: &Model, ranges: &[Range<u64>]) -> Result<Vec<u8>, String> {
    verify_media(rig, media, true)?;
    let content = read_only(rig, media, ranges)?;
    let checked = model.check_closed_in(ranges, &content);
    checked.map_err(|mismatch| mismatch.detail)?;
    if rig.shape.writes_base() {
        check_base(rig, media, ranges, &content)?;
    }
    Ok(content)
}

/// The image, the base and the data file.
const DISKS: usize = 3;

/// A new process on the same machine opens the image for writing, after an earlier process has ended, and
/// then the power is cut. Everything that was flushed must be there. Everything that the new process has read
/// must be there too, unless a failed sync has given up part of a cache. Returns the content of the disks.
///
/// `durable`: the earlier process has synced what it had to. Otherwise a sync that fails now can give up data
/// whose metadata is on the disk already: nothing is guaranteed then, and the result is `None`.
pub fn check_reopened_in(
    rig: &Rig,
    model: &Model,
    ranges: &[Range<u64>],
    durable: bool,
    seed: u64,
) -> Result<Option<Vec<Medium>>, String> {
    let rig = rig.copy(seed);
    let world = rig.file.world().clone();
    let had_failed = world.has_unseen_failure();
    let cache = CacheMode::Writeback;
    let losses = world.losses();
    let mut given_up = world.has_given_up();
    let mut opened = run_now(rig.open(true, cache));
    for _ in 0..DISKS {
        if opened.is_err() && had_failed {
            // Each disk can have a failure that no program was told of, so the process opens the image once
            // more. The sync that reported the failure has given up the pages that were waiting for it.
            given_up |= world.losses() > losses;
            opened = run_now(rig.open(true, cache));
        }
    }
    let image = opened.map_err(|error| format!("an open after a restart failed: {error}"))?;
    let seen =
        run_now(read_ranges(&image, ranges)).map_err(|error| format!("a read after a restart failed: {error}"))?;
    let media = world.cut(Cut::Nothing);
    world.kill();
    drop(image);
    let content = read_only(&rig, &media, ranges)?;
    if given_up && !durable {
        return Ok(None);
    }
    let checked = model.check_crashed_in(ranges, &content);
    checked.map_err(|mismatch| format!("after a restart and a power cut: {}", mismatch.detail))?;
    if !given_up {
        same(ranges, &seen, &content, "after a restart and a power cut")?;
    }
    Ok(Some(media))
}

/// Once the image is clean, a base that fvd writes to holds the same content as the image.
fn check_base(rig: &Rig, media: &[Medium], ranges: &[Range<u64>], mut content: &[u8]) -> Result<(), String> {
    for range in ranges {
        let (found, rest) = content.split_at((range.end - range.start) as usize);
        let end = range.end.min(rig.shape.base_img_size()).max(range.start);
        let mut base = vec![0; (end - range.start) as usize];
        media[rig.base.id()].read(&mut base, range.start);
        same(from_ref(range), found, &base, "in the base of an image that is clean")?;
        content = rest;
    }
    Ok(())
}

fn verify_media(rig: &Rig, media: &[Medium], must_be_clean: bool) -> Result<(), String> {
    let data = rig.shape.data_file.then(|| &media[rig.data.id()]);
    verify(&media[rig.file.id()], data, must_be_clean)
}

/// The content seen by a read-only open, which replays the journal in memory and must not write.
fn read_only(rig: &Rig, media: &[Medium], ranges: &[Range<u64>]) -> Result<Vec<u8>, String> {
    let rig = rig.on(&World::immediate(), media);
    let image = run_now(rig.open(false, CacheMode::Writeback));
    let image = image.map_err(|error| format!("a read-only open failed: {error}"))?;
    let content = run_now(read_ranges(&image, ranges)).map_err(|error| format!("a read failed: {error}"))?;
    if rig.media() != media {
        return Err("a read-only open has written".into());
    }
    Ok(content)
}

/// What is durable after an open that writes the recovered metadata in place.
fn recovered(
    rig: &Rig,
    media: &[Medium],
    ranges: &[Range<u64>],
    same: impl Fn(&[u8], &str) -> Result<(), String>,
) -> Result<Vec<Medium>, String> {
    let world = World::immediate();
    let rig = rig.on(&world, media);
    let image = run_now(rig.open(true, rig.shape.cache));
    let image = image.map_err(|error| format!("recovery failed: {error}"))?;
    let now = run_now(read_ranges(&image, ranges)).map_err(|error| format!("a read failed: {error}"))?;
    same(&now, "recovered, not read-only")?;
    let durable = world.cut(Cut::Nothing);
    // An image whose base must be updated first stays unclean until that is done.
    verify_media(&rig, &durable, !rig.shape.writes_base())?;
    Ok(durable)
}

/// What is durable after an open and a close. With `CacheMode::Unsafe` (no syncs): the current content.
fn closed(rig: &Rig, media: &[Medium]) -> Result<Vec<Medium>, String> {
    let world = World::immediate();
    let rig = rig.on(&world, media);
    let image = run_now(rig.open(true, rig.shape.cache));
    let image = image.map_err(|error| format!("recovery failed: {error}"))?;
    run_now(image.close()).map_err(|error| format!("a close after a crash failed: {error}"))?;
    let durable = match rig.shape.cache {
        CacheMode::Unsafe => rig.media(),
        CacheMode::Writeback | CacheMode::Writethrough => world.cut(Cut::Nothing),
    };
    verify_media(&rig, &durable, true)?;
    Ok(durable)
}

/// What another power cut leaves, at a random moment of the recovery.
fn cut_in_recovery(rig: &Rig, media: &[Medium], rng: &mut fastrand::Rng) -> Vec<Medium> {
    let world = World::seeded(rng.u64(..));
    let rig = rig.on(&world, media);
    world.set_queueing(true);
    // A close without syncs gives no guarantee.
    let closes = rig.shape.writes_base() && rig.shape.cache != CacheMode::Unsafe;
    let mut executor = Executor::new(&world, rng.u64(..));
    executor.spawn(async {
        if let Ok(image) = rig.open(true, rig.shape.cache).await
            && closes
        {
            let _ = image.close().await;
        }
    });
    executor.settle();
    let mut steps = rng.u64(..if rig.shape.writes_base() { 60 } else { 12 });
    while executor.active() > 0 && steps > 0 {
        executor.step();
        executor.settle();
        steps -= 1;
    }
    let cut = world.cut(Cut::numbered(rng.u64(..), 0, 1));
    world.kill();
    cut
}

fn same(ranges: &[Range<u64>], expected: &[u8], found: &[u8], when: &str) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let Some(mut at) = expected.iter().zip(found).position(|(a, b)| a != b) else {
        return Ok(());
    };
    for range in ranges {
        let len = (range.end - range.start) as usize;
        if at < len {
            at += range.start as usize;
            break;
        }
        at -= len;
    }
    Err(format!("the content differs at byte {at} (sector {}) {when}", at / 512))
}
