//! The ranges that prefetch fetches before all others.

use std::ops::Range;

use super::options::PrefetchOptions;
use crate::image::Image;
use crate::storage::Storage;

/// The ranges that the profile of the image names, if `options` use it. Empty if the profile cannot be read:
/// the base is prefetched without it.
pub async fn profile<S: Storage>(image: &Image<S>, options: &PrefetchOptions) -> Vec<Range<u64>> {
    match options.profile_start_delay {
        None => Vec::new(),
        Some(_) => image.profile().await.unwrap_or_default(),
    }
}
