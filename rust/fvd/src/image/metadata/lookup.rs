//! Lookup: where given bytes of the disk are. Answers with an enum, and holds no lock.

use super::Metadata;
use crate::error::Result;
use crate::format::{Block, StorageChunk};
use crate::image::metadata::bitmap::Bitmap;
use crate::image::metadata::table::Table;
use crate::storage::Storage;

/// Where a piece of the disk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// In the data file, at this offset in bytes.
    Local {
        /// Bytes from the start of the data file.
        offset: u64,
    },
    /// In the base image, at the same offset as in the disk.
    Base,
    /// Nowhere: it reads as zeros.
    Zero,
}

/// A piece of the disk with one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Where it comes from.
    pub mapping: Mapping,
}

impl Metadata {
    /// Brings the metadata for the bytes `offset..end` (not empty) from `file`, the image file, into memory. Must
    /// be called before every lookup.
    pub(in crate::image) async fn load<S: Storage>(&self, file: &S, offset: u64, end: u64) -> Result<()> {
        if let Some(bitmap) = &self.bitmap {
            let blocks = bitmap.blocks(offset, end);
            if !bitmap.is_loaded(&blocks) {
                bitmap.load(file, &blocks).await?;
            }
        }
        if let Some(table) = &self.table {
            // A copy-on-write fills whole blocks: their chunks are needed too.
            let (start, end) = self.widen(offset, end);
            let chunks = table.chunks_of(start, end);
            if !table.is_loaded(&chunks) {
                table.load(file, &chunks).await?;
            }
        }
        Ok(())
    }

    /// The end of the part of `start..end` (bytes, not empty) whose metadata is looked up at once: a few MiB
    /// of metadata, however large the range is. Whole blocks, unless `end` cuts the last one.
    pub(in crate::image) fn lookup_end(&self, start: u64, end: u64) -> u64 {
        const CHUNKS: u64 = 1 << 18;
        const BLOCKS: u64 = 1 << 23;
        let chunk_size = self.table.as_ref().map(Table::chunk_size);
        let mut stop = chunk_size.map_or(end, |size| (start / size + CHUNKS).saturating_mul(size).min(end));
        if let Some(bitmap) = self.bitmap.as_ref().filter(|bitmap| start < bitmap.base_size()) {
            let size = bitmap.block_size();
            let first = Block::containing(start, size);
            let next = Block::containing(stop, size).clamp(first.next(), first.plus(BLOCKS));
            if stop < end || stop > next.start(size) {
                stop = next.start(size).min(end);
            }
        }
        stop
    }

    /// `offset..end` (bytes), widened to whole blocks in the region of the base.
    pub(in crate::image) fn widen(&self, offset: u64, end: u64) -> (u64, u64) {
        let Some(bitmap) = &self.bitmap else {
            return (offset, end);
        };
        let blocks = bitmap.blocks(offset, end);
        if blocks.is_empty() {
            return (offset, end);
        }
        let bytes = bitmap.bytes_of(&blocks);
        (bytes.start, bytes.end.max(end))
    }

    /// The extent that starts at `offset`, cut at `end`. `offset < end`, and the metadata of the range is
    /// loaded.
    pub(in crate::image) fn extent(&self, offset: u64, end: u64) -> Result<Extent> {
        let stop = match &self.bitmap {
            Some(bitmap) if offset < bitmap.base_size() => {
                let (local, stop) = block_run(bitmap, offset, end);
                if !local {
                    return Ok(Extent {
                        start: offset,
                        len: stop - offset,
                        mapping: Mapping::Base,
                    });
                }
                stop
            }
            _ => end,
        };
        let (mapping, stop) = match &self.table {
            None => {
                let offset = self.geometry.data_offset + offset;
                (Mapping::Local { offset }, stop)
            }
            Some(table) => self.chunk_run(table, offset, stop)?,
        };
        Ok(Extent {
            start: offset,
            len: stop - offset,
            mapping,
        })
    }

    /// The mapping of `offset` by the table, and the byte of the disk where it ends.
    fn chunk_run(&self, table: &Table, offset: u64, end: u64) -> Result<(Mapping, u64)> {
        let size = table.chunk_size();
        let chunks = table.chunks_of(offset, end);
        let Some(storage) = table.get(chunks.start)? else {
            let next = table.skip_unallocated(&chunks);
            return Ok((Mapping::Zero, next.start(size).min(end)));
        };
        let mut next = chunks.start.next();
        let mut following = storage;
        while next < chunks.end {
            following = following.next();
            if table.get(next)? != Some(following) {
                break;
            }
            next = next.next();
        }
        let offset = self.chunk_offset(table, storage) + offset % size;
        Ok((Mapping::Local { offset }, next.start(size).min(end)))
    }

    /// Offset of a storage chunk in the data file, bytes.
    pub(in crate::image) fn chunk_offset(&self, table: &Table, storage: StorageChunk) -> u64 {
        self.geometry.data_offset + storage.index() * table.chunk_size()
    }
}

/// Whether the block at `offset` is local, and the byte up to which that does not change.
pub(in crate::image) fn block_run(bitmap: &Bitmap, offset: u64, end: u64) -> (bool, u64) {
    let blocks = bitmap.blocks(offset, end);
    let (local, next) = bitmap.run(&blocks);
    let stop = if next == blocks.end {
        end.min(bitmap.base_size())
    } else {
        next.start(bitmap.block_size())
    };
    (local, stop)
}
