//! Tests every repair: the image must be clean after it, and the guest must see the same content.

use std::sync::Mutex;

use super::*;
use crate::error::ErrorKind;
use crate::format::TableRecord;
use crate::format::journal::encode_sector;
use crate::format::{BitmapRecord, Entry, StorageChunk};
use crate::image::testing::disk::{Discards, Log, Op, record};

/// Repairs all, asserts that another check finds nothing, and returns the report of the repair.
pub(super) fn repair_all<S: Storage + Clone>(sample: &Sample<S>) -> Report {
    let report = sample.check(Repair::All).expect("repairs");
    assert_clean(&report);
    let again = sample.check(Repair::None).expect("checks");
    assert_clean(&again);
    assert!(
        again
            .findings
            .iter()
            .all(|finding| finding.kind == FindingKind::DataFileNotOpened)
    );
    report
}

fn len(storage: &MemoryStorage) -> u64 {
    block_on(storage.len()).expect("memory")
}

/// Asserts that the image can be opened, written and closed, and is clean after that.
fn assert_usable(sample: &Sample<MemoryStorage>) {
    let image = open(sample, true).expect("opens");
    block_on(image.write(vec![0xEE; 3000].into(), 13 * CHUNK)).expect("written");
    block_on(image.close()).expect("closed");
    assert_eq!(content(sample)[13 * CHUNK as usize], 0xEE);
    assert_clean(&sample.check(Repair::None).expect("checks"));
}

#[test]
fn leaked_chunks_become_holes_and_the_tail_is_cut() {
    for separate in [false, true] {
        for repair in [Repair::Leaks, Repair::All] {
            let sample = sample(Kind {
                separate,
                ..Kind::default()
            });
            for chunk in [3, 20, 7] {
                sample.leak(chunk);
            }
            let expected = content(&sample);
            let before = len(sample.data());
            let named: Vec<_> = (0..CHUNKS).map(|chunk| sample.entry(chunk)).collect();
            let report = sample.check(repair).expect("repairs");
            assert_clean(&report);
            assert_eq!((report.leaks_fixed, report.corruptions_fixed), (3, 0));
            assert!(report.findings.iter().all(|finding| finding.repaired));
            assert_eq!(content(&sample), expected);
            assert!(len(sample.data()) <= before);
            let entries: Vec<_> = (0..CHUNKS).map(|chunk| sample.entry(chunk)).collect();
            assert_eq!(entries, named, "nothing has moved");
            assert_clean(&sample.check(Repair::None).expect("checks"));
            assert_usable(&sample);
        }
    }
}

#[test]
fn freeing_leaks_moves_nothing_and_needs_no_space() {
    for discards in [Discards::Free, Discards::Ignore, Discards::Full] {
        let (sample, log) = record(&sample(Kind {
            separate: true,
            ..Kind::default()
        }));
        for chunk in [3, 8, 0] {
            sample.leak(chunk);
        }
        let expected = content(&sample);
        {
            let log = &mut *log.lock().expect("not poisoned");
            log.ops.clear();
            log.discards = discards;
            log.full = 0..u64::MAX;
            log.longest = Some(10 * CHUNK);
        }
        let report = sample.check(Repair::Leaks).expect("repairs");
        let (left, freed) = if discards == Discards::Free { (0, 3) } else { (3, 0) };
        assert_eq!((report.leaks, report.leaks_fixed), (left, freed));
        let log = log.lock().expect("not poisoned");
        assert_eq!(log.count(0, 0, |op| matches!(op, Op::Write(..))), 0);
        assert_eq!(log.count(1, 0, |op| !matches!(op, Op::Discard(..))), 0);
        drop(log);
        assert_eq!(content(&sample), expected);
    }
}

#[test]
fn a_block_shared_with_a_chunk_in_use_is_no_leak() {
    let (sample, log) = record(&sample(Kind {
        separate: true,
        ..Kind::default()
    }));
    // A storage chunk has two pages, and a file system block three. Storage chunk 0 contains no whole block.
    // Storage chunks 4 to 6 contain one, pages 9 to 11.
    log.lock().expect("not poisoned").hole_unit = 3 * 4096;
    for chunk in [3, 39, 11, 7] {
        sample.leak(chunk);
    }
    assert_eq!(sample.check(Repair::None).expect("checks").leaks, 2);
    let report = sample.check(Repair::Leaks).expect("repairs");
    assert_eq!(
        (report.leaks, report.leaks_fixed),
        (0, 2),
        "what is left of them at the edges is none"
    );
}

#[test]
fn an_image_without_chunks_in_use_is_only_cut() {
    let sample = sample(Kind::default());
    for chunk in 0..CHUNKS {
        sample.leak(chunk);
    }
    let report = sample.check(Repair::Leaks).expect("repairs");
    assert_clean(&report);
    assert_eq!(len(&sample.file), sample.geometry().data_offset);
    assert_usable(&sample);
}

#[test]
fn an_unused_chunk_on_a_device_is_no_leak() {
    let mut options = options(Kind::default());
    options.layout.virtual_size = 12 * CHUNK;
    let device = MemoryStorage::device(1 << 20);
    let sample = Sample {
        file: device,
        data: None,
    };
    block_on(create(&sample.file, None, &options, None)).expect("created");
    let image = open(&sample, true).expect("opens");
    for chunk in [3, 4, 0, 7] {
        let bytes = Bytes::from(vec![chunk as u8 + 1; CHUNK as usize]);
        block_on(image.write(bytes, chunk * CHUNK)).expect("written");
    }
    block_on(image.close()).expect("closed");
    sample.leak(4);
    let expected = content(&sample);
    assert_clean(&sample.check(Repair::None).expect("checks"));
    assert_eq!(repair_all(&sample).leaks_fixed, 0);
    assert_eq!(content(&sample), expected);
    assert_eq!(sample.entry(7), 3);
    assert_eq!(len(&sample.file), 1 << 20);
}

#[test]
fn shared_chunks_get_copies_after_the_last_storage_chunk() {
    for separate in [false, true] {
        let sample = sample(Kind {
            separate,
            ..Kind::default()
        });
        for (chunk, number) in [(12, 4), (13, 4), (38, 9), (1, 0)] {
            sample.set_entry(chunk, number);
        }
        let expected = content(&sample);
        let report = repair_all(&sample);
        assert_eq!(report.corruptions_fixed, 4);
        assert_eq!(report.allocated_chunks, 14);
        assert_eq!(content(&sample), expected);
        // The first of the sharing chunks keep their storage chunk. Chunk 3 comes after chunk 1 and gets the
        // copy 10.
        assert_eq!((sample.entry(1), sample.entry(3)), (0, 10));
        assert_usable(&sample);
    }
}

#[test]
fn impossible_entries_and_garbage_become_unallocated() {
    let sample = sample(Kind::default());
    let expected = content(&sample);
    for (chunk, number) in [(1, 0x7FFF_FFFF), (2, 600), (39, 601), (40, 3), (1023, 7)] {
        sample.set_entry(chunk, number);
    }
    let report = repair_all(&sample);
    assert_eq!(report.corruptions_fixed, 5);
    assert_eq!(sample.entry(39), u32::MAX);
    assert_eq!(sample.entry(40), u32::MAX);
    // Chunk 39 had data. Its storage chunk leaked with its entry, and the repair freed it.
    let size = 39 * CHUNK as usize;
    assert_eq!(content(&sample)[..size], expected[..size]);
    assert!(content(&sample)[size..].iter().all(|byte| *byte == 0));
    assert_usable(&sample);
}

#[test]
fn a_file_cut_within_a_chunk_is_extended_with_zeros() {
    let sample = sample(Kind::default());
    let end = sample.geometry().data_offset + 8 * CHUNK + 2048;
    block_on(sample.file.set_len(end)).expect("cut");
    let report = repair_all(&sample);
    assert_eq!(report.corruptions_fixed, 2);
    // Chunk 30 is storage chunk 8 and keeps 1024 bytes of its data. Storage chunk 9, of chunk 25, is lost.
    let content = content(&sample);
    let chunk = &content[30 * CHUNK as usize..31 * CHUNK as usize];
    assert!(chunk[1024..2048].iter().all(|byte| *byte == 31));
    assert!(chunk[2048..].iter().all(|byte| *byte == 0));
    assert_eq!(sample.entry(25), u32::MAX);
    assert_usable(&sample);
}

#[test]
fn an_unclean_image_is_recovered_and_its_journal_erased() {
    for based in [false, true] {
        for repair in [Repair::Leaks, Repair::All] {
            let sample = sample(Kind {
                based,
                unclean: true,
                ..Kind::default()
            });
            let expected = content(&sample);
            let before = sample.check(Repair::None).expect("checks");
            assert!(before.needs_recovery);
            let report = sample.check(repair).expect("repairs");
            assert_clean(&report);
            assert!(!report.needs_recovery);
            assert_eq!(report.local_blocks, before.local_blocks);
            assert_eq!(content(&sample), expected);
            let journal = sample.geometry().journal.expect("a journal");
            let buf = IoBufMut::zeroed(journal.size as usize);
            let buf = block_on(sample.file.read(buf, journal.offset)).expect("read");
            assert!(buf.as_slice().iter().all(|byte| *byte == 0));
            assert_usable(&sample);
        }
    }
}

#[test]
fn records_outside_are_removed_and_the_others_are_applied() {
    let sample = sample(Kind {
        based: true,
        ..Kind::default()
    });
    let region = sample.geometry().journal.expect("a journal");
    let table = TableRecord {
        first: CHUNKS as u32 - 2,
        entries: [6, 5, 700]
            .map(|number| Entry::allocated(StorageChunk::new(number)))
            .to_vec(),
    };
    let bitmap = BitmapRecord {
        first_sector: 30 * CHUNK / 512 - 1,
        sectors: 1000,
    };
    sample.leak(8);
    sample.leak(11);
    sample.poke(region.offset, &vec![0; region.size as usize]);
    sample.poke(region.offset, &encode_sector(Some(&table), Some(&bitmap)));
    sample.set_clean(false);
    let before = sample.check(Repair::None).expect("checks");
    assert_eq!(before.counts[&FindingKind::JournalOutside], 2);
    let local = before.local_blocks;
    let report = repair_all(&sample);
    assert_eq!(report.corruptions_fixed, before.corruptions);
    assert_eq!(report.local_blocks, local);
    // Chunk 38 shared storage chunk 6 and now has it or a copy of it.
    assert_ne!(sample.entry(38), u32::MAX);
    assert_usable(&sample);
}

#[test]
fn a_suspect_image_is_accepted_only_by_a_repair_of_all() {
    let sample = sample(Kind {
        no_journal: true,
        ..Kind::default()
    });
    let expected = content(&sample);
    sample.set_clean(false);
    sample.leak(9);
    let report = sample.check(Repair::Leaks).expect("checks");
    assert!(report.suspect);
    assert!(open(&sample, true).is_err());
    let report = repair_all(&sample);
    assert!(!report.suspect);
    assert_eq!(report.corruptions_fixed, 1);
    assert_eq!(content(&sample), expected);
    assert_usable(&sample);
}

#[test]
fn leaks_are_not_freed_while_there_are_corruptions() {
    let sample = sample(Kind::default());
    sample.leak(3);
    sample.set_entry(12, 4);
    let bytes = sample.file.to_vec();
    let report = sample.check(Repair::Leaks).expect("checks");
    assert_eq!((report.corruptions, report.leaks), (1, 1));
    assert_eq!((report.corruptions_fixed, report.leaks_fixed), (0, 0));
    assert_eq!(sample.file.to_vec(), bytes);
    assert_eq!(repair_all(&sample).leaks_fixed, 1);
}

#[test]
fn a_repair_that_needs_the_data_file_is_refused_without_it() {
    let kind = Kind {
        separate: true,
        ..Kind::default()
    };
    let mut sample = sample(kind);
    sample.leak(3);
    sample.set_entry(12, 4);
    sample.data = None;
    let bytes = sample.file.to_vec();
    let error = sample.check(Repair::All).expect_err("no data file");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("'data'"), "{error}");
    assert_eq!(sample.file.to_vec(), bytes);
}

#[test]
fn repairs_that_need_no_data_file_are_made_without_it() {
    let mut sample = sample(Kind {
        separate: true,
        unclean: true,
        ..Kind::default()
    });
    let data = sample.data.take();
    sample.set_entry(50, 3);
    sample.set_entry(2, 0x7FFF_FFFF);
    assert_eq!(repair_all(&sample).corruptions_fixed, 2);
    sample.data = data;
    assert_usable(&sample);
}

#[test]
fn copies_without_room_on_a_device_are_refused_before_a_write() {
    let sample = sample(Kind::default());
    for chunk in 12..20 {
        sample.set_entry(chunk, 4);
    }
    let end = sample.geometry().data_offset + 11 * CHUNK;
    let device = MemoryStorage::device(end);
    let bytes = sample.file.to_vec();
    block_on(device.write(Bytes::copy_from_slice(&bytes[..end as usize]), 0)).expect("fits");
    let sample = Sample {
        file: device,
        data: None,
    };
    let bytes = sample.file.to_vec();
    let error = sample.check(Repair::All).expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(sample.file.to_vec(), bytes);
}

/// An image with chunks of 1 MiB: `in_use` chunks have a storage chunk, the first `full` of them data, and
/// `shared` more chunks name storage chunk 2.
fn shared_by(shared: u64, in_use: u64, full: u64) -> Sample<MemoryStorage> {
    let mut options = options(Kind::default());
    options.layout.virtual_size = (in_use + shared) << 20;
    options.layout.chunk_size = Some(1 << 20);
    options.layout.storage_grow_unit = Some(1 << 20);
    let sample = Sample {
        file: MemoryStorage::new(),
        data: None,
    };
    block_on(create(&sample.file, None, &options, None)).expect("created");
    let start = sample.geometry().data_offset;
    sample.poke(start, &vec![1; (full as usize) << 20]);
    block_on(sample.file.set_len(start + (in_use << 20))).expect("grows");
    for chunk in 0..in_use + shared {
        let number = if chunk < in_use { chunk } else { 2 };
        sample.set_entry(chunk, number as u32);
    }
    sample
}

#[test]
fn copies_larger_than_the_data_are_refused_before_a_write() {
    // Copies of at most the size of the data are allowed, or 16 MiB. Holes do not count as data.
    for (in_use, full, copies) in [(20, 20, 20), (3, 3, 16), (100, 20, 20)] {
        let report = repair_all(&shared_by(copies, in_use, full));
        assert_eq!(report.allocated_chunks, in_use + copies);

        let sample = shared_by(copies + 1, in_use, full);
        let len = len(&sample.file);
        let error = sample.check(Repair::All).expect_err("too many");
        assert_eq!(error.kind(), ErrorKind::InvalidImage);
        let count = format!("{} chunks share the storage of others", copies + 1);
        assert!(error.to_string().contains(&count), "{error}");
        assert_eq!(block_on(sample.file.len()).expect("memory"), len);
        assert_eq!(sample.entry(in_use + copies), 2);
        // The disk can still be read, and so be converted.
        content(&sample);
    }
}

/// Whether the log has only syncs, which make durable what earlier sessions left in the page cache.
fn writes_nothing(log: &Mutex<Log>) -> bool {
    let log = log.lock().expect("not poisoned");
    log.ops.iter().all(|(_, op)| matches!(op, Op::Sync))
}

#[test]
fn a_clean_image_is_not_written() {
    let sample = sample(Kind::default());
    repair_all(&sample);
    let (recorded, log) = record(&sample);
    assert_clean(&recorded.check(Repair::All).expect("checks"));
    assert!(writes_nothing(&log));
}

#[test]
fn unreadable_metadata_is_counted_and_stops_a_repair() {
    let sample = sample(Kind {
        based: true,
        ..Kind::default()
    });
    sample.leak(3);
    let (recorded, log) = record(&sample);
    let bitmap = sample.geometry().bitmap.expect("a base");
    log.lock().expect("not poisoned").unreadable = Some(bitmap.offset + 700);
    let report = recorded.check(Repair::None).expect("checks the rest");
    assert_eq!((report.check_errors, report.leaks), (1, 1));
    assert_eq!(report.counts[&FindingKind::Unreadable], 1);
    let error = recorded.check(Repair::All).expect_err("unreadable");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(writes_nothing(&log));
}

#[test]
fn a_repair_does_not_send_zeros_for_lost_chunks_to_the_base() {
    let broken = |unclean: bool| {
        let sample = sample(Kind {
            based: true,
            unclean,
            ..Kind::default()
        });
        sample.poke(4320, b"writeback");
        sample.set_entry(35, 5000);
        sample
    };
    let unclean = broken(true);
    let error = unclean.check(Repair::All).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(unclean.entry(35), 5000, "nothing was written");
    // If the image is clean, its base is up to date, and the next open does not write to it.
    let clean = broken(false);
    assert_clean(&clean.check(Repair::All).expect("repaired"));
}
