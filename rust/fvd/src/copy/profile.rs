//! Profile: what prefetch fetches before everything else.

use std::ops::Range;

use super::options::PrefetchOptions;
use crate::image::Image;
use crate::storage::Storage;

/// The ranges that the profile of the image names, if `options` say that it is used. One that cannot
/// be read is none: the rest of the base is fetched all the same.
pub async fn profile<S: Storage>(image: &Image<S>, options: &PrefetchOptions) -> Vec<Range<u64>> {
    match options.profile_start_delay {
        None => Vec::new(),
        Some(_) => image.profile().await.unwrap_or_default(),
    }
}
