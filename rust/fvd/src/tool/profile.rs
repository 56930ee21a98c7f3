//! The prefetch profile of an image, by path. Nothing that the image names is opened.

use std::ops::Range;
use std::path::Path;

use crate::chain::{ChainOptions, open_file};
use crate::error::{Error, Result};
use crate::format::profile::capacity;
use crate::image::profile::{empty_profile, read_profile, write_profile};
use crate::image::{finish_change, read_head, read_head_to_write};
use crate::storage::Storage as _;

/// A profile, and what the image says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProfile {
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// Bytes that an entry is counted in; 0: the image has no room for a profile.
    pub unit: u64,
    /// Entries that the image has room for.
    pub capacity: u64,
    /// Whether the next session records a profile.
    pub recording: bool,
    /// Bytes of the disk, in the order in which they are fetched.
    pub ranges: Vec<Range<u64>>,
}

/// Reads the profile of the image at `path`.
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

/// What an image has taken of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenProfile {
    /// As they are stored: whole units, each once, neighbours merged.
    pub ranges: Vec<Range<u64>>,
    /// How many of those offered reach beyond the disk: they were cut, or left out.
    pub beyond_disk: usize,
    /// How many of those offered were left out, the first one perhaps in part, for lack of room.
    pub no_room: usize,
}

/// Replaces the profile of the image at `path` by `ranges`, bytes of the disk. None removes it.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) where the image has no room for a profile.
pub async fn set_profile(path: &Path, ranges: &[Range<u64>]) -> Result<TakenProfile> {
    let options = ChainOptions {
        writable: true,
        ..ChainOptions::default()
    };
    let file = open_file(path, &options)?;
    let mut head = read_head_to_write(&file).await?;
    file.sync().await?;
    finish_change(&file, &mut head).await?;
    let Some(mut profile) = empty_profile(&head.geometry) else {
        if ranges.is_empty() {
            return Ok(TakenProfile::default());
        }
        let error = Error::invalid_argument(
            "The image has no room for a prefetch profile; it is made when the image is created, with the option \
             prefetch_profile_size",
        );
        return Err(error.with_path(path));
    };
    let full_at = ranges.iter().position(|range| !profile.add(range.clone()));
    write_profile(&file, &head.geometry, &profile).await?;
    let end = head.geometry.virtual_size;
    Ok(TakenProfile {
        ranges: profile.ranges(),
        beyond_disk: ranges.iter().filter(|range| range.end > end).count(),
        no_room: full_at.map_or(0, |at| ranges.len() - at),
    })
}
