//! Dump: the metadata as it is on disk, before any recovery, for people to read.
//!
//! Each reader returns one item at a time and needs little memory, whatever the file contains. A hostile
//! table or bitmap can have billions of runs: callers set a limit, and can continue where they stopped.
//! [`Header::fields`](crate::format::Header::fields) lists the header.

use crate::error::Result;
use crate::format::{Block, Record, StorageChunk};
use crate::image::Head;
use crate::image::durability::recover::journal_reader::JournalReader;
use crate::image::metadata::scan::{EntryRun, EntryRuns, Piece, RegionReader};
use crate::storage::Storage;

/// Consecutive virtual chunks whose storage chunks are consecutive in the data file, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRun {
    /// First virtual chunk.
    pub first_chunk: u64,
    /// Number of virtual chunks.
    pub count: u64,
    /// Storage chunk of the first one.
    pub first_number: u32,
    /// The table is corrupt: every virtual chunk of the run names the same storage chunk.
    pub shared: bool,
}

/// Reads the allocated entries of a table.
pub struct TableRuns<'a, S> {
    entries: Option<EntryRuns<'a, S>>,
    ahead: Option<(EntryRun, StorageChunk)>,
}

impl<'a, S: Storage> TableRuns<'a, S> {
    /// Reads from virtual chunk `first_chunk` on. An image that is not compact has no runs.
    pub fn new(file: &'a S, head: &Head, first_chunk: u64) -> Self {
        let chunks = head.geometry.chunks;
        let table = head.geometry.table;
        Self {
            entries: table.map(|table| EntryRuns::new(file, table, first_chunk, chunks, &[])),
            ahead: None,
        }
    }

    /// The next run; None after the last one.
    pub async fn next(&mut self) -> Result<Option<TableRun>> {
        let Some((entry, first)) = self.allocated().await? else {
            return Ok(None);
        };
        let mut run = TableRun {
            first_chunk: entry.first,
            count: entry.count,
            first_number: first.number(),
            shared: entry.count > 1,
        };
        while let Some((entry, storage)) = self.allocated().await? {
            let follows = entry.first == run.first_chunk + run.count;
            let sequel = storage.index() == first.index() + run.count;
            let joins = if run.shared {
                storage == first
            } else {
                entry.count == 1 && sequel
            };
            if !follows || !joins {
                self.ahead = Some((entry, storage));
                break;
            }
            run.count += entry.count;
        }
        Ok(Some(run))
    }

    /// The next run of allocated entries, and the storage chunk that they name.
    async fn allocated(&mut self) -> Result<Option<(EntryRun, StorageChunk)>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        match &mut self.entries {
            Some(entries) => entries.next_allocated().await,
            None => Ok(None),
        }
    }
}

/// Consecutive blocks whose bit is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapRun {
    /// First block.
    pub first_block: Block,
    /// Number of blocks.
    pub count: u64,
}

/// Reads the local blocks of a bitmap.
pub struct BitmapRuns<'a, S> {
    reader: Option<RegionReader<'a, S>>,
    piece: Option<Piece>,
    at: Block,
    end: Block,
}

impl<'a, S: Storage> BitmapRuns<'a, S> {
    /// Reads from block `first_block` on. An image without a bitmap has no runs.
    pub fn new(file: &'a S, head: &Head, first_block: Block) -> Self {
        let bitmap = head.geometry.bitmap;
        Self {
            reader: bitmap.map(|bitmap| RegionReader::new(file, bitmap, first_block.index() / 8)),
            piece: None,
            at: first_block,
            end: Block::new(head.geometry.blocks),
        }
    }

    /// The next run; None after the last one.
    pub async fn next(&mut self) -> Result<Option<BitmapRun>> {
        let Some(first_block) = self.seek(true).await? else {
            return Ok(None);
        };
        let end = self.seek(false).await?.unwrap_or(self.end);
        let count = Block::count(&(first_block..end));
        Ok(Some(BitmapRun { first_block, count }))
    }

    /// Moves to the next block whose bit is `local`, and returns it.
    async fn seek(&mut self, local: bool) -> Result<Option<Block>> {
        while self.at < self.end {
            if let Some(piece) = &self.piece
                && piece.blocks().end > self.at
            {
                let stop = self.end.min(piece.blocks().end);
                self.at = piece.find_block(&(self.at..stop), local);
                if self.at < stop {
                    return Ok(Some(self.at));
                }
                continue;
            }
            let Some(reader) = &mut self.reader else {
                break;
            };
            self.piece = reader.next().await?;
            if self.piece.is_none() {
                break;
            }
        }
        Ok(None)
    }
}

/// A sector of the journal that holds a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSector {
    /// Number of the sector, counted from the start of the journal.
    pub number: u64,
    /// Its records, in order; at least one.
    pub records: Vec<Record>,
}

/// Reads the journal, also where the image is clean and an open ignores it (see
/// [`clean_shutdown`](crate::format::Header::clean_shutdown)).
pub struct JournalSectors<'a, S> {
    journal: Option<JournalReader<'a, S>>,
    part: std::iter::Peekable<std::vec::IntoIter<(u64, Record)>>,
}

impl<'a, S: Storage> JournalSectors<'a, S> {
    /// Reads from the first sector on. An image without a journal has no sectors.
    pub fn new(file: &'a S, head: &Head) -> Self {
        let journal = head.geometry.journal;
        Self {
            journal: journal.map(|region| JournalReader::new(file, region)),
            part: Vec::new().into_iter().peekable(),
        }
    }

    /// The next sector that holds a record; None after the last one.
    pub async fn next(&mut self) -> Result<Option<JournalSector>> {
        let Some(journal) = &mut self.journal else {
            return Ok(None);
        };
        loop {
            if let Some((number, record)) = self.part.next() {
                // A sector never spans two parts.
                let mut records = vec![record];
                while let Some((_, record)) = self.part.next_if(|(next, _)| *next == number) {
                    records.push(record);
                }
                return Ok(Some(JournalSector { number, records }));
            }
            match journal.next().await? {
                Some(part) => self.part = part.into_iter().peekable(),
                None => return Ok(None),
            }
        }
    }
}
