//! Disks as exports: images, raw files, and whatever else can be read.
//!
//! An export adds nothing to what a disk promises: what is acknowledged is what the engine has
//! acknowledged, a flush is a flush of the image, on whichever connection it comes. Errors keep
//! their kind, so that a full disk reaches the guest as one.

mod content;
mod image;
mod lease;
mod raw;
mod status;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use fvd::image::Image;
use fvd::storage::{IoBufMut, Storage};
use fvd::{Error, Result};

use crate::export::ExportInfo;
use crate::meta::Status;
use crate::server::{Export, Zeroing};

pub use content::Content;
pub use lease::Lease;
pub use raw::RawDisk;

/// A part of a disk; by default all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// First byte.
    pub offset: u64,
    /// Bytes; None: all from there on.
    pub size: Option<u64>,
}

/// A disk under the name by which clients know it.
pub struct DiskExport<S> {
    info: ExportInfo,
    content: Content<S>,
    /// Where in the content the disk of the clients begins, in bytes.
    start: u64,
    /// Behind the content: who hears that it has ended may close the image.
    lease: Option<Arc<dyn Lease>>,
}

impl<S: Storage> DiskExport<S> {
    /// What `content` is and can do decides all of the [`ExportInfo`] but name and description.
    pub fn new(name: &str, description: &str, content: Content<S>) -> Self {
        let info = ExportInfo {
            description: description.to_owned(),
            ..content.info(name)
        };
        Self {
            info,
            content,
            start: 0,
            lease: None,
        }
    }

    /// The content belongs to somebody else, who closes it.
    #[must_use]
    pub fn leased(mut self, lease: Arc<dyn Lease>) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Serves a part of the content as if it were all.
    ///
    /// # Errors
    ///
    /// The part does not lie in the content, or has no byte.
    pub fn limit_to(&mut self, part: Part) -> Result<()> {
        if part == Part::default() {
            return Ok(());
        }
        let Part { offset, size } = part;
        let whole = self.content.source().len();
        let Some(rest) = whole.checked_sub(offset).filter(|&rest| rest > 0) else {
            return Err(self.outside(format!("The offset {offset} has to be less than the size, {whole}")));
        };
        let size = size.unwrap_or(rest);
        if size > rest || size == 0 {
            let message = format!("{size} bytes from {offset} are no part of the {whole} bytes that there are");
            return Err(self.outside(message));
        }
        (self.start, self.info.size) = (offset, size);
        Ok(())
    }

    fn outside(&self, message: String) -> Error {
        Error::invalid_argument(message).with_path(self.content.source().path())
    }

    /// Refuses writes, whatever the content can do.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.info.read_only = true;
        self
    }

    /// Whether clients hear that they may connect more than once, for more speed. A flush on one
    /// connection covers what was written on the others anyway.
    #[must_use]
    pub fn with_multi_conn(mut self, allowed: bool) -> Self {
        self.info.multi_conn = allowed;
        self
    }

    /// What is served.
    pub fn content(&self) -> &Content<S> {
        &self.content
    }

    /// None for what is the server's own.
    pub fn lease(&self) -> Option<&Arc<dyn Lease>> {
        self.lease.as_ref()
    }

    /// Closes what is the server's own: see [`Content::close`].
    pub async fn close(&self) -> Result<()> {
        match self.lease {
            None => self.content.close().await,
            Some(_) => Ok(()),
        }
    }
}

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
            Content::Source(source) => Err(content::read_only(&**source)),
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
            Content::Image(image) => image::write_zeroes(image, offset, length, how).await,
            Content::Threaded(image) => {
                let zero = async move |image: &Image<_>| image::write_zeroes(image, offset, length, how).await;
                image.run(zero).await
            }
            Content::Raw(raw) => raw.write_zeroes(offset, length, how).await,
            Content::Source(source) => Err(content::read_only(&**source)),
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
            Content::Source(source) => Err(content::read_only(&**source)),
        }
    }

    async fn cache(&self, offset: u64, length: u64) -> Result<()> {
        let offset = self.start + offset;
        match &self.content {
            Content::Image(image) => image::cache(image, offset, length).await,
            Content::Threaded(image) => {
                let cache = async move |image: &Image<_>| image::cache(image, offset, length).await;
                image.run(cache).await
            }
            // The page cache does what it likes.
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
