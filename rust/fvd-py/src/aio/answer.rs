//! What a method returns to asyncio: an awaitable, which often has its result from the start.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use fvd::Error;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyNone;
use pyo3::{Borrowed, IntoPyObjectExt};
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{ContextExt, Runtime, future_into_py};
use tokio::task::{JoinError, JoinHandle};

use crate::errors::raise;
use crate::runtime;

/// So many results that were there at once are given before the event loop gets a turn: a task that reads
/// nothing but cached data would otherwise stop all the others.
const FAIRNESS: u32 = 32;

/// What an operation can return.
pub(super) trait Answer: for<'a> IntoPyObject<'a> + Send + 'static {}

impl<T: for<'a> IntoPyObject<'a> + Send + 'static> Answer for T {}

/// An operation that can be dropped at any time: a read.
pub(super) fn droppable<T, F>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Answer,
{
    begin(py, future, |future| future)
}

/// An operation that runs to its end once begun, also when nobody waits for it any more: a write.
pub(super) fn unstoppable<T, F>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Answer,
{
    begin(py, future, |future| {
        let task = spawn(future);
        async move { task.await.unwrap_or_else(|error| Err(ended(&error))) }
    })
}

/// A result that is there without an operation.
pub(super) fn at_once<T: Answer>(py: Python<'_>, value: T) -> PyResult<Bound<'_, PyAny>> {
    Ready::of(py, value)
}

/// Polls `future` once, here: what needs not wait costs no change of threads.
fn begin<T, F, W, G>(py: Python<'_>, future: F, drive: W) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    W: FnOnce(Pin<Box<F>>) -> G,
    G: Future<Output = Result<T, Error>> + Send + 'static,
    T: Answer,
{
    let runtime = runtime::shared().map_err(|error| raise(&error))?;
    let mut future = Box::pin(future);
    let first = py.detach(|| {
        let _context = runtime.enter();
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    });
    match first {
        Poll::Ready(Ok(value)) => Ready::of(py, value),
        Poll::Ready(Err(error)) => Err(raise(&error)),
        Poll::Pending => {
            let future = drive(future);
            future_into_py::<Tokio, _, T>(py, async move {
                let mut future = pin!(future);
                future.as_mut().await.map_err(|error| raise(&error))
            })
        }
    }
}

/// What an operation returns that returns nothing: None. (A unit would be an empty tuple.)
pub(super) struct Nothing;

impl<'py> IntoPyObject<'py> for Nothing {
    type Target = PyNone;
    type Output = Borrowed<'py, 'py, PyNone>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(PyNone::get(py))
    }
}

/// A task of the runtime, which is there by now.
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    runtime::shared()
        .expect("the runtime was there when the operation began")
        .spawn(future)
}

/// Nobody aborts these tasks, so it has panicked; the panic has been reported where it happened.
fn ended(error: &JoinError) -> Error {
    Error::io("finish the operation", std::io::Error::other(error.to_string()))
}

/// An awaitable with its result.
#[pyclass(module = "fvd")]
struct Ready {
    value: Option<Py<PyAny>>,
    /// The event loop gets a turn first.
    polite: bool,
}

static READY: AtomicU32 = AtomicU32::new(0);

impl Ready {
    fn of<T: Answer>(py: Python<'_>, value: T) -> PyResult<Bound<'_, PyAny>> {
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

/// The runtime of this process, for pyo3-async-runtimes: one of its own would not survive a fork.
struct Tokio;

struct TaskError(JoinError);

impl pyo3_async_runtimes::generic::JoinError for TaskError {
    fn is_panic(&self) -> bool {
        self.0.is_panic()
    }

    fn into_panic(self) -> Box<dyn std::any::Any + Send + 'static> {
        self.0.into_panic()
    }
}

impl Runtime for Tokio {
    type JoinError = TaskError;
    type JoinHandle = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;

    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Self::JoinHandle {
        let task = spawn(future);
        Box::pin(async move { task.await.map_err(TaskError) })
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(work: F) -> Self::JoinHandle {
        let runtime = runtime::shared().expect("the runtime was there when the operation began");
        let task = runtime.spawn_blocking(work);
        Box::pin(async move { task.await.map_err(TaskError) })
    }
}

impl ContextExt for Tokio {
    fn scope<F, R>(_locals: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        // Nothing here calls back into Python coroutines, which would need to know their loop.
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}
