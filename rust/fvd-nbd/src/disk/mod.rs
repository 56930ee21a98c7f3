//! Disks as exports: images, raw files, and other readable sources.
//!
//! An export changes no guarantee of the disk. A write is acknowledged when the engine has acknowledged it. A
//! flush on any connection is a flush of the image. Errors keep their kind, so a full disk reaches the guest
//! as `ENOSPC`.

mod content;
mod export;
mod lease;
mod raw;
mod status;
mod threaded;
mod zeroing;

use std::sync::Arc;

use fvd::storage::Storage;
use fvd::{Error, Result};

use crate::protocol::export::ExportInfo;

pub use content::Content;
pub use lease::Lease;
pub use raw::RawDisk;
pub use threaded::ThreadedImage;

/// A part of a disk. The default is the whole disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The offset of its first byte.
    pub offset: u64,
    /// Its length in bytes. None: up to the end of the disk.
    pub size: Option<u64>,
}

/// A disk together with the export name by which clients open it.
pub struct DiskExport<S> {
    info: ExportInfo,
    content: Content<S>,
    /// The offset in the content, in bytes, at which the export begins.
    start: u64,
    /// Declared after `content`, so that it is dropped after it: the end of the lease allows the program to
    /// close the image.
    lease: Option<Arc<dyn Lease>>,
}

impl<S: Storage> DiskExport<S> {
    /// An export of `content`. All of its [`ExportInfo`] but name and description follows from the content.
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

    /// Marks the content as leased: the program that granted the lease closes it, and [`DiskExport::close`]
    /// does not.
    #[must_use]
    pub fn leased(mut self, lease: Arc<dyn Lease>) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Restricts the export to a part of the content.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the part does not lie within the content, or is empty.
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

    /// Makes the export read-only, even if the content is writable.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.info.read_only = true;
        self
    }

    /// Sets whether clients are told that they may open several connections for more throughput.
    /// Independently of this, a flush on one connection covers completed writes of all connections.
    #[must_use]
    pub fn with_multi_conn(mut self, allowed: bool) -> Self {
        self.info.multi_conn = allowed;
        self
    }

    /// The content that is served.
    pub fn content(&self) -> &Content<S> {
        &self.content
    }

    /// The lease, or None if the server itself opened the content.
    pub fn lease(&self) -> Option<&Arc<dyn Lease>> {
        self.lease.as_ref()
    }

    /// Closes the content with [`Content::close`], unless it is leased.
    pub async fn close(&self) -> Result<()> {
        match self.lease {
            None => self.content.close().await,
            Some(_) => Ok(()),
        }
    }
}
