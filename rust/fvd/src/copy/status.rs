//! How much of an image still needs the base.

use super::control::{Control, PrefetchState, PrefetchStatus};
use crate::error::Result;
use crate::image::Image;
use crate::storage::Storage;

/// The progress of prefetch of `image`. Without a `control`, none runs. Counts the bytes that are local now:
/// the first call may read the bitmap ([`Image::local_bytes`]).
pub async fn status<S: Storage>(image: &Image<S>, control: Option<&Control>) -> Result<PrefetchStatus> {
    let mut status = control.map_or_else(PrefetchStatus::default, Control::status);
    if image.base().is_none() {
        status.state = PrefetchState::Finished;
        return Ok(status);
    }
    status.total = image.base_size();
    status.local = image.local_bytes().await?;
    Ok(status)
}
