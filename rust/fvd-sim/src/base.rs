//! A base that is written to: what it holds after a session, beside what the disk holds.

use std::ops::Range;
use std::slice::from_ref;

use fvd::format::BaseUpdate;

use crate::medium::{Medium, SECTOR};
use crate::model::Model;
use crate::rig::Rig;
use crate::shape::Shape;
use crate::shared::owe;

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

/// Compares what a power cut has left of the base with what it may hold: what the last flush has left, or what came
/// later. `ranges` (bytes of the disk, whole sectors, ascending) say where.
pub fn check_crashed(rig: &Rig, media: &[Medium], base: &Model, ranges: &[Range<u64>]) -> Result<(), String> {
    let ranges = inside(&rig.shape, ranges);
    let checked = base.check_crashed_in(&ranges, &read_all(rig, media, &ranges));
    checked.map_err(|mismatch| format!("in the base: {}", mismatch.detail))
}

/// The same after a close, and after the death of the process alone: everything that was acknowledged is there, unless
/// that waits for a flush (`writeback`).
pub fn check_written(rig: &Rig, media: &[Medium], base: &Model, ranges: &[Range<u64>]) -> Result<(), String> {
    if rig.shape.updates == BaseUpdate::Writeback {
        return check_crashed(rig, media, base, ranges);
    }
    let ranges = inside(&rig.shape, ranges);
    let checked = base.check_closed_in(&ranges, &read_all(rig, media, &ranges));
    checked.map_err(|mismatch| format!("in the base: {}", mismatch.detail))
}

/// From here on the base holds what `media` say. Where that is not what was found on the disk (the bytes of `ranges`,
/// one behind the other), it is owed, and may come at any time.
pub fn restart(rig: &Rig, media: &[Medium], base: &mut Model, ranges: &[Range<u64>], disk: &[u8]) {
    let inner = inside(&rig.shape, ranges);
    base.collapse_in(&inner, &read_all(rig, media, &inner));
    owe_what_differs(rig, media, base, ranges, disk);
}

/// As [`restart`], where only the process has died; as [`Model::outlive_process`].
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
    owe_what_differs(rig, media, base, ranges, disk);
}

fn owe_what_differs(rig: &Rig, media: &[Medium], base: &mut Model, ranges: &[Range<u64>], disk: &[u8]) {
    let mut rest = disk;
    for range in ranges {
        let (found, behind) = rest.split_at((range.end - range.start) as usize);
        rest = behind;
        for range in inside(&rig.shape, from_ref(range)) {
            let held = read(rig, media, &range);
            let sectors = held.chunks(SECTOR as usize).zip(found.chunks(SECTOR as usize));
            for (sector, (held, found)) in (range.start / SECTOR..).zip(sectors) {
                if held != found {
                    owe(base, sector, found);
                }
            }
        }
    }
}
