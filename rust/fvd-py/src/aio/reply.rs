//! The results of operations that had to wait, on their way to an event loop.

use fvd::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCFunction;
use pyo3::{IntoPyObjectExt, wrap_pyfunction};
use tokio::task::AbortHandle;

use super::answer::Answer;
use crate::errors::raise;
use crate::held::Held;

/// Owes a result to an `asyncio.Future`. If it is dropped without one, because the operation has panicked,
/// the future gets an error.
pub(super) struct Reply(Option<Waiter>);

struct Waiter {
    event_loop: Held<PyAny>,
    future: Held<PyAny>,
}

impl Reply {
    /// A new future of the running event loop, and the reply that it waits for.
    pub(super) fn new(py: Python<'_>) -> PyResult<(Self, Bound<'_, PyAny>)> {
        static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let event_loop = RUNNING.import(py, "asyncio", "get_running_loop")?.call0()?;
        let future = event_loop.call_method0("create_future")?;
        let waiter = Waiter {
            event_loop: event_loop.unbind().into(),
            future: future.clone().unbind().into(),
        };
        Ok((Self(Some(waiter)), future))
    }

    /// Gives the result to the future, in the thread of its event loop.
    pub(super) fn deliver<T: Answer>(mut self, result: Result<T, Error>) {
        if let Some(waiter) = self.0.take() {
            waiter.deliver(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(waiter) = self.0.take() {
            let ended = std::io::Error::other("it has ended without a result");
            waiter.deliver::<bool>(Err(Error::io("finish the operation", ended)));
        }
    }
}

impl Waiter {
    /// Does nothing if the loop is closed or the interpreter ends: then nothing waits any more.
    fn deliver<T: Answer>(self, result: Result<T, Error>) {
        // Everything of Python is dropped in here, the error of a closed loop too.
        Python::try_attach(|py| drop(self.call(py, result)));
    }

    fn call<T: Answer>(self, py: Python<'_>, result: Result<T, Error>) -> PyResult<()> {
        let (event_loop, future) = (self.event_loop.into_inner(), self.future.into_inner());
        let result = result.map_err(|error| raise(&error)).and_then(|value| value.into_py_any(py));
        let (setter, value) = match result {
            Ok(value) => ("set_result", value),
            Err(error) => ("set_exception", error.into_value(py).into_any()),
        };
        let arguments = (settle_function(py)?, future, setter, value);
        event_loop.call_method1(py, "call_soon_threadsafe", arguments).map(drop)
    }
}

/// Calls `setter` of the future with the value, unless it has been cancelled.
#[pyfunction]
fn settle(future: &Bound<'_, PyAny>, setter: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if !future.call_method0("done")?.is_truthy()? {
        future.call_method1(setter, (value,))?;
    }
    Ok(())
}

fn settle_function(py: Python<'_>) -> PyResult<&Bound<'_, PyCFunction>> {
    static SETTLE: PyOnceLock<Py<PyCFunction>> = PyOnceLock::new();
    let function = SETTLE.get_or_try_init(py, || wrap_pyfunction!(settle, py).map(Bound::unbind))?;
    Ok(function.bind(py))
}

/// A callback for a future: ends the task of a cancelled operation.
#[pyclass(frozen, module = "fvd._fvd")]
pub(super) struct Cancel(pub(super) AbortHandle);

#[pymethods]
impl Cancel {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        if future.call_method0("cancelled")?.is_truthy()? {
            self.0.abort();
        }
        Ok(())
    }
}
