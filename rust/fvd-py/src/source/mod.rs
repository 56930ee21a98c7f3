//! Sources: objects of Python that the core reads as files (docs/design/python-code.md, "Sources").

mod extents;
mod file;
mod opener;
mod read;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fvd::remote::{Pin, RemoteFile, Validator};
use pyo3::prelude::*;

use crate::calls::{Caller, Calls, Watch};
use crate::errors::raise;
use crate::numbers;
use crate::time;
use file::PythonFile;

pub(crate) use opener::with_sources;

/// The sources that one call of a function got, by their URLs.
pub(crate) type Sources = HashMap<String, Arc<dyn RemoteFile>>;

/// An object of Python that is read as a file. `fvd._sources` makes it for each use, and carries out its calls.
#[pyclass(frozen, module = "fvd._fvd")]
pub(crate) struct Source(pub(crate) Arc<Given>);

/// A source, without objects of Python.
pub(crate) struct Given {
    url: String,
    pin: Pin,
    has_extents: bool,
    caller: Arc<Caller>,
}

#[pymethods]
impl Source {
    /// `name` is for messages, and part of a URL. `size` is in bytes. `identity` tells this object from others.
    #[new]
    #[pyo3(signature = (name, size, *, identity = None, has_extents = false, event_loop = false))]
    fn new(
        name: &str,
        #[pyo3(from_py_with = numbers::size)] size: u64,
        identity: Option<String>,
        has_extents: bool,
        event_loop: bool,
    ) -> PyResult<Self> {
        let watch = if event_loop { Watch::EventLoop } else { Watch::Threads };
        let caller = Caller::new(watch).map_err(|error| raise(&error))?;
        Ok(Self(Arc::new(Given {
            url: format!("python://{}/{name}", caller.number()),
            pin: Pin {
                len: size,
                validator: identity.map_or(Validator::Length, Validator::ETag),
            },
            has_extents,
            caller: Arc::new(caller),
        })))
    }

    /// Its name in messages.
    #[getter]
    fn url(&self) -> &str {
        &self.0.url
    }

    /// The calls that the core makes.
    #[getter]
    fn calls(&self) -> Calls {
        Calls(Arc::clone(self.0.caller.queue()))
    }
}

/// How a source is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Use {
    /// How long a read may take.
    pub(crate) limit: Option<Duration>,
    /// Whether stderr is told of failures, because the reader is on another machine.
    pub(crate) tells: bool,
}

impl Given {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The source as a file.
    pub(crate) fn file(&self, how: Use) -> PyResult<Arc<dyn RemoteFile>> {
        let Use { limit, tells } = how;
        let clock = |limit| Ok::<_, fvd::Error>((limit, time::clock()?));
        let limit = limit.map(clock).transpose().map_err(|error| raise(&error))?;
        let caller = Arc::clone(&self.caller);
        Ok(Arc::new(PythonFile::new(
            self.url.clone(),
            self.pin.clone(),
            self.has_extents,
            caller,
            limit,
            tells,
        )))
    }

    /// Adds the source as a file. Returns its URL.
    pub(crate) fn add_to(&self, sources: &mut Sources, how: Use) -> PyResult<PathBuf> {
        sources.insert(self.url.clone(), self.file(how)?);
        Ok(PathBuf::from(&self.url))
    }
}
