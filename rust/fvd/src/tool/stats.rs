//! How far an image is from needing no base, and what its sessions have done, by path.

use std::path::Path;

use crate::chain::{ChainOptions, open_file};
use crate::error::Result;
use crate::image::dump::BitmapRuns;
use crate::image::{Head, Stats, read_head, read_totals};
use crate::storage::FileStorage;

/// What the metadata of an image says of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of the disk that the base covers; 0 where it is not needed.
    pub base_bytes: u64,
    /// Those of them that are local, as it stands in the bitmap: what only a journal or the memory of a
    /// process knows does not count.
    pub local_bytes: u64,
    /// What all sessions did that changed the image and were closed.
    pub totals: Stats,
}

/// Looks at the image at `path`. Nothing that it names is opened.
pub async fn stats(path: &Path, force_share: bool) -> Result<DiskStats> {
    let options = ChainOptions {
        force_share,
        ..ChainOptions::default()
    };
    let file = open_file(path, &options)?;
    let head = read_head(&file).await?;
    let needs_base = head.needs_base();
    Ok(DiskStats {
        base_bytes: if needs_base { head.geometry.base_size } else { 0 },
        local_bytes: if needs_base {
            local_bytes(&file, &head).await?
        } else {
            0
        },
        totals: read_totals(&file).await?,
    })
}

async fn local_bytes(file: &FileStorage, head: &Head) -> Result<u64> {
    let (block, end) = (head.geometry.block_size, head.geometry.base_size);
    let mut runs = BitmapRuns::new(file, head, 0);
    let mut bytes = 0;
    while let Some(run) = runs.next().await? {
        // The last block may reach beyond the base.
        let start = run.first_block.saturating_mul(block).min(end);
        let stop = (run.first_block + run.count).saturating_mul(block).min(end);
        bytes += stop - start;
    }
    Ok(bytes)
}
