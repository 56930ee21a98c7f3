//! What is served, and what it says of itself.

use std::sync::Arc;

use fvd::image::Image;
use fvd::source::BaseSource;
use fvd::storage::Storage;
use fvd::{Error, ErrorKind};

use super::raw::RawDisk;
use crate::export::{BlockSizes, ExportInfo};

/// The least that is preferred: a page, and the sector of most disks.
const PREFERRED: u32 = 4096;
/// The most: clients gather writes up to it, and should not have to wait for much more.
const MOST_PREFERRED: u32 = 2 << 20;

/// A disk to serve.
pub enum Content<S> {
    /// An image, writable as it was opened.
    Image(Arc<Image<S>>),
    /// A file or device whose bytes are the disk.
    Raw(RawDisk<S>),
    /// Anything that can be read.
    Source(Box<dyn BaseSource>),
}

impl<S: Storage> Content<S> {
    /// The disk as something that is read.
    pub(super) fn source(&self) -> &dyn BaseSource {
        match self {
            Self::Image(image) => &**image,
            Self::Raw(raw) => raw.source(),
            Self::Source(source) => &**source,
        }
    }

    /// The image, if it is one.
    pub fn image(&self) -> Option<&Arc<Image<S>>> {
        match self {
            Self::Image(image) => Some(image),
            _ => None,
        }
    }

    /// What clients are told.
    pub(super) fn info(&self, name: &str) -> ExportInfo {
        let (read_only, trim) = match self {
            Self::Image(image) => (!image.is_writable(), image.discards()),
            Self::Raw(raw) => (!raw.is_writable(), raw.discards()),
            Self::Source(_) => (true, false),
        };
        ExportInfo {
            read_only,
            trim,
            block_sizes: BlockSizes {
                preferred: self.preferred(),
                ..BlockSizes::default()
            },
            ..ExportInfo::new(name, self.source().len())
        }
    }

    /// Writes of whole blocks need nothing from the base.
    fn preferred(&self) -> u32 {
        let block = match self {
            Self::Image(image) if image.base().is_some() => image.geometry().block_size,
            _ => 0,
        };
        match u32::try_from(block) {
            Ok(block) if block.is_power_of_two() => block.clamp(PREFERRED, MOST_PREFERRED),
            _ => PREFERRED,
        }
    }

    /// Makes everything durable; an image is marked clean. Requests must have ended.
    pub async fn close(&self) -> fvd::Result<()> {
        match self {
            Self::Image(image) => image.close().await,
            Self::Raw(raw) => raw.flush().await,
            Self::Source(_) => Ok(()),
        }
    }
}

/// The server refuses writes to an export that is read-only: nobody should get this.
pub(super) fn read_only(source: &dyn BaseSource) -> Error {
    Error::new(ErrorKind::NotPermitted, "The disk is open read-only").with_path(source.path())
}
