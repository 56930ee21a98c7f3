//! What several tasks load, change and look up at once.

use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;

use super::check;
use crate::image::metadata::segment::Segment;

/// The words of a segment.
const LEN: usize = 2;

/// Runs `one` on a thread of its own, at the same time as `other`.
fn beside(segments: &Arc<[Segment; 2]>, one: fn(&[Segment; 2]), other: fn(&[Segment; 2])) {
    let shared = Arc::clone(segments);
    let thread = thread::spawn(move || one(&shared));
    other(segments);
    thread.join().expect("no panic");
}

/// Two tasks read the same segment, and one of them changes it at once.
pub fn a_second_load_does_not_undo_a_change() {
    check(|| {
        let segments = Arc::<[Segment; 2]>::default();
        beside(
            &segments,
            |[segment, _]| {
                segment.install([4, 4].into_iter());
                segment.word(0, LEN).fetch_or(1, Ordering::AcqRel);
                assert_eq!(segment.get(0), 5);
            },
            |[segment, _]| {
                segment.install([4, 4].into_iter());
                assert!([4, 5].contains(&segment.get(0)));
            },
        );
        assert_eq!((segments[0].get(0), segments[0].get(1)), (5, 4));
    });
}

/// One task finds a hole and changes it, while another one reads it as data, which was slower.
pub fn a_slow_load_of_a_hole_does_not_undo_a_change() {
    check(|| {
        let segments = Arc::<[Segment; 2]>::default();
        beside(
            &segments,
            |[segment, _]| {
                segment.set_hole();
                segment.word(0, LEN).store(1, Ordering::Release);
            },
            |[segment, _]| {
                segment.install([0, 0].into_iter());
                assert!([0, 1].contains(&segment.get(0)));
            },
        );
        assert_eq!(segments[0].get(0), 1);
    });
}

/// Two tasks change a hole, which gets memory once.
pub fn two_changes_of_a_hole_are_both_kept() {
    check(|| {
        let segments = Arc::<[Segment; 2]>::default();
        segments[0].set_hole();
        beside(
            &segments,
            |[segment, _]| assert_eq!(segment.word(0, LEN).fetch_or(1, Ordering::AcqRel) & 1, 0),
            |[segment, _]| assert_eq!(segment.word(0, LEN).fetch_or(2, Ordering::AcqRel) & 2, 0),
        );
        assert_eq!(segments[0].get(0), 3);
    });
}

/// A task that finds a segment loaded can look it up.
pub fn a_loaded_segment_can_be_looked_up() {
    check(|| {
        let segments = Arc::<[Segment; 2]>::default();
        beside(
            &segments,
            |[segment, _]| {
                segment.set_hole();
                segment.word(0, LEN).store(1, Ordering::Release);
            },
            |[segment, _]| {
                if segment.is_loaded() {
                    assert!([0, 1].contains(&segment.get(0)));
                }
            },
        );
    });
}

/// A task stores an entry of the table, which is a hole at first, and then sets a bit (I1).
pub fn a_task_that_sees_a_bit_sees_the_entry() {
    check(|| {
        let segments = Arc::<[Segment; 2]>::default();
        segments[0].set_hole();
        segments[1].install([0, 0].into_iter());
        beside(
            &segments,
            |[table, bitmap]| {
                table.word(0, LEN).store(7, Ordering::Release);
                bitmap.word(0, LEN).fetch_or(1, Ordering::AcqRel);
            },
            |[table, bitmap]| {
                if bitmap.get(0) == 1 {
                    assert_eq!(table.get(0), 7);
                }
            },
        );
    });
}
