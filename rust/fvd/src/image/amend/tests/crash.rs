//! Interrupts an amendment at every point, by power cuts and by errors. The image must be the old one or the
//! new one, both read only and opened for writing, and it must be possible to amend it again.

use super::*;
use crate::format::{Area, PinKind, StoredPin};
use crate::image::testing::disk::{Disk, Op, contents, power_cut, record};

/// Offset of the size of the disk in the header.
const SIZE_FIELD: u64 = 12;

/// Number of random power cuts after every operation.
const CUTS: usize = 8;

/// An image, its changes, and its size after them.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) sample: Sample<MemoryStorage>,
    pub(super) changes: Changes,
    pub(super) size: u64,
}

/// Header and content of an image, before or after the change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) header: Header,
    /// The pin of the base is there.
    pub(super) records: Area,
    pub(super) content: Vec<u8>,
}

impl State {
    fn of(sample: &Sample<MemoryStorage>) -> Self {
        let mut header = sample.header();
        // Ignore the clean mark: an interrupted amendment may or may not have recovered the image.
        header.clean_shutdown = true;
        Self {
            header,
            records: block_on(read_head(&sample.file)).expect("valid").records,
            content: content(sample),
        }
    }
}

/// Every kind of image, with a larger and a smaller size and a few more fields.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 0..16 {
        let kind = Kind {
            separate: bits & 1 > 0,
            based: bits & 2 > 0,
            unclean: bits & 4 > 0,
            no_journal: false,
        };
        let mut options = if bits & 8 > 0 { options(kind) } else { plain(kind) };
        let pin = StoredPin::new(7, PinKind::ETag, b"\"old\"");
        options.base_pin = Some(pin).filter(|_| kind.based);
        for size in [47 * CHUNK + 512, 13 * CHUNK + 4608] {
            let mut changes = changes([("size", int(size)), ("need_zero_init", Value::Bool(true))]);
            if kind.based {
                let name = text(&"directory/".repeat(90));
                changes.set("base_img", name).expect("a name");
                changes.set_pin(StoredPin::new(size, PinKind::ETag, b"\"new\""));
            }
            cases.push(Case {
                name: format!("{bits:04b} to {size}"),
                sample: sample(&options, kind.unclean),
                changes,
                size,
            });
        }
    }
    cases.push(into_the_journal());
    cases.push(pin_alone());
    cases.extend([false, true].map(drop_the_base));
    cases
}

/// A change that needs fewer operations than others.
const PIN_ALONE: &str = "pin alone";

/// Only the pin of the base changes: one sector.
fn pin_alone() -> Case {
    let kind = Kind {
        based: true,
        ..Kind::default()
    };
    let mut changes = Changes::new(false);
    changes.set_pin(StoredPin::new(7, PinKind::Version, b"3"));
    Case {
        name: PIN_ALONE.to_owned(),
        sample: sample(&plain(kind), false),
        changes,
        size: SIZE,
    }
}

/// A table that grows by a page into the journal. Small chunks keep the disk small.
pub(super) fn into_the_journal() -> Case {
    let mut options = options(Kind::default());
    options.layout.chunk_size = Some(4096);
    options.layout.journal_size = Some(16384);
    let size = 1025 * 4096;
    Case {
        name: "into the journal".to_owned(),
        sample: sample(&options, true),
        changes: changes([("size", int(size))]),
        size,
    }
}

/// An image that does not need its base any more.
fn drop_the_base(separate: bool) -> Case {
    let kind = Kind {
        based: true,
        separate,
        ..Kind::default()
    };
    let sample = sample(&options(kind), true);
    let image = open(&sample, true).expect("opens");
    block_on(image.write(content(&sample).into(), 0)).expect("written");
    block_on(image.flush()).expect("flushed");
    drop(image);
    Case {
        name: format!("base dropped, separate: {separate}"),
        sample,
        changes: changes([("base_img", text(""))]),
        size: SIZE,
    }
}

/// The state before and after the change, and the operations of the change.
pub(super) fn run(case: &Case) -> (State, State, Vec<(usize, Op)>) {
    let (recorded, log) = record(&case.sample);
    let before = State::of(&case.sample);
    let header = recorded.amend(&case.changes).expect("amended");
    let ops = log.lock().expect("not poisoned").ops.clone();
    let after = State::of(&contents(&recorded));
    assert_eq!(header, after.header, "{}", case.name);
    assert!(after.content == resized(&before.content, case.size), "{}", case.name);
    (before, after, ops)
}

/// Verifies the image after an interruption: it is in one of the two states, stays in it, and can be written
/// and amended. Returns whether it is in the new state.
fn verify(left: &Sample<MemoryStorage>, case: &Case, before: &State, after: &State, point: &str) -> bool {
    let point = format!("{}, {point}", case.name);
    left.assert_consistent(&point);
    let now = State::of(left);
    let changed = (&now.header, &now.records) == (&after.header, &after.records);
    let expected = if changed { after } else { before };
    assert_eq!(now.header, expected.header, "{point}");
    assert_eq!(now.records, expected.records, "{point}");
    assert!(now.content == expected.content, "content: {point}");
    // An open for writing finishes the change, and must show the same state.
    let image = open(left, true).expect("opens");
    let last = image.size() - 512;
    block_on(image.write(vec![0xA5; 512].into(), last)).expect("written");
    block_on(image.close()).expect("closed");
    let head = block_on(read_head(&left.file)).expect("valid");
    assert_eq!(
        (head.interrupted, head.header == expected.header, &head.records),
        (false, true, &expected.records),
        "{point}"
    );
    let mut written = content(left);
    written[last as usize..].copy_from_slice(&expected.content[last as usize..]);
    assert!(written == expected.content, "content after a write: {point}");
    left.assert_consistent(&point);
    // Data after the end of a smaller disk must not come back with growth, wherever the change was
    // interrupted.
    let larger = after.content.len().max(before.content.len()) as u64 + CHUNK;
    left.resize(larger).expect("grows");
    let grown = content(left);
    assert!(
        grown[last as usize + 512..].iter().all(|byte| *byte == 0),
        "growth: {point}"
    );
    left.amend(&case.changes).expect("amended");
    let mut again = content(left);
    if last as usize + 512 <= again.len() {
        again[last as usize..last as usize + 512].copy_from_slice(&after.content[last as usize..last as usize + 512]);
    }
    let common = again.len().min(now.content.len());
    assert!(again[..common] == after.content[..common], "amended again: {point}");
    left.assert_consistent(&point);
    changed
}

#[test]
fn a_power_cut_at_any_point_leaves_the_old_or_the_new_image() {
    let mut random = fastrand::Rng::with_seed(36);
    let (mut old, mut new, mut twice) = (0, 0, 0);
    for case in cases() {
        let (before, after, ops) = run(&case);
        let least = if case.name == PIN_ALONE { 3 } else { 6 };
        assert!(ops.len() >= least, "{}: {}", case.name, ops.len());
        for count in 0..=ops.len() {
            for _ in 0..CUTS {
                let mut left = power_cut(&case.sample, &ops[..count], &mut random);
                let mut point = format!("cut after {count} of {}", ops.len());
                if is_interrupted(&left) && random.bool() {
                    left = cut_while_finished(&left, &mut random);
                    point += ", and while it was finished";
                    twice += 1;
                }
                let changed = verify(&left, &case, &before, &after, &point);
                new += u32::from(changed);
                old += u32::from(!changed);
            }
        }
    }
    assert!(old > 500 && new > 500 && twice > 200, "{old} {new} {twice}");
}

fn is_interrupted(sample: &Sample<MemoryStorage>) -> bool {
    block_on(read_head(&sample.file)).expect("valid").interrupted
}

/// What a power cut leaves of an interrupted change while the next open for writing finishes it.
fn cut_while_finished(left: &Sample<MemoryStorage>, random: &mut fastrand::Rng) -> Sample<MemoryStorage> {
    let (recorded, log) = record(left);
    drop(open(&recorded, true).expect("opens"));
    let ops = log.lock().expect("not poisoned").ops.clone();
    power_cut(left, &ops[..random.usize(..=ops.len())], random)
}

#[test]
fn what_lies_behind_the_end_never_shows_in_a_larger_disk_after_a_power_cut_at_any_point() {
    let mut random = fastrand::Rng::with_seed(37);
    for separate in [false, true] {
        let kind = Kind {
            separate,
            ..Kind::default()
        };
        let case = Case {
            name: format!("more behind the end, separate: {separate}"),
            sample: sample(&options(kind), false),
            changes: changes([("size", int(SIZE))]),
            size: SIZE,
        };
        // As a program leaves it that changes nothing but the field: the end lies in a chunk with data, and
        // chunks behind it have entries.
        let small = 13 * CHUNK + 4608;
        case.sample.poke(SIZE_FIELD, &small.to_le_bytes());
        let (before, after, ops) = run(&case);
        for count in 0..=ops.len() {
            for _ in 0..4 * CUTS {
                let left = power_cut(&case.sample, &ops[..count], &mut random);
                let now = State::of(&left);
                let expected = if now.header == after.header { &after } else { &before };
                assert!(now == *expected, "{}, cut after {count} of {}", case.name, ops.len());
            }
        }
    }
}

fn fail_everywhere(cause: i32) {
    for case in cases() {
        let (before, after, ops) = run(&case);
        for at in 0..ops.len() {
            let (recorded, log): (Sample<Disk>, _) = record(&case.sample);
            log.lock().expect("not poisoned").fail = Some((at, cause));
            let error = recorded.amend(&case.changes).expect_err("fails");
            assert_eq!(error.errno(), Some(cause));
            verify(&contents(&recorded), &case, &before, &after, &format!("error at {at}"));
        }
    }
}

#[test]
fn an_io_error_at_any_point_is_returned_and_tears_nothing() {
    fail_everywhere(libc::EIO);
}

#[test]
fn a_full_disk_at_any_point_is_returned_and_tears_nothing() {
    fail_everywhere(libc::ENOSPC);
}

/// An image with an interrupted change: only the first sector of the new header is in place.
fn interrupted() -> (Case, State) {
    let case = into_the_journal();
    let (_, after, ops) = run(&case);
    let is_header = |(_, op): &(usize, Op)| matches!(op, Op::Write(bytes, 0) if bytes.len() > 512);
    let header = ops.iter().position(is_header).expect("the header is written");
    let left = power_cut(&case.sample, &ops[..header], &mut fastrand::Rng::with_seed(1));
    let Op::Write(bytes, 0) = &ops[header].1 else {
        unreachable!("found above");
    };
    // The size in place is the new one, the offset of the journal the old one.
    block_on(left.file.write(bytes.slice(..512), 0)).expect("written");
    (Case { sample: left, ..case }, after)
}

#[test]
fn readers_see_an_interrupted_change_as_done_without_writes() {
    let (case, after) = interrupted();
    let bytes = case.sample.file.to_vec();
    assert_eq!(State::of(&case.sample), after);
    let report = case.sample.check(Repair::None).expect("checks");
    assert!(report.needs_recovery);
    assert_eq!(report.counts[&FindingKind::InterruptedAmend], 1);
    assert_eq!(report.corruptions, 0);
    assert_eq!(case.sample.file.to_vec(), bytes);
}

#[test]
fn a_repair_finishes_an_interrupted_change() {
    for repair in [Repair::Leaks, Repair::All] {
        let (case, after) = interrupted();
        let report = case.sample.check(repair).expect("repairs");
        assert!(!report.needs_recovery && report.findings.iter().all(|finding| finding.repaired));
        let raw = case.sample.file.to_vec();
        assert!(raw[4608..8192].iter().all(|byte| *byte == 0));
        assert_eq!(Header::decode(&raw).expect("in place"), after.header);
        assert_eq!(State::of(&case.sample), after);
    }
}
