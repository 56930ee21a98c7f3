//! Writes.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::detached::Effect;
use super::{AsyncFile, Storage as _};
use crate::aio::Outcome;
use crate::error::Result;
use crate::storage::direct::BOUNCE_LEN;
use crate::storage::file::{FileStorage, MAX_OFFSET, check_end};
use crate::sys::uring::Operation;

impl AsyncFile {
    /// Writes what needs no waiting of `bufs`, which are `len` bytes together. Returns the number of bytes
    /// written.
    #[inline]
    pub(super) fn write_inline(&self, bufs: &[Bytes], len: usize, offset: u64) -> usize {
        let is_far_away = MAX_OFFSET.saturating_sub(offset) < len as u64;
        if self.writers.is_some() || is_far_away || !self.detached.is_empty() || len == 0 || !self.io_queue.is_own() {
            return 0;
        }
        self.inline.write(&self.file, bufs, len, offset)
    }

    /// Writes what follows the first `written` bytes of `bufs`. `offset` is where `bufs` begin.
    pub(super) async fn write_offloaded(&self, mut bufs: Vec<Bytes>, written: usize, offset: u64) -> Result<()> {
        self.io_queue.check(self.path())?;
        advance(&mut bufs, written);
        let len: usize = bufs.iter().map(Bytes::len).sum();
        let offset = offset + written as u64;
        let checked = check_end(offset, len as u64);
        checked.map_err(|error| self.file.error("write", offset, error))?;
        let range = offset..offset + len as u64;
        self.detached.wait(range.clone()).await;
        if self.can_write_in_ring(&mut bufs, len, offset) {
            return self.write_in_ring(bufs, len, offset).await;
        }
        self.write_on_thread(bufs, offset).await
    }

    /// Whether the ring takes the write, if necessary after a copy to aligned memory.
    fn can_write_in_ring(&self, bufs: &mut Vec<Bytes>, len: usize, offset: u64) -> bool {
        // A write to the page cache blocks a thread of the kernel as it blocks one of ours.
        let Some(direct) = self.file.direct() else { return false };
        if !direct.is_range_aligned(offset, len as u64) || !self.io_queue.has_ring() {
            return false;
        }
        if !direct.is_each_aligned(bufs) {
            if len > BOUNCE_LEN {
                return false;
            }
            *bufs = vec![direct.aligned_copy(bufs)];
        }
        true
    }

    async fn write_in_ring(&self, bufs: Vec<Bytes>, len: usize, offset: u64) -> Result<()> {
        let effect = Effect::Changes(offset..offset + len as u64);
        let guard = self.shared().await;
        let ended = self.on_ring(Operation::Write { bufs, offset }, guard, effect).await;
        let (mut bufs, count) = match ended.map_err(|error| error.with_offset(offset))? {
            Outcome::Done(_, count) if count == len => return Ok(()),
            Outcome::Done(Operation::Write { bufs, .. }, count) => (bufs, count),
            Outcome::Refused(Operation::Write { bufs, .. }) => (bufs, 0),
            _ => unreachable!("an operation comes back as it was"),
        };
        // Rare: the disk is full, or there are more pieces than one call takes.
        advance(&mut bufs, count);
        self.write_on_thread(bufs, offset + count as u64).await
    }

    async fn write_on_thread(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        let len = bufs.iter().map(|buf| buf.len() as u64).sum();
        let is_aligned = self.covers_sectors(offset, len);
        let write = move |file: &FileStorage| {
            let result = match bufs.as_slice() {
                [buf] => file.write_blocking(buf, offset),
                _ => file.write_vectored_blocking(&bufs, offset),
            };
            Ok((result, bufs))
        };
        let effect = Effect::Changes(offset..offset + len);
        let (result, _bufs) = if self.writers.is_none() && !self.file.is_device() {
            self.on_write_thread(effect, write).await?
        } else {
            self.on_thread(effect, !is_aligned, write).await?
        };
        result
    }

    /// Runs a write to the page cache of a file on its thread.
    async fn on_write_thread<T: Send + 'static>(
        &self,
        effect: Effect,
        write: impl FnOnce(&FileStorage) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        let job = move || {
            let result = write(&file);
            drop(file);
            result
        };
        let receiver = self.io_queue.run_cached_write(job);
        let receiver = receiver.map_err(|error| error.with_path(self.path()))?;
        self.detach_on_drop(receiver, effect).await
    }
}

/// Drops the first `count` bytes, and the pieces that become empty.
fn advance(bufs: &mut Vec<Bytes>, mut count: usize) {
    let mut whole = 0;
    for buf in bufs.iter_mut() {
        let step = count.min(buf.len());
        buf.advance(step);
        count -= step;
        if !buf.is_empty() {
            break;
        }
        whole += 1;
    }
    bufs.drain(..whole);
}
