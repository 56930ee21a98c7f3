//! Table sectors that read as zeros are reported as lost, not as shared chunks.

use super::repairs::repair_all;
use super::*;
use crate::image::testing::disk::{Op, contents, power_cut, record};
use crate::storage::Space;

/// Number of chunks. Their entries take three sectors of 128 entries: two full ones, and one with 44 entries
/// and padding.
const WIDE: u64 = 300;
const SECTOR_ENTRIES: u64 = 128;

/// The chunks that are written, some in each sector. In the sectors that will be lost they come in pairs of
/// neighbours: a lookup refuses a pair of zeros, and the journal of an unclean image restores both entries of
/// these pairs.
const WRITTEN: [u64; 10] = [3, 140, 4, 141, 299, 20, 260, 298, 261, 77];

fn wide(kind: Kind) -> Sample<MemoryStorage> {
    let sample = Sample {
        file: MemoryStorage::new(),
        data: kind.separate.then(MemoryStorage::new),
    };
    let mut options = options(kind);
    options.layout.virtual_size = WIDE * CHUNK;
    block_on(create(&sample.file, sample.data.as_ref(), &options, None)).expect("created");
    let image = open(&sample, true).expect("opens");
    for chunk in WRITTEN {
        let bytes = Bytes::from(vec![chunk as u8; CHUNK as usize]);
        block_on(image.write(bytes, chunk * CHUNK)).expect("written");
    }
    block_on(image.flush()).expect("flushed");
    if !kind.unclean {
        block_on(image.close()).expect("closed");
    }
    sample
}

fn lose(sample: &Sample<MemoryStorage>, sector: u64) {
    let table = sample.geometry().table.expect("compact");
    sample.poke(table.offset + sector * 512, &[0; 512]);
}

/// The content of every chunk. `None`: the read fails.
fn chunks(sample: &Sample<MemoryStorage>) -> Vec<Option<Vec<u8>>> {
    let image = open(sample, false).expect("opens");
    let read = |chunk| block_on(image.read(IoBufMut::zeroed(CHUNK as usize), chunk * CHUNK));
    let chunks = (0..WIDE).map(read);
    chunks.map(|buf| buf.ok().map(|buf| buf.as_slice().to_vec())).collect()
}

/// The chunks after a repair: zeros where the read failed before.
fn repaired(before: &[Option<Vec<u8>>]) -> Vec<Option<Vec<u8>>> {
    let zeros = || vec![0; CHUNK as usize];
    before
        .iter()
        .map(|chunk| Some(chunk.clone().unwrap_or_else(zeros)))
        .collect()
}

fn kinds_with(separate: bool) -> [Kind; 2] {
    [false, true].map(|unclean| Kind {
        separate,
        unclean,
        ..Kind::default()
    })
}

#[test]
fn a_sector_of_zeros_is_reported_as_lost() {
    let sample = wide(Kind::default());
    lose(&sample, 1);
    let report = sample.check(Repair::None).expect("checks");
    // Chunks 140 and 141 were stored in storage chunks 1 and 3.
    assert_eq!(kinds(&report), [(FindingKind::Lost, 128), (FindingKind::Leak, 2)]);
    assert_eq!((report.corruptions, report.allocated_chunks), (128, 8));
    let message = "table entries 128..256 are zeros: where their chunks lie is lost, \
                   a repair makes them 'not allocated'";
    assert_eq!(report.findings[0].message, message);
}

#[test]
fn lost_chunks_become_unallocated_and_take_no_space() {
    for separate in [false, true] {
        let sample = wide(kinds_with(separate)[0]);
        let whole = chunks(&sample);
        lose(&sample, 1);
        lose(&sample, 2);
        let before = chunks(&sample);
        assert!(before[128..].iter().all(Option::is_none));
        assert_eq!(before[..128], whole[..128]);
        let report = repair_all(&sample);
        assert_eq!(report.counts[&FindingKind::Lost], 172);
        assert_eq!(report.counts[&FindingKind::Garbage], 84);
        assert!(report.findings.iter().all(|finding| finding.repaired));
        assert_eq!(chunks(&sample), repaired(&before));
        for chunk in 128..1024 {
            assert_eq!(sample.entry(chunk), u32::MAX, "{chunk}");
        }
        // The leaked storage chunks became holes, and no chunk moved.
        let end = sample.geometry().data_offset + 10 * CHUNK;
        assert_eq!(block_on(sample.data().len()).expect("memory"), end);
    }
}

#[test]
fn a_table_that_is_a_hole_is_lost_up_to_its_last_chunk() {
    for count in [2 * SECTOR_ENTRIES, 2 * SECTOR_ENTRIES + 1, 3000] {
        let mut options = options(Kind::default());
        options.layout.virtual_size = count * CHUNK;
        let sample = Sample {
            file: MemoryStorage::new(),
            data: None,
        };
        block_on(create(&sample.file, None, &options, None)).expect("created");
        let table = sample.geometry().table.expect("compact");
        block_on(sample.file.write_zeroes(table.offset, table.size, Space::Free)).expect("punched");
        let end = sample.geometry().data_offset + CHUNK;
        block_on(sample.file.set_len(end)).expect("grows");
        let report = repair_all(&sample);
        // For a sector with a single entry it is unknown whether it is lost.
        let lost = if count % SECTOR_ENTRIES == 1 { count - 1 } else { count };
        assert_eq!(report.counts[&FindingKind::Lost], lost);
        assert_eq!(report.allocated_chunks, count - lost);
    }
}

#[test]
fn nothing_is_allocated_while_a_part_of_the_table_is_lost() {
    let sample = wide(Kind::default());
    lose(&sample, 1);
    let len = block_on(sample.data().len()).expect("memory");
    let image = open(&sample, true).expect("opens");
    let bytes = Bytes::from(vec![7; CHUNK as usize]);
    let error = block_on(image.write(bytes, 5 * CHUNK)).expect_err("the data of lost entries would be cut off");
    assert!(error.reason().contains("as if the table had been lost"), "{error}");
    assert_eq!(block_on(sample.data().len()).expect("memory"), len);
    let bytes = Bytes::from(vec![7; CHUNK as usize]);
    block_on(image.write(bytes, 3 * CHUNK)).expect("in place");
}

#[test]
fn the_journal_is_replayed_over_lost_sectors() {
    let sample = wide(kinds_with(false)[1]);
    let expected = chunks(&sample);
    lose(&sample, 1);
    let report = sample.check(Repair::None).expect("checks");
    assert_eq!(kinds(&report), [(FindingKind::Lost, 126)]);
    assert_eq!(repair_all(&sample).allocated_chunks, 10);
    assert_eq!(chunks(&sample), expected);
}

#[test]
fn a_lost_sector_is_recognized_under_many_journal_entries() {
    let sample = wide(kinds_with(false)[1]);
    let image = open(&sample, true).expect("opens");
    for chunk in 128..228 {
        let bytes = Bytes::from(vec![1; 512]);
        block_on(image.write(bytes, chunk * CHUNK)).expect("written");
    }
    block_on(image.flush()).expect("flushed");
    drop(image);
    let expected = chunks(&sample);
    lose(&sample, 1);
    let report = repair_all(&sample);
    assert_eq!(kinds(&report), [(FindingKind::Lost, 28)]);
    assert_eq!(chunks(&sample), expected);
}

#[test]
fn entries_written_to_a_lost_sector_are_kept() {
    let sample = wide(Kind::default());
    let (first, second) = (sample.entry(140), sample.entry(141));
    lose(&sample, 1);
    sample.set_entry(140, first);
    sample.set_entry(141, second);
    let report = repair_all(&sample);
    assert_eq!(report.counts[&FindingKind::Lost], 126);
    assert_eq!((sample.entry(140), sample.entry(141)), (first, second));
    assert_eq!(report.allocated_chunks, 10);
}

#[test]
fn zeros_in_half_of_a_sector_are_shared_and_get_copies() {
    let sample = wide(Kind::default());
    for chunk in 128..192 {
        sample.set_entry(chunk, 0);
    }
    let report = repair_all(&sample);
    assert_eq!(report.counts[&FindingKind::Shared], 64);
    assert_eq!(chunks(&sample)[150], chunks(&sample)[3]);
}

#[test]
fn zeros_after_the_last_chunk_do_not_make_its_sector_lost() {
    let sample = wide(Kind::default());
    // The valid entry of 0 lies in the same sector.
    sample.set_entry(3, sample.entry(299));
    sample.set_entry(299, 0);
    let expected = chunks(&sample);
    for chunk in WIDE..3 * SECTOR_ENTRIES {
        sample.set_entry(chunk, 0);
    }
    let report = repair_all(&sample);
    assert_eq!(kinds(&report), [(FindingKind::Garbage, 84)]);
    assert_eq!(chunks(&sample), expected);
}

#[test]
fn a_power_cut_leaves_lost_entries_unchanged_or_unallocated() {
    let mut random = fastrand::Rng::with_seed(11);
    for kind in kinds_with(false).into_iter().chain(kinds_with(true)) {
        let sample = wide(kind);
        lose(&sample, 1);
        lose(&sample, 2);
        // A shared chunk, which the repair copies.
        sample.set_entry(7, 2);
        let before = chunks(&sample);
        let (recorded, log) = record(&sample);
        repair_all(&recorded);
        let ops: Vec<(usize, Op)> = log.lock().expect("not poisoned").ops.clone();
        let after = repaired(&before);
        assert!(chunks(&contents(&recorded)) == after);
        for count in 0..=ops.len() {
            for _ in 0..2 {
                let cut = power_cut(&sample, &ops[..count], &mut random);
                let case = format!("cut after {count} of {}", ops.len());
                for ((found, before), after) in chunks(&cut).iter().zip(&before).zip(&after) {
                    assert!(found == before || found == after, "{case}");
                }
                let report = repair_all(&cut);
                assert!(chunks(&cut) == after, "after repair: {case}");
                assert!(report.allocated_chunks <= 11, "no copies of what is lost: {case}");
            }
        }
    }
}
