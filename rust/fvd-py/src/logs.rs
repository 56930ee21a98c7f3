//! The records of the core: lines on stderr for the command line, and a queue for `logging`.
//!
//! No thread of the core takes the GIL for a record (docs/design/async-io.md, F5): it puts it into a queue, and
//! an eventfd wakes the thread of `fvd._logging`, which takes what is there.

use std::os::fd::AsRawFd as _;
use std::time::UNIX_EPOCH;

use fvd::Error;
use fvd_log::{Fields, Filter, Format, Record, Value, queue};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::errors::raise;

/// The numbers of `logging` for levels. It has none for the last one.
const LEVELS: [(u8, LevelFilter); 5] = [
    (40, LevelFilter::ERROR),
    (30, LevelFilter::WARN),
    (20, LevelFilter::INFO),
    (10, LevelFilter::DEBUG),
    (5, LevelFilter::TRACE),
];

/// Writes the records that `filter` wants to stderr, as lines of `format`. The first call in a process counts.
/// `ValueError` if one of them is wrong.
#[pyfunction]
pub(crate) fn start_log(filter: &str, format: &str) -> PyResult<()> {
    let format: Format = format.parse().map_err(PyValueError::new_err)?;
    let filter: Filter = filter.parse().map_err(PyValueError::new_err)?;
    fvd_log::start_lines(filter, format).map_err(|error| raise(&Error::io("start a thread", error)))
}

/// Waits a moment for lines that are not written yet.
#[pyfunction]
pub(crate) fn finish_log(py: Python<'_>) {
    py.detach(fvd_log::finish_lines);
}

/// Puts records of at least this level of `logging` into the queue. None: no records.
#[pyfunction]
#[pyo3(signature = (level))]
pub(crate) fn set_log_level(level: Option<u32>) {
    let wanted = |level: u32| {
        let enough = LEVELS.iter().rev().find(|(number, _)| u32::from(*number) >= level);
        enough.map_or(LevelFilter::OFF, |(_, filter)| *filter)
    };
    queue::set_level(level.map_or(LevelFilter::OFF, wanted));
}

/// The descriptor that can be read when records wait.
#[pyfunction]
pub(crate) fn log_descriptor() -> PyResult<i32> {
    let descriptor = queue::descriptor();
    let descriptor = descriptor.map_err(|error| raise(&Error::io("create an eventfd", error)))?;
    Ok(descriptor.as_raw_fd())
}

/// Takes the records that wait, as tuples of time, level, target, message, fields, spans and name of the thread.
/// Also returns how many were dropped because the queue was full.
#[pyfunction]
pub(crate) fn take_log(py: Python<'_>) -> PyResult<(Bound<'_, PyList>, u64)> {
    let (records, dropped) = queue::take();
    let list = PyList::empty(py);
    for record in records {
        list.append(tuple(py, record)?)?;
    }
    Ok((list, dropped))
}

/// Delivers the records of the exit: the thread of `fvd._logging` may have no time for them any more.
pub(crate) fn deliver_last(py: Python<'_>) {
    let deliver = || {
        let modules = py.import("sys")?.getattr("modules")?;
        let logging = modules.call_method1("get", ("fvd._logging",))?;
        if !logging.is_none() {
            logging.call_method0("deliver")?;
        }
        Ok::<_, PyErr>(())
    };
    if let Err(error) = deliver() {
        error.write_unraisable(py, None);
    }
}

fn tuple(py: Python<'_>, record: Record) -> PyResult<Py<PyAny>> {
    let time = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let spans = PyList::empty(py);
    for scope in &record.scopes {
        spans.append((scope.name, dict(py, &scope.fields)?))?;
    }
    let tuple = (
        time.as_secs_f64(),
        number(record.level),
        record.target,
        record.message,
        dict(py, &record.fields)?,
        spans,
        record.thread,
    );
    Ok(tuple.into_pyobject(py)?.into_any().unbind())
}

fn number(level: Level) -> u8 {
    let found = LEVELS.iter().find(|(_, filter)| *filter == level);
    found.map_or(0, |(number, _)| *number)
}

fn dict<'py>(py: Python<'py>, fields: &Fields) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in fields {
        match value {
            Value::Signed(value) => dict.set_item(name, value)?,
            Value::Unsigned(value) => dict.set_item(name, value)?,
            Value::Float(value) => dict.set_item(name, value)?,
            Value::Bool(value) => dict.set_item(name, value)?,
            Value::Text(value) => dict.set_item(name, value)?,
        }
    }
    Ok(dict)
}
