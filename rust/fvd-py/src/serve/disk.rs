//! A disk argument of `serve`: a path, or an open image.

use std::path::PathBuf;
use std::sync::Arc;

use fvd::Error;
use fvd_nbd::daemon::{DiskSource, FileOptions, Format, OpenEngine};
use pyo3::prelude::*;

use crate::aio::{AsyncHandle, AsyncImage};
use crate::handle::BlockingHandle;
use crate::image::Image;
use crate::source::{Source, Sources, Use};

/// A disk argument.
#[derive(FromPyObject)]
pub(crate) enum Given<'py> {
    Image(Bound<'py, Image>),
    AsyncImage(Bound<'py, AsyncImage>),
    Source(Bound<'py, Source>),
    Path(PathBuf),
}

impl Given<'_> {
    /// The Python object that must be kept alive while the disk is served.
    pub(super) fn object(&self) -> Option<Py<PyAny>> {
        match self {
            Self::Image(image) => Some(image.clone().unbind().into_any()),
            Self::AsyncImage(image) => Some(image.clone().unbind().into_any()),
            Self::Source(_) | Self::Path(_) => None,
        }
    }

    /// Adds the source, if it is one.
    pub(super) fn add_to(&self, sources: &mut Sources, how: Use) -> PyResult<()> {
        match self {
            Self::Source(source) => source.get().0.add_to(sources, how).map(drop),
            _ => Ok(()),
        }
    }

    /// Converts the argument. `file` makes the options to open a path. A source is a raw disk, unless the caller
    /// says otherwise, and is only read.
    pub(super) fn into_disk(self, file: impl FnOnce(PathBuf) -> FileOptions) -> Disk {
        match self {
            Self::Image(image) => Disk::Open(Arc::clone(&image.get().open)),
            Self::AsyncImage(image) => Disk::OpenAsync(Arc::clone(&image.get().open)),
            Self::Source(source) => {
                let mut options = file(PathBuf::from(source.get().0.url()));
                options.format = options.format.or(Some(Format::Raw));
                options.chain.writable = false;
                Disk::File(options)
            }
            Self::Path(path) => Disk::File(file(path)),
        }
    }
}

/// A disk without Python objects, so that it can be used without the GIL.
pub(super) enum Disk {
    Open(Arc<BlockingHandle>),
    OpenAsync(Arc<AsyncHandle>),
    File(FileOptions),
}

impl Disk {
    /// Converts the disk to a source for the server. An open image is leased, and served read-only if
    /// `read_only` is set. Must be called without the GIL.
    pub(super) fn source(self, read_only: bool) -> Result<DiskSource, Error> {
        Ok(match self {
            Self::Open(open) => DiskSource::Open(open.lease(read_only, OpenEngine::Blocking)?),
            Self::OpenAsync(open) => DiskSource::Open(open.lease(read_only, OpenEngine::Async)?),
            Self::File(options) => DiskSource::File(options),
        })
    }
}
