//! Reads and replaces the prefetch profile of an image, by path. Opens no file that the image names.

use std::ops::Range;
use std::path::Path;

use crate::chain::{ChainOptions, open_file};
use crate::error::{Error, Result};
use crate::format::profile::capacity;
use crate::image::profile::{empty_profile, read_profile, write_profile};
use crate::image::{finish_change, read_head, read_head_to_write};
use crate::storage::{FileStorage, Storage as _};

/// The profile of an image, with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProfile {
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// The unit, in bytes, of the length of an entry. 0: the image has no room for a profile.
    pub unit: u64,
    /// The most entries that the image has room for.
    pub capacity: u64,
    /// Whether the next session records a profile.
    pub recording: bool,
    /// Byte ranges of the disk, in the order in which they are prefetched.
    pub ranges: Vec<Range<u64>>,
}

/// Reads the profile of the image at `path`. `force_share`: without a lock.
pub async fn profile(path: &Path, force_share: bool) -> Result<StoredProfile> {
    let options = ChainOptions {
        force_share,
        ..ChainOptions::default()
    };
    let file = open_file(path, &options)?;
    let head = read_head(&file).await?;
    let geometry = &head.geometry;
    let profile = read_profile(&file, geometry).await?;
    Ok(StoredProfile {
        virtual_size: geometry.virtual_size,
        unit: geometry.profile_unit,
        capacity: geometry.profile.map_or(0, |region| capacity(region.size)),
        recording: head.header.generate_prefetch_profile && geometry.profile.is_some() && geometry.profile_entries == 0,
        ranges: profile.map_or_else(Vec::new, |profile| profile.ranges()),
    })
}

/// The result of [`set_profile`]: which part of the given ranges was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenProfile {
    /// The stored ranges, in bytes: whole units, each only once, adjacent ranges merged.
    pub ranges: Vec<Range<u64>>,
    /// How many of the given ranges end beyond the disk. They were cut or left out.
    pub beyond_disk: usize,
    /// How many of the given ranges were left out because the region is full. The first of them may be stored
    /// in part.
    pub no_room: usize,
}

/// Replaces the profile of the image at `path` by `ranges`, byte ranges of the disk. An empty list clears it.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the image has no room for a profile and `ranges`
/// is not empty.
pub async fn set_profile(path: &Path, ranges: &[Range<u64>]) -> Result<TakenProfile> {
    let options = ChainOptions {
        writable: true,
        ..ChainOptions::default()
    };
    let file = open_file(path, &options)?;
    store_ranges(&file, ranges).await.map_err(|error| error.with_path(path))
}

/// As [`set_profile`], for an image that is open.
pub(super) async fn store_ranges(file: &FileStorage, ranges: &[Range<u64>]) -> Result<TakenProfile> {
    let mut head = read_head_to_write(file).await?;
    file.sync().await?;
    finish_change(file, &mut head).await?;
    let Some(mut profile) = empty_profile(&head.geometry) else {
        if ranges.is_empty() {
            return Ok(TakenProfile::default());
        }
        return Err(Error::invalid_argument(
            "The image has no room for a prefetch profile; it is made when the image is created, with the option \
             prefetch_profile_size",
        ));
    };
    let full_at = ranges.iter().position(|range| !profile.add(range.clone()));
    write_profile(file, &head.geometry, &profile).await?;
    let end = head.geometry.virtual_size;
    Ok(TakenProfile {
        ranges: profile.ranges(),
        beyond_disk: ranges.iter().filter(|range| range.end > end).count(),
        no_room: full_at.map_or(0, |at| ranges.len() - at),
    })
}
