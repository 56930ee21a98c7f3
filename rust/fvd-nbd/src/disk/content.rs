//! The content of an export, and the export properties that follow from it.

use std::sync::Arc;

use fvd::copy::{self, Control, PrefetchStatus};
use fvd::image::{Image, Stats};
use fvd::source::BaseSource;
use fvd::storage::Storage;
use fvd::{Error, ErrorKind};

use super::raw::RawDisk;
use super::threaded::ThreadedImage;
use crate::protocol::export::{BlockSizes, ExportInfo};

/// The minimum preferred block size: a page, and the sector size of most disks.
const PREFERRED: u32 = 4096;
/// The maximum preferred block size. Clients merge writes up to it, and should not wait for much more.
const MOST_PREFERRED: u32 = 2 << 20;

/// A disk to serve.
pub enum Content<S> {
    /// An image; writable if it was opened for writing.
    Image(Arc<Image<S>>),
    /// An image on files whose I/O blocks. Its requests run on a pool of threads.
    Threaded(ThreadedImage),
    /// A file or device whose bytes are the disk.
    Raw(RawDisk<S>),
    /// Any readable source; read-only.
    Source(Box<dyn BaseSource>),
}

impl<S: Storage> Content<S> {
    /// The disk as a readable source.
    pub(super) fn source(&self) -> &dyn BaseSource {
        match self {
            Self::Image(image) => &**image,
            Self::Threaded(image) => image,
            Self::Raw(raw) => raw.source(),
            Self::Source(source) => &**source,
        }
    }

    /// The image, if the content is an image whose I/O does not block.
    pub fn image(&self) -> Option<&Arc<Image<S>>> {
        match self {
            Self::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The counters of the image, if the content is an image.
    pub fn stats(&self) -> Option<Stats> {
        match self {
            Self::Image(image) => Some(image.stats()),
            Self::Threaded(image) => Some(image.image().stats()),
            _ => None,
        }
    }

    /// The progress of the image towards independence from its base, whether or not `control` runs a
    /// prefetch. None if the image has no base or the content is no image.
    pub async fn prefetch(&self, control: Option<&Control>) -> Option<PrefetchStatus> {
        let status = match self {
            Self::Image(image) if image.base().is_some() => copy::status(image, control).await,
            Self::Threaded(image) if image.image().base().is_some() => {
                let control = control.cloned();
                let status = async move |image: &Image<_>| copy::status(image, control.as_ref()).await;
                image.run(status).await
            }
            _ => return None,
        };
        // A failed status query is not reported here: the status in `control`, if any, is returned instead.
        status.ok().or_else(|| control.map(Control::status))
    }

    /// The export properties of the content.
    pub(super) fn info(&self, name: &str) -> ExportInfo {
        let Traits {
            writable,
            trim,
            preferred,
        } = match self {
            Self::Image(image) => Traits::of_image(image),
            Self::Threaded(image) => Traits::of_image(image.image()),
            Self::Raw(raw) => Traits {
                writable: raw.is_writable(),
                trim: raw.discards(),
                preferred: PREFERRED,
            },
            Self::Source(_) => Traits {
                writable: false,
                trim: false,
                preferred: PREFERRED,
            },
        };
        ExportInfo {
            read_only: !writable,
            trim,
            block_sizes: BlockSizes {
                preferred,
                ..BlockSizes::default()
            },
            ..ExportInfo::new(name, self.source().len())
        }
    }

    /// Makes everything durable. An image is also marked clean. All requests must have ended.
    ///
    /// # Errors
    ///
    /// A write or sync of the file fails.
    pub async fn close(&self) -> fvd::Result<()> {
        match self {
            Self::Image(image) => image.close().await,
            Self::Threaded(image) => image.run(async |image: &Image<_>| image.close().await).await,
            Self::Raw(raw) => raw.flush().await,
            Self::Source(_) => Ok(()),
        }
    }
}

/// The export properties that depend on the kind of disk.
struct Traits {
    writable: bool,
    trim: bool,
    /// The preferred block size in bytes, a power of two.
    preferred: u32,
}

impl Traits {
    fn of_image<S: Storage>(image: &Image<S>) -> Self {
        // Writes of whole blocks need no read of the base.
        let block = image.base().map_or(0, |_| image.geometry().block_size);
        let preferred = match u32::try_from(block) {
            Ok(block) if block.is_power_of_two() => block.clamp(PREFERRED, MOST_PREFERRED),
            _ => PREFERRED,
        };
        Self {
            writable: image.is_writable(),
            trim: image.discards(),
            preferred,
        }
    }
}

/// The error for a write to a read-only source. Defensive only: the server refuses such writes earlier.
pub(super) fn read_only(source: &dyn BaseSource) -> Error {
    Error::new(ErrorKind::NotPermitted, "The disk is open read-only").with_path(source.path())
}
