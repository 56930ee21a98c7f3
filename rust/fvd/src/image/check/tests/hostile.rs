//! Malicious files: a check must end soon and take little memory, and a repair must leave a clean image.

use std::time::Duration;

use super::repairs::repair_all;
use super::*;

const LIMIT: Duration = Duration::from_secs(1);

/// An image of any size in which all regions are holes, including the table.
fn sparse(layout: LayoutOptions, kind: Kind) -> Sample<MemoryStorage> {
    let options = CreateOptions {
        layout,
        base_img: if layout.base_size.is_some() { "b" } else { "" }.into(),
        ..options(kind)
    };
    let layout = crate::format::Layout::compute(&options.layout).expect("legal");
    let mut header = layout.header();
    header.base_img = options.base_img;
    let file = MemoryStorage::new();
    block_on(file.write(header.encode().expect("fits").into(), 0)).expect("written");
    block_on(file.set_len(layout.metadata_size)).expect("grows");
    Sample { file, data: None }
}

/// The CPU time of this thread until now. Wall-clock time depends on other tests that run in parallel.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
    // User and system time, in hundredths of a second.
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(|ticks| ticks.parse::<u64>().expect("a number"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

fn timed(sample: &Sample<MemoryStorage>) -> Report {
    let start = cpu_time();
    let report = sample.check(Repair::None).expect("checks");
    let elapsed = cpu_time().saturating_sub(start);
    assert!(elapsed < LIMIT, "{elapsed:?}");
    report
}

fn huge() -> LayoutOptions {
    LayoutOptions {
        virtual_size: ((1 << 31) - 1) * 4096,
        compact: true,
        chunk_size: Some(4096),
        ..LayoutOptions::default()
    }
}

#[test]
fn a_table_that_is_a_hole_has_two_billion_lost_entries() {
    let sample = sparse(huge(), Kind::default());
    let end = block_on(sample.file.len()).expect("memory");
    // First without, then with storage chunk 0 in the file.
    for len in [end, end + (1 << 60)] {
        block_on(sample.file.set_len(len)).expect("grows");
        let report = timed(&sample);
        let lost = (FindingKind::Lost, (1 << 31) - 1);
        assert_eq!(kinds(&report), [lost, (FindingKind::Garbage, 1)]);
        assert_eq!((report.allocated_chunks, report.leaks), (0, 0));
    }
}

#[test]
fn random_entries_are_reported_as_corruptions() {
    let sample = sparse(huge(), Kind::default());
    let table = sample.geometry().table.expect("compact");
    let mut random = fastrand::Rng::with_seed(3);
    let bytes: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
    for at in [0, 2 << 30, table.size - (1 << 20)] {
        sample.poke(table.offset + at, &bytes);
    }
    let end = block_on(sample.file.len()).expect("memory");
    block_on(sample.file.set_len(end + (1 << 60))).expect("grows");
    let report = timed(&sample);
    assert!(report.corruptions > 0);
    assert_eq!(report.leaks, 0, "all of the data is one hole");
    assert!(report.findings.len() <= 500);
}

#[test]
fn a_huge_journal_of_random_records_is_checked_in_time() {
    use crate::format::journal::encode_sector;
    use crate::format::{BitmapRecord, Entry, TableRecord};
    let layout = LayoutOptions {
        base_size: Some(1 << 40),
        block_size: Some(512),
        journal_size: Some(1 << 40),
        ..huge()
    };
    let sample = sparse(layout, Kind::default());
    let mut random = fastrand::Rng::with_seed(4);
    let region = sample.geometry().journal.expect("a journal");
    let mut sectors = Vec::new();
    for _ in 0..8192 {
        let table = TableRecord {
            first: random.u32(..),
            entries: (0..121).map(|_| Entry::from_disk(random.u32(..))).collect(),
        };
        let bitmap = BitmapRecord {
            first_sector: random.u64(..1 << 40),
            sectors: random.u32(..),
        };
        sectors.extend(encode_sector(Some(&table), Some(&bitmap)));
    }
    sample.poke(region.offset + (1 << 30), &sectors);
    sample.set_clean(false);
    let report = timed(&sample);
    assert!(report.counts[&FindingKind::JournalOutside] > 1000);
    assert!(report.local_blocks > 0);
}

#[test]
fn a_repair_of_all_makes_any_small_table_clean() {
    let mut random = fastrand::Rng::with_seed(9);
    for round in 0..300 {
        let kind = Kind {
            separate: random.bool(),
            based: random.bool(),
            unclean: random.bool(),
            no_journal: false,
        };
        let sample = sample(kind);
        for _ in 0..random.usize(1..60) {
            let number = match random.u8(..4) {
                0 => random.u32(..),
                1 => u32::MAX,
                _ => random.u32(..16),
            };
            sample.set_entry(random.u64(..1024), number);
        }
        let region = sample.geometry().journal.expect("a journal");
        for _ in 0..random.usize(..100) {
            // Change bytes of existing records: magics, counts, indices and entries.
            sample.poke(region.offset + random.u64(..2048), &[random.u8(..)]);
        }
        let data = sample.data();
        let len = block_on(data.len()).expect("memory");
        block_on(data.set_len(len - random.u64(..4 * CHUNK))).expect("cut");
        let before = sample.check(Repair::None).expect("checks");
        let report = repair_all(&sample);
        assert_eq!(report.corruptions_fixed, before.corruptions, "round {round}");
        let image = open(&sample, true).expect("opens");
        block_on(image.close()).expect("closes");
        assert_clean(&sample.check(Repair::None).expect("checks"));
    }
}
