//! The background half of copy-on-read.

use crate::error::Result;
use crate::image::Image;
use crate::storage::Storage;

/// Stores what readers have fetched from the base, as it comes. Ends only with an error. After that,
/// copy-on-read is off for this image, and reads continue without it.
pub async fn copy_on_read<S: Storage>(image: &Image<S>) -> Result<()> {
    image.check_process()?;
    loop {
        image.copy_arrives().await;
        image.store_next_copy().await?;
    }
}
