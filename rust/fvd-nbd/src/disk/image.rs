//! What an image needs to be a disk of NBD.

use bytes::Bytes;
use fvd::image::Image;
use fvd::storage::Storage;
use fvd::{Error, Result, copy};

use crate::server::Zeroing;

/// Zeros sent at once, where they have to be stored.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Zeros that take no space, unless they are to.
pub(super) async fn write_zeroes<S: Storage>(image: &Image<S>, offset: u64, length: u64, how: Zeroing) -> Result<()> {
    match how {
        Zeroing { no_hole: false, fast } => {
            // A device may have to write them.
            if fast && !image.data().can_resize() {
                return Err(slow());
            }
            image.write_zeroes(offset, length).await
        }
        Zeroing { fast: true, .. } => Err(slow()),
        Zeroing { .. } => image.write_zeroes_no_hole(offset, length).await,
    }
}

/// Stores what is still in the base, so that it is read from there no more.
pub(super) async fn cache<S: Storage>(image: &Image<S>, offset: u64, length: u64) -> Result<()> {
    if !image.is_writable() {
        return Ok(());
    }
    copy::fetch(image, offset..offset + length).await
}

/// Why zeros cannot be written fast.
pub(super) fn slow() -> Error {
    Error::unsupported("Zeros are written here like anything else")
}

/// Zeros for all of the range, and where each piece of them goes.
pub(super) fn pieces_of_zeros(offset: u64, length: u64) -> impl Iterator<Item = (u64, Bytes)> {
    let end = offset + length;
    (offset..end).step_by(ZEROS.len()).map(move |at| {
        let len = (end - at).min(ZEROS.len() as u64);
        (at, Bytes::from_static(&ZEROS[..len as usize]))
    })
}
