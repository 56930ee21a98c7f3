//! Statistics of an image, by path: how much of the base is already local, and the totals of all sessions.

use std::path::Path;

use crate::chain::{ChainOptions, open_file};
use crate::error::Result;
use crate::image::{Stats, local_bytes, read_head, read_totals};

/// Statistics from the metadata of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of the disk that the base covers. 0 if the image does not need its base.
    pub base_bytes: u64,
    /// Bytes of `base_bytes` that are local, as the next open would find them. The journal of an image that
    /// was not closed counts. State that is only in the memory of a process does not.
    pub local_bytes: u64,
    /// The counters of all sessions that changed the image and were closed, added up.
    pub totals: Stats,
}

/// Reads the statistics of the image at `path`. Opens no file that the image names. `force_share`: without a
/// lock.
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
