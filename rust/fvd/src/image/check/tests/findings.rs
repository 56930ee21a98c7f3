//! Tests every kind of finding, and that no other finding is reported with it.

use super::*;
use crate::format::journal::encode_sector;
use crate::format::{BitmapRecord, Entry, StorageChunk, TableRecord};

fn found(sample: &Sample<MemoryStorage>) -> Vec<(FindingKind, u64)> {
    kinds(&sample.check(Repair::None).expect("checks"))
}

/// The end of storage chunk `chunks - 1`, in bytes. The last one of every sample is number 9, which holds
/// chunk 25.
fn file_end(sample: &Sample<MemoryStorage>, chunks: u64) -> u64 {
    sample.geometry().data_offset + chunks * CHUNK
}

/// Writes a sector of the journal, and marks the image unclean so that the journal is replayed.
fn journal(sample: &Sample<MemoryStorage>, number: u64, table: Option<&TableRecord>, bitmap: Option<&BitmapRecord>) {
    let region = sample.geometry().journal.expect("a journal");
    sample.poke(region.offset + number * 512, &encode_sector(table, bitmap));
    sample.set_clean(false);
}

#[test]
fn a_closed_image_is_clean_and_its_chunks_are_counted() {
    for separate in [false, true] {
        let sample = sample(Kind {
            separate,
            ..Kind::default()
        });
        let report = sample.check(Repair::None).expect("checks");
        assert_clean(&report);
        assert_eq!((report.total_chunks, report.allocated_chunks), (CHUNKS, 10));
        // Storage chunks in the order of the disk: 3 0 1 6 7 5 2 9 8 4. Only 0 1 and 6 7 are consecutive.
        assert_eq!(report.fragmented_chunks, 7);
        assert!(report.findings.is_empty() && !report.suspect && !report.needs_recovery);
        let end = if separate {
            sample.geometry().metadata_end
        } else {
            file_end(&sample, 10)
        };
        assert_eq!(report.image_end_offset, end);
    }
}

#[test]
fn local_blocks_are_counted_with_those_in_a_live_journal() {
    for unclean in [false, true] {
        let sample = sample(Kind {
            based: true,
            unclean,
            ..Kind::default()
        });
        let report = sample.check(Repair::None).expect("checks");
        assert_clean(&report);
        assert_eq!(report.needs_recovery, unclean);
        assert_eq!(report.total_blocks, 20);
        // Writes of 5000 bytes at chunks 0 3 4 7 8 11 20 25 touch 1 or 2 of the 12288-byte
        // blocks each: 0 | 2 | 2 3 | 4 | 5 | 7 | 13 | 16 17.
        assert_eq!(report.local_blocks, 9, "unclean: {unclean}");
    }
}

#[test]
fn entries_that_no_file_can_hold_are_out_of_range() {
    let sample = sample(Kind::default());
    sample.set_entry(12, 0x7FFF_FFFF);
    assert_eq!(found(&sample), [(FindingKind::OutOfRange, 1)]);
}

#[test]
fn entries_after_the_end_of_an_open_data_file_are_found() {
    for separate in [false, true] {
        let mut sample = sample(Kind {
            separate,
            ..Kind::default()
        });
        sample.set_entry(12, 500);
        assert_eq!(found(&sample), [(FindingKind::BeyondEnd, 1)]);
        if sample.data.take().is_some() {
            let report = sample.check(Repair::None).expect("checks");
            assert!(report.data_file_unchecked);
            assert_eq!(report.corruptions, 0);
            assert_eq!(report.leaks, 0, "unknown without the data file");
        }
    }
}

#[test]
fn a_data_file_that_ends_within_a_chunk_is_too_short() {
    let sample = sample(Kind::default());
    block_on(sample.file.set_len(file_end(&sample, 9) + 512)).expect("cut");
    assert_eq!(found(&sample), [(FindingKind::PartlyBeyondEnd, 1)]);
    block_on(sample.file.set_len(file_end(&sample, 9))).expect("cut");
    assert_eq!(found(&sample), [(FindingKind::BeyondEnd, 1)]);
}

#[test]
fn chunks_that_share_a_storage_chunk_are_found() {
    let sample = sample(Kind::default());
    sample.set_entry(12, 4);
    sample.set_entry(13, 4);
    let report = sample.check(Repair::None).expect("checks");
    assert_eq!(kinds(&report), [(FindingKind::Shared, 2)]);
    assert_eq!((report.corruptions, report.allocated_chunks), (2, 10));
}

#[test]
fn leaked_storage_chunks_are_named_in_runs() {
    let sample = sample(Kind::default());
    sample.leak(3);
    sample.leak(4);
    sample.leak(11);
    let report = sample.check(Repair::None).expect("checks");
    assert_eq!(kinds(&report), [(FindingKind::Leak, 3)]);
    assert_eq!((report.corruptions, report.leaks), (0, 3));
    assert_eq!(report.findings.len(), 2);
    assert_eq!(report.findings[0].message, "storage chunks 0..2 are not in use");
    assert_eq!(report.findings[1].message, "storage chunk 5 is not in use");
}

#[test]
fn entries_after_the_last_chunk_are_garbage() {
    let sample = sample(Kind::default());
    sample.set_entry(CHUNKS, 4);
    sample.set_entry(1023, 0);
    assert_eq!(found(&sample), [(FindingKind::Garbage, 2)]);
}

#[test]
fn journal_records_outside_count_only_in_an_unclean_image() {
    let sample = sample(Kind {
        based: true,
        ..Kind::default()
    });
    let entries = vec![Entry::UNALLOCATED; 2];
    let first = CHUNKS as u32 - 1;
    journal(&sample, 3, Some(&TableRecord { first, entries }), None);
    let after_the_disk = BitmapRecord {
        first_sector: CHUNKS * CHUNK / 512,
        sectors: 1,
    };
    journal(&sample, 4, None, Some(&after_the_disk));
    // The original journals whole writes, also parts after the end of the base.
    let after_the_base = BitmapRecord {
        first_sector: CHUNKS * CHUNK / 512 - 1,
        sectors: 1,
    };
    journal(&sample, 5, None, Some(&after_the_base));
    assert_eq!(found(&sample), [(FindingKind::JournalOutside, 2)]);
    sample.set_clean(true);
    assert_eq!(found(&sample), []);
}

#[test]
fn a_block_at_the_end_of_the_base_may_reach_beyond_it() {
    let mut options = options(Kind {
        based: true,
        ..Kind::default()
    });
    options.layout.base_size = Some(30 * CHUNK - 512);
    let sample = Sample {
        file: MemoryStorage::new(),
        data: None,
    };
    block_on(create(&sample.file, None, &options, None)).expect("created");
    let record = BitmapRecord {
        first_sector: 0,
        sectors: (30 * CHUNK / 512) as u32,
    };
    journal(&sample, 0, None, Some(&record));
    let report = sample.check(Repair::None).expect("checks");
    assert_clean(&report);
    assert_eq!(report.local_blocks, report.total_blocks);
}

#[test]
fn an_unclean_image_without_journal_is_suspect() {
    let sample = sample(Kind {
        no_journal: true,
        ..Kind::default()
    });
    sample.set_clean(false);
    let report = sample.check(Repair::None).expect("checks");
    assert!(report.suspect && !report.needs_recovery);
    assert_eq!(kinds(&report), [(FindingKind::Suspect, 1)]);
}

#[test]
fn the_table_is_checked_with_the_journal_replayed() {
    let sample = sample(Kind::default());
    let entries = vec![
        Entry::allocated(StorageChunk::new(4)),
        Entry::UNALLOCATED,
        Entry::allocated(StorageChunk::new(700)),
    ];
    journal(&sample, 15, Some(&TableRecord { first: 1, entries }), None);
    let expected = [(FindingKind::BeyondEnd, 1), (FindingKind::Shared, 1)];
    // Entry 3 is 0 in place, but 700 in the journal, so storage chunk 0 is a leak.
    let all = found(&sample);
    assert_eq!(all[..2], expected);
    assert_eq!(all[2], (FindingKind::Leak, 1));
}

#[test]
fn all_findings_are_counted_but_only_the_first_are_kept() {
    let sample = sample(Kind::default());
    for chunk in CHUNKS..1024 {
        sample.set_entry(chunk, chunk as u32);
    }
    let report = sample.check(Repair::None).expect("checks");
    assert_eq!(kinds(&report), [(FindingKind::Garbage, 1024 - CHUNKS)]);
    assert_eq!(report.findings.len(), 100);
}

#[test]
fn a_file_that_is_no_image_cannot_be_checked() {
    let file = MemoryStorage::from_bytes(&[0; 9000]);
    assert!(block_on(check(&file, None, Repair::All)).is_err());
    assert_eq!(file.to_vec(), vec![0; 9000]);
}
