//! A base that is written to: what it holds after a session, beside what the disk holds.

use std::ops::Range;

use fvd::format::BaseUpdate;

use super::report::Ended;
use super::run::Found;
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

/// Compares what the base holds with what it may hold.
///
/// After a power cut that is what the last flush has left, or what came later. If only the process has died,
/// everything that was acknowledged is there, unless that waits for a flush (`writeback`).
pub(super) fn check(
    rig: &Rig,
    media: &[Medium],
    base: &Model,
    ended: Ended,
    ranges: &[Range<u64>],
) -> Result<(), String> {
    let ranges = inside(&rig.shape, ranges);
    let bytes = read_all(rig, media, &ranges);
    let owes = ended == Ended::Cut || rig.shape.updates == BaseUpdate::Writeback;
    let checked = match ended {
        Ended::Cut | Ended::Killed if owes => base.check_crashed_in(&ranges, &bytes),
        _ => base.check_closed_in(&ranges, &bytes),
    };
    checked.map_err(|mismatch| format!("in the base: {}", mismatch.detail))
}

/// From here on the base holds what `media` say. Where that is not what was found on the disk, it is owed, and
/// may come at any time.
pub(super) fn restart(rig: &Rig, media: &[Medium], base: &mut Model, disk: &Found) {
    let ranges = inside(&rig.shape, &disk.ranges);
    base.collapse_in(&ranges, &read_all(rig, media, &ranges));
    let mut rest = &disk.bytes[..];
    for range in &disk.ranges {
        let (found, behind) = rest.split_at((range.end - range.start) as usize);
        rest = behind;
        for range in inside(&rig.shape, std::slice::from_ref(range)) {
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
