//! Close: everything in place, and the image marked clean.

use super::{CacheMode, Image};
use crate::error::Result;
use crate::storage::Storage;

impl<S: Storage> Image<S> {
    /// Makes everything durable, in place, and marks the image clean. Can be called again.
    ///
    /// Requests still running must have ended. Dropping an image without closing it loses what
    /// no flush covered, as a crash would.
    pub async fn close(&self) -> Result<()> {
        self.check_poison()?;
        if !self.writable {
            return Ok(());
        }
        let _round = self.flushes.exclusive().await;
        let in_place = self.volatile().pending.pages().is_empty();
        let untouched = in_place && self.committer().marked_clean;
        if !untouched {
            self.checkpoint().await?;
        }
        if !self.committer().marked_clean {
            self.write_clean_mark(true).await?;
            self.sync_file().await?;
        } else if untouched && self.cache != CacheMode::Unsafe {
            // Writes in place need no metadata, but they are to be durable too.
            self.sync_data().await?;
        }
        Ok(())
    }
}
