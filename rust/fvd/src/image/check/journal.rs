//! The journal of an unclean image, seen without applying it to the disk.
//!
//! What it changes can be as much as the whole metadata, so it is gathered window by window: the
//! first so many entries (or ranges of blocks) from a start on, and where the window ends.

use std::ops::Range;

use rangemap::RangeSet;

use super::Subject;
use super::findings::{FindingKind, Findings};
use crate::error::Result;
use crate::format::{Entry, Geometry, Record, SECTOR};
use crate::image::recover::{JournalReader, blocks_of, dedup, entries_of};
use crate::storage::Storage;

/// Entries of a window at most; 8 bytes each, and twice as many while they are gathered.
const MAX_ENTRIES: usize = 4 << 20;

/// Ranges of blocks of a window at most.
const MAX_RANGES: usize = 1 << 18;

/// What the journal makes of the entries up to `end`.
pub(super) struct TableWindow {
    /// First entry that the window says nothing about.
    pub(super) end: u64,
    /// Index and new entry, ascending.
    pub(super) entries: Vec<(u32, Entry)>,
}

/// What the journal makes of the blocks up to `end`.
pub(super) struct BlockWindow {
    /// First block that the window says nothing about.
    pub(super) end: u64,
    /// Blocks that become local.
    pub(super) blocks: RangeSet<u64>,
}

/// Gathers the entries from `start` on.
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

/// Gathers the blocks from `start` on.
pub(super) async fn block_window<S: Storage>(subject: &Subject<'_, S>, start: u64) -> Result<BlockWindow> {
    let geometry = &subject.head.geometry;
    let mut window = BlockWindow {
        end: geometry.blocks,
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
    fn insert(&mut self, blocks: Range<u64>) {
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

/// What is wrong with a record that does not lie inside.
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
            // The original's records speak of whole writes, also where those lie behind the base.
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

/// Where the disk ends, or its last block that has a bit, bytes.
fn disk_end(geometry: &Geometry) -> u64 {
    let blocks_end = geometry.blocks.saturating_mul(geometry.block_size);
    geometry.virtual_size.max(blocks_end)
}
