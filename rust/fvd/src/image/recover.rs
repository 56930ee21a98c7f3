//! Recovery: replay the journal of an image that was not closed cleanly.

use super::Image;
use crate::error::Result;
use crate::format::{BitmapRecord, Record, Region, SECTOR, TableRecord, journal};
use crate::storage::{Allocation, IoBufMut, Storage};

/// Bytes of journal read at once.
const READ_STEP: u64 = 1 << 20;

/// Calls `apply` with every record of the journal, in order, and the number of its sector.
pub(crate) async fn read_journal<S: Storage>(
    file: &S,
    region: Region,
    mut apply: impl AsyncFnMut(u64, Record) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at < region.size {
        let rest = region.size - at;
        let (allocation, len) = file.allocation(region.offset + at, rest).await?;
        // Zeros end a sector at once: a hole holds no record, but may start within a sector.
        let skip = len / SECTOR * SECTOR;
        if allocation == Allocation::Hole && skip > 0 {
            at += skip;
            continue;
        }
        let len = rest.min(READ_STEP);
        let buf = file.read(IoBufMut::zeroed(len as usize), region.offset + at).await?;
        let (sectors, _) = buf.as_slice().as_chunks::<{ SECTOR as usize }>();
        for (index, sector) in sectors.iter().enumerate() {
            for record in journal::decode_sector(sector) {
                apply(at / SECTOR + index as u64, record).await?;
            }
        }
        at += len;
    }
    Ok(())
}

impl<S: Storage> Image<S> {
    /// Applies the journal in memory. What it changes is pending: a checkpoint writes it in place.
    pub(super) async fn replay(&self, region: Region) -> Result<()> {
        read_journal(&self.file, region, async |_, record| match record {
            Record::Table(record) => self.replay_table(&record).await,
            Record::Bitmap(record) => self.replay_bitmap(&record).await,
        })
        .await
    }

    /// Replays the journal and, where the image may be written, makes the result durable in
    /// place and marks the image clean.
    pub(super) async fn recover(&self) -> Result<()> {
        let Some(region) = self.geometry.journal else {
            return Ok(());
        };
        self.replay(region).await?;
        if !self.writable {
            return Ok(());
        }
        let _round = self.flushes.exclusive().await;
        self.checkpoint().await?;
        self.write_clean_mark(true).await?;
        self.sync_file().await
    }

    async fn replay_table(&self, record: &TableRecord) -> Result<()> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        let first = u64::from(record.first);
        let chunks = first..(first + record.entries.len() as u64).min(table.chunks());
        if chunks.is_empty() {
            return Ok(());
        }
        table.load(&self.file, &chunks).await?;
        for (chunk, entry) in chunks.zip(&record.entries) {
            // A record of an earlier lap may hold "not allocated" for a chunk that is, by now.
            if let Some(number) = entry.number() {
                table.set(chunk, number);
                self.volatile().pending.add_chunk(chunk);
            }
        }
        Ok(())
    }

    async fn replay_bitmap(&self, record: &BitmapRecord) -> Result<()> {
        let Some(bitmap) = &self.bitmap else {
            return Ok(());
        };
        let start = record.first_sector.saturating_mul(SECTOR);
        let end = start.saturating_add(u64::from(record.sectors) * SECTOR);
        let blocks = bitmap.blocks(start, end);
        if blocks.is_empty() {
            return Ok(());
        }
        bitmap.load(&self.file, &blocks).await?;
        bitmap.set(&blocks);
        self.volatile().pending.add_blocks(&blocks);
        Ok(())
    }
}
