//! Status: how far an image is from needing no base.

use super::control::{Control, PrefetchState, PrefetchStatus};
use crate::error::Result;
use crate::image::Image;
use crate::storage::Storage;

/// How far prefetch of `image` is; without a `control` none runs. What is local is counted in the image as
/// it is now: the first call may read the bitmap ([`Image::local_bytes`]).
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
