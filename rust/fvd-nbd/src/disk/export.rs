//! The requests of NBD, as operations of the content.

use std::future::Future;

use bytes::Bytes;
use fvd::image::Image;
use fvd::storage::{IoBufMut, Storage};
use fvd::{Result, copy};

use super::content::read_only;
use super::zeroing::write_zeroes;
use super::{Content, DiskExport, status};
use crate::protocol::export::ExportInfo;
use crate::protocol::meta::Status;
use crate::server::{Export, Zeroing};

impl<S: Storage> Export for DiskExport<S> {
    fn info(&self) -> ExportInfo {
        self.info.clone()
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let offset = self.start + offset;
        match &self.content {
            Content::Image(image) => image.read(buf, offset).await,
            Content::Threaded(image) => {
                let read = async move |image: &Image<_>| image.read(buf, offset).await;
                image.run(read).await
            }
            Content::Raw(raw) => raw.read(buf, offset).await,
            Content::Source(source) => source.read(buf, offset).await,
        }
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        let offset = self.start + offset;
        match &self.content {
            Content::Image(image) => image.write(buf, offset).await,
            Content::Threaded(image) => {
                let write = async move |image: &Image<_>| image.write(buf, offset).await;
                image.run(write).await
            }
            Content::Raw(raw) => raw.write(buf, offset).await,
            Content::Source(source) => Err(read_only(&**source)),
        }
    }

    async fn flush(&self) -> Result<()> {
        match &self.content {
            Content::Image(image) => image.flush().await,
            Content::Threaded(image) => image.run(async |image: &Image<_>| image.flush().await).await,
            Content::Raw(raw) => raw.flush().await,
            Content::Source(_) => Ok(()),
        }
    }

    async fn write_zeroes(&self, offset: u64, length: u64, how: Zeroing) -> Result<()> {
        let offset = self.start + offset;
        match &self.content {
            Content::Image(image) => write_zeroes(image, offset, length, how).await,
            Content::Threaded(image) => {
                let zero = async move |image: &Image<_>| write_zeroes(image, offset, length, how).await;
                image.run(zero).await
            }
            Content::Raw(raw) => raw.write_zeroes(offset, length, how).await,
            Content::Source(source) => Err(read_only(&**source)),
        }
    }

    async fn trim(&self, offset: u64, length: u64) -> Result<()> {
        let offset = self.start + offset;
        match &self.content {
            Content::Image(image) => image.discard(offset, length).await,
            Content::Threaded(image) => {
                let discard = async move |image: &Image<_>| image.discard(offset, length).await;
                image.run(discard).await
            }
            Content::Raw(raw) => raw.trim(offset, length).await,
            Content::Source(source) => Err(read_only(&**source)),
        }
    }

    async fn cache(&self, offset: u64, length: u64) -> Result<()> {
        let offset = self.start + offset;
        match &self.content {
            Content::Image(image) => copy_to_image(image, offset, length).await,
            Content::Threaded(image) => {
                let cache = async move |image: &Image<_>| copy_to_image(image, offset, length).await;
                image.run(cache).await
            }
            // There is no base to copy from, and the page cache needs no help.
            Content::Raw(_) | Content::Source(_) => Ok(()),
        }
    }

    fn status(
        &self,
        offset: u64,
        length: u64,
        piece: &mut (dyn FnMut(u64, Status) -> bool + Send),
    ) -> impl Future<Output = Result<()>> + Send {
        status::walk(self.content.source(), self.start + offset, length, piece)
    }
}

/// Copies the part of the range that is still in the base to the image. Does nothing on a read-only image.
async fn copy_to_image<S: Storage>(image: &Image<S>, offset: u64, length: u64) -> Result<()> {
    if !image.is_writable() {
        return Ok(());
    }
    copy::fetch(image, offset..offset + length).await
}
