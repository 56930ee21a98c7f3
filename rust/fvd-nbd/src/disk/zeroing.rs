//! Zeroing: what the flags of `NBD_CMD_WRITE_ZEROES` mean for an image, and where zeroing is not fast.

use fvd::image::Image;
use fvd::storage::{Space, Storage};
use fvd::{Error, Result};

use crate::server::Zeroing;

/// Writes zeroes without allocation, or with it if `how.no_hole` is set. Fails with `Unsupported` if
/// `how.fast` is set and the zeroes may have to be written.
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

/// Whether zeroing may have to write zeroes. This is the case on devices, and where `space` must not be
/// freed.
pub(super) fn is_slow<S: Storage>(storage: &S, space: Space) -> bool {
    space != Space::Free || !storage.can_resize()
}

/// The error for a fast zeroing that is not possible.
pub(super) fn slow() -> Error {
    Error::unsupported("Zeros are written here like anything else")
}
