//! What is served, and what it says of itself.

use std::sync::Arc;

use fvd::copy::{self, Control, PrefetchStatus};
use fvd::image::{Image, Stats, ThreadedImage};
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
    /// The same, on files that block.
    Threaded(ThreadedImage),
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
            Self::Threaded(image) => image,
            Self::Raw(raw) => raw.source(),
            Self::Source(source) => &**source,
        }
    }

    /// The image, if it is one that does not block.
    pub fn image(&self) -> Option<&Arc<Image<S>>> {
        match self {
            Self::Image(image) => Some(image),
            _ => None,
        }
    }

    /// Counters, if it is an image.
    pub fn stats(&self) -> Option<Stats> {
        match self {
            Self::Image(image) => Some(image.stats()),
            Self::Threaded(image) => Some(image.image().stats()),
            _ => None,
        }
    }

    /// How far it is from needing no base, whether or not `control` fetches; None where nothing comes from one.
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
        // What is wrong with the image is not told here.
        status.ok().or_else(|| control.map(Control::status))
    }

    /// What clients are told.
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

    /// Makes everything durable; an image is marked clean. Requests must have ended.
    pub async fn close(&self) -> fvd::Result<()> {
        match self {
            Self::Image(image) => image.close().await,
            Self::Threaded(image) => image.run(async |image: &Image<_>| image.close().await).await,
            Self::Raw(raw) => raw.flush().await,
            Self::Source(_) => Ok(()),
        }
    }
}

/// What clients are told of a disk that the kind of it decides.
struct Traits {
    writable: bool,
    trim: bool,
    /// In bytes, a power of two.
    preferred: u32,
}

impl Traits {
    fn of_image<S: Storage>(image: &Image<S>) -> Self {
        // Writes of whole blocks need nothing from the base.
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

/// The server refuses writes to an export that is read-only: nobody should get this.
pub(super) fn read_only(source: &dyn BaseSource) -> Error {
    Error::new(ErrorKind::NotPermitted, "The disk is open read-only").with_path(source.path())
}
