//! The journal of an unclean image, read without replaying it on disk.
//!
//! The journal may change all of the metadata. To bound the memory, its changes are collected window by
//! window: a window holds a limited number of entries (or ranges of blocks) from a start, and knows where it
//! ends.

use std::ops::Range;

use rangemap::RangeSet;

use super::Subject;
use super::findings::{FindingKind, Findings};
use crate::error::Result;
use crate::format::{Block, Entry, Geometry, Record, SECTOR};
use crate::image::durability::recover::journal_reader::{JournalReader, blocks_of, dedup, entries_of};
use crate::storage::Storage;

/// The most entries of a window, 8 bytes each. While they are collected there may be twice as many.
const MAX_ENTRIES: usize = 4 << 20;

/// The most ranges of blocks of a window.
const MAX_RANGES: usize = 1 << 18;

/// The table entries up to `end` that the journal changes.
pub(super) struct TableWindow {
    /// The first entry after the window.
    pub(super) end: u64,
    /// Index and new entry, by ascending index.
    pub(super) entries: Vec<(u32, Entry)>,
}

/// The blocks up to `end` that the journal changes.
pub(super) struct BlockWindow {
    /// The first block after the window.
    pub(super) end: Block,
    /// The blocks that become local.
    pub(super) blocks: RangeSet<Block>,
}

/// Collects the changed entries from index `start`.
pub(super) async fn table_window<S: Storage>(subject: &Subject<'_, S>, start: u64) -> Result<TableWindow> {
    let chunks = subject.head.geometry.chunks;
    let mut window = TableWindow {
        end: chunks,
        entries: Vec::new(),
    };
    let Some(region) = subject.live_journal() else {
        return Ok(window);
    };
    let mut journal = JournalReader::new(subject.file, region);
    while let Some(records) = journal.next().await? {
        for (_, record) in records {
            if let Record::Table(record) = record {
                let inside = start..window.end;
                let entries = entries_of(&record, chunks);
                window
                    .entries
                    .extend(entries.filter(|(index, _)| inside.contains(&u64::from(*index))));
            }
            if window.entries.len() > 2 * MAX_ENTRIES {
                window.shrink();
            }
        }
    }
    window.shrink();
    Ok(window)
}

impl TableWindow {
    fn shrink(&mut self) {
        dedup(&mut self.entries);
        if let Some((first_left_out, _)) = self.entries.get(MAX_ENTRIES) {
            self.end = u64::from(*first_left_out);
            self.entries.truncate(MAX_ENTRIES);
        }
    }
}

/// Collects the changed blocks from block `start`.
pub(super) async fn block_window<S: Storage>(subject: &Subject<'_, S>, start: Block) -> Result<BlockWindow> {
    let geometry = &subject.head.geometry;
    let mut window = BlockWindow {
        end: Block::new(geometry.blocks),
        blocks: RangeSet::new(),
    };
    let Some(region) = subject.live_journal() else {
        return Ok(window);
    };
    let mut journal = JournalReader::new(subject.file, region);
    while let Some(records) = journal.next().await? {
        for (_, record) in records {
            if let Record::Bitmap(record) = record {
                let blocks = blocks_of(&record, geometry);
                window.insert(blocks.start.max(start)..blocks.end.min(window.end));
            }
        }
    }
    Ok(window)
}

impl BlockWindow {
    fn insert(&mut self, blocks: Range<Block>) {
        if blocks.is_empty() {
            return;
        }
        self.blocks.insert(blocks);
        if self.blocks.len() > MAX_RANGES
            && let Some(last) = self.blocks.last().cloned()
        {
            self.end = last.start;
            self.blocks.remove(last);
        }
    }
}

/// Finds records that point outside the table or the bitmap.
pub(super) async fn check_records<S: Storage>(subject: &Subject<'_, S>, findings: &mut Findings) -> Result<()> {
    let Some(region) = subject.live_journal() else {
        return Ok(());
    };
    let geometry = &subject.head.geometry;
    let mut journal = JournalReader::new(subject.file, region);
    while let Some(records) = journal.next().await? {
        for (sector, record) in records {
            if let Some(what) = outside(&record, geometry) {
                findings.add(FindingKind::JournalOutside, 1, || {
                    format!("journal sector {sector}: {what}")
                });
            }
        }
    }
    Ok(())
}

/// The problem of a record that points outside the table or the bitmap. `None` if it does not.
fn outside(record: &Record, geometry: &Geometry) -> Option<String> {
    match record {
        Record::Table(record) => {
            let end = u64::from(record.first) + record.entries.len() as u64;
            (end > geometry.chunks).then(|| {
                format!(
                    "a record of table entries {}..{end}, the table has {}",
                    record.first, geometry.chunks
                )
            })
        }
        Record::Bitmap(record) => {
            let end = record.first_sector.saturating_add(u64::from(record.sectors));
            // The records of the original cover whole writes, also the parts after the end of the base.
            let limit = match geometry.bitmap {
                Some(_) => disk_end(geometry) / SECTOR,
                None => 0,
            };
            (end > limit && record.sectors > 0).then(|| {
                format!(
                    "a record of disk sectors {}..{end}, the disk ends at {limit}",
                    record.first_sector
                )
            })
        }
    }
}

/// The end of the disk, or of its last block with a bit if that is higher, in bytes.
fn disk_end(geometry: &Geometry) -> u64 {
    let blocks_end = geometry.blocks.saturating_mul(geometry.block_size);
    geometry.virtual_size.max(blocks_end)
}
