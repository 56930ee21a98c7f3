//! Empty: an image whose base has everything gives it up. The disk reads the same before, meanwhile and
//! afterwards (`docs/design/chains.md`, M1 to M4).

use crate::error::Result;
use crate::format::{Geometry, StorageChunk};
use crate::image::durability::recover::{in_place, medium};
use crate::image::metadata::patch;
use crate::image::metadata::scan::EntryRuns;
use crate::image::space::surplus;
use crate::image::{CacheMode, read_head_to_write};
use crate::storage::{Space, Storage};

/// Makes everything before the end of the base's region come from the base again, durably, and frees the space
/// of it. What lies after that region has no bit, and stays.
///
/// The base must have, durably, what the image has. The caller must hold the locks, and have closed the image.
/// `data` is the storage that holds the data.
///
/// # Errors
///
/// After any error the disk reads as before. The same call can be repeated.
pub async fn empty<S: Storage>(file: &S, data: &S) -> Result<()> {
    let head = read_head_to_write(file).await?;
    let separate = (!head.header.data_file.is_empty()).then_some(data);
    let mut head = medium::sync_and_reread(file, separate, head, CacheMode::default()).await?;
    head.check_trusted(file)?;
    in_place::recover(file, Some(data), &mut head).await?;
    let geometry = &head.geometry;
    let Some(bitmap) = geometry.bitmap.filter(|_| !head.header.base_img.is_empty()) else {
        return Ok(());
    };
    // A record in the journal would set bits again.
    if let Some(journal) = geometry.journal {
        in_place::erase(file, journal).await?;
    }
    file.write_zeroes(bitmap.offset, bitmap.size, Space::Free).await?;
    file.sync().await?;
    if head.header.all_data_in_fvd_img {
        // Only now the bitmap counts.
        patch::write_all_local(file, false).await?;
        file.sync().await?;
    }
    // Nothing leads to the data any more.
    match geometry.table {
        None => {
            let freed = data.write_zeroes(geometry.data_offset, geometry.base_size, Space::Free);
            freed.await?;
            data.sync().await
        }
        Some(_) => free_chunks(file, data, geometry).await,
    }
}

/// Frees the storage chunks of all chunks that lie in the base's region as a whole.
async fn free_chunks<S: Storage>(file: &S, data: &S, geometry: &Geometry) -> Result<()> {
    let Some(table) = geometry.table else {
        return Ok(());
    };
    let size = geometry.chunk_size;
    let whole = if geometry.base_size >= geometry.virtual_size {
        geometry.chunks
    } else {
        geometry.base_size / size
    };
    // First the chunks become zeros: once no entry names them, another program may show what they hold (I18).
    let mut runs = EntryRuns::new(file, table, 0, whole, &[]).with_lost(geometry.chunks);
    while let Some((run, storage)) = runs.next_allocated().await? {
        if run.lost || storage > StorageChunk::MAX {
            continue;
        }
        let offset = geometry.data_offset + storage.index() * size;
        data.write_zeroes(offset, size, Space::Free).await?;
    }
    data.sync().await?;
    patch::clear_entries(file, table, 0..whole).await?;
    file.sync().await?;
    surplus::cut_tail(file, Some(data), geometry).await
}

#[cfg(test)]
mod tests;
