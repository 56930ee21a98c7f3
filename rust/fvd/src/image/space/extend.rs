//! Extend: gives the data file of an image without a table the size of the disk.
//!
//! If a file ends within a sector and a write goes beyond that end, a power cut may keep the data and lose the
//! new length. The sector then ends at the old end and reads as zeros after it: neither old nor new. So no
//! write of the engine ever moves the end. Besides, a separate data file then is a raw disk of the right size, and syncs have no
//! change of length to make durable.

use std::sync::atomic::Ordering;

use crate::error::{ErrorKind, Result};
use crate::format::SECTOR;
use crate::image::space::Allocator;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

impl<S: Storage> Allocator<S> {
    /// Must be called before data is written up to the byte `end` of the disk.
    pub(in crate::image) async fn extend(&self, end: u64) -> Result<()> {
        if self.extended.load(Ordering::Acquire) {
            return Ok(());
        }
        let _growing = self.growing.lock(0..1).await;
        if self.extended.load(Ordering::Acquire) {
            return Ok(());
        }
        let wanted = self.metadata.geometry().data_offset + self.metadata.geometry().virtual_size;
        let len = self.data().len().await?;
        let mut has_all = true;
        if self.data().can_resize() && len < wanted {
            // The old end lies within a sector, and must not come back after a power cut. This is noted
            // before the change: one that fails or is cancelled may have happened all the same.
            if !len.is_multiple_of(SECTOR) {
                self.has_odd_end.store(true, Ordering::Release);
            }
            match self.data().set_len(wanted).await {
                Err(error) if error.kind() == ErrorKind::NoSpace => {
                    has_all = false;
                    self.extend_for(end, len).await?;
                }
                result => result?,
            }
        }
        if self.has_odd_end.load(Ordering::Acquire) {
            let synced = self.committer.sync_data().await;
            if !mutation::is(Mutation::OddEndSwallowed) {
                synced?;
            }
        }
        if has_all {
            self.extended.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The file system allows no file as large as the disk. The front of the disk can still be used: before
    /// each write, the file, of `len` bytes, grows by whole sectors as far as that write needs.
    async fn extend_for(&self, end: u64, len: u64) -> Result<()> {
        let (_, end) = self.metadata.widen(end - 1, end);
        let needed = self.metadata.geometry().data_offset + end.next_multiple_of(SECTOR);
        if len < needed {
            self.data().set_len(needed).await?;
        }
        Ok(())
    }
}
