//! Close: makes everything durable, in place, and marks the image clean.

use crate::error::Result;
use crate::image::durability::Mark;
use crate::image::metadata::patch;
use crate::image::{CacheMode, Image};
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

impl<S: Storage> Image<S> {
    /// Makes everything durable, in place, and marks the image clean. May be called again.
    ///
    /// No request may be in flight. Dropping an image without closing it loses what no flush covered, as a
    /// crash would.
    ///
    /// In a child that was forked after the image was opened, this does nothing: the child's copy of the
    /// metadata is out of date, and the parent closes the image.
    pub async fn close(&self) -> Result<()> {
        if self.check_process().is_err() {
            return Ok(());
        }
        self.committer.check_poison()?;
        if !self.options.writable {
            return Ok(());
        }
        // Readers have already fetched these copies from the base: storing them needs no further read.
        while self.store_next_copy().await.unwrap_or(false) {}
        let written_back = match &self.writeback {
            Some(writeback) => Box::pin(self.write_back_all(writeback)).await,
            None => Ok(()),
        };
        // If the base cannot be reached, the image must still not lose its own changes.
        let _round = self.committer.round().await?;
        let in_place = self.metadata.volatile().pending.pages().is_empty();
        let untouched = in_place && self.committer.mark() == Mark::Clean;
        if !untouched {
            if mutation::is(Mutation::CleanMarkFirst) {
                patch::write_mark(self.file(), true).await?;
                self.committer.sync_file().await?;
            }
            // The sync of the pages, or of the mark, makes this durable. The totals are a hint: an error does
            // not keep the image from being closed.
            let _ = self.add_to_totals().await;
            self.committer.checkpoint().await?;
        }
        written_back?;
        if self.committer.mark() != Mark::Clean {
            if let Some(writeback) = &self.writeback {
                writeback.end();
            }
            self.committer.mark_clean().await?;
        } else if untouched && self.options.cache != CacheMode::Unsafe && !mutation::is(Mutation::CloseUnsynced) {
            // Writes in place change no metadata, but they must be durable too.
            self.committer.sync_data_only().await?;
        }
        // The profile comes last, because it is only a hint.
        self.write_recorded().await
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use crate::format::{SECTOR, totals};
    use crate::image::read_head;
    use crate::image::testing::disk::{Log, record};
    use crate::image::testing::{CHUNK, Kind, content, open, sample};

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
