//! Prefetch in the foreground, and the status of prefetch.

use std::time::Duration;

use fvd::copy::{self, Control, PrefetchState, PrefetchStatus};
use fvd::{Error, ErrorKind};
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::raise;
use crate::handle::BlockingHandle;

/// The maximum time between two calls of the callback, and between two checks for signals.
const INTERVAL: Duration = Duration::from_millis(100);

/// Copies everything that is still in the base. See `Image.prefetch`.
/// `rate`: the most bytes per second.
pub(crate) fn run(
    py: Python<'_>,
    open: &BlockingHandle,
    callback: Option<Py<PyAny>>,
    rate: Option<u64>,
) -> PyResult<PrefetchStatus> {
    let Some(control) = py
        .detach(|| open.with(|engine| open.control(engine)))
        .map_err(|error| raise(&error))?
    else {
        let status = complete();
        report(py, callback.as_ref(), &status)?;
        return Ok(status);
    };
    let retries = control.status().retries;
    if rate.is_some() {
        control.set_rate(rate);
    }
    control.resume();
    let status = watch(py, open, &control, retries, callback.as_ref()).inspect_err(|_| control.pause())?;
    if !status.state.is_final() {
        control.pause();
    }
    outcome(status).map_err(|error| raise(&error))
}

/// Whether a caller that waits for prefetch gets an answer: it has ended, or a read of the base was given up
/// after the time that the user allows. `retries`: those before the caller began to wait.
pub(crate) fn is_over(status: &PrefetchStatus, retries: u64) -> bool {
    status.state.is_final() || (status.retries > retries && status.was_base_late())
}

/// The result of a prefetch that is over with this status.
pub(crate) fn outcome(status: PrefetchStatus) -> Result<PrefetchStatus, Error> {
    match status.state {
        PrefetchState::Finished => Ok(status),
        PrefetchState::Stopped => Err(ended()),
        // It has failed, or a read was given up.
        _ => Err(status.error.unwrap_or_else(ended)),
    }
}

/// Waits for the end of prefetch, and calls the callback meanwhile.
fn watch(
    py: Python<'_>,
    open: &BlockingHandle,
    control: &Control,
    retries: u64,
    callback: Option<&Py<PyAny>>,
) -> PyResult<PrefetchStatus> {
    let mut status = py.detach(|| current_status(open, control));
    loop {
        py.check_signals()?;
        // Before the first scan the total is not known.
        if status.total > 0 || status.state.is_final() {
            report(py, callback, &status)?;
            // The callback may have forked, and this may be the child.
            open.check_process().map_err(|error| raise(&error))?;
        }
        if is_over(&status, retries) {
            return Ok(status);
        }
        let seen = status.version;
        status = py.detach(|| {
            // Limits the rate of callbacks: a person cannot see more.
            std::thread::sleep(INTERVAL / 4);
            // Whether or not it has changed, the current status is reported.
            let _ = control.changed_within(seen, INTERVAL);
            current_status(open, control)
        });
    }
}

/// The current status. If the image is closed, the last status that the control has.
fn current_status(open: &BlockingHandle, control: &Control) -> PrefetchStatus {
    let status = open.with(|engine| block_on(copy::status(engine, Some(control))));
    status.unwrap_or_else(|_| control.status())
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

/// The status of an image that needs no base.
fn complete() -> PrefetchStatus {
    PrefetchStatus {
        state: PrefetchState::Finished,
        ..PrefetchStatus::default()
    }
}

/// A status as a dictionary.
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
    let waits = status.outage.as_ref().map(ToString::to_string);
    dict.set_item("reason", waits.or_else(|| status.pause.map(|pause| pause.to_string())))?;
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
        PrefetchState::BaseAway => "base-away",
        PrefetchState::Finished => "finished",
        PrefetchState::Failed => "failed",
        PrefetchState::Stopped => "stopped",
        _ => "running",
    }
}
