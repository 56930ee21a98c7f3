//! Lost parts of a table, which read as zeros.

use super::Subject;
use crate::error::Result;
use crate::format::{Entry, Region, table};
use crate::image::metadata::patch;
use crate::image::metadata::scan::{Piece, RegionReader};
use crate::storage::{IoBufMut, Storage};

/// Sets the lost entries of the table in place to "not allocated". Does not change other entries.
///
/// Each sector changes atomically, so the next repair finds the remaining ones after an interruption.
pub(super) async fn clear<S: Storage>(subject: &Subject<'_, S>, region: Region) -> Result<()> {
    let chunks = subject.head.geometry.chunks;
    let mut changed = false;
    let mut reader = RegionReader::new(subject.file, region, 0);
    while let Some(mut piece) = reader.next().await? {
        let first = piece.offset / table::ENTRY_SIZE;
        let end = chunks.min(first + piece.len / table::ENTRY_SIZE);
        if first >= end {
            break;
        }
        match piece.bytes.take() {
            None => changed |= clear_hole(subject, region, &piece, first, end).await?,
            Some(bytes) => {
                let entries = (end - first) as usize;
                if let Some(bytes) = cleared(bytes, entries) {
                    subject.file.write(bytes.freeze(), region.offset + piece.offset).await?;
                    changed = true;
                }
            }
        }
    }
    if changed {
        subject.file.sync().await?;
    }
    Ok(())
}

/// The same for the entries `first..end` in a hole of the file. Returns whether anything was written.
async fn clear_hole<S: Storage>(
    subject: &Subject<'_, S>,
    region: Region,
    hole: &Piece,
    first: u64,
    end: u64,
) -> Result<bool> {
    // A last sector with a single entry is not lost if it is 0.
    let last = (end - 1) / table::ENTRIES_PER_SECTOR * table::ENTRIES_PER_SECTOR;
    let is_lost = hole.is_lost(last, subject.head.geometry.chunks);
    let end = if is_lost { end } else { last };
    if first >= end {
        return Ok(false);
    }
    patch::clear_entries(subject.file, region, first..end).await?;
    Ok(true)
}

/// `bytes` with all lost entries set to "not allocated", `None` if no entry is lost. `bytes` are sectors of
/// the table whose first `entries` entries belong to chunks.
fn cleared(mut bytes: IoBufMut, entries: usize) -> Option<IoBufMut> {
    let (words, _) = bytes.as_mut_slice().as_chunks_mut::<4>();
    let mut changed = false;
    for sector in words[..entries].chunks_mut(table::ENTRIES_PER_SECTOR as usize) {
        if table::is_lost(sector) {
            let zeros = sector.iter_mut().filter(|entry| **entry == [0; 4]);
            zeros.for_each(|entry| *entry = Entry::UNALLOCATED.raw().to_le_bytes());
            changed = true;
        }
    }
    changed.then_some(bytes)
}
