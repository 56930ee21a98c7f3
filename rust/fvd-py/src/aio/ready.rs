//! An awaitable that already has its result.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use super::answer::Answer;

/// The event loop gets a turn after so many immediate results. Otherwise a task that reads only cached data
/// would block all other tasks.
const FAIRNESS: u32 = 32;

#[pyclass(module = "fvd")]
pub(super) struct Ready {
    value: Option<Py<PyAny>>,
    /// Whether the event loop gets a turn first.
    polite: bool,
}

static READY: AtomicU32 = AtomicU32::new(0);

impl Ready {
    pub(super) fn of<T: Answer>(py: Python<'_>, value: T) -> PyResult<Bound<'_, PyAny>> {
        let value = value.into_py_any(py)?;
        let polite = READY.fetch_add(1, Ordering::Relaxed) % FAIRNESS == FAIRNESS - 1;
        let ready = Self {
            value: Some(value),
            polite,
        };
        Ok(Bound::new(py, ready)?.into_any())
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if std::mem::take(&mut self.polite) {
            return Ok(Some(py.None()));
        }
        Err(PyStopIteration::new_err((self.value.take(),)))
    }
}
