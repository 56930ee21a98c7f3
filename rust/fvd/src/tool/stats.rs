//! How far an image is from needing no base, and what its sessions have done, by path.

use std::path::Path;

use crate::chain::{ChainOptions, open_file};
use crate::error::Result;
use crate::image::{Stats, local_bytes, read_head, read_totals};

/// What the metadata of an image says of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of the disk that the base covers; 0 where it is not needed.
    pub base_bytes: u64,
    /// Those of them that are local, as the next open finds it: the journal of an image that was not closed counts, what
    /// only the memory of a process knows does not.
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
