//! The size of images without a table.

use super::*;

fn kinds() -> impl Iterator<Item = Kind> {
    (0..4).map(|bits| Kind {
        separate: bits & 1 > 0,
        based: bits & 2 > 0,
        ..Kind::default()
    })
}

#[test]
fn a_larger_disk_reads_as_zeros_after_its_old_end() {
    for kind in kinds() {
        let sample = sample(&plain(kind), false);
        let before = content(&sample);
        // Other programs may leave bytes after the end of the disk.
        let end = block_on(sample.data().len()).expect("known");
        block_on(sample.data().write(vec![0xEE; 70_000].into(), end)).expect("written");
        sample.resize(SIZE + 100_000).expect("grows");
        assert_eq!(content(&sample), resized(&before, SIZE + 100_352));
        assert_eq!(sample.header().base_img_size, if kind.based { 30 * CHUNK } else { 0 });
        let image = open(&sample, true).expect("opens");
        block_on(image.write(vec![5; 1000].into(), SIZE + 99_000)).expect("written");
        block_on(image.close()).expect("closed");
        sample.assert_consistent("grown");
    }
}

#[test]
fn data_lost_by_shrinking_does_not_come_back_with_growth() {
    for kind in kinds() {
        let sample = sample(&plain(kind), false);
        let before = content(&sample);
        let small = 13 * CHUNK + 512;
        sample.resize(small).expect("shrinks");
        assert_eq!(content(&sample), before[..small as usize]);
        sample.resize(SIZE).expect("grows");
        assert_eq!(content(&sample), resized(&before[..small as usize], SIZE));
        let expected = if kind.based { small } else { 0 };
        assert_eq!(sample.header().base_img_size, expected);
    }
}

#[test]
fn resizing_on_a_device_clears_the_data_after_the_end() {
    let room = 16384 + SIZE + 10 * CHUNK;
    let device = MemoryStorage::device(room);
    block_on(device.write(vec![0xDD; room as usize].into(), 0)).expect("written");
    let sample = fill(device, None, &plain(Kind::default()), false);
    let before = content(&sample);
    sample.resize(SIZE + CHUNK + 512).expect("grows");
    assert_eq!(content(&sample), resized(&before, SIZE + CHUNK + 512));
    sample.resize(CHUNK).expect("shrinks");
    let raw = sample.file.to_vec();
    assert!(
        raw[8192 + 8192 + CHUNK as usize..][..SIZE as usize]
            .iter()
            .all(|byte| *byte == 0)
    );
    let message = sample.refusal([("size", int(room))]);
    assert!(message.contains("The device has"), "{message}");
}

#[test]
fn shrinking_must_be_requested() {
    let sample = sample(&plain(Kind::default()), false);
    let mut changes = Changes::default();
    changes.set("size", int(CHUNK)).expect("a size");
    let error = sample.amend(&changes).expect_err("refused");
    assert!(error.to_string().contains("Use --shrink"), "{error}");
    assert_eq!(content(&sample).len() as u64, SIZE);
}

#[test]
fn a_disk_may_shrink_to_zero_and_then_needs_no_base() {
    let kind = Kind {
        based: true,
        ..Kind::default()
    };
    for options in [plain(kind), options(kind)] {
        let sample = sample(&options, true);
        let header = sample.resize(0).expect("shrinks");
        assert!(header.all_data_in_fvd_img);
        assert_eq!(content(&sample), []);
        sample.resize(SIZE).expect("grows");
        assert_eq!(content(&sample), resized(&[], SIZE));
        sample.assert_consistent("from nothing");
    }
}

#[test]
fn sizes_too_large_for_a_file_are_refused() {
    let sample = sample(&plain(Kind::default()), false);
    let message = sample.refusal([("size", Value::Int(i64::MAX - 1023))]);
    assert!(message.contains("the most for this image is"), "{message}");
    let message = Changes::default()
        .set("size", Value::Int(i64::MAX))
        .expect_err("odd")
        .to_string();
    assert!(message.contains("2^63 - 512"), "{message}");
    assert!(Changes::default().set("size", Value::Int(-1)).is_err());
}

#[test]
fn the_same_size_changes_nothing() {
    let sample = sample(&plain(Kind::default()), false);
    let before = sample.file.to_vec();
    sample.resize(SIZE - 511).expect("the same, rounded");
    assert_eq!(sample.file.to_vec(), before);
}
