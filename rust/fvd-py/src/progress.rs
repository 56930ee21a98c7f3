//! Progress of long jobs: calls the Python callback and checks for signals.

use std::future::Future;
use std::ops::ControlFlow;

use fvd::tool::{Progress, drive};
use pyo3::prelude::*;

use crate::arguments::blocking;

/// Runs the future that `begin` returns, without the GIL. If a signal handler raises, the future is dropped
/// between two of its steps.
pub(crate) fn interruptible<T: Send, F: Future<Output = fvd::Result<T>>>(
    py: Python<'_>,
    begin: impl FnOnce() -> F + Send,
) -> PyResult<T> {
    let mut reporter = Reporter::new(None);
    let nothing = Progress { done: 0, total: None };
    let result = blocking(py, || drive(begin(), &mut || reporter.report(nothing)));
    result.map_err(|error| reporter.cause(error))
}

/// Calls `callback(done, total)`, and keeps the exception that ended the job.
pub(crate) struct Reporter {
    callback: Option<Py<PyAny>>,
    raised: Option<PyErr>,
}

impl Reporter {
    pub(crate) fn new(callback: Option<Py<PyAny>>) -> Self {
        let raised = None;
        Self { callback, raised }
    }

    /// Must be called without the GIL, on the thread that Python called. Breaks if the callback or a signal
    /// handler raises an exception.
    pub(crate) fn report(&mut self, progress: Progress) -> ControlFlow<()> {
        let result = Python::attach(|py| {
            py.check_signals()?;
            match &self.callback {
                None => Ok(()),
                // A total of 0 means that it is not known.
                Some(callback) => callback
                    .call1(py, (progress.done, progress.total.unwrap_or(0)))
                    .map(drop),
            }
        });
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.raised = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// The exception that ended the job, or else `error`.
    pub(crate) fn cause(self, error: PyErr) -> PyErr {
        self.raised.unwrap_or(error)
    }
}
