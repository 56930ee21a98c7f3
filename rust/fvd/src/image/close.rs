//! Close: everything in place, and the image marked clean.

use super::commit::Mark;
use super::{CacheMode, Image, patch};
use crate::error::Result;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

impl<S: Storage> Image<S> {
    /// Makes everything durable, in place, and marks the image clean. Can be called again.
    ///
    /// Requests still running must have ended. Dropping an image without closing it loses what
    /// no flush covered, as a crash would.
    ///
    /// In a child that was forked since the image was opened this does nothing: what its copy of the
    /// metadata says is long untrue, and the parent closes the image.
    pub async fn close(&self) -> Result<()> {
        if self.check_process().is_err() {
            return Ok(());
        }
        self.check_poison()?;
        if !self.writable {
            return Ok(());
        }
        // The reader has paid for these: they are in memory already.
        while self.store_next_copy().await.unwrap_or(false) {}
        let settled = match &self.through {
            Some(through) => Box::pin(self.settle(through)).await,
            None => Ok(()),
        };
        // A base that cannot be reached is no reason to lose what the image has.
        let _round = self.flushes.exclusive().await;
        // The round before this one may have failed.
        self.check_poison()?;
        let in_place = self.volatile().pending.pages().is_empty();
        let untouched = in_place && self.committer().mark == Mark::Clean;
        if !untouched {
            if mutation::is(Mutation::CleanMarkFirst) {
                patch::write_mark(&self.file, true).await?;
                self.sync_file().await?;
            }
            // Durable with the pages, or with the mark.
            self.add_to_totals().await?;
            self.checkpoint().await?;
        }
        settled?;
        if self.committer().mark != Mark::Clean {
            if let Some(through) = &self.through {
                through.end();
            }
            self.mark_clean().await?;
        } else if untouched && self.cache != CacheMode::Unsafe && !mutation::is(Mutation::CloseUnsynced) {
            // Writes in place need no metadata, but they are to be durable too.
            self.sync_data_only().await?;
        }
        // Last: it is no more than a hint.
        self.write_recorded().await
    }
}
