//! Hands results over to the event loops that wait for them. No thread of the core takes the GIL for this: it
//! puts the result into a list, and an eventfd wakes the event loop, whose thread gives all results in the
//! list to their futures.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{io, mem};

use fvd::Error;
use fvd::process::{CloseOnFork, Process};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{IntoPyObjectExt, intern};
use rustix::event::{EventfdFlags, eventfd};

use super::answer::Answer;
use crate::errors::raise;
use crate::held::{self, Held, Watcher};

/// The results of operations that one event loop waits for.
pub(super) struct Completions {
    process: Process,
    /// Before the descriptor: it must be dropped first.
    _close_on_fork: CloseOnFork,
    /// Wakes the event loop, which watches it until the loop is closed.
    eventfd: OwnedFd,
    /// Whether the event loop has been woken, and has not run the callback since.
    woken: AtomicBool,
    list: Mutex<Vec<Completion>>,
}

struct Completion {
    future: Held<Py<PyAny>>,
    result: Box<MakeResult>,
}

/// Makes the object or the exception for Python.
type MakeResult = dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send;

impl Completions {
    fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            process: Process::current(),
            _close_on_fork: CloseOnFork::new(eventfd.as_fd()),
            eventfd,
            woken: AtomicBool::new(false),
            list: Mutex::default(),
        })
    }

    /// The completions of this event loop, which watches for them from now on.
    fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        static ALL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = event_loop.py();
        let all = ALL.get_or_try_init(py, || {
            let weak = py.import("weakref")?.getattr("WeakKeyDictionary")?;
            weak.call0().map(Bound::unbind)
        })?;
        let known = all.call_method1(py, intern!(py, "get"), (event_loop,))?;
        if let Ok(known) = known.cast_bound::<Settle>(py) {
            let completions = &known.get().0;
            if completions.process.is_current() {
                return Ok(Arc::clone(completions));
            }
        }
        let completions = Self::new().map_err(|error| raise(&Error::io("create an eventfd", error)))?;
        let completions = Arc::new(completions);
        let settle = Bound::new(py, Settle(Arc::clone(&completions)))?;
        event_loop.call_method1("add_reader", (completions.eventfd.as_raw_fd(), &settle))?;
        all.bind(py).set_item(event_loop, settle)?;
        held::watch(Arc::downgrade(&completions) as Weak<dyn Watcher>);
        Ok(completions)
    }

    fn add(&self, completion: Completion) {
        self.list().push(completion);
        self.wake();
    }

    fn take(&self) -> Vec<Completion> {
        // Before the list is taken: what is added after that wakes the event loop again.
        let _ = rustix::io::read(&self.eventfd, &mut [0_u8; 8]);
        self.woken.swap(false, Ordering::AcqRel);
        mem::take(&mut *self.list())
    }

    fn list(&self) -> MutexGuard<'_, Vec<Completion>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Completions {
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // It cannot fail: the counter of an eventfd does not reach its limit.
            let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
        }
    }
}

/// The callback of an event loop: gives the results to the futures that wait.
#[pyclass(frozen, module = "fvd._fvd")]
struct Settle(Arc<Completions>);

#[pymethods]
impl Settle {
    fn __call__(&self, py: Python<'_>) {
        let completions = self.0.take();
        // The buffers of completed operations are free before their results are seen.
        held::release(py);
        held::releasing(py, || {
            for completion in completions {
                if let Err(error) = completion.settle(py) {
                    error.write_unraisable(py, None);
                }
            }
        });
    }
}

impl Completion {
    /// Gives the result to the future, unless it has been cancelled.
    fn settle(self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.into_inner().into_bound(py);
        let result = (self.result)(py);
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match result {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
        };
        Ok(())
    }
}

/// The right to give a result to one future. If it is dropped without a result, because the operation has
/// panicked, the future gets an error.
pub(super) struct Reply {
    completions: Arc<Completions>,
    /// None once there is a result.
    future: Option<Held<Py<PyAny>>>,
}

impl Reply {
    /// A new future of the running event loop, and the right to give it its result.
    pub(super) fn new(py: Python<'_>) -> PyResult<(Self, Bound<'_, PyAny>)> {
        static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let event_loop = RUNNING.import(py, "asyncio", "get_running_loop")?.call0()?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let reply = Self {
            completions: Completions::of(&event_loop)?,
            future: Some(Held::new(future.clone().unbind())),
        };
        Ok((reply, future))
    }

    /// Gives the result to the future, in the thread of its event loop.
    pub(super) fn send<T: Answer>(mut self, result: Result<T, Error>) {
        self.complete(result);
    }

    fn complete<T: Answer>(&mut self, result: Result<T, Error>) {
        if let Some(future) = self.future.take() {
            let result = Box::new(move |py: Python<'_>| match result {
                Ok(value) => value.into_py_any(py),
                Err(error) => Err(raise(&error)),
            });
            self.completions.add(Completion { future, result });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let ended = io::Error::other("it has ended without a result");
        self.complete::<bool>(Err(Error::io("finish the operation", ended)));
    }
}
