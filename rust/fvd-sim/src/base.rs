//! The content of a base that fvd writes to, compared after a session with the content of the disk.

use std::ops::Range;
use std::slice::from_ref;

use fvd::format::BaseUpdate;

use crate::medium::{Medium, SECTOR};
use crate::model::Model;
use crate::rig::Rig;
use crate::shape::Shape;
use crate::shared::mark_dirty;

/// The parts of `ranges` that lie in the base's region.
fn inside(shape: &Shape, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let end = shape.base_img_size();
    let inside = ranges.iter().map(|range| range.start..range.end.min(end));
    inside.filter(|range| range.start < range.end).collect()
}

fn read(rig: &Rig, media: &[Medium], range: &Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    media[rig.base.id()].read(&mut bytes, range.start);
    bytes
}

fn read_all(rig: &Rig, media: &[Medium], ranges: &[Range<u64>]) -> Vec<u8> {
    ranges.iter().flat_map(|range| read(rig, media, range)).collect()
}

/// Compares what a power cut left of the base with what it may hold: the state of the last flush, or anything
/// written after it. `ranges` are bytes of the disk, whole sectors, ascending.
pub fn check_crashed(rig: &Rig, media: &[Medium], base: &Model, ranges: &[Range<u64>]) -> Result<(), String> {
    let ranges = inside(&rig.shape, ranges);
    let checked = base.check_crashed_in(&ranges, &read_all(rig, media, &ranges));
    checked.map_err(|mismatch| format!("in the base: {}", mismatch.detail))
}

/// As [`check_crashed`], after a close or after the death of the process alone: everything that was
/// acknowledged must be in the base. With `writeback`, a write may still wait for a flush, so
/// [`check_crashed`] applies.
pub fn check_written(rig: &Rig, media: &[Medium], base: &Model, ranges: &[Range<u64>]) -> Result<(), String> {
    if rig.shape.updates == BaseUpdate::Writeback {
        return check_crashed(rig, media, base, ranges);
    }
    let ranges = inside(&rig.shape, ranges);
    let checked = base.check_closed_in(&ranges, &read_all(rig, media, &ranges));
    checked.map_err(|mismatch| format!("in the base: {}", mismatch.detail))
}

/// From here on the base holds what `media` say. `disk` is the content found on the disk: the bytes of
/// `ranges`, one range after the other. Where the two differ, the base is dirty: the disk's content may be
/// written back at any time.
pub fn restart(rig: &Rig, media: &[Medium], base: &mut Model, ranges: &[Range<u64>], disk: &[u8]) {
    let inner = inside(&rig.shape, ranges);
    base.collapse_in(&inner, &read_all(rig, media, &inner));
    add_dirty_differences(rig, media, base, ranges, disk);
}

/// As [`restart`], where only the process has died. See [`Model::outlive_process`] for `given_up`.
pub fn outlive_process(
    rig: &Rig,
    media: &[Medium],
    base: &mut Model,
    ranges: &[Range<u64>],
    disk: &[u8],
    given_up: bool,
) {
    let inner = inside(&rig.shape, ranges);
    base.outlive_process(&inner, &read_all(rig, media, &inner), given_up);
    add_dirty_differences(rig, media, base, ranges, disk);
}

fn add_dirty_differences(rig: &Rig, media: &[Medium], base: &mut Model, ranges: &[Range<u64>], disk: &[u8]) {
    let mut rest = disk;
    for range in ranges {
        let (found, after) = rest.split_at((range.end - range.start) as usize);
        rest = after;
        for range in inside(&rig.shape, from_ref(range)) {
            let held = read(rig, media, &range);
            let sectors = held.chunks(SECTOR as usize).zip(found.chunks(SECTOR as usize));
            for (sector, (held, found)) in (range.start / SECTOR..).zip(sectors) {
                if held != found {
                    mark_dirty(base, sector, found);
                }
            }
        }
    }
}
