//! Fill: blocks become local with what the base holds. Nothing on disk speaks of it until a
//! checkpoint does.

use std::ops::Range;

use bytes::Bytes;

use super::Image;
use super::publish::Fresh;
use crate::error::Result;
use crate::source::is_zero;
use crate::storage::Storage;

/// Whole blocks to be stored.
#[derive(Debug)]
pub(crate) struct Copy {
    /// Numbers of the blocks; not empty.
    pub(crate) blocks: Range<u64>,
    /// What the base holds there, up to the end of its region. None: still to be read.
    pub(crate) data: Option<Bytes>,
}

impl<S: Storage> Image<S> {
    /// The first run of blocks at or behind the byte `from` that are still in the base, up to the
    /// byte `end`; as bytes of the disk. An answer after a few MiB of metadata: the range may be
    /// empty, and the search then goes on at its end. None: nothing before `end` is in the base.
    pub(crate) async fn next_in_base(&self, from: u64, end: u64) -> Result<Option<Range<u64>>> {
        let end = end.min(self.base_size());
        let Some(bitmap) = self.bitmap.as_ref().filter(|_| from < end) else {
            return Ok(None);
        };
        let stop = self.lookup_end(from, end);
        let blocks = bitmap.blocks(from, stop);
        bitmap.load(&self.file, &blocks).await?;
        let (local, next) = bitmap.run(&blocks);
        let run = if local {
            let (_, next_local) = bitmap.run(&(next.min(blocks.end - 1)..blocks.end));
            next..next_local
        } else {
            blocks.start..next
        };
        if run.is_empty() || run.start >= blocks.end {
            return Ok(Some(stop..stop));
        }
        let start = bitmap.block_range(run.start).start;
        Ok(Some(start..bitmap.block_range(run.end - 1).end))
    }

    /// Stores those of the blocks that are still in the base; gives the bytes stored.
    ///
    /// Waits for writes of the guest to the same blocks, and never touches what they have stored.
    /// The data may be older than that: the base holds the same bytes at any time.
    pub(crate) async fn store_copy(&self, copy: Copy) -> Result<u64> {
        self.check_poison()?;
        let Some(bitmap) = &self.bitmap else {
            return Ok(0);
        };
        let Copy { blocks, data } = copy;
        let start = bitmap.block_range(blocks.start).start;
        let end = bitmap.block_range(blocks.end - 1).end;
        self.extend().await?;
        self.load(start, end).await?;
        let _filling = self.filling.lock(blocks.clone()).await;
        let mut stored = 0;
        let mut rest = blocks;
        while !rest.is_empty() {
            let (local, next) = bitmap.run(&rest);
            let run = rest.start..next;
            if !local {
                let bytes = bitmap.block_range(run.start).start..bitmap.block_range(run.end - 1).end;
                let slice = |data: &Bytes| data.slice((bytes.start - start) as usize..(bytes.end - start) as usize);
                self.store_run(&run, &bytes, data.as_ref().map(slice)).await?;
                stored += bytes.end - bytes.start;
            }
            rest.start = next;
        }
        Ok(stored)
    }

    /// Stores blocks that are in the base and locked.
    async fn store_run(&self, blocks: &Range<u64>, bytes: &Range<u64>, data: Option<Bytes>) -> Result<()> {
        let mut fresh = Fresh::copy(self);
        match data {
            None => self.copy_base(bytes.clone(), &mut fresh).await?,
            Some(data) if is_zero(&data) => self.zero_stored(bytes.start, bytes.end, &mut fresh).await?,
            Some(data) => self.put(vec![data], bytes.start, bytes.end, &mut fresh).await?,
        }
        fresh.publish(blocks)
    }
}
