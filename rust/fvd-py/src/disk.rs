//! A disk argument that is read: a path, or an open image.

use std::path::PathBuf;
use std::sync::Arc;

use fvd::Error;
use fvd::chain::{ChainOptions, open_source};
use fvd::source::BaseSource;
use pollster::block_on;
use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::aio::{AsyncHandle, AsyncImage, Engine as AsyncEngine};
use crate::background::Engine;
use crate::handle::BlockingHandle;
use crate::image::Image;
use crate::source::{Given, Source, Sources, Use};

/// A disk argument.
pub(crate) enum Disk {
    Open(Arc<BlockingHandle>),
    OpenAsync(Arc<AsyncHandle>),
    File(PathBuf),
    Source(Arc<Given>),
}

impl<'py> FromPyObject<'_, 'py> for Disk {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(image) = object.cast::<Image>() {
            return Ok(Self::Open(Arc::clone(&image.get().open)));
        }
        if let Ok(image) = object.cast::<AsyncImage>() {
            return Ok(Self::OpenAsync(Arc::clone(&image.get().open)));
        }
        if let Ok(source) = object.cast::<Source>() {
            return Ok(Self::Source(Arc::clone(&source.get().0)));
        }
        let path = object.extract().map(Self::File);
        path.map_err(|_: PyErr| unfit(object, "a path, an open image or a source"))
    }
}

/// The `TypeError` for an argument that is not `needed`.
pub(crate) fn unfit(object: Borrowed<'_, '_, PyAny>, needed: &str) -> PyErr {
    let kind = object.get_type().name();
    let kind = kind.map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{needed} is needed, not {kind}"))
}

impl Disk {
    /// Adds the source, if it is one, to `sources`, and names it by its URL there.
    pub(crate) fn named(self, sources: &mut Sources, how: Use) -> PyResult<Self> {
        match self {
            Self::Source(given) => given.add_to(sources, how).map(Self::File),
            other => Ok(other),
        }
    }

    /// Runs `work` on the disk. Must be called without the GIL. An open image is read in its current state,
    /// and is not closed before `work` has ended. A path is opened with this format.
    pub(crate) fn with<T>(
        &self,
        format: Option<&str>,
        options: &ChainOptions,
        work: impl FnOnce(Arc<dyn BaseSource>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self {
            Self::File(path) => work(block_on(open_source(path, format, options))?.into()),
            Self::Source(_) => Err(Error::invalid_argument("The source has no name yet")),
            _ if !matches!(format, None | Some("fvd")) => {
                let message = "An image that is open has the format fvd, no other";
                Err(Error::invalid_argument(message))
            }
            Self::Open(open) => open.with(|engine: &Arc<Engine>| work(Arc::clone(engine) as _)),
            Self::OpenAsync(open) => open.with(|engine: &Arc<AsyncEngine>| work(Arc::clone(engine) as _)),
        }
    }
}
