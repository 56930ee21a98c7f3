//! The dump shows the metadata on disk.

use super::*;
use crate::format::{Block, Record};
use crate::image::inspect::dump::{BitmapRun, BitmapRuns, JournalSectors, TableRun, TableRuns};

fn table(sample: &Sample<MemoryStorage>, first: u64) -> Vec<(u64, u64, u32, bool)> {
    let head = block_on(read_head(&sample.file)).expect("valid");
    let mut runs = TableRuns::new(&sample.file, &head, first);
    let next = || block_on(runs.next()).expect("reads");
    let show = |run: TableRun| (run.first_chunk, run.count, run.first_number, run.shared);
    std::iter::from_fn(next).map(show).collect()
}

fn bitmap(sample: &Sample<MemoryStorage>, first: u64) -> Vec<(u64, u64)> {
    let head = block_on(read_head(&sample.file)).expect("valid");
    let mut runs = BitmapRuns::new(&sample.file, &head, Block::new(first));
    let next = || block_on(runs.next()).expect("reads");
    let show = |run: BitmapRun| (run.first_block.index(), run.count);
    std::iter::from_fn(next).map(show).collect()
}

#[test]
fn the_table_is_shown_in_runs_of_consecutive_chunks() {
    let sample = sample(Kind::default());
    for (chunk, number) in [(36, 7), (37, 7), (38, 7)] {
        sample.set_entry(chunk, number);
    }
    let expected = [
        (0, 1, 3, false),
        (3, 2, 0, false),
        (7, 2, 6, false),
        (11, 1, 5, false),
        (20, 1, 2, false),
        (25, 1, 9, false),
        (30, 1, 8, false),
        (36, 3, 7, true),
        (39, 1, 4, false),
    ];
    assert_eq!(table(&sample, 0), expected);
    assert_eq!(table(&sample, 4)[..2], [(4, 1, 1, false), (7, 2, 6, false)]);
    assert_eq!(table(&sample, CHUNKS), []);
}

#[test]
fn the_bitmap_is_shown_in_runs_of_local_blocks() {
    let sample = sample(Kind {
        based: true,
        ..Kind::default()
    });
    let expected = [(0, 1), (2, 4), (7, 1), (13, 1), (16, 2)];
    assert_eq!(bitmap(&sample, 0), expected);
    assert_eq!(bitmap(&sample, 4), [(4, 2), (7, 1), (13, 1), (16, 2)]);
    assert_eq!(bitmap(&sample, 18), []);
}

#[test]
fn the_journal_is_shown_by_sectors_without_a_replay() {
    let sample = sample(Kind {
        based: true,
        unclean: true,
        ..Kind::default()
    });
    assert_eq!((table(&sample, 0), bitmap(&sample, 0)), (vec![], vec![]));
    let head = block_on(read_head(&sample.file)).expect("valid");
    let mut sectors = JournalSectors::new(&sample.file, &head);
    let mut entries = 0;
    let mut numbers = Vec::new();
    while let Some(sector) = block_on(sectors.next()).expect("reads") {
        numbers.push(sector.number);
        for record in sector.records {
            if let Record::Table(record) = record {
                entries += record.entries.iter().filter(|e| e.storage().is_some()).count();
            }
        }
    }
    assert!(entries >= 10, "{entries}");
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn an_image_without_metadata_has_nothing_to_show() {
    let file = MemoryStorage::new();
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: 1 << 20,
            ..LayoutOptions::default()
        },
        ..CreateOptions::default()
    };
    block_on(create(&file, None, &options, None)).expect("created");
    let sample = Sample { file, data: None };
    assert_eq!((table(&sample, 0), bitmap(&sample, 0)), (vec![], vec![]));
    let head = block_on(read_head(&sample.file)).expect("valid");
    let mut sectors = JournalSectors::new(&sample.file, &head);
    assert_eq!(block_on(sectors.next()).expect("reads"), None);
}
