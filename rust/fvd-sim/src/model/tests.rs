use super::*;

fn sectors(values: &[u8]) -> Vec<u8> {
    values.iter().flat_map(|value| [*value; SECTOR as usize]).collect()
}

#[test]
fn an_unflushed_write_may_be_lost_and_a_flushed_one_may_not() {
    let mut model = Model::new(&sectors(&[1, 1]));
    let write = model.begin_write(512, &sectors(&[2]));
    model.ack_write(write, false);
    assert!(model.check_crashed(&sectors(&[1, 1])).is_ok());
    assert!(model.check_crashed(&sectors(&[1, 2])).is_ok());
    assert_eq!(
        model
            .check_crashed(&sectors(&[1, 3]))
            .expect_err("a third content")
            .sector,
        1
    );
    assert!(model.check_closed(&sectors(&[1, 1])).is_err());
    let flush = model.begin_flush();
    model.ack_flush(flush);
    assert!(model.check_crashed(&sectors(&[1, 1])).is_err());
    assert!(model.check_crashed(&sectors(&[1, 2])).is_ok());
}

#[test]
fn a_flush_covers_only_what_was_acknowledged_before_it_started() {
    let mut model = Model::new(&sectors(&[1]));
    let write = model.begin_write(0, &sectors(&[2]));
    let flush = model.begin_flush();
    model.ack_write(write, false);
    model.ack_flush(flush);
    assert!(model.check_crashed(&sectors(&[1])).is_ok());
    assert!(model.check_crashed(&sectors(&[2])).is_ok());
}

#[test]
fn writes_that_overlap_in_time_leave_either() {
    let mut model = Model::new(&sectors(&[1]));
    let first = model.begin_write(0, &sectors(&[2]));
    let second = model.begin_write(0, &sectors(&[3]));
    model.ack_write(first, false);
    model.ack_write(second, false);
    assert!(model.check_closed(&sectors(&[2])).is_ok());
    assert!(model.check_closed(&sectors(&[3])).is_ok());
    assert!(model.check_closed(&sectors(&[1])).is_err());
    let read = model.begin_read(0, 512);
    model.end_read(read, &sectors(&[3])).expect("one of the two");
    let again = model.begin_read(0, 512);
    model.end_read(again, &sectors(&[2])).expect_err("reading twice agrees");
}

#[test]
fn a_write_in_part_keeps_the_rest_of_every_content_there_may_be() {
    let mut model = Model::new(&sectors(&[1]));
    let failed = model.begin_write(0, &sectors(&[2]));
    model.fail_write(failed);
    let part = model.begin_write(0, &[9; 100]);
    model.ack_write(part, false);
    let mut old = sectors(&[1]);
    old[..100].fill(9);
    let mut new = sectors(&[2]);
    new[..100].fill(9);
    assert!(model.check_closed(&old).is_ok());
    assert!(model.check_closed(&new).is_ok());
    assert!(model.check_closed(&sectors(&[1])).is_err());
    assert!(model.check_crashed(&sectors(&[1])).is_ok());
}

#[test]
fn a_read_sees_old_or_new_during_a_write_and_new_after_it() {
    let mut model = Model::new(&sectors(&[1]));
    let during = model.begin_read(0, 512);
    let write = model.begin_write(0, &sectors(&[2]));
    model.ack_write(write, true);
    model.end_read(during, &sectors(&[1])).expect("it started before");
    let after = model.begin_read(0, 512);
    model
        .end_read(after, &sectors(&[1]))
        .expect_err("the write was acknowledged");
    assert!(model.check_crashed(&sectors(&[1])).is_err(), "the write was durable");
}
