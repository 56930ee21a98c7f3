//! A server that runs on threads of its own.

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
use crate::unclosed;

/// How often signals of Python are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// A server that runs on threads of its own, until it is stopped. See `fvd.serve`.
#[pyclass(frozen, module = "fvd", weakref)]
pub(crate) struct Server {
    serving: Arc<Serving>,
    uris: Vec<String>,
    metrics_url: Option<String>,
    open_doors: Vec<String>,
    /// They live as long as this: what nobody has any more is closed, and cannot be while it is served.
    _leased: Vec<Py<PyAny>>,
}

impl Server {
    /// `leased`: the images among the disks.
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

    /// Fails in a child that was forked while the server ran: its threads are not there.
    fn check_process(&self) -> PyResult<()> {
        self.serving.check_process().map_err(|error| raise(&error))
    }
}

#[pymethods]
impl Server {
    /// Where clients find the disks: one for each export on each socket.
    #[getter]
    fn uris(&self) -> Vec<String> {
        self.uris.clone()
    }

    /// Where the metrics are, if they are anywhere.
    #[getter]
    fn metrics_url(&self) -> Option<String> {
        self.metrics_url.clone()
    }

    /// Addresses that other machines can reach and whose clients need no TLS.
    #[getter]
    fn open_doors(&self) -> Vec<String> {
        self.open_doors.clone()
    }

    /// Whether it has been stopped.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        py.detach(|| self.serving.is_closed())
    }

    /// How many clients are connected.
    #[getter]
    fn connections(&self, py: Python<'_>) -> u64 {
        let connections = |daemon: &Daemon| daemon.counters().connections().now;
        py.detach(|| self.serving.with(connections)).unwrap_or(0)
    }

    /// Waits until it does not serve any more (`ended`), a signal has come (`signal`), or the time in
    /// seconds has passed (`timeout`).
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<&'static str> {
        self.check_process()?;
        let mut rest = timeout.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
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

    /// What was done since the start: a dictionary.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.check_process()?;
        let read = |daemon: &Daemon| (Arc::clone(daemon.counters()), daemon.disks());
        let stopped = || Error::invalid_argument("The server has been stopped");
        let (counters, disks) = blocking(py, || self.serving.with(read).ok_or_else(stopped))?;
        stats::to_dict(py, &counters, disks)
    }

    /// Does what `stop` does, and waits for nothing. What fails is told to the next `stop`. False where
    /// there is nothing to wait for: in a child that was forked.
    fn begin_stop(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.serving.is_ours() {
            return Ok(false);
        }
        blocking(py, || self.serving.begin_close(|_| false))?;
        Ok(true)
    }

    /// Shuts down, waits until what is under way has ended, and closes the disks. Does nothing the
    /// second time, but for waiting, and nothing in a child that was forked. A signal of Python's ends
    /// the waiting, not the closing.
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
                // It has panicked, and said so.
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
