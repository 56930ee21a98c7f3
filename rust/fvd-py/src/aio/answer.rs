//! The awaitables that methods return to asyncio. Many have their result from the start.

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

/// The event loop gets a turn after so many immediate results. Otherwise a task that reads only cached data
/// would block all other tasks.
const FAIRNESS: u32 = 32;

/// The result of an operation.
pub(super) trait Answer: for<'a> IntoPyObject<'a> + Send + 'static {}

impl<T: for<'a> IntoPyObject<'a> + Send + 'static> Answer for T {}

/// Starts an operation that can be dropped at any time, such as a read.
pub(super) fn droppable<T, F>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
    T: Answer,
{
    begin(py, future, |future| future)
}

/// Starts an operation that always runs to its end, even if the task that awaits it is cancelled. Used for
/// writes.
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

/// An awaitable with an immediate result.
pub(super) fn at_once<T: Answer>(py: Python<'_>, value: T) -> PyResult<Bound<'_, PyAny>> {
    Ready::of(py, value)
}

/// Polls `future` once on this thread. An operation that does not have to wait then needs no switch of
/// threads.
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

/// Spawns a task on the runtime, which was started when the operation began.
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    runtime::shared()
        .expect("the runtime was there when the operation began")
        .spawn(future)
}

/// The error of a task that panicked: these tasks are never aborted. The panic has been reported on stderr.
fn ended(error: &JoinError) -> Error {
    Error::io("finish the operation", std::io::Error::other(error.to_string()))
}

/// An awaitable that already has its result.
#[pyclass(module = "fvd")]
struct Ready {
    value: Option<Py<PyAny>>,
    /// Whether the event loop gets a turn first.
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

/// The runtime of this process, for pyo3-async-runtimes. The runtime of that crate would not survive a fork.
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
        // No code here calls Python coroutines, which would need to know their event loop.
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}
