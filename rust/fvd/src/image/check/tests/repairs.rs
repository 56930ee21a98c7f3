//! Every repair: it ends clean, and the guest sees what it saw.

use std::sync::Mutex;

use super::disk::{Discards, Log, Op, record};
use super::*;
use crate::error::ErrorKind;
use crate::format::TableRecord;
use crate::format::journal::encode_sector;
use crate::format::{BitmapRecord, Entry};

/// Repairs all, and asserts that a second look finds nothing; gives the report of the repair.
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

/// The image still works: it can be written, closed, opened, and is clean after that.
fn assert_usable(sample: &Sample<MemoryStorage>) {
    let image = open(sample, true).expect("opens");
    block_on(image.write(vec![0xEE; 3000].into(), 13 * CHUNK)).expect("written");
    block_on(image.close()).expect("closed");
    assert_eq!(content(sample)[13 * CHUNK as usize], 0xEE);
    assert_clean(&sample.check(Repair::None).expect("checks"));
}

#[test]
fn leaked_chunks_become_holes_and_the_file_is_cut_behind_the_last_one_in_use() {
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
fn to_free_leaks_moves_nothing_and_needs_no_space() {
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
fn what_a_leak_shares_with_its_neighbours_is_no_leak() {
    let (sample, log) = record(&sample(Kind {
        separate: true,
        ..Kind::default()
    }));
    // A storage chunk has two pages, and a block three: 0 has no block of its own, 4 to 6 have pages 9 to 11.
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
fn a_leaked_image_without_any_chunk_in_use_is_left_alone_but_cut() {
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
fn on_a_device_what_nobody_uses_is_no_leak() {
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
fn shared_chunks_get_copies_behind_the_last_one() {
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
        // Chunks 1 and 12 keep what is theirs: they come first.
        assert_eq!((sample.entry(1), sample.entry(3)), (0, 10));
        assert_usable(&sample);
    }
}

#[test]
fn entries_that_name_nothing_become_unallocated_and_garbage_goes() {
    let sample = sample(Kind::default());
    let expected = content(&sample);
    for (chunk, number) in [(1, 0x7FFF_FFFF), (2, 600), (39, 601), (40, 3), (1023, 7)] {
        sample.set_entry(chunk, number);
    }
    let report = repair_all(&sample);
    assert_eq!(report.corruptions_fixed, 5);
    assert_eq!(sample.entry(39), u32::MAX);
    assert_eq!(sample.entry(40), u32::MAX);
    // Chunk 39 had data, which leaked with its entry and is gone.
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
    // Chunk 30 is number 8: it keeps 1024 bytes. Number 9, chunk 25, is gone.
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
fn records_that_point_outside_go_and_the_others_count() {
    let sample = sample(Kind {
        based: true,
        ..Kind::default()
    });
    let region = sample.geometry().journal.expect("a journal");
    let table = TableRecord {
        first: CHUNKS as u32 - 2,
        entries: [6, 5, 700].map(Entry::allocated).to_vec(),
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
    // Entry 38 is now number 6's owner or has its copy: it is allocated.
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
fn leaks_stay_while_corruptions_do() {
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
fn what_needs_no_data_file_is_repaired_without_it() {
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
fn copies_that_have_no_room_on_a_device_are_refused_before_anything_is_written() {
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

/// An image with chunks of 1 MiB, of which `in_use` have storage, the first `full` also data; `shared`
/// more name storage chunk 2.
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
fn copies_that_take_more_than_there_is_are_refused_before_anything_is_written() {
    // As much as there is; 16 MiB of them; and, of what there is, holes take nothing.
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
        // There is another way.
        content(&sample);
    }
}

/// What earlier sessions have left in the page cache is made durable, at most.
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
fn metadata_that_cannot_be_read_is_counted_and_stops_a_repair() {
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
fn zeros_for_what_is_lost_do_not_go_on_to_a_base_that_is_written_to() {
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
    // Of a clean one the base has everything.
    let clean = broken(false);
    assert_clean(&clean.check(Repair::All).expect("repaired"));
}
