//! What Python gives to be served: a file, or an image that is open.

use std::path::PathBuf;
use std::sync::Arc;

use fvd::Error;
use fvd_nbd::daemon::{DiskSource, FileOptions};
use pyo3::prelude::*;

use crate::aio::{AsyncImage, AsyncOpen};
use crate::image::Image;
use crate::open::Open;

/// A disk, as it was given.
#[derive(FromPyObject)]
pub(crate) enum Given<'py> {
    Image(Bound<'py, Image>),
    AsyncImage(Bound<'py, AsyncImage>),
    Path(PathBuf),
}

impl Given<'_> {
    /// The object to keep while it is served.
    pub(super) fn object(&self) -> Option<Py<PyAny>> {
        match self {
            Self::Image(image) => Some(image.clone().unbind().into_any()),
            Self::AsyncImage(image) => Some(image.clone().unbind().into_any()),
            Self::Path(_) => None,
        }
    }

    /// `file`: how to open a path.
    pub(super) fn into_disk(self, file: impl FnOnce(PathBuf) -> FileOptions) -> Disk {
        match self {
            Self::Image(image) => Disk::Open(Arc::clone(&image.get().open)),
            Self::AsyncImage(image) => Disk::OpenAsync(Arc::clone(&image.get().open)),
            Self::Path(path) => Disk::File(file(path)),
        }
    }
}

/// A disk, without the objects of Python.
pub(super) enum Disk {
    Open(Arc<Open>),
    OpenAsync(Arc<AsyncOpen>),
    File(FileOptions),
}

impl Disk {
    /// Without the GIL. Lends what is open; `read_only`: to be read only.
    pub(super) fn source(self, read_only: bool) -> Result<DiskSource, Error> {
        Ok(match self {
            Self::Open(open) => DiskSource::Open(open.lease(read_only)?),
            Self::OpenAsync(open) => DiskSource::Open(open.lease(read_only)?),
            Self::File(options) => DiskSource::File(options),
        })
    }
}
