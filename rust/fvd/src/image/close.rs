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
            // Durable with the pages, or with the mark. A hint: no image stays as it is for want of it.
            let _ = self.add_to_totals().await;
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

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use crate::format::{SECTOR, totals};
    use crate::image::check::tests::disk::{Log, record};
    use crate::image::check::tests::{CHUNK, Kind, content, open, sample};
    use crate::image::read_head;

    fn closes_in_spite_of(fault: fn(&mut Log)) {
        let (sample, log) = record(&sample(Kind::default()));
        let image = open(&sample, true).expect("opens");
        block_on(image.write(vec![9; 100].into(), 13 * CHUNK)).expect("written");
        fault(&mut log.lock().expect("not poisoned"));
        block_on(image.close()).expect("the totals are a hint");
        drop(image);
        log.lock().expect("not poisoned").unreadable = None;
        assert!(block_on(read_head(&sample.file)).expect("valid").header.clean_shutdown);
        let at = 13 * CHUNK as usize;
        assert_eq!(content(&sample)[at..at + 100], [9; 100]);
    }

    #[test]
    fn an_image_is_closed_where_its_totals_cannot_be_read_or_written() {
        closes_in_spite_of(|log| log.unreadable = Some(totals::OFFSET));
        closes_in_spite_of(|log| log.full = totals::OFFSET..totals::OFFSET + SECTOR);
    }
}
