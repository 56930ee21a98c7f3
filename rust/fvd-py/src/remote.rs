//! Files on other machines: the one place where the package gets what opens them.

use std::sync::{Arc, OnceLock};

use fvd::Result;
use fvd::gate::Gate;
use fvd::process::PerProcess;
use fvd::remote::{Counters, RemoteOpener};
use fvd_remote::{Config, Opener, OpenerOf, Outage};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The configuration and the environment are read when a process opens the first URL, and again as long as that
/// fails.
static OPENER: PerProcess<OnceLock<Arc<Opener>>> = PerProcess::new(OnceLock::new);

fn of_process() -> Result<Arc<Opener>> {
    let slot = OPENER.get();
    if let Some(opener) = slot.get() {
        return Ok(Arc::clone(opener));
    }
    let made = Arc::new(Opener::new(Config::load()?));
    Ok(Arc::clone(slot.get_or_init(|| made)))
}

/// Opens the files that URLs name, for every function of the package. `on_outage`: what reads do in an outage;
/// None: as the configuration says. `gate`: what the user trusts.
pub(crate) fn opener(on_outage: Option<Outage>, gate: Gate) -> Arc<dyn RemoteOpener> {
    Arc::new(OpenerOf {
        opener: of_process,
        on_outage,
        gate,
    })
}

/// What was asked of stores. None if this process has opened no URL.
fn counters() -> Option<Counters> {
    OPENER.get().get().map(|opener| opener.counters())
}

/// Returns what this process has asked of stores, and which of them do not answer: a dictionary (see
/// `fvd.types.RemoteStatus`). In a forked child it begins anew.
///
/// ```pycon
/// >>> sorted(fvd.remote_status())
/// ['bytes', 'hedges', 'memory', 'outages', 'refreshes', 'requests', 'retries', 'stores', 'waiting']
/// ```
#[pyfunction]
pub(crate) fn remote_status(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let counters = py.detach(counters).unwrap_or_default();
    let dict = PyDict::new(py);
    dict.set_item("requests", counters.requests)?;
    dict.set_item("bytes", counters.bytes)?;
    dict.set_item("retries", counters.retries)?;
    dict.set_item("hedges", counters.hedges)?;
    dict.set_item("refreshes", counters.refreshes)?;
    dict.set_item("waiting", counters.waiting)?;
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
