//! The journal sectors of one commit: which entries share a sector with the bits that rely on them (I5).

use std::ops::Range;

use rangemap::RangeSet;

use crate::error::Result;
use crate::format::journal::{self, MAX_ENTRIES, MAX_ENTRIES_WITH_BITMAP};
use crate::format::{BitmapRecord, Block, Entry, SECTOR, TableRecord, VirtualChunk};
use crate::image::durability::pending::Changes;
use crate::image::metadata::Metadata;

/// Most sectors that one bitmap record names: a reader may keep the number in a signed field.
const MAX_RECORD_SECTORS: u64 = i32::MAX as u64;

/// Journal sectors for one commit.
#[derive(Default)]
pub(super) struct Sectors {
    /// Entries that must be durable before `late`.
    pub(super) early: Vec<u8>,
    pub(super) late: Vec<u8>,
}

impl Sectors {
    pub(super) fn count(&self) -> u64 {
        (self.early.len() + self.late.len()) as u64 / SECTOR
    }
}

/// Blocks whose bits share one sector.
struct SectorBatch {
    /// The first block after the batch.
    end: Block,
    /// Chunks whose entries are in the same sector as the bits.
    inline: Option<Range<VirtualChunk>>,
    /// Chunks whose entries do not fit there. The pending ones must be durable before the bits.
    prior: Option<Range<VirtualChunk>>,
}

impl SectorBatch {
    /// A batch whose blocks touch no pending chunk.
    fn alone(end: Block) -> Self {
        Self {
            end,
            inline: None,
            prior: None,
        }
    }
}

/// The first chunk of `range` that is in `set`.
fn first_in(set: &RangeSet<VirtualChunk>, range: Range<VirtualChunk>) -> Option<VirtualChunk> {
    if range.is_empty() {
        return None;
    }
    let first = set.overlapping(&range).next()?;
    Some(first.start.max(range.start))
}

/// The journal sectors that record `changes`.
pub(super) fn encode(metadata: &Metadata, changes: &Changes) -> Result<Sectors> {
    Encoder(metadata).encode(changes)
}

struct Encoder<'a>(&'a Metadata);

impl Encoder<'_> {
    fn encode(&self, changes: &Changes) -> Result<Sectors> {
        let mut sectors = Sectors::default();
        let mut early = changes.chunks.clone();
        let mut crowded = RangeSet::new();
        for blocks in changes.blocks.iter() {
            let mut block = blocks.start;
            while block < blocks.end {
                let batch = self.sector_batch(changes, block..blocks.end)?;
                let table = batch.inline.as_ref().map(|c| self.table_record(c)).transpose()?;
                let record = self.bitmap_record(&(block..batch.end));
                sectors
                    .late
                    .extend(journal::encode_sector(table.as_ref(), Some(&record)));
                if let Some(chunks) = batch.inline {
                    early.remove(chunks);
                }
                if let Some(chunks) = batch.prior {
                    crowded.extend(changes.chunks.overlapping(&chunks).cloned());
                }
                block = batch.end;
            }
        }
        // Early sectors hold the entries of chunks that no new bit relies on (beyond the base, or in a zeroed
        // block), and of all chunks of a block whose entries do not fit into the sector of its bit, even if a
        // neighbour has them inline.
        early.extend(crowded);
        for run in early.iter() {
            for first in VirtualChunk::each(run).step_by(MAX_ENTRIES) {
                let record = self.table_record(&(first..run.end.min(first.plus(MAX_ENTRIES as u64))))?;
                sectors.early.extend(journal::encode_sector(Some(&record), None));
            }
        }
        Ok(sectors)
    }

    /// The longest batch from the start of `blocks` that one sector can record.
    fn sector_batch(&self, changes: &Changes, blocks: Range<Block>) -> Result<SectorBatch> {
        let limit = self.record_limit(&blocks);
        let (Some(bitmap), Some(table)) = (self.0.bitmap(), self.0.table()) else {
            return Ok(SectorBatch::alone(limit));
        };
        let bytes = bitmap.bytes_of(&(blocks.start..limit));
        let touched = table.chunks_of(bytes.start, bytes.end);
        let Some(first) = first_in(&changes.chunks, touched.clone()) else {
            return Ok(SectorBatch::alone(limit));
        };
        // The record starts at the first pending chunk; allocated chunks that follow can be in it, too.
        let mut end = first;
        let most = touched.end.min(first.plus(MAX_ENTRIES_WITH_BITMAP as u64));
        while end < most && table.get(end)?.is_some() {
            end = end.next();
        }
        let inline = Some(first..end);
        let Some(next) = first_in(&changes.chunks, end..touched.end) else {
            let prior = None;
            return Ok(SectorBatch {
                end: limit,
                inline,
                prior,
            });
        };
        // Blocks that touch `next`, and those after them, go into another sector.
        let block = Block::containing(next.start(table.chunk_size()), bitmap.block_size());
        if block > blocks.start {
            let (end, prior) = (block.min(limit), None);
            return Ok(SectorBatch { end, inline, prior });
        }
        let bytes = bitmap.bytes_of(&blocks.start.alone());
        Ok(SectorBatch {
            end: blocks.start.next(),
            inline: None,
            prior: Some(table.chunks_of(bytes.start, bytes.end)),
        })
    }

    /// The end of the longest batch from the start of `blocks` that one bitmap record can name.
    fn record_limit(&self, blocks: &Range<Block>) -> Block {
        let sectors_per_block = (self.0.geometry().block_size / SECTOR).max(1);
        let most = (MAX_RECORD_SECTORS / sectors_per_block).max(1);
        blocks.end.min(blocks.start.plus(most))
    }

    fn bitmap_record(&self, blocks: &Range<Block>) -> BitmapRecord {
        let sectors_per_block = self.0.geometry().block_size / SECTOR;
        let first_sector = blocks.start.index() * sectors_per_block;
        let end = (blocks.end.index() * sectors_per_block).min(self.0.base_size() / SECTOR);
        // A record cannot name all sectors of such a large block. It need only touch the first one.
        let sectors = (end - first_sector).min(MAX_RECORD_SECTORS) as u32;
        BitmapRecord { first_sector, sectors }
    }

    fn table_record(&self, chunks: &Range<VirtualChunk>) -> Result<TableRecord> {
        let table = self.0.table().expect("only a compact image has pending chunks");
        let entry = |chunk| Ok(table.get(chunk)?.map_or(Entry::UNALLOCATED, Entry::allocated));
        Ok(TableRecord {
            first: chunks.start.index() as u32,
            entries: VirtualChunk::each(chunks).map(entry).collect::<Result<_>>()?,
        })
    }
}
