//! Changes of metadata in place. Nothing here is synced.

use std::ops::Range;

use bytes::Bytes;

use crate::error::Result;
use crate::format::header::{ALL_DATA_OFFSET, CLEAN_SHUTDOWN_OFFSET, PROFILE_ENTRIES_OFFSET};
use crate::format::{Block, Entry, Region, SECTOR, table};
use crate::mutation::{self, Mutation};
use crate::storage::{IoBufMut, Storage};

/// Most bytes written or patched at once.
const STEP: u64 = 1 << 20;

/// Writes entries, given by ascending index. An entry is never torn: it lies in one sector.
pub(in crate::image) async fn write_entries<S: Storage>(
    file: &S,
    region: Region,
    entries: &[(u32, Entry)],
) -> Result<()> {
    for run in entries.chunk_by(|(index, _), (next, _)| *next == index + 1) {
        for run in run.chunks((STEP / table::ENTRY_SIZE) as usize) {
            let bytes: Vec<u8> = run.iter().flat_map(|(_, new)| new.raw().to_le_bytes()).collect();
            let offset = region.offset + u64::from(run[0].0) * table::ENTRY_SIZE;
            file.write(Bytes::from(bytes), offset).await?;
        }
    }
    Ok(())
}

/// Sets a range of entries to "not allocated".
pub(in crate::image) async fn clear_entries<S: Storage>(file: &S, region: Region, range: Range<u64>) -> Result<()> {
    let mut at = range.start * table::ENTRY_SIZE;
    let end = range.end * table::ENTRY_SIZE;
    let ones = Bytes::from(vec![0xFF; STEP.min(end - at) as usize]);
    while at < end {
        let piece = ones.slice(..(end - at).min(STEP) as usize);
        let len = piece.len() as u64;
        file.write(piece, region.offset + at).await?;
        at += len;
    }
    Ok(())
}

/// Sets the bits of a range of blocks.
pub(in crate::image) async fn set_bits<S: Storage>(file: &S, bitmap: Region, blocks: Range<Block>) -> Result<()> {
    let bits = blocks.start.index()..blocks.end.index();
    let end = bits.end.div_ceil(8);
    let mut at = bits.start / 8;
    while at < end {
        let len = STEP.min(end - at);
        let offset = bitmap.offset + at;
        let mut buf = file.read(IoBufMut::zeroed(len as usize), offset).await?;
        let mut changed = false;
        for (byte, number) in buf.as_mut_slice().iter_mut().zip(at..) {
            let first = bits.start.max(number * 8) - number * 8;
            let last = bits.end.min(number * 8 + 8) - number * 8;
            let mask = (0xFF_u8 << first) & (0xFF >> (8 - last));
            changed |= *byte | mask != *byte;
            *byte |= mask;
        }
        // Written even if every bit is set: that may be true in the page cache only (I19).
        if changed || !mutation::is(Mutation::BelieveCache) {
            file.write(buf.freeze(), offset).await?;
        }
        at += len;
    }
    Ok(())
}

/// Writes `clean_shutdown`, and leaves every other byte of the header as it is.
pub(in crate::image) async fn write_mark<S: Storage>(file: &S, clean: bool) -> Result<()> {
    write_boolean(file, CLEAN_SHUTDOWN_OFFSET, clean).await
}

/// Writes `all_data_in_fvd_img`, and leaves every other byte of the header as it is.
pub(in crate::image) async fn write_all_local<S: Storage>(file: &S, all_local: bool) -> Result<()> {
    write_boolean(file, ALL_DATA_OFFSET, all_local).await
}

/// Writes `prefetch_profile_entries`, and leaves every other byte of the header as it is.
pub(in crate::image) async fn write_profile_entries<S: Storage>(file: &S, count: u64) -> Result<()> {
    write_field(file, PROFILE_ENTRIES_OFFSET, &count.to_le_bytes()).await
}

async fn write_boolean<S: Storage>(file: &S, offset: u64, value: bool) -> Result<()> {
    write_field(file, offset, &i32::from(value).to_le_bytes()).await
}

/// Writes the sector of a field. A field lies in one sector, so it changes as a whole or not at all.
async fn write_field<S: Storage>(file: &S, offset: u64, bytes: &[u8]) -> Result<()> {
    let start = offset / SECTOR * SECTOR;
    let field = (offset - start) as usize;
    let mut sector = file.read(IoBufMut::zeroed(SECTOR as usize), start).await?;
    sector.as_mut_slice()[field..field + bytes.len()].copy_from_slice(bytes);
    file.write(sector.freeze(), start).await
}
