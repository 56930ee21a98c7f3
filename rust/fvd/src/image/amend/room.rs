//! Room for a larger table: behind it, and at the front of the journal.

use crate::error::{Error, Result};
use crate::format::{Region, layout, table};
use crate::image::Head;

/// Where table and journal lie in an image with more chunks.
pub(super) struct Room {
    /// Bytes of the table's region, which stays where it is.
    pub(super) table_size: u64,
    /// The journal, if there is one.
    pub(super) journal: Option<Region>,
}

/// The room for the table of a disk of `size` bytes, in a compact image of `file_len` bytes.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) where there is none, saying up to which size
/// there is.
pub(super) fn for_table(head: &Head, size: u64, file_len: u64) -> Result<Room> {
    let chunk_size = head.geometry.chunk_size;
    let chunks = size.div_ceil(chunk_size);
    if let Some(room) = for_chunks(head, chunks, file_len) {
        return Ok(room);
    }
    // More chunks never need less: the last number with room.
    let (mut fits, mut not) = (head.geometry.chunks, chunks);
    while not - fits > 1 {
        let middle = fits + (not - fits) / 2;
        match for_chunks(head, middle, file_len) {
            Some(_) => fits = middle,
            None => not = middle,
        }
    }
    let most = (fits * chunk_size).max(head.geometry.virtual_size);
    let fact = if most > head.geometry.virtual_size {
        format!("This image can grow to {most} bytes")
    } else {
        "This image cannot grow".to_owned()
    };
    Err(Error::invalid_argument(format!(
        "There is no room for the table of a disk of {size} bytes. {fact}; 'fvd convert' makes a larger one"
    )))
}

/// None: there is no room for so many chunks.
fn for_chunks(head: &Head, chunks: u64, file_len: u64) -> Option<Room> {
    let geometry = &head.geometry;
    let old = geometry.table?;
    let data_end = chunks
        .checked_mul(geometry.chunk_size)?
        .checked_add(geometry.data_offset)?;
    if chunks > layout::MAX_CHUNKS || i64::try_from(data_end).is_err() {
        return None;
    }
    let table_size = table::region_size(chunks)?.max(old.size);
    let end = old.offset.checked_add(table_size)?;
    let limit = limit(head, old, file_len);
    let Some(journal) = geometry.journal else {
        let journal = None;
        return (end <= limit).then_some(Room { table_size, journal });
    };
    // One that lies in front of the table, or far enough behind it, stays as it is.
    let mut left = journal;
    if journal.offset >= old.end() && journal.offset < end {
        left.size = journal.end().checked_sub(end)?;
        left.offset = end;
    }
    // One that stays as it is may be as small as its creator wanted it.
    let enough = left.size == journal.size || left.size >= layout::least_journal_size(chunks);
    (enough && end <= limit).then_some(Room {
        table_size,
        journal: Some(left),
    })
}

/// Where the table has to end, whatever becomes of the journal: at the bitmap or the profile, if they
/// lie behind it, or at the end of the metadata.
fn limit(head: &Head, table: Region, file_len: u64) -> u64 {
    // Also a bitmap that nothing reads any more takes its room.
    let header = &head.header;
    let bitmap = (header.bitmap_size > 0).then_some(header.bitmap_offset);
    let profile = head.geometry.profile.map(|region| region.offset);
    let behind = bitmap
        .into_iter()
        .chain(profile)
        .filter(|offset| *offset >= table.end());
    behind.fold(header.metadata_size.min(file_len), u64::min)
}
