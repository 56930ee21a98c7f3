//! The Python class of a server that runs on its own threads.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use fvd::Error;
use fvd_nbd::daemon::{Daemon, Event};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::serving::Serving;
use super::stats;
use crate::arguments::blocking;
use crate::errors::raise;
use crate::exit::{self, Closable};
use crate::{numbers, unclosed};

/// The interval at which Python signals are checked.
const INTERVAL: Duration = Duration::from_millis(100);

/// A server that runs on its own threads until it is stopped. See `fvd.serve`.
#[pyclass(frozen, module = "fvd", weakref)]
pub(crate) struct Server {
    serving: Arc<Serving>,
    uris: Vec<String>,
    metrics_url: Option<String>,
    open_doors: Vec<String>,
    /// The served Python images. They must live as long as the server: an image without references is closed,
    /// which is not possible while it is served.
    _leased: Vec<Py<PyAny>>,
}

impl Server {
    /// `leased` are the open images among the disks.
    pub(super) fn new(daemon: Daemon, leased: Vec<Py<PyAny>>) -> Self {
        let (uris, metrics_url) = (daemon.uris(), daemon.metrics_url());
        let open_doors = daemon.open_doors().iter().map(ToString::to_string).collect();
        let serving = Arc::new(Serving::new(daemon));
        exit::remember(&serving);
        Self {
            serving,
            uris,
            metrics_url,
            open_doors,
            _leased: leased,
        }
    }

    /// Fails in a child process that was forked while the server ran: the server's threads do not exist
    /// there.
    fn check_process(&self) -> PyResult<()> {
        self.serving.check_process().map_err(|error| raise(&error))
    }
}

#[pymethods]
impl Server {
    /// The NBD URIs for clients: one for each export on each socket.
    #[getter]
    fn uris(&self) -> Vec<String> {
        self.uris.clone()
    }

    /// The URL of the metrics; None if they are not served.
    #[getter]
    fn metrics_url(&self) -> Option<String> {
        self.metrics_url.clone()
    }

    /// The addresses that other machines can reach and where clients need no TLS: any client there can use
    /// the disks.
    #[getter]
    fn open_doors(&self) -> Vec<String> {
        self.open_doors.clone()
    }

    /// Whether the server has been stopped.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        py.detach(|| self.serving.is_closed())
    }

    /// The number of connected clients.
    #[getter]
    fn connections(&self, py: Python<'_>) -> u64 {
        let connections = |daemon: &Daemon| daemon.counters().connections().now;
        py.detach(|| self.serving.with(connections)).unwrap_or(0)
    }

    /// Waits for an event, and returns its name: 'ended' if the server no longer serves, 'signal' if a signal
    /// has arrived, 'timeout' if `timeout` seconds have passed. `timeout` None: no limit.
    #[pyo3(signature = (timeout = None))]
    fn wait(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers::timeout)] timeout: Option<Duration>,
    ) -> PyResult<&'static str> {
        self.check_process()?;
        let mut rest = timeout;
        loop {
            py.check_signals()?;
            let step = rest.map_or(INTERVAL, |rest| rest.min(INTERVAL));
            match py.detach(|| self.serving.with(|daemon| daemon.wait(Some(step)))) {
                None | Some(Event::Ended) => return Ok("ended"),
                Some(Event::Signal) => return Ok("signal"),
                Some(Event::Timeout) => {}
            }
            if let Some(rest) = &mut rest {
                *rest = rest.saturating_sub(step);
                if rest.is_zero() {
                    return Ok("timeout");
                }
            }
        }
    }

    /// Returns counters since the start of the server: a dictionary.
    ///
    /// `ValueError` if the server has been stopped.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.check_process()?;
        let read = |daemon: &Daemon| (Arc::clone(daemon.counters()), daemon.disks());
        let stopped = || Error::invalid_argument("The server has been stopped");
        let (counters, disks) = blocking(py, || self.serving.with(read).ok_or_else(stopped))?;
        stats::to_dict(py, &counters, disks)
    }

    /// Begins to stop the server, and does not wait. An error is raised by the next call of `stop`. Returns
    /// False in a forked child, where there is nothing to wait for.
    fn begin_stop(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.serving.is_ours() {
            return Ok(false);
        }
        blocking(py, || self.serving.begin_close(|_| false))?;
        Ok(true)
    }

    /// Shuts the server down, waits until requests in flight have completed, and closes the disks. If the
    /// server is already stopping, waits for its end. Does nothing in a forked child. An exception of a
    /// Python signal handler ends the waiting, not the closing. If a disk could not be closed, raises the
    /// error, but only in the first call that waits for the end.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        if !self.serving.is_ours() {
            return Ok(());
        }
        let (sender, mut closed) = channel();
        let tell = move |closed: &Result<(), Error>| sender.send(closed.clone()).is_ok();
        blocking(py, || self.serving.begin_close(tell))?;
        loop {
            py.check_signals()?;
            let closed = &mut closed;
            match py.detach(move || closed.recv_timeout(INTERVAL)) {
                Ok(closed) => return closed.map_err(|error| raise(&error)),
                Err(RecvTimeoutError::Timeout) => {}
                // The closing thread has panicked. The panic has been reported on stderr.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        unclosed::close(&*self.serving, || format!("server of {}", self.uris.join(", ")));
    }
}
