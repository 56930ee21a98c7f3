//! Read: takes no lock.

use super::{Extent, Image, Mapping};
use crate::error::Result;
use crate::source::{BaseSource, Run};
use crate::storage::{IoBufMut, Storage};

impl<S: Storage> Image<S> {
    /// Fills `buf` from `offset` (bytes, any alignment) and gives it back.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) where a byte
    /// lies beyond the end of the disk. A poisoned image can still be read.
    pub async fn read(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let end = self.check_range(offset, buf.len() as u64)?;
        let _request = self.guests.enter();
        self.counters.reads.add(1);
        self.counters.read_bytes.add(buf.len() as u64);
        if buf.is_empty() {
            return Ok(buf);
        }
        self.load(offset, end).await?;
        let mut extent = self.extent(offset, end)?;
        let mut done: Option<IoBufMut> = None;
        loop {
            let rest = buf.split_off(extent.len as usize);
            let piece = self.read_extent(buf, &extent).await?;
            let filled = match done {
                None => piece,
                Some(front) => front.join(piece),
            };
            if rest.is_empty() {
                return Ok(filled);
            }
            done = Some(filled);
            buf = rest;
            extent = self.extent(extent.start + extent.len, end)?;
        }
    }

    async fn read_extent(&self, mut buf: IoBufMut, extent: &Extent) -> Result<IoBufMut> {
        match extent.mapping {
            Mapping::Local { offset } => self.data().read(buf, offset).await,
            Mapping::Zero => {
                buf.as_mut_slice().fill(0);
                Ok(buf)
            }
            Mapping::Base => self.read_missing(buf, extent.start).await,
        }
    }

    /// What the base image holds at `offset`, and for how many of `len` bytes.
    pub(crate) async fn base_status(&self, offset: u64, len: u64) -> Result<Run> {
        self.needed_base().status(offset, len).await
    }

    /// Fills `buf` from the base image.
    pub(crate) async fn read_base(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.counters.base_reads.add(1);
        self.counters.base_read_bytes.add(buf.len() as u64);
        self.needed_base().read(buf, offset).await
    }

    fn needed_base(&self) -> &dyn BaseSource {
        let base = self.base.as_deref();
        base.expect("an image whose bitmap is in use was opened with its base")
    }
}
