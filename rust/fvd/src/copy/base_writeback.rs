//! Base writeback in the background.

use crate::error::Result;
use crate::image::Image;
use crate::join::yield_now;
use crate::storage::Storage;

/// Writes dirty ranges of `image` to its base, as they appear, including those that a crash has left. Images
/// that do not write to their base never have any. Ends only with an error. What could not be written stays
/// dirty: the next flush, close or call of this function tries again.
pub async fn write_back_base<S: Storage>(image: &Image<S>) -> Result<()> {
    image.check_process()?;
    loop {
        image.until_dirty().await;
        image.write_back_some().await?;
        yield_now().await;
    }
}
