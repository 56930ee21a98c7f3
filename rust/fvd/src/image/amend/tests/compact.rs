//! The size of compact images.

use super::*;
use crate::format::table;

fn compact(journal_size: i64) -> CreateOptions {
    let mut options = options(Kind::default());
    options.layout.journal_size = Some(journal_size);
    options
}

#[test]
fn growth_within_the_page_of_the_table_moves_nothing() {
    for separate in [false, true] {
        let options = options(Kind {
            separate,
            ..Kind::default()
        });
        let sample = sample(&options, true);
        let (before, journal) = (content(&sample), sample.geometry().journal);
        // Other programs may leave an entry after the last chunk.
        sample.set_entry(40, 2);
        sample.resize(1000 * CHUNK - 512).expect("grows");
        assert_eq!(content(&sample), resized(&before, 1000 * CHUNK - 512));
        assert_eq!(sample.geometry().journal, journal);
        sample.assert_consistent("grown");
    }
}

#[test]
fn a_larger_table_takes_its_pages_from_the_journal() {
    let sample = sample(&compact(64 << 10), true);
    let (before, old) = (content(&sample), sample.geometry());
    let size = 2500 * CHUNK + 512;
    sample.resize(size).expect("grows");
    assert_eq!(content(&sample), resized(&before, size));
    let new = sample.geometry();
    let (was, is) = (old.journal.expect("one"), new.journal.expect("one"));
    assert_eq!(is.offset, was.offset + 8192);
    assert_eq!(is.end(), was.end());
    assert_eq!(new.data_offset, old.data_offset);
    // The entries after the last chunk, in the last page, are unallocated.
    assert_eq!(sample.entry(2502), u32::MAX);
    let image = open(&sample, true).expect("opens");
    block_on(image.write(vec![9; 4096].into(), size - 4096)).expect("written");
    block_on(image.flush()).expect("flushed");
    drop(image);
    // The image was not closed, so its journal is replayed from its new place.
    assert_eq!(content(&sample)[size as usize - 4096..], [9; 4096]);
    sample.assert_consistent("grown");
}

#[test]
fn growth_without_room_is_refused_with_a_size_that_works() {
    let sample = sample(&compact(16 << 10), false);
    let message = sample.refusal([("size", int(9000 * CHUNK))]);
    let most = message
        .split("can grow to ")
        .nth(1)
        .expect("a size")
        .split(' ')
        .next()
        .expect("a number");
    let most: u64 = most.parse().expect("a number");
    sample.refusal([("size", int(most + 512))]);
    sample.resize(most).expect("grows");
    let journal = sample.geometry().journal.expect("kept");
    assert!(journal.size >= crate::format::layout::least_journal_size(most / CHUNK));
    sample.assert_consistent("grown");
    let message = sample.refusal([("size", int(most + 512))]);
    assert!(message.contains("cannot grow"), "{message}");
}

#[test]
fn without_a_journal_the_table_grows_to_the_end_of_its_page() {
    let sample = sample(&compact(-1), false);
    let before = content(&sample);
    let message = sample.refusal([("size", int(1024 * CHUNK + 512))]);
    assert!(
        message.contains(&format!("can grow to {} bytes", 1024 * CHUNK)),
        "{message}"
    );
    sample.resize(1024 * CHUNK).expect("grows");
    assert_eq!(content(&sample), resized(&before, 1024 * CHUNK));
}

#[test]
fn shrinking_frees_the_chunks_after_the_end() {
    for separate in [false, true] {
        let options = options(Kind {
            separate,
            based: true,
            ..Kind::default()
        });
        let sample = sample(&options, true);
        let before = content(&sample);
        let len = block_on(sample.data().len()).expect("known");
        let small = 13 * CHUNK + 4096;
        sample.resize(small).expect("shrinks");
        assert_eq!(content(&sample), before[..small as usize]);
        let report = sample.check(Repair::None).expect("checks");
        assert_eq!((report.corruptions, report.leaks), (0, 0));
        assert_eq!(report.total_chunks, 14);
        let end = sample.geometry().data_offset + report.allocated_chunks * CHUNK;
        assert!(end < len);
        assert_eq!(block_on(sample.data().len()).expect("known"), end, "there are no gaps");
        // No entry after the last chunk is left that a growth, by any program, could bring back.
        let table = sample.geometry().table.expect("compact");
        assert!((14..table.size / table::ENTRY_SIZE).all(|chunk| sample.entry(chunk) == u32::MAX));
        sample.resize(SIZE).expect("grows");
        assert_eq!(content(&sample), resized(&before[..small as usize], SIZE));
    }
}

#[test]
fn a_table_that_shrank_keeps_its_pages_for_growth() {
    let sample = sample(&compact(64 << 10), false);
    sample.resize(2500 * CHUNK).expect("grows");
    let journal = sample.geometry().journal;
    let image = open(&sample, true).expect("opens");
    block_on(image.write(vec![9; 4096].into(), 2200 * CHUNK)).expect("written");
    block_on(image.close()).expect("closed");
    sample.resize(100 * CHUNK).expect("shrinks");
    sample.assert_consistent("shrunk");
    assert_eq!(sample.geometry().journal, journal);
    sample.resize(2500 * CHUNK).expect("grows");
    assert_eq!(sample.geometry().journal, journal);
    assert!(content(&sample)[100 * CHUNK as usize..].iter().all(|byte| *byte == 0));
}

#[test]
fn stale_entries_after_a_foreign_shrink_do_not_come_back() {
    let sample = sample(&compact(64 << 10), false);
    let before = content(&sample);
    // The original shrinks an image by changing only the size field.
    let small = 10 * CHUNK;
    sample.poke(12, &small.to_le_bytes());
    sample.resize(SIZE).expect("grows");
    assert_eq!(content(&sample), resized(&before[..small as usize], SIZE));
}

#[test]
fn the_rest_of_the_last_chunk_reads_as_zeros_after_growth() {
    let mut options = options(Kind::default());
    options.layout.virtual_size = SIZE - 4096;
    let sample = Sample {
        file: MemoryStorage::new(),
        data: None,
    };
    block_on(create(&sample.file, None, &options, None)).expect("created");
    let image = open(&sample, true).expect("opens");
    block_on(image.write(vec![1; 4096].into(), SIZE - 8192)).expect("written");
    block_on(image.close()).expect("closed");
    let end = sample.geometry().data_offset + CHUNK;
    block_on(sample.file.write(vec![0xEE; 4096].into(), end - 4096)).expect("written");
    sample.resize(SIZE).expect("grows");
    assert!(content(&sample)[SIZE as usize - 4096..].iter().all(|byte| *byte == 0));
}

#[test]
fn more_chunks_than_storage_chunk_numbers_are_refused() {
    let sample = sample(&compact(-1), false);
    let message = sample.refusal([("size", int(1 << 62))]);
    assert!(message.contains("no room for the table"), "{message}");
}
