//! The awaitables that methods return to asyncio. Many have their result from the start.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fvd::Error;
use pyo3::prelude::*;
use pyo3::types::PyNone;
use pyo3::{Borrowed, intern};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::completions::Reply;
use super::ready::Ready;
use crate::errors::raise;
use crate::held::releasing;
use crate::runtime;

/// The result of an operation. Objects of Python in it are [`Held`](crate::held::Held).
pub(super) trait Answer: for<'a> IntoPyObject<'a> + Send + 'static {}

impl<T: for<'a> IntoPyObject<'a> + Send + 'static> Answer for T {}

/// Starts an operation that can be dropped at any time, such as a read.
pub(super) fn droppable<T, F>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Answer,
{
    let runtime = shared()?;
    let future = match first_poll(py, &runtime, future) {
        Ok(result) => return at_once(py, result),
        Err(future) => future,
    };
    let (awaitable, task) = spawn(py, &runtime, future)?;
    awaitable.call_method1("add_done_callback", (Cancel(task),))?;
    Ok(awaitable)
}

/// Starts an operation that always runs to its end, even if the task that awaits it is cancelled. Used for
/// writes.
pub(super) fn unstoppable<T, F>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Answer,
{
    let runtime = shared()?;
    match first_poll(py, &runtime, future) {
        Ok(result) => at_once(py, result),
        Err(future) => spawn(py, &runtime, future).map(|(awaitable, _)| awaitable),
    }
}

/// An awaitable with an immediate result. An error is raised here.
pub(super) fn at_once<T: Answer>(py: Python<'_>, result: Result<T, Error>) -> PyResult<Bound<'_, PyAny>> {
    Ready::of(py, result.map_err(|error| raise(&error))?)
}

fn shared() -> PyResult<Handle> {
    runtime::shared().map_err(|error| raise(&error))
}

/// Polls `future` once on this thread. An operation that does not have to wait then needs no switch of
/// threads. Returns the future if it has to wait.
fn first_poll<F>(py: Python<'_>, runtime: &Handle, future: F) -> Result<F::Output, Pin<Box<F>>>
where
    F: Future<Output: Send> + Send,
{
    let mut future = Box::pin(future);
    let first = releasing(py, || {
        py.detach(|| {
            let _context = runtime.enter();
            future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
    });
    match first {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => Err(future),
    }
}

/// Runs the rest of an operation as a task of the runtime. Returns an awaitable of its result.
fn spawn<'py, T, F>(py: Python<'py>, runtime: &Handle, future: F) -> PyResult<(Bound<'py, PyAny>, AbortHandle)>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Answer,
{
    let (reply, awaitable) = Reply::new(py)?;
    let task = runtime.spawn(async move { reply.send(future.await) });
    Ok((awaitable, task.abort_handle()))
}

/// A callback for a future: ends the task of a cancelled operation.
#[pyclass(frozen, module = "fvd._fvd")]
struct Cancel(AbortHandle);

#[pymethods]
impl Cancel {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        if future.call_method0(intern!(future.py(), "cancelled"))?.is_truthy()? {
            self.0.abort();
        }
        Ok(())
    }
}

/// The result None. (The unit type would become an empty tuple.)
pub(super) struct Nothing;

impl<'py> IntoPyObject<'py> for Nothing {
    type Target = PyNone;
    type Output = Borrowed<'py, 'py, PyNone>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(PyNone::get(py))
    }
}
