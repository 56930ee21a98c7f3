//! Prefetch: in the foreground, and how far it is in the background.

use std::time::Duration;

use fvd::copy::{Control, PrefetchState, PrefetchStatus};
use fvd::image::Image;
use fvd::storage::Storage;
use fvd::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::raise;
use crate::open::Open;

/// How often a callback is called at least, and signals are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Fetches everything that is still in the base. See `Image.prefetch`.
pub(crate) fn run(py: Python<'_>, open: &Open, callback: Option<Py<PyAny>>) -> PyResult<PrefetchStatus> {
    let Some(control) = py.detach(|| open.control()).map_err(|error| raise(&error))? else {
        let status = complete();
        report(py, callback.as_ref(), &status)?;
        return Ok(status);
    };
    control.resume();
    let status = watch(py, open, &control, callback.as_ref()).inspect_err(|_| control.pause())?;
    outcome(status).map_err(|error| raise(&error))
}

/// What a final status means to who waited for it.
pub(crate) fn outcome(status: PrefetchStatus) -> Result<PrefetchStatus, Error> {
    match status.state {
        PrefetchState::Finished => Ok(status),
        PrefetchState::Failed => Err(status.error.unwrap_or_else(ended)),
        _ => Err(ended()),
    }
}

/// Waits for the end of prefetch.
fn watch(py: Python<'_>, open: &Open, control: &Control, callback: Option<&Py<PyAny>>) -> PyResult<PrefetchStatus> {
    let mut status = control.status();
    loop {
        py.check_signals()?;
        // Before it has looked, it does not know how much there is.
        if status.total > 0 || status.state.is_final() {
            report(py, callback, &status)?;
            // The callback may have forked this process.
            open.check_process().map_err(|error| raise(&error))?;
        }
        if status.state.is_final() {
            return Ok(status);
        }
        let seen = status.version;
        status = py.detach(|| {
            // No more often than somebody can see.
            std::thread::sleep(INTERVAL / 4);
            control.changed_within(seen, INTERVAL)
        });
    }
}

fn report(py: Python<'_>, callback: Option<&Py<PyAny>>, status: &PrefetchStatus) -> PyResult<()> {
    if let Some(callback) = callback {
        callback.call1(py, (to_dict(py, status)?,))?;
    }
    Ok(())
}

fn ended() -> Error {
    Error::new(ErrorKind::Cancelled, "The image was closed while it was prefetched")
}

/// How far it is now.
pub(crate) fn status<S: Storage>(running: Option<&Control>, engine: &Image<S>) -> PrefetchStatus {
    match running {
        Some(control) => control.status(),
        None if engine.base().is_none() => complete(),
        None => PrefetchStatus {
            total: engine.geometry().base_size,
            ..PrefetchStatus::default()
        },
    }
}

/// The status of an image that needs no base.
fn complete() -> PrefetchStatus {
    PrefetchStatus {
        state: PrefetchState::Finished,
        ..PrefetchStatus::default()
    }
}

/// A dictionary.
pub(crate) struct Status(pub(crate) PrefetchStatus);

impl<'py> IntoPyObject<'py> for Status {
    type Target = PyDict;
    type Output = Bound<'py, PyDict>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.0)
    }
}

fn to_dict<'py>(py: Python<'py>, status: &PrefetchStatus) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("state", state_name(status.state))?;
    dict.set_item("total", status.total)?;
    dict.set_item("local", status.local)?;
    dict.set_item("fetched", status.fetched)?;
    dict.set_item("zeros", status.zeros)?;
    dict.set_item("read-rate", status.read_rate)?;
    dict.set_item("write-rate", status.write_rate)?;
    dict.set_item("pauses", status.pauses)?;
    dict.set_item("retries", status.retries)?;
    dict.set_item("error", status.error.as_ref().map(ToString::to_string))?;
    Ok(dict)
}

fn state_name(state: PrefetchState) -> &'static str {
    match state {
        PrefetchState::Waiting => "waiting",
        PrefetchState::Yielding => "yielding",
        PrefetchState::Paused => "paused",
        PrefetchState::Throttled => "throttled",
        PrefetchState::BackingOff => "backing-off",
        PrefetchState::Finished => "finished",
        PrefetchState::Failed => "failed",
        PrefetchState::Stopped => "stopped",
        _ => "running",
    }
}
