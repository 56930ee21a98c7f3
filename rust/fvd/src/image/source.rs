//! An image as the base of another one, and as the source of a conversion.

use std::future::ready;
use std::path::Path;

use bytes::Bytes;

use super::{Image, Mapping};
use crate::error::Error;
use crate::error::Result;
use crate::remote::OutageState;
use crate::source::{BaseSource, BoxFuture, Location, Run, WritableBase};
use crate::storage::{IoBufMut, Space, Storage};

impl<S: Storage> BaseSource for Image<S> {
    fn path(&self) -> &Path {
        self.file().path()
    }

    fn format(&self) -> &'static str {
        "fvd"
    }

    fn len(&self) -> u64 {
        self.size()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.read_padded(buf, offset))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.block_status(offset, len))
    }

    fn writable(&self) -> Option<&dyn WritableBase> {
        self.is_writable().then_some(self as _)
    }

    fn outage(&self) -> Option<OutageState> {
        let below = || self.base().and_then(BaseSource::outage);
        self.file().outage().or_else(below)
    }
}

impl<S: Storage> WritableBase for Image<S> {
    fn prepare(&self, size: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(self.check_room(size)))
    }

    fn write(&self, buf: Bytes, offset: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(Image::write(self, buf, offset))
    }

    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.zero_request(offset, len, space))
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.flush())
    }

    fn sync_leftovers(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.flush().await?;
            // The open for writing has done this for the metadata.
            self.data().drop_cached(u64::MAX).await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Image::close(self))
    }
}

impl<S: Storage> Image<S> {
    fn check_room(&self, size: u64) -> Result<()> {
        if size <= self.size() {
            return Ok(());
        }
        let message = format!("The base has {} bytes, the image above it needs {size}", self.size());
        Err(Error::unsupported(message).with_path(self.file().path()))
    }

    async fn read_padded(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.check_process()?;
        let inside = self.size().saturating_sub(offset).min(buf.len() as u64);
        let mut padding = buf.split_off(inside as usize);
        padding.as_mut_slice().fill(0);
        if inside == 0 {
            return Ok(buf.join(padding));
        }
        Ok(Image::read(self, buf, offset).await?.join(padding))
    }

    /// Block status: where the bytes from `offset` come from, through the whole chain, and for how many bytes
    /// (1..=`len`) that stays the same. At or beyond the end of the disk: zeros.
    pub async fn block_status(&self, offset: u64, len: u64) -> Result<Run> {
        self.check_process()?;
        if offset >= self.size() {
            return Ok(Run::zeros(len));
        }
        // A bounded lookup, not a scan of the disk.
        let end = self
            .metadata
            .lookup_end(offset, self.size().min(offset.saturating_add(len)));
        let _pin = self.allocator.pin();
        self.metadata.load(self.file(), offset, end).await?;
        let extent = self.metadata.extent(offset, end)?;
        match extent.mapping {
            Mapping::Zero => Ok(Run::zeros(extent.len)),
            Mapping::Local { offset } => self.local_status(offset, extent.len).await,
            Mapping::Base => {
                let mut run = self.base_status(extent.start, extent.len).await?;
                run.depth += 1;
                Ok(run)
            }
        }
    }

    async fn local_status(&self, offset: u64, len: u64) -> Result<Run> {
        let (allocation, len) = self.data().allocation(offset, len).await?;
        let path = self.data().path().to_owned();
        Ok(Run {
            content: allocation.into(),
            len,
            depth: 0,
            present: true,
            location: Some(Location { path, offset }),
            compressed: false,
        })
    }
}
