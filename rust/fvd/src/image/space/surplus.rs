//! Surplus: stale bytes in the files of an image that no guest can read now. They would appear if the disk
//! grew, or if another program allocated a chunk there (`docs/design/format.md`, sections 8 and 9, I18).
//!
//! The engine clears such a place before it uses it. Other programs that use the format expect zeros there.
//! So the surplus is removed before they may use the image again.

use bytes::Bytes;

use crate::error::{ErrorKind, Result};
use crate::format::{Geometry, Header, PAGE, Region, StorageChunk, VirtualChunk, table};
use crate::image::metadata::scan::{EntryRuns, RegionReader};
use crate::image::metadata::table::Table;
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

#[cfg(test)]
mod tests;

/// Cuts a data file after the highest storage chunk that the table in place names, durably. A crash, or a
/// smaller disk, may have left data there. It would show in the next chunk that another program allocates,
/// which expects zeros after the end of what is used.
///
/// Does nothing if the data file is not open, if it is a device, which cannot be cut, or if a part of the
/// table is lost or names an impossible storage chunk: then it is unknown what is in use.
pub(in crate::image) async fn cut_tail<S: Storage>(file: &S, data: Option<&S>, geometry: &Geometry) -> Result<()> {
    let Some((region, data)) = geometry.table.zip(data) else {
        return Ok(());
    };
    let len = data.len().await?;
    if !data.can_resize() || len <= geometry.data_offset || mutation::is(Mutation::KeepTail) {
        return Ok(());
    }
    match used_end(file, region, geometry).await? {
        Some(end) if end < len => {
            data.set_len(end).await?;
            data.sync().await
        }
        _ => Ok(()),
    }
}

/// The end in bytes of the highest storage chunk that the table in place names. None: it cannot be told.
async fn used_end<S: Storage>(file: &S, region: Region, geometry: &Geometry) -> Result<Option<u64>> {
    let mut chunks = 0;
    let mut runs = EntryRuns::new(file, region, 0, geometry.chunks, &[]).with_lost(geometry.chunks);
    while let Some((run, storage)) = runs.next_allocated().await? {
        if run.lost || storage > StorageChunk::MAX {
            return Ok(None);
        }
        chunks = chunks.max(storage.index() + 1);
    }
    let size = chunks.checked_mul(geometry.chunk_size);
    Ok(size.and_then(|size| size.checked_add(geometry.data_offset)))
}

/// Clears what lies beyond the end of the disk after the size has changed, and syncs that: table entries,
/// also those on pages that only a larger table has; the rest of the chunk in which the disk ends; the end of
/// the file of a plain image. (A device keeps what a plain image had on it, because it is unknown how much
/// that is.)
pub(in crate::image) async fn clear<S: Storage>(
    file: &S,
    data: &S,
    header: &Header,
    geometry: &Geometry,
) -> Result<()> {
    let Some(region) = geometry.table else {
        let end = geometry.data_offset + geometry.virtual_size;
        if data.can_resize() && data.len().await? > end {
            data.set_len(end).await?;
            data.sync().await?;
        }
        return Ok(());
    };
    clear_entries(file, region, header, geometry).await?;
    match clear_chunk_behind(file, data, geometry, geometry.virtual_size).await {
        // The entry is corrupt, so it is unknown where the chunk lies.
        Err(error) if error.kind() == ErrorKind::InvalidImage => Ok(()),
        cleared => {
            cleared?;
            data.sync().await
        }
    }
}

/// Sets the entries after the last chunk to "not allocated": those on its page, and those on the following
/// pages that belong to no other region. A hole holds no entry.
pub(in crate::image) async fn clear_entries<S: Storage>(
    file: &S,
    table: Region,
    header: &Header,
    geometry: &Geometry,
) -> Result<()> {
    let end = unused_end(table, header, geometry, file.len().await?);
    let start = table.offset + geometry.chunks * table::ENTRY_SIZE;
    let first = start / PAGE * PAGE;
    let size = (end - first) / PAGE * PAGE;
    let mut pages = RegionReader::new(file, Region { offset: first, size }, 0);
    while let Some(piece) = pages.next().await? {
        let Some(bytes) = piece.bytes else { continue };
        let skip = start.saturating_sub(first + piece.offset) as usize;
        let behind = bytes.as_slice().get(skip..).unwrap_or_default();
        if behind.iter().any(|byte| *byte != 0xFF) {
            let ones = Bytes::from(vec![0xFF; behind.len()]);
            file.write(ones, first + piece.offset + skip as u64).await?;
        }
    }
    file.sync().await
}

/// The offset where the next region after the table begins, or the metadata ends. Nothing uses the pages
/// before it.
fn unused_end(table: Region, header: &Header, geometry: &Geometry, file_len: u64) -> u64 {
    // A bitmap that is no longer read takes its room, too.
    let bitmap = (header.bitmap_size > 0).then_some(header.bitmap_offset);
    let regions = [geometry.journal, geometry.profile];
    let regions = regions.into_iter().flatten().map(|region| region.offset);
    let behind = regions.chain(bitmap).filter(|offset| *offset >= table.end());
    behind
        .fold(header.metadata_size.min(file_len), u64::min)
        .max(table.end())
}

/// Clears the rest of the storage chunk of the chunk in which byte `end` of the disk lies, if it has one.
/// Nothing is synced.
pub(in crate::image) async fn clear_chunk_behind<S: Storage>(
    file: &S,
    data: &S,
    geometry: &Geometry,
    end: u64,
) -> Result<()> {
    let within = end.checked_rem(geometry.chunk_size).unwrap_or(0);
    let Some(region) = geometry.table.filter(|_| within > 0) else {
        return Ok(());
    };
    let table = Table::new(region, geometry);
    let chunk = table.chunk_at(end);
    let last = VirtualChunk::new((chunk.index() | 1).min(geometry.chunks - 1));
    table.load(file, &(chunk..last.next())).await?;
    let storage = table.get(chunk).map_err(|error| error.with_path(file.path()))?;
    let Some(storage) = storage else {
        return Ok(());
    };
    let start = geometry.data_offset + storage.index() * geometry.chunk_size;
    let rest = geometry.chunk_size - within;
    data.write_zeroes(start + within, rest, Space::Free).await
}
