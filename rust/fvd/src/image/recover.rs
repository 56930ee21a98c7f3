//! Recovery: replay the journal of an image that was not closed cleanly.

use super::Image;
use crate::error::{Error, Result};
use crate::format::{BitmapRecord, Record, Region, SECTOR, TableRecord, journal};
use crate::storage::{Allocation, IoBufMut, Storage};

/// Bytes of journal read at once.
const READ_STEP: u64 = 1 << 20;

/// Bytes of metadata that a replay may bring into memory. A few records can name a bitmap of
/// gigabytes that is one hole in the file.
const MEMORY_LIMIT: u64 = 512 << 20;

/// Reads the records of a journal, in order.
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

    /// The records of the next part of the journal, perhaps none; None at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Located>>> {
        let rest = self.region.size - self.at;
        if rest == 0 {
            return Ok(None);
        }
        let offset = self.region.offset + self.at;
        let (allocation, len) = self.file.allocation(offset, rest).await?;
        // Zeros end a sector at once: a hole holds no record, but may start within a sector.
        let skip = len / SECTOR * SECTOR;
        if allocation == Allocation::Hole && skip > 0 {
            self.at += skip;
            return Ok(Some(Vec::new()));
        }
        let len = rest.min(READ_STEP);
        let buf = self.file.read(IoBufMut::zeroed(len as usize), offset).await?;
        let first = self.at / SECTOR;
        self.at += len;
        let (sectors, _) = buf.as_slice().as_chunks::<{ SECTOR as usize }>();
        let decode = |(number, sector)| journal::decode_sector(sector).into_iter().map(move |r| (number, r));
        Ok(Some((first..).zip(sectors).flat_map(decode).collect()))
    }
}

impl<S: Storage> Image<S> {
    /// Applies the journal in memory. What it changes is pending: a checkpoint writes it in place.
    async fn replay(&self, region: Region) -> Result<()> {
        let mut journal = JournalReader::new(&self.file, region);
        let mut memory = 0;
        while let Some(records) = journal.next().await? {
            for (_, record) in records {
                memory += match record {
                    Record::Table(record) => self.replay_table(&record, MEMORY_LIMIT - memory).await?,
                    Record::Bitmap(record) => self.replay_bitmap(&record, MEMORY_LIMIT - memory).await?,
                };
            }
        }
        Ok(())
    }

    /// Fails where metadata that is to be changed takes more memory than there is `room` for.
    fn check_memory(&self, missing: u64, room: u64) -> Result<u64> {
        if missing <= room {
            return Ok(missing);
        }
        let message = format!(
            "The journal changes more than {MEMORY_LIMIT} bytes of metadata: `fvd check -r leaks` recovers the image"
        );
        Err(Error::unsupported(message).with_path(self.file.path()))
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

    /// Gives the bytes of memory that it took, at most `room`.
    async fn replay_table(&self, record: &TableRecord, room: u64) -> Result<u64> {
        let Some(table) = &self.table else {
            return Ok(0);
        };
        let first = u64::from(record.first);
        let chunks = first..(first + record.entries.len() as u64).min(table.chunks());
        if chunks.is_empty() {
            return Ok(0);
        }
        let memory = self.check_memory(table.words().missing_bytes(&chunks), room)?;
        table.load(&self.file, &chunks).await?;
        for (chunk, entry) in chunks.zip(&record.entries) {
            // A record of an earlier lap may hold "not allocated" for a chunk that is, by now.
            if entry.number().is_some() {
                table.replay(chunk, *entry);
                self.volatile().pending.add_chunk(chunk);
            }
        }
        Ok(memory)
    }

    /// Gives the bytes of memory that it took, at most `room`.
    async fn replay_bitmap(&self, record: &BitmapRecord, room: u64) -> Result<u64> {
        let Some(bitmap) = &self.bitmap else {
            return Ok(0);
        };
        let start = record.first_sector.saturating_mul(SECTOR);
        let end = start.saturating_add(u64::from(record.sectors) * SECTOR);
        let blocks = bitmap.blocks(start, end);
        if blocks.is_empty() {
            return Ok(0);
        }
        let memory = self.check_memory(bitmap.missing_bytes(&blocks), room)?;
        bitmap.load(&self.file, &blocks).await?;
        bitmap.set(&blocks);
        self.volatile().pending.add_blocks(&blocks);
        Ok(memory)
    }
}
