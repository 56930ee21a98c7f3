//! Reads the records of a journal, and what they say of table and bitmap.

use std::ops::Range;

use crate::error::Result;
use crate::format::{
    BitmapRecord, Block, Entry, Geometry, Record, Region, SECTOR, StorageChunk, TableRecord, bitmap, journal,
};
use crate::storage::{Allocation, IoBufMut, Storage};

/// Bytes of the journal that are read at once.
const READ_STEP: u64 = 1 << 20;

/// Reads the records of a journal in order.
pub(crate) struct JournalReader<'a, S> {
    file: &'a S,
    region: Region,
    /// Bytes from the start of the region, a multiple of 512.
    at: u64,
}

/// A record and the number of the journal sector that holds it.
pub(crate) type Located = (u64, Record);

impl<'a, S: Storage> JournalReader<'a, S> {
    pub(crate) fn new(file: &'a S, region: Region) -> Self {
        Self { file, region, at: 0 }
    }

    /// The records of the next part of the journal, which may have none; None at the end of the journal.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Located>>> {
        let rest = self.region.size - self.at;
        if rest == 0 {
            return Ok(None);
        }
        let offset = self.region.offset + self.at;
        let (allocation, len) = self.file.allocation(offset, rest).await?;
        // A sector that starts with zeros holds no record, so holes are skipped. A hole may start within a
        // sector.
        let skip = len / SECTOR * SECTOR;
        if allocation == Allocation::Hole && skip > 0 {
            self.at += skip;
            return Ok(Some(Vec::new()));
        }
        let len = rest.min(READ_STEP);
        let first = self.at / SECTOR;
        self.at += len;
        let buf = self.file.read(IoBufMut::zeroed(len as usize), offset).await?;
        let (sectors, _) = buf.as_slice().as_chunks::<{ SECTOR as usize }>();
        let decode = |(number, sector)| journal::decode_sector(sector).into_iter().map(move |r| (number, r));
        Ok(Some((first..).zip(sectors).flat_map(decode).collect()))
    }
}

/// The allocated entries of a record that lie in the table, with their indices.
pub(in crate::image) fn entries_of(record: &TableRecord, chunks: u64) -> impl Iterator<Item = (u32, Entry)> + '_ {
    // The format allows a record that says "not allocated" of a chunk that is allocated by now (fvd writes
    // none, I7). It is ignored, and so is an impossible number.
    (u64::from(record.first)..chunks)
        .zip(&record.entries)
        .filter(|(_, entry)| entry.storage().is_some_and(|storage| storage <= StorageChunk::MAX))
        .map(|(index, entry)| (index as u32, *entry))
}

/// The blocks that a record makes local, without those outside the base's region.
pub(in crate::image) fn blocks_of(record: &BitmapRecord, geometry: &Geometry) -> Range<Block> {
    if geometry.bitmap.is_none() {
        return Block::NONE;
    }
    let start = record.first_sector.saturating_mul(SECTOR);
    let end = start.saturating_add(u64::from(record.sectors) * SECTOR);
    bitmap::blocks_of(start, end, geometry.base_size, geometry.block_size)
}

/// Keeps the last of several entries for one index, and sorts by index.
pub(in crate::image) fn dedup(entries: &mut Vec<(u32, Entry)>) {
    entries.reverse();
    entries.sort_by_key(|(index, _)| *index);
    entries.dedup_by_key(|(index, _)| *index);
}
