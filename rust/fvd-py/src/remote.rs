//! Files on other machines: the one place where the package gets what opens them.

mod hooks;
mod issue;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fvd::Result;
use fvd::gate::Gate;
use fvd::process::PerProcess;
use fvd::remote::{Counters, Pin, RemoteFile, RemoteOpener};
use fvd_remote::{Config, Opener, OpenerOf, Outage};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use hooks::Hooks;
pub(crate) use hooks::{Remote, RemoteHooks};

/// By the folder of the host cache, if a caller has given one.
type Openers = HashMap<Option<PathBuf>, Arc<Opener>>;

static OPENERS: PerProcess<Mutex<Openers>> = PerProcess::new(Mutex::default);

fn openers() -> MutexGuard<'static, Openers> {
    OPENERS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The configuration and the environment are read when a process opens the first URL with this folder, and
/// again as long as that fails.
pub(crate) fn of_process(cache_dir: Option<&PathBuf>) -> Result<Arc<Opener>> {
    if let Some(opener) = openers().get(&cache_dir.cloned()) {
        return Ok(Arc::clone(opener));
    }
    let mut config = Config::load()?;
    if let Some(dir) = cache_dir {
        config.set_cache_dir(dir);
    }
    let made = Arc::new(Opener::new(config));
    Ok(Arc::clone(openers().entry(cache_dir.cloned()).or_insert(made)))
}

/// What was asked of stores in this process, with all folders of the host cache.
fn counters() -> Counters {
    let without: Vec<_> = openers().values().cloned().collect();
    let mut counters = Counters::default();
    for opener in without.into_iter().chain(hooks::all()) {
        counters.merge(opener.counters());
    }
    counters
}

/// Opens with the opener of the process, and counts what all of them do.
struct OfProcess<O>(OpenerOf<O>);

impl<O> RemoteOpener for OfProcess<O>
where
    OpenerOf<O>: RemoteOpener,
    O: Send + Sync + 'static,
{
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        self.0.open(url, pin)
    }

    fn open_named(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        self.0.open_named(url, pin)
    }

    fn counters(&self) -> Counters {
        counters()
    }
}

/// What a caller says about files on other machines.
#[derive(Clone, Default)]
pub(crate) struct Far {
    /// The folder of the host cache. An empty one: no cache. None: as the configuration says.
    cache_dir: Option<PathBuf>,
    /// Callables that give credentials and URLs.
    hooks: Option<Arc<Hooks>>,
}

impl Far {
    pub(crate) fn new(cache_dir: Option<PathBuf>, remote: Option<Remote>) -> Self {
        let hooks = remote.map(|remote| remote.0);
        Self { cache_dir, hooks }
    }

    pub(crate) fn opener(&self) -> Result<Arc<Opener>> {
        match &self.hooks {
            Some(hooks) => hooks.opener(self.cache_dir.as_ref()),
            None => of_process(self.cache_dir.as_ref()),
        }
    }
}

/// Opens the files that URLs name, for every function of the package. `on_outage`: what reads do in an outage;
/// None: as the configuration says. `gate`: what the user trusts.
pub(crate) fn opener(on_outage: Option<Outage>, gate: Gate, far: Far) -> Arc<dyn RemoteOpener> {
    Arc::new(OfProcess(OpenerOf {
        opener: move || far.opener(),
        on_outage,
        gate,
    }))
}

/// Returns what this process has asked of stores, and which of them do not answer: a dictionary (see
/// `fvd.types.RemoteStatus`). In a forked child it begins anew.
///
/// ```pycon
/// >>> status = fvd.remote_status()
/// >>> sorted(name for name in status if name.startswith("cache"))
/// ['cache_damaged', 'cache_failures', 'cache_found', 'cache_stored']
/// >>> sorted(name for name in status if not name.startswith("cache"))
/// ['bytes', 'hedges', 'memory', 'outages', 'refreshes', 'requests', 'retries', 'stores', 'waiting']
/// ```
#[pyfunction]
pub(crate) fn remote_status(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let counters = py.detach(counters);
    let dict = PyDict::new(py);
    dict.set_item("requests", counters.requests)?;
    dict.set_item("bytes", counters.bytes)?;
    dict.set_item("retries", counters.retries)?;
    dict.set_item("hedges", counters.hedges)?;
    dict.set_item("refreshes", counters.refreshes)?;
    dict.set_item("waiting", counters.waiting)?;
    dict.set_item("cache_found", counters.cache_found)?;
    dict.set_item("cache_stored", counters.cache_stored)?;
    dict.set_item("cache_damaged", counters.cache_damaged)?;
    dict.set_item("cache_failures", counters.cache_failures)?;
    dict.set_item("memory", counters.memory)?;
    dict.set_item("stores", counters.stores)?;
    let outages = PyList::empty(py);
    for outage in counters.outages {
        let one = PyDict::new(py);
        one.set_item("store", outage.store)?;
        one.set_item("seconds", outage.lasting.as_secs_f64())?;
        one.set_item("reason", outage.reason)?;
        outages.append(one)?;
    }
    dict.set_item("outages", outages)?;
    Ok(dict)
}
