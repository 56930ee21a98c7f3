//! The prefetch profile: recorded while the image is used, written when it is closed, read for prefetch
//! (`docs/design/copies.md`, "Profile").

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::profile::{self, ENTRY_SIZE};
use crate::format::{Geometry, Profile};
use crate::image::Image;
use crate::image::metadata::patch;
use crate::storage::{IoBufMut, Storage};

#[cfg(test)]
mod tests;

/// Most bytes read at once: whole entries.
const READ_STEP: u64 = ENTRY_SIZE << 14;

/// An empty profile with the capacity that the image has room for. None: it has no room for one.
#[must_use]
pub fn empty_profile(geometry: &Geometry) -> Option<Profile> {
    let capacity = profile::capacity(geometry.profile?.size);
    Some(Profile::new(geometry.profile_unit, geometry.virtual_size, capacity))
}

/// Reads the profile of the image in `file`. None: it has no room for one.
pub async fn read_profile<S: Storage>(file: &S, geometry: &Geometry) -> Result<Option<Profile>> {
    let Some(mut profile) = empty_profile(geometry) else {
        return Ok(None);
    };
    let mut entries = EntryReader::new(file, geometry);
    while let Some(bytes) = entries.next().await? {
        profile.decode(bytes.as_slice());
    }
    Ok(Some(profile))
}

/// Replaces the profile of the image in `file` by `profile`, which may be empty. Durable. After a crash there
/// is the old profile, the new one, or none (I10).
pub async fn write_profile<S: Storage>(file: &S, geometry: &Geometry, profile: &Profile) -> Result<()> {
    if geometry.profile_entries > 0 {
        // The old count must never be found with new entries (I10).
        patch::write_profile_entries(file, 0).await?;
        file.sync().await?;
    }
    if profile.is_empty() {
        return Ok(());
    }
    write_entries(file, geometry, profile).await?;
    file.sync().await?;
    patch::write_profile_entries(file, profile.len() as u64).await?;
    file.sync().await
}

async fn write_entries<S: Storage>(file: &S, geometry: &Geometry, profile: &Profile) -> Result<()> {
    let Some(region) = geometry.profile else {
        return Err(Error::invalid_argument("The image has no room for a prefetch profile").with_path(file.path()));
    };
    let bytes = profile.encode();
    assert!(
        bytes.len() as u64 <= region.size,
        "a profile is made for the room that the image has"
    );
    file.write(Bytes::from(bytes), region.offset).await
}

/// Reads the entries of a profile piece by piece, as stored.
pub struct EntryReader<'a, S> {
    file: &'a S,
    offset: u64,
    end: u64,
}

impl<'a, S: Storage> EntryReader<'a, S> {
    /// Reads from the first entry on. An image without a profile has none.
    pub fn new(file: &'a S, geometry: &Geometry) -> Self {
        let offset = geometry.profile.map_or(0, |region| region.offset);
        let end = offset + geometry.profile_entries * ENTRY_SIZE;
        Self { file, offset, end }
    }

    /// The next bytes, whole entries of 12 bytes; None after the last one.
    pub async fn next(&mut self) -> Result<Option<IoBufMut>> {
        let len = READ_STEP.min(self.end - self.offset);
        if len == 0 {
            return Ok(None);
        }
        let buf = self.file.read(IoBufMut::zeroed(len as usize), self.offset).await?;
        self.offset += len;
        Ok(Some(buf))
    }
}

/// Records what a session needs of the base, in order.
pub(in crate::image) struct Recorder {
    recording: AtomicBool,
    /// Taken when it is written. None from the start if nothing is to be recorded.
    profile: Mutex<Option<Profile>>,
}

impl Recorder {
    /// Fills `profile`; None: records nothing.
    pub(in crate::image) fn new(profile: Option<Profile>) -> Self {
        Self {
            recording: AtomicBool::new(profile.is_some()),
            profile: Mutex::new(profile),
        }
    }

    pub(super) fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    /// Records that the guest needs these bytes of the base.
    pub(in crate::image) fn note(&self, bytes: Range<u64>) {
        if !self.is_recording() {
            return;
        }
        let mut profile = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = profile.as_mut().is_some_and(|profile| profile.add(bytes));
        if !has_room {
            self.recording.store(false, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<Profile> {
        let mut profile = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        self.recording.store(false, Ordering::Relaxed);
        profile.take().filter(|profile| !profile.is_empty())
    }
}

impl<S: Storage> Image<S> {
    /// What the guest is likely to need of the base, as ranges of bytes of the disk, in the order in which it
    /// will need them. No byte is in two of them, and none is beyond the disk. Empty without a profile.
    pub async fn profile(&self) -> Result<Vec<Range<u64>>> {
        let profile = read_profile(self.file(), self.geometry()).await?;
        Ok(profile.map_or_else(Vec::new, |profile| profile.ranges()))
    }

    /// Writes what this session has recorded as the profile of the image. The caller holds the flush round. A
    /// second call writes nothing.
    pub(in crate::image) async fn write_recorded(&self) -> Result<()> {
        let Some(profile) = self.recorder.take() else {
            return Ok(());
        };
        // The count on disk is 0: otherwise nothing would have been recorded.
        write_entries(self.file(), self.geometry(), &profile).await?;
        self.committer.sync_file().await?;
        let count = profile.len() as u64;
        self.committer
            .metadata_written(patch::write_profile_entries(self.file(), count).await)?;
        self.committer.sync_file().await
    }
}
