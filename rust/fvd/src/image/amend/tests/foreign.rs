//! Another program opens an image whose amendment was interrupted: the original driver, before fvd does.
//! Either the change counts, and the original refuses the image, or the change does not count any more, and
//! its writes are kept.

use super::crash::{Case, State, cases, into_the_journal, run};
use super::original::{End, Original, in_place, is_released, tail};
use super::*;
use crate::format::header::RAW_SIZE;
use crate::format::{fence, redo};
use crate::image::testing::disk::{Op, power_cut};

/// Where the original writes, in units of 24 KiB: whole blocks and whole chunks in every sample. Some of
/// these places lie after the end of a smaller disk, and some in unallocated chunks.
const WRITES: [u64; 5] = [1, 2, 5, 8, 12];
const UNIT: u64 = 24576;

/// What a session of the original does.
#[derive(Clone, Copy, Debug)]
enum Use {
    OpensOnly,
    Writes,
}

/// Runs a session of the original. Returns the expected content of the disk: `before` with the writes of the
/// session. `None` if the original refuses the image.
fn use_it(sample: &Sample<MemoryStorage>, before: &[u8], kind: Use, end: End) -> Option<Vec<u8>> {
    let mut original = Original::open(sample)?;
    let mut expected = before.to_vec();
    for unit in WRITES {
        let start = unit * UNIT;
        if matches!(kind, Use::OpensOnly) || start + UNIT > original.size() {
            continue;
        }
        let bytes = vec![0xE0 + unit as u8; UNIT as usize];
        original.write(start, &bytes);
        expected[start as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    // Write a part of an unallocated chunk after the end of the base. The rest of the chunk must read as
    // zeros.
    let start = 34 * CHUNK;
    if matches!(kind, Use::Writes) && start + 512 <= original.size() {
        original.write(start, &[0xD7; 512]);
        expected[start as usize..][..512].fill(0xD7);
    }
    original.end(end);
    Some(expected)
}

fn without_content(header: Header) -> Header {
    Header {
        clean_shutdown: true,
        ..header
    }
}

/// Asserts that the disk has the content `expected` for fvd: read only, after an open for writing, and after
/// another amendment.
fn assert_kept(sample: &Sample<MemoryStorage>, expected: &[u8], case: &Case, point: &str) {
    assert!(content(sample) == expected, "content: {point}");
    let image = open(sample, true).expect("opens");
    block_on(image.close()).expect("closed");
    sample.assert_consistent(point);
    assert!(
        content(sample) == expected,
        "content after an open for writing: {point}"
    );
    assert!(is_released(sample), "{point}");
    if has_metadata(sample) {
        assert!(tail(sample).iter().all(|byte| *byte == 0), "old bytes: {point}");
    }
    sample.amend(&case.changes).expect("amended");
    assert!(content(sample) == resized(expected, case.size), "amended: {point}");
    sample.assert_consistent(point);
}

/// Asserts that the change counts: an open for writing finishes it, and then the original accepts the image.
fn assert_finished(sample: &Sample<MemoryStorage>, expected: &[u8], point: &str) {
    assert!(content(sample) == expected, "content: {point}");
    let image = open(sample, true).expect("opens");
    block_on(image.close()).expect("closed");
    assert!(is_released(sample), "{point}");
    assert!(tail(sample).iter().all(|byte| *byte == 0), "old bytes: {point}");
    let expected = use_it(sample, expected, Use::Writes, End::Killed).expect("opens");
    assert!(content(sample) == expected, "content after its use: {point}");
}

fn has_metadata(sample: &Sample<MemoryStorage>) -> bool {
    let header = in_place(sample);
    header.compact_image || header.bitmap_size > 0
}

/// Runs a session of the original after a power cut, and verifies the image. Returns whether the original
/// refused it.
fn verify(
    left: &Sample<MemoryStorage>,
    case: &Case,
    (before, after): (&State, &State),
    kind: (Use, End),
    point: &str,
) -> bool {
    let point = format!("{}, {point}, {kind:?}", case.name);
    let found = in_place(left);
    let is_new = found.virtual_disk_size == case.size;
    let seen = if is_new { after } else { before };
    if is_released(left) {
        assert!(tail(left).iter().all(|byte| *byte == 0), "old bytes: {point}");
    }
    let is_fenced = fence::is_in(&left.file.to_vec());
    let Some(expected) = use_it(left, &seen.content, kind.0, kind.1) else {
        assert!(is_fenced, "the original can use what is not being changed: {point}");
        assert_finished(left, &after.content, &point);
        return true;
    };
    assert!(!(is_fenced && has_metadata(left)), "{point}");
    if is_fenced && kind.1 == End::Killed {
        // The killed session left no trace. The original does not refuse this image, because it has no
        // metadata.
        assert!(content(left) == resized(&expected, case.size), "content: {point}");
        return false;
    }
    assert_eq!(without_content(in_place(left)), without_content(found), "{point}");
    assert_kept(left, &expected, case, &point);
    false
}

#[test]
fn a_change_counts_only_if_the_original_cannot_use_the_image() {
    let mut random = fastrand::Rng::with_seed(73);
    let (mut refused, mut used) = (0, 0);
    for case in cases() {
        let (before, after, ops) = run(&case);
        for count in 0..=ops.len() {
            let kinds = [Use::OpensOnly, Use::Writes].map(|kind| [End::Closed, End::Killed].map(|end| (kind, end)));
            for kind in kinds.into_iter().flatten() {
                let left = power_cut(&case.sample, &ops[..count], &mut random);
                let point = format!("cut after {count} of {}", ops.len());
                let was_refused = verify(&left, &case, (&before, &after), kind, &point);
                refused += u32::from(was_refused);
                used += u32::from(!was_refused);
            }
        }
    }
    assert!(refused > 100 && used > 500, "{refused} {used}");
}

/// The redo copy that an earlier version of fvd writes for a change from `old` to `new`.
fn earlier_copy(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut patches = Vec::new();
    for at in (0..RAW_SIZE).filter(|at| old[*at] != new[*at]) {
        patches.extend((at as u16).to_le_bytes());
        patches.extend(1_u16.to_le_bytes());
        patches.push(new[at]);
    }
    let length = (patches.len() as u32).to_le_bytes();
    let sum = crc32c::crc32c(&[&length, &patches[..], &new[..RAW_SIZE]].concat());
    [b"REDO", &length, &sum.to_le_bytes(), &patches[..]].concat()
}

/// An image whose table grows into the journal, as an earlier version of fvd leaves it if it is killed after
/// its redo copy became durable. Also the state before and after the change.
fn left_by_an_earlier_version() -> (Case, State, State) {
    let case = into_the_journal();
    let (before, after, ops) = run(&case);
    let is_copy = |(_, op): &(usize, Op)| matches!(op, Op::Write(_, redo::OFFSET));
    let copy = ops.iter().position(is_copy).expect("there is a copy");
    let sample = power_cut(&case.sample, &ops[..copy], &mut fastrand::Rng::with_seed(1));
    let old = sample.file.to_vec();
    let mut new = old[..RAW_SIZE].to_vec();
    after.header.write_changes(&in_place(&sample), &mut new).expect("fits");
    sample.poke(redo::OFFSET, &earlier_copy(&old, &new));
    (Case { sample, ..case }, before, after)
}

#[test]
fn an_old_copy_is_ignored_before_a_field_is_in_place() {
    for kind in [None, Some(End::Closed), Some(End::Killed)] {
        let (case, before, _) = left_by_an_earlier_version();
        let expected = match kind {
            None => before.content,
            Some(end) => use_it(&case.sample, &before.content, Use::Writes, end).expect("opens"),
        };
        assert!(!block_on(read_head(&case.sample.file)).expect("valid").interrupted);
        assert_kept(&case.sample, &expected, &case, &format!("{kind:?}"));
        assert!(case.sample.file.to_vec()[4608..7680].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn an_old_copy_counts_once_a_sector_is_in_place() {
    for sector in [0, fence::SECTOR_OFFSET as usize] {
        let (case, _, after) = left_by_an_earlier_version();
        let mut new = case.sample.file.to_vec();
        after
            .header
            .write_changes(&in_place(&case.sample), &mut new)
            .expect("fits");
        case.sample.poke(sector as u64, &new[sector..sector + 512]);
        let head = block_on(read_head(&case.sample.file)).expect("valid");
        assert!(head.interrupted, "{sector}");
        assert_eq!(head.header, after.header);
        assert_kept(&case.sample, &after.content, &case, &format!("sector {sector}"));
        assert_eq!(in_place(&case.sample), after.header);
    }
}

#[test]
fn the_clean_mark_does_not_make_an_old_copy_count() {
    let (case, before, after) = left_by_an_earlier_version();
    let old = case.sample.file.to_vec();
    let mut new = old[..RAW_SIZE].to_vec();
    let unclean = Header {
        clean_shutdown: false,
        journal_offset: in_place(&case.sample).journal_offset,
        journal_size: in_place(&case.sample).journal_size,
        ..after.header
    };
    unclean.write_changes(&in_place(&case.sample), &mut new).expect("fits");
    case.sample.poke(redo::OFFSET, &earlier_copy(&old, &new));
    let expected = use_it(&case.sample, &before.content, Use::Writes, End::Killed).expect("opens");
    assert_kept(&case.sample, &expected, &case, "killed");
}
