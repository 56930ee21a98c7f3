//! The callables of an `fvd.Remote`, and what opens files with them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fvd::process::{Owned, PerProcess};
use fvd::{Error, Result};
use fvd_remote::{Config, Opener};
use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::issue::Hook;
use crate::calls::{Caller, Calls, Watch};
use crate::errors::raise;

/// The openers of this process with callables, to count what they do.
static ALL: PerProcess<Mutex<Vec<Weak<Opener>>>> = PerProcess::new(Mutex::default);

/// The callables of an `fvd.Remote`, in one process. `fvd._remote` makes it, and carries out its calls.
#[pyclass(frozen, module = "fvd._fvd")]
pub(crate) struct RemoteHooks(Arc<Hooks>);

/// The callables, without objects of Python.
pub(crate) struct Hooks {
    caller: Arc<Caller>,
    /// What each gives, and the prefix that it is for.
    kinds: Vec<(Kind, String)>,
    /// By the folder of the host cache, as for those without callables.
    openers: Owned<Mutex<HashMap<Option<PathBuf>, Arc<Opener>>>>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Headers,
    Keys,
    Url,
}

#[pymethods]
impl RemoteHooks {
    /// `kinds`: for each callable "headers", "keys" or "url", and its prefix.
    #[new]
    fn new(kinds: Vec<(String, String)>) -> PyResult<Self> {
        let kind = |(kind, prefix): (String, String)| match kind.as_str() {
            "headers" => Ok((Kind::Headers, prefix)),
            "keys" => Ok((Kind::Keys, prefix)),
            "url" => Ok((Kind::Url, prefix)),
            _ => Err(Error::invalid_argument("'headers', 'keys' or 'url'")),
        };
        let kinds = kinds.into_iter().map(kind).collect::<Result<_>>();
        let hooks = kinds.and_then(|kinds| {
            Ok(Hooks {
                caller: Arc::new(Caller::new(Watch::Threads)?),
                kinds,
                openers: Owned::new(Mutex::default()),
            })
        });
        let hooks = hooks.map_err(|error| raise(&error))?;
        Ok(Self(Arc::new(hooks)))
    }

    /// The calls that the core makes.
    #[getter]
    fn calls(&self) -> Calls {
        Calls(Arc::clone(self.0.caller.queue()))
    }
}

impl Hooks {
    /// What opens files with these callables.
    pub(super) fn opener(&self, cache_dir: Option<&PathBuf>) -> Result<Arc<Opener>> {
        let openers = || Ok::<_, Error>(self.openers.get()?.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(opener) = openers()?.get(&cache_dir.cloned()) {
            return Ok(Arc::clone(opener));
        }
        let mut config = Config::load()?;
        if let Some(dir) = cache_dir {
            config.set_cache_dir(dir);
        }
        for (index, (kind, prefix)) in self.kinds.iter().enumerate() {
            let hook = |name: &str| Arc::new(Hook::new(&self.caller, index, prefix, name));
            config = match kind {
                Kind::Headers => config.with_headers(prefix, hook("")),
                Kind::Keys => config.with_keys(prefix, hook("")),
                Kind::Url => {
                    let (caller, of) = (Arc::clone(&self.caller), prefix.clone());
                    let hook = move |name: &str| Arc::new(Hook::new(&caller, index, &of, name)) as _;
                    config.with_urls(prefix, Arc::new(hook))
                }
            };
        }
        let made = Arc::new(Opener::new(config));
        let opener = Arc::clone(openers()?.entry(cache_dir.cloned()).or_insert(made));
        let mut all = ALL.get().lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|opener| opener.strong_count() > 0);
        all.push(Arc::downgrade(&opener));
        Ok(opener)
    }
}

/// The openers of this process with callables.
pub(super) fn all() -> Vec<Arc<Opener>> {
    let all = ALL.get().lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter_map(Weak::upgrade).collect()
}

/// An argument `remote`: an `fvd.Remote`.
pub(crate) struct Remote(pub(super) Arc<Hooks>);

impl<'py> FromPyObject<'_, 'py> for Remote {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(make) = object.getattr("_core") else {
            let kind = object.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "remote is an fvd.Remote or None, not {kind}"
            )));
        };
        let hooks = make.call0()?;
        Ok(Self(Arc::clone(&hooks.cast::<RemoteHooks>()?.get().0)))
    }
}
