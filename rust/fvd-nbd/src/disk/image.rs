//! What an image needs to be a disk of NBD.

use fvd::image::Image;
use fvd::storage::{Space, Storage};
use fvd::{Error, Result, copy};

use crate::server::Zeroing;

/// Zeros that take no space, unless they are to.
pub(super) async fn write_zeroes<S: Storage>(image: &Image<S>, offset: u64, length: u64, how: Zeroing) -> Result<()> {
    if how.fast && is_slow(image.data(), how.space(image.discards())) {
        return Err(slow());
    }
    if how.no_hole {
        image.write_zeroes_no_hole(offset, length).await
    } else {
        image.write_zeroes(offset, length).await
    }
}

/// Stores what is still in the base, so that it is read from there no more.
pub(super) async fn cache<S: Storage>(image: &Image<S>, offset: u64, length: u64) -> Result<()> {
    if !image.is_writable() {
        return Ok(());
    }
    copy::fetch(image, offset..offset + length).await
}

/// Whether zeros may have to be written: a device does that, and some files where space is not to be freed.
pub(super) fn is_slow<S: Storage>(storage: &S, space: Space) -> bool {
    space != Space::Free || !storage.can_resize()
}

/// Why zeros cannot be written fast.
pub(super) fn slow() -> Error {
    Error::unsupported("Zeros are written here like anything else")
}
