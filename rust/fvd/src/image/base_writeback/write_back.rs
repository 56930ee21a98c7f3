//! Write back: writes dirty ranges to the base, in the background, and all of them at a flush or a close.

use std::ops::Range;

use super::BaseWriteback;
use super::update::Content;
use crate::error::Result;
use crate::format::SECTOR;
use crate::image::durability::Mark;
use crate::image::metadata::lookup::block_run;
use crate::image::write::COPY_STEP;
use crate::image::{Image, Mapping};
use crate::mutation::{self, Mutation};
use crate::source::is_zero;
use crate::storage::{IoBufMut, Space, Storage};

/// Zeros for the base. They keep their space, because it is unknown whether the guest wrote zeros or freed
/// space.
const ZEROS: Content = Content::Zeros(Space::Keep);

impl<S: Storage> Image<S> {
    /// Writes back the ranges that this session has dirtied so far. A flush calls this before its round
    /// begins, because it takes locks of blocks.
    pub(in crate::image) async fn write_back_new(&self, writeback: &BaseWriteback) -> Result<()> {
        let dirty = writeback.dirty().all_new();
        for range in dirty {
            let mut start = range.start;
            while start < range.end {
                let piece = self.first_piece(start..range.end);
                start = piece.end;
                self.write_back_piece(writeback, piece).await?;
            }
        }
        Ok(())
    }

    /// Writes back one piece. Returns false if nothing is dirty.
    pub(crate) async fn write_back_some(&self) -> Result<bool> {
        let Some(writeback) = &self.writeback else {
            return Ok(false);
        };
        let Some(piece) = self.next_dirty(writeback).await? else {
            return Ok(false);
        };
        self.committer.check_poison()?;
        self.write_back_piece(writeback, piece).await?;
        Ok(true)
    }

    /// Waits until something is dirty; forever in an image that does not write to its base.
    pub(crate) async fn until_dirty(&self) {
        let Some(writeback) = &self.writeback else {
            return std::future::pending().await;
        };
        loop {
            let listener = writeback.became_dirty.listen();
            if !writeback.dirty().is_empty() {
                return;
            }
            listener.await;
        }
    }

    /// Makes what was written to the base durable. A flush calls this in its round.
    pub(in crate::image) async fn sync_base(&self) -> Result<()> {
        match &self.writeback {
            Some(writeback) if writeback.has_begun() && !mutation::is(Mutation::BaseUnsynced) => {
                self.committer.metadata_written(self.updated_base().sync().await)
            }
            _ => Ok(()),
        }
    }

    /// Writes back all dirty ranges and closes the base, so that the image may be marked clean.
    pub(in crate::image) async fn write_back_all(&self, writeback: &BaseWriteback) -> Result<()> {
        while self.write_back_some().await? {}
        if writeback.has_begun() || self.committer.mark() != Mark::Clean {
            let closed = self.updated_base().close().await;
            if !mutation::is(Mutation::BaseCloseSwallowed) {
                self.committer.metadata_written(closed)?;
            }
        }
        Ok(())
    }

    /// The first dirty piece: of this session, otherwise of what an earlier one left local.
    async fn next_dirty(&self, writeback: &BaseWriteback) -> Result<Option<Range<u64>>> {
        loop {
            let (new, old) = {
                let dirty = writeback.dirty();
                (dirty.first_new(), dirty.first_old())
            };
            if let Some(range) = new {
                return Ok(Some(self.first_piece(range)));
            }
            let Some(range) = old else {
                return Ok(None);
            };
            let stop = self.metadata.lookup_end(range.start, range.end);
            self.metadata.load(self.file(), range.start, stop).await?;
            let (local, stop) = block_run(self.needed_bitmap(), range.start, stop);
            if local {
                return Ok(Some(self.first_piece(range.start..stop)));
            }
            // What this session makes local becomes dirty again.
            writeback.dirty().clean_old(range.start..stop);
        }
    }

    /// The first piece of a range, in whole sectors (W6), that is written back at once.
    fn first_piece(&self, range: Range<u64>) -> Range<u64> {
        let Range { start, end } = self.whole_sectors(&range);
        start..end.min(start + COPY_STEP)
    }

    /// The range, which lies in the base's region, widened to whole sectors.
    pub(super) fn whole_sectors(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start / SECTOR * SECTOR;
        start..range.end.next_multiple_of(SECTOR).min(self.metadata.base_size())
    }

    /// Writes to the base what is local of the range, unless another task has done so.
    async fn write_back_piece(&self, writeback: &BaseWriteback, piece: Range<u64>) -> Result<()> {
        self.begin_updates(writeback).await?;
        self.metadata.load(self.file(), piece.start, piece.end).await?;
        let blocks = self.needed_bitmap().blocks(piece.start, piece.end);
        // Waits for writes in flight: they are written back only after they have ended (W3).
        let _filling = self.filling.lock(blocks).await;
        if !writeback.dirty().includes(&piece) {
            return Ok(());
        }
        if mutation::is(Mutation::ForgetDirty) {
            writeback.dirty().written_back(&piece);
        }
        self.write_back_locked(&piece).await?;
        writeback.dirty().written_back(&piece);
        Ok(())
    }

    /// Writes to the base what is local of the range, whose blocks are locked.
    pub(super) async fn write_back_locked(&self, range: &Range<u64>) -> Result<()> {
        let mut start = range.start;
        while start < range.end {
            let extent = self.metadata.extent(start, range.end)?;
            let end = start + extent.len;
            match extent.mapping {
                Mapping::Base => {}
                Mapping::Zero => self.write_to_base(ZEROS, &(start..end)).await?,
                Mapping::Local { offset } => self.write_back_local(offset, &(start..end)).await?,
            }
            start = end;
        }
        Ok(())
    }

    async fn write_back_local(&self, offset: u64, range: &Range<u64>) -> Result<()> {
        let buf = IoBufMut::zeroed((range.end - range.start) as usize);
        let buf = self.data().read(buf, offset).await?;
        let content = if is_zero(buf.as_slice()) {
            ZEROS
        } else {
            Content::Bytes(buf.freeze())
        };
        self.write_to_base(content, range).await
    }
}
