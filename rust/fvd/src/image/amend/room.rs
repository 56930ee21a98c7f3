//! Room for a larger table: the unused pages after it, and the first pages of the journal
//! (docs/design/format.md, section 9).

use crate::error::{Error, Result};
use crate::format::{Region, layout, table};
use crate::image::Head;

/// The places of table and journal in an image with more chunks.
pub(super) struct Room {
    /// Bytes of the region of the table. Its offset does not change.
    pub(super) table_size: u64,
    /// The new region of the journal, if there is a journal.
    pub(super) journal: Option<Region>,
}

/// The room for the table of a disk of `size` bytes, in a compact image of `file_len` bytes.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no room. The message names the largest
/// size that is possible.
pub(super) fn for_table(head: &Head, size: u64, file_len: u64) -> Result<Room> {
    let chunk_size = head.geometry.chunk_size;
    let chunks = size.div_ceil(chunk_size);
    if let Some(room) = for_chunks(head, chunks, file_len) {
        return Ok(room);
    }
    // The room that is needed grows with the number of chunks. Search for the largest number that fits.
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

/// The room for a table of `chunks` entries, `None` if there is not enough.
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
    // A journal before the table, or far enough after it, does not change.
    let mut left = journal;
    if journal.offset >= old.end() && journal.offset < end {
        left.size = journal.end().checked_sub(end)?;
        left.offset = end;
    }
    // Only a journal that changes must have the minimal size.
    let enough = left.size == journal.size || left.size >= layout::least_journal_size(chunks);
    (enough && end <= limit).then_some(Room {
        table_size,
        journal: Some(left),
    })
}

/// The byte offset up to which the table can grow, without regard to the journal: the start of the bitmap or
/// of the profile after the table, or the end of the metadata.
fn limit(head: &Head, table: Region, file_len: u64) -> u64 {
    // A bitmap that is no longer used also takes room.
    let header = &head.header;
    let bitmap = (header.bitmap_size > 0).then_some(header.bitmap_offset);
    let profile = head.geometry.profile.map(|region| region.offset);
    let following = bitmap
        .into_iter()
        .chain(profile)
        .filter(|offset| *offset >= table.end());
    following.fold(header.metadata_size.min(file_len), u64::min)
}
