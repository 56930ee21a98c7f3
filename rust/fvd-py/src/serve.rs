//! `serve` and `Server`.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use fvd::Error;
use fvd::chain::ChainOptions;
use fvd_nbd::disk::Trim;
use fvd_nbd::host::{Address, DiskOptions, DiskStatus, Event, Format, Host, HostOptions};
use fvd_nbd::server::{Limits, Sharing};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, blocking, gate};
use crate::prefetch;
use crate::stats::Counters;

/// How often signals of Python are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Serves disks over NBD. See `fvd.serve`.
#[pyfunction]
#[pyo3(signature = (
    disks, *, socket = None, bind = None, port = None, description = "", format = None, read_only = false,
    persistent = true, shared = 0, force_share = false, cache = "writeback", discard = "unmap",
    copy_on_read = None, write_base = false, trust = Vec::new(), verbose = false, signals = false
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
#[expect(clippy::fn_params_excessive_bools, reason = "keyword arguments of Python")]
pub(crate) fn serve(
    py: Python<'_>,
    disks: Vec<(String, PathBuf)>,
    socket: Option<PathBuf>,
    bind: Option<String>,
    port: Option<u16>,
    description: &str,
    format: Option<&str>,
    read_only: bool,
    persistent: bool,
    shared: usize,
    force_share: bool,
    cache: &str,
    discard: &str,
    copy_on_read: Option<bool>,
    write_base: bool,
    trust: Vec<PathBuf>,
    verbose: bool,
    signals: bool,
) -> PyResult<Server> {
    let cache = arguments::cache(cache)?;
    let chain = ChainOptions {
        writable: !read_only,
        write_base,
        cache: cache.image(),
        direct: cache.is_direct(),
        copy_on_read,
        force_share,
        gate: gate(&trust)?,
    };
    let (format, trim) = (format.map(disk_format).transpose()?, trim(discard)?);
    let disk = |(name, path)| DiskOptions {
        path,
        name,
        description: description.to_owned(),
        format,
        trim,
        chain: chain.clone(),
    };
    let options = HostOptions {
        disks: disks.into_iter().map(disk).collect(),
        addresses: vec![address(socket, bind, port)?],
        limits: Limits::default(),
        sharing: Sharing { shared, persistent },
        signals,
        report: Box::new(move |error| {
            if verbose {
                eprintln!("fvd: {error}");
            }
        }),
    };
    let host = blocking(py, || Host::start(options))?;
    Ok(Server {
        uris: host.uris(),
        host: RwLock::new(Some(host)),
    })
}

fn address(socket: Option<PathBuf>, bind: Option<String>, port: Option<u16>) -> PyResult<Address> {
    match socket {
        Some(_) if bind.is_some() || port.is_some() => {
            let message = "A Unix socket has no address and no port: give either `socket`, or `bind` and `port`";
            Err(PyValueError::new_err(message))
        }
        Some(path) => Ok(Address::Unix(path)),
        None => Ok(Address::Tcp {
            host: bind.unwrap_or_else(|| "0.0.0.0".to_owned()),
            port: port.unwrap_or(fvd_nbd::host::DEFAULT_PORT),
        }),
    }
}

fn disk_format(name: &str) -> PyResult<Format> {
    match name {
        "fvd" => Ok(Format::Fvd),
        "raw" => Ok(Format::Raw),
        "qcow2" => Ok(Format::Qcow2),
        _ => Err(PyValueError::new_err(format!("Unknown file format '{name}'"))),
    }
}

fn trim(discard: &str) -> PyResult<Trim> {
    match discard {
        "unmap" | "on" => Ok(Trim::Unmap),
        "ignore" | "off" => Ok(Trim::Ignore),
        _ => Err(PyValueError::new_err(format!(
            "Invalid discard mode '{discard}': ignore or unmap"
        ))),
    }
}

/// A server that runs on threads of its own, until it is stopped.
#[pyclass(frozen, module = "fvd", weakref)]
pub(crate) struct Server {
    host: RwLock<Option<Host>>,
    uris: Vec<String>,
}

impl Server {
    fn with<T>(&self, work: impl FnOnce(&Host) -> T) -> Option<T> {
        let host = self.host.read().unwrap_or_else(PoisonError::into_inner);
        host.as_ref().map(work)
    }

    fn close(&self) -> Result<(), Error> {
        // Whoever waits, waits no longer.
        self.with(Host::stop);
        let host = self.host.write().unwrap_or_else(PoisonError::into_inner).take();
        host.map_or(Ok(()), Host::close)
    }
}

#[pymethods]
impl Server {
    /// Where clients find the disks: one for each export on each socket.
    #[getter]
    fn uris(&self) -> Vec<String> {
        self.uris.clone()
    }

    /// How many clients are connected.
    #[getter]
    fn connections(&self, py: Python<'_>) -> u64 {
        let connections = |host: &Host| host.counters().connections().now;
        py.detach(|| self.with(connections)).unwrap_or(0)
    }

    /// Waits until the last client has left (`ended`), a signal has come (`signal`), or the time in
    /// seconds has passed (`timeout`).
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<&'static str> {
        let mut rest = timeout.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        loop {
            py.check_signals()?;
            let step = rest.map_or(INTERVAL, |rest| rest.min(INTERVAL));
            match py.detach(|| self.with(|host| host.wait(Some(step)))) {
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

    /// What was done since the start: a dictionary for each export, by its name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let disks = py.detach(|| self.with(Host::disks)).unwrap_or_default();
        let all = PyDict::new(py);
        for disk in disks {
            all.set_item(disk.name.clone(), of_disk(py, disk)?)?;
        }
        Ok(all)
    }

    /// No new connection, no new request. Does not wait.
    fn shut_down(&self, py: Python<'_>) {
        py.detach(|| self.with(Host::stop));
    }

    /// Shuts down, waits until what is under way has ended, and closes the disks. Does nothing the
    /// second time.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, || self.close())
    }
}

fn of_disk(py: Python<'_>, disk: DiskStatus) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("image", disk.stats.map(Counters))?;
    dict.set_item("prefetch", disk.prefetch.map(prefetch::Status))?;
    Ok(dict)
}
