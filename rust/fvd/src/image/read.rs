//! Read: takes no lock.

use super::{Extent, Image, Mapping};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SECTOR;
use crate::mutation::{self, Mutation};
use crate::source::{BaseSource, Run};
use crate::storage::{IoBufMut, Storage};

impl<S: Storage> Image<S> {
    /// Fills `buf` from `offset` (bytes, any alignment), and returns it. A poisoned image can still be read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if a byte lies beyond the end of the
    /// disk.
    pub async fn read(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.check_process()?;
        let end = self.check_range(offset, buf.len() as u64)?;
        let _request = self.inflight.enter();
        self.counters.reads.add(1);
        self.counters.read_bytes.add(buf.len() as u64);
        if buf.is_empty() {
            return Ok(buf);
        }
        let _lookup = self.allocator.pin().filter(|_| !mutation::is(Mutation::ReadUncounted));
        self.metadata.load(self.file(), offset, end).await?;
        let mut extent = self.metadata.extent(offset, end)?;
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
            extent = self.metadata.extent(extent.start + extent.len, end)?;
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

    /// The block status of the base image at `offset`, and for how many of `len` bytes it holds.
    pub(crate) async fn base_status(&self, offset: u64, len: u64) -> Result<Run> {
        self.needed_base(offset + len)?.status(offset, len).await
    }

    /// Fills `buf` from the base image.
    pub(crate) async fn read_base(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.counters.base_reads.add(1);
        self.counters.base_read_bytes.add(buf.len() as u64);
        self.needed_base(offset + buf.len() as u64)?.read(buf, offset).await
    }

    /// The base, for a request up to the byte `end`. A base that has become shorter since the image was made
    /// has lost data: the request fails instead of reading zeros.
    fn needed_base(&self, end: u64) -> Result<&dyn BaseSource> {
        let base = self.base.as_ref();
        let base = base.expect("an image whose bitmap is in use was opened with its base");
        if end <= base.len().next_multiple_of(SECTOR) {
            return Ok(base);
        }
        let message = format!(
            "The backing file has {} bytes, it had {} when the image was made: byte {} cannot be read",
            base.len(),
            self.metadata.base_size(),
            end - 1
        );
        Err(Error::new(ErrorKind::Io, message)
            .with_path(base.path())
            .with_op("read"))
    }
}
