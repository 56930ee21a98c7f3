//! What Python code sees of a queue: the module `fvd._calls` uses it.

use std::sync::Arc;

use fvd::Error;
use fvd::process::Owned;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::queue::{Queue, Taken, Work};
use crate::errors::raise;
use crate::held;

/// The calls that the core makes of one object.
#[pyclass(frozen, module = "fvd._fvd")]
pub(crate) struct Calls(pub(crate) Arc<Queue>);

#[pymethods]
impl Calls {
    /// Waits for a call, without the GIL. None if there will be no more, and in a forked child.
    fn next(&self, py: Python<'_>) -> Option<Call> {
        held::release(py);
        let taken = py.detach(|| self.0.next())?;
        Some(Call::new(&self.0, taken))
    }

    /// Takes the calls that wait, and the numbers of those whose callers have given up. None if there will be no
    /// more, and in a forked child.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyList>, Vec<u64>)>> {
        held::release(py);
        let Some((taken, dropped)) = self.0.take() else {
            return Ok(None);
        };
        let list = PyList::empty(py);
        for call in taken {
            list.append(Call::new(&self.0, call).into_pyobject(py)?)?;
        }
        Ok(Some((list, dropped)))
    }

    /// The descriptor that can be read when there are calls.
    fn fileno(&self) -> PyResult<i32> {
        let none = || PyValueError::new_err("it is for threads, or belongs to another process");
        self.0.descriptor().ok_or_else(none)
    }

    /// Refuses all calls from now on, because of `reason`.
    fn end(&self, reason: &str) {
        let error = Error::io("call it", std::io::Error::other(reason.to_owned()));
        self.0.end(&error);
    }
}

/// One call.
#[pyclass(frozen, module = "fvd._fvd")]
pub(crate) struct Call {
    queue: Arc<Queue>,
    #[pyo3(get)]
    number: u64,
    work: Owned<Arc<dyn Work>>,
}

impl Call {
    fn new(queue: &Arc<Queue>, (number, work): Taken) -> Self {
        Self {
            queue: Arc::clone(queue),
            number,
            work: Owned::new(work),
        }
    }

    /// Fails in a forked child: the one who waits is in the parent.
    fn work(&self) -> PyResult<&Arc<dyn Work>> {
        self.work.get().map_err(|error| raise(&error))
    }

    fn settle(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        // It ends after that: to read the result is to run Python code (a generator), which may hang.
        self.work()?.settle(py, result);
        self.queue.ended(self.number);
        held::release(py);
        Ok(())
    }
}

#[pymethods]
impl Call {
    /// The name of the method to call.
    #[getter]
    fn method(&self) -> PyResult<&'static str> {
        Ok(self.work()?.method())
    }

    /// The arguments of the method.
    #[getter]
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.work()?.arguments(py)
    }

    /// Gives what the method returned to the one who waits.
    fn answer(&self, py: Python<'_>, result: Bound<'_, PyAny>) -> PyResult<()> {
        self.settle(py, Ok(result))
    }

    /// Tells the one who waits that the method raised `exception`.
    fn fail(&self, py: Python<'_>, exception: Bound<'_, PyAny>) -> PyResult<()> {
        self.settle(py, Err(PyErr::from_value(exception)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(work) = self.queue.ended(self.number) {
            let ended = std::io::Error::other("it has ended without an answer");
            work.refuse(Error::io("call it", ended));
        }
    }
}
