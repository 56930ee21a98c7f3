//! What lies in the files of an image beyond what it names: bytes that no disk shows, until something
//! makes them a part of one.
//!
//! The engine sees to it before it uses such a place. Other programs that use the format take it for
//! zeros: so it is removed before the image is theirs again.

use bytes::Bytes;

use super::scan::{EntryRuns, RegionReader};
use super::table::Table;
use crate::error::{ErrorKind, Result};
use crate::format::table::{self, MAX_CHUNK_NUMBER};
use crate::format::{Geometry, Header, PAGE, Region};
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

#[cfg(test)]
mod tests;

/// Cuts a data file behind the highest storage chunk that the table in place names, durably. What a crash,
/// or a disk that became smaller, has left there would show in the next chunk that is allocated by a
/// program that takes the end of a file for zeros.
///
/// Nothing is done where the data file is not open, on a device, which cannot be cut, and where
/// a part of the table is lost or names what cannot be: nobody knows what lies there.
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

/// Where the highest storage chunk ends that the table in place names. None: that cannot be told.
async fn used_end<S: Storage>(file: &S, region: Region, geometry: &Geometry) -> Result<Option<u64>> {
    let mut chunks = 0;
    let mut runs = EntryRuns::new(file, region, 0, geometry.chunks, &[]).with_lost(geometry.chunks);
    while let Some((run, number)) = runs.next_allocated().await? {
        if run.lost || number > MAX_CHUNK_NUMBER {
            return Ok(None);
        }
        chunks = chunks.max(u64::from(number) + 1);
    }
    let size = chunks.checked_mul(geometry.chunk_size);
    Ok(size.and_then(|size| size.checked_add(geometry.data_offset)))
}

/// Clears what lies behind the end of the disk, after it has changed, and syncs that: entries, also on
/// pages that only a larger table has; the rest of the chunk in which the disk ends; what a plain image has
/// in a file. (A device keeps what a plain image had on it: how much that is, nobody knows.)
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
        // A corrupt entry: nobody knows where the chunk lies.
        Err(error) if error.kind() == ErrorKind::InvalidImage => Ok(()),
        cleared => {
            cleared?;
            data.sync().await
        }
    }
}

/// Makes the entries behind the last chunk "not allocated": those on its page, and those on the pages
/// behind the table that no other region has. A hole holds no entry.
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

/// Where the next region behind the table begins, or the metadata ends: what lies before that is nobody's.
fn unused_end(table: Region, header: &Header, geometry: &Geometry, file_len: u64) -> u64 {
    // A bitmap that nothing reads any more takes its room, too.
    let bitmap = (header.bitmap_size > 0).then_some(header.bitmap_offset);
    let regions = [geometry.journal, geometry.profile];
    let regions = regions.into_iter().flatten().map(|region| region.offset);
    let behind = regions.chain(bitmap).filter(|offset| *offset >= table.end());
    behind
        .fold(header.metadata_size.min(file_len), u64::min)
        .max(table.end())
}

/// Clears the rest of the storage chunk of the chunk in which byte `end` of the disk lies, if there is one.
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
    let chunk = end / geometry.chunk_size;
    let last = (chunk | 1).min(geometry.chunks - 1);
    table.load(file, &(chunk..last + 1)).await?;
    let number = table.get(chunk).map_err(|error| error.with_path(file.path()))?;
    let Some(number) = number else {
        return Ok(());
    };
    let start = geometry.data_offset + u64::from(number) * geometry.chunk_size;
    let rest = geometry.chunk_size - within;
    data.write_zeroes(start + within, rest, Space::Free).await
}
