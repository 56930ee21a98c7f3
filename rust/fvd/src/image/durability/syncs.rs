//! Syncs, writes of metadata, and the clean mark: what fails here makes the metadata on disk uncertain (C5).

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::image::CacheMode;
use crate::image::durability::{Committer, Mark};
use crate::image::metadata::patch;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

impl<S: Storage> Committer<S> {
    /// Writes metadata to the image file. If the disk is full, everything stays as it was and the next flush
    /// tries again. Any other failure poisons the image.
    pub(super) async fn write_metadata(&self, bytes: Bytes, offset: u64) -> Result<()> {
        self.metadata_written(self.files.file().write(bytes, offset).await)
    }

    pub(in crate::image) fn metadata_written(&self, result: Result<()>) -> Result<()> {
        result.map_err(|error| match error.kind() {
            ErrorKind::NoSpace => error,
            _ => self.poison(&error),
        })
    }

    pub(in crate::image) async fn sync_data(&self) -> Result<()> {
        self.sync(self.files.data()).await
    }

    pub(in crate::image) async fn sync_file(&self) -> Result<()> {
        self.sync(self.files.file()).await?;
        self.state().file_synced = true;
        Ok(())
    }

    /// A failed sync is never retried: the kernel may have dropped the pages that it could not write.
    async fn sync(&self, storage: &S) -> Result<()> {
        if self.cache == CacheMode::Unsafe {
            return Ok(());
        }
        let result = storage.sync().await;
        if mutation::is(Mutation::ForgetPoison) {
            return result;
        }
        if mutation::is(Mutation::FullSyncIsNoLoss) {
            return self.metadata_written(result);
        }
        result.map_err(|error: Error| self.poison(&error))
    }

    /// Syncs the data when no metadata has changed.
    pub(in crate::image) async fn sync_data_only(&self) -> Result<()> {
        self.sync_data().await?;
        if !self.files.has_separate_data() || self.state().file_synced {
            return Ok(());
        }
        self.sync_file().await
    }

    /// Syncs the data before metadata that refers to it goes to disk. Before the first metadata of this
    /// session, it also sets `clean_shutdown` to 0, durably.
    ///
    /// Without a journal the mark stays as it is: metadata in place is complete after every flush, and an
    /// unclean mark would make the image suspect.
    pub(super) async fn sync_data_and_mark(&self) -> Result<()> {
        if self.metadata.geometry().journal.is_none() || self.state().mark == Mark::Unclean {
            if mutation::is(Mutation::DropDataSync) {
                return Ok(());
            }
            return self.sync_data().await;
        }
        let is_unmarked = self.cache == CacheMode::Unsafe && mutation::is(Mutation::UnsafeUnmarked);
        if !is_unmarked && !mutation::is(Mutation::DropUncleanMark) {
            self.write_mark(false).await?;
        }
        self.sync_data().await?;
        if self.files.has_separate_data() && !mutation::is(Mutation::SeparateMarkUnsynced) {
            self.sync_file().await?;
        }
        self.state().mark = Mark::Unclean;
        Ok(())
    }

    /// Sets `clean_shutdown` to 1, durably. The caller holds the flush round.
    pub(in crate::image) async fn mark_clean(&self) -> Result<()> {
        self.write_mark(true).await?;
        self.sync_file().await?;
        self.state().mark = Mark::Clean;
        Ok(())
    }

    /// Sets `clean_shutdown` to 0, durably. The caller holds the flush round.
    pub(in crate::image) async fn mark_unclean(&self) -> Result<()> {
        self.write_mark(false).await?;
        self.sync_file().await?;
        self.state().mark = Mark::Unclean;
        Ok(())
    }

    async fn write_mark(&self, clean: bool) -> Result<()> {
        // Set before the write: a write that is cancelled may still reach the disk.
        self.state().mark = Mark::Unknown;
        self.metadata_written(patch::write_mark(self.files.file(), clean).await)
    }
}
