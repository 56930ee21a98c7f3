//! Each model, in every interleaving of its threads.

use fvd_loom::models::{epochs, segment};

#[test]
fn a_request_never_uses_a_chunk_that_is_used_again() {
    epochs::a_request_never_uses_a_chunk_that_is_used_again();
}

#[test]
fn two_requests_at_once_never_use_a_chunk_that_is_used_again() {
    epochs::two_requests_at_once_never_use_a_chunk_that_is_used_again();
}

#[test]
fn the_last_request_wakes_the_task_that_waits_for_storage() {
    epochs::the_last_request_wakes_the_task_that_waits_for_storage();
}

#[test]
fn a_second_load_does_not_undo_a_change() {
    segment::a_second_load_does_not_undo_a_change();
}

#[test]
fn a_slow_load_of_a_hole_does_not_undo_a_change() {
    segment::a_slow_load_of_a_hole_does_not_undo_a_change();
}

#[test]
fn two_changes_of_a_hole_are_both_kept() {
    segment::two_changes_of_a_hole_are_both_kept();
}

#[test]
fn a_loaded_segment_can_be_looked_up() {
    segment::a_loaded_segment_can_be_looked_up();
}

#[test]
fn a_task_that_sees_a_bit_sees_the_entry() {
    segment::a_task_that_sees_a_bit_sees_the_entry();
}
