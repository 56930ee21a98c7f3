//! The other direction: what an image that writes through owes its base.

use crate::error::Result;
use crate::image::Image;
use crate::join::yield_now;
use crate::storage::Storage;

/// Pushes what `image` owes its base, as it comes, what a crash has left over included. For other
/// images there is never anything to do. Ends only with an error: what could not be pushed stays
/// owed, and the next flush or close tries again, as does this future when it is run anew.
pub async fn write_back_base<S: Storage>(image: &Image<S>) -> Result<()> {
    image.check_process()?;
    loop {
        image.until_dirty().await;
        image.write_back_some().await?;
        yield_now().await;
    }
}
