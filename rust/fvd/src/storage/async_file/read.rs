//! Reads.

use tracing::debug;

use super::detached::Effect;
use super::{AsyncFile, IoBufMut, Storage as _};
use crate::aio::Outcome;
use crate::error::Result;
use crate::storage::direct::Direct;
use crate::storage::file::{FileStorage, MAX_OFFSET};
use crate::sys::uring::Operation;

impl AsyncFile {
    /// Reads what needs no waiting, and returns the number of bytes at the front of `buf` that it filled.
    #[inline]
    pub(super) fn read_inline(&self, buf: &mut IoBufMut, offset: u64) -> usize {
        let is_far_away = MAX_OFFSET.saturating_sub(offset) < buf.len() as u64;
        if self.writers.is_some()
            || is_far_away
            || !self.detached.is_empty()
            || buf.is_empty()
            || !self.io_queue.is_own()
        {
            return 0;
        }
        self.inline.read(&self.file, buf, offset)
    }

    /// Reads what follows the first `filled` bytes of `buf`.
    pub(super) async fn read_offloaded(&self, mut buf: IoBufMut, filled: usize, offset: u64) -> Result<IoBufMut> {
        self.io_queue.check(self.path())?;
        let inside = MAX_OFFSET.saturating_sub(offset).min(buf.len() as u64);
        let mut outside = buf.split_off(inside as usize);
        outside.as_mut_slice().fill(0);
        self.detached.wait(offset..offset.saturating_add(inside)).await;
        let buf = if self.can_read_in_ring(&buf, offset) {
            self.read_in_ring(buf, filled, offset).await?
        } else {
            self.read_on_thread(buf, filled, offset).await?
        };
        Ok(buf.join(outside))
    }

    async fn read_in_ring(&self, buf: IoBufMut, filled: usize, offset: u64) -> Result<IoBufMut> {
        let read = Operation::Read { buf, filled, offset };
        let ended = self.on_ring(read, None, Effect::Reads).await;
        let (mut buf, count) = match ended.map_err(|error| error.with_offset(offset))? {
            Outcome::Done(Operation::Read { buf, .. }, count) => (buf, count),
            Outcome::Refused(Operation::Read { buf, .. }) => {
                debug!(offset, "the ring refuses a read: a thread does it");
                return self.read_on_thread(buf, filled, offset).await;
            }
            _ => unreachable!("an operation comes back as it was"),
        };
        let filled = filled + count;
        let granule = self.file.direct().map_or(1, Direct::granule);
        if filled < buf.len() && count > 0 && filled.is_multiple_of(granule) {
            return self.read_on_thread(buf, filled, offset).await;
        }
        // After the end of the file, no aligned read is possible.
        buf.as_mut_slice()[filled..].fill(0);
        Ok(buf)
    }

    fn can_read_in_ring(&self, buf: &IoBufMut, offset: u64) -> bool {
        if buf.is_empty() {
            return false;
        }
        let is_aligned = self.file.direct().is_none_or(|direct| {
            direct.is_range_aligned(offset, buf.len() as u64) && direct.is_memory_aligned(buf.as_slice().as_ptr())
        });
        is_aligned && self.io_queue.has_ring()
    }

    async fn read_on_thread(&self, mut buf: IoBufMut, filled: usize, offset: u64) -> Result<IoBufMut> {
        let read = move |file: &FileStorage| {
            let mut rest = buf.split_off(filled);
            let result = file.read_blocking(&mut rest, offset + filled as u64);
            Ok((result, buf.join(rest)))
        };
        let (result, buf) = self.on_thread(Effect::Reads, false, read).await?;
        result.map(|()| buf)
    }
}
