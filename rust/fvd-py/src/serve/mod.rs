//! The function `serve`, and the class `Server`.

mod disk;
mod server;
mod serving;
mod stats;

use std::path::PathBuf;
use std::time::Duration;

use fvd::Error;
use fvd::storage::Backend;
use fvd_nbd::daemon::{
    Address, DEFAULT_PORT, Daemon, DaemonOptions, DiskOptions, FileOptions, Format, TlsCredentials, TlsOptions,
};
use fvd_nbd::disk::Part;
use fvd_nbd::server::{Limits, Sharing};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::{Opening, blocking, outage, using};
use crate::buffer::duplicate;
use crate::numbers;
use crate::remote::{Far, Remote};
use crate::source::{Sources, Use};

use disk::{Disk, Given};
pub(crate) use server::Server;

/// Serves disks over NBD. See `fvd.serve`.
///
/// `disks` are tuples of an export name and a path or an open image. `offset` and `size` (bytes) select a
/// part of each disk. `base_timeout` and `patience` are in seconds, `handshake_limit` in whole seconds (0: no
/// limit), `poll_max_ns` in nanoseconds (0 to 500000).
#[pyfunction]
#[pyo3(signature = (
    disks, *, sockets = Vec::new(), socket = None, bind = None, port = None, description = "", format = None, offset = 0, size = None, read_only = false,
    persistent = true, shared = 0, force_share = false, cache = "writeback", discard = "unmap",
    detect_zeroes = "off", aio = None, copy_on_read = None, base_error = None, base_timeout = None, write_base = false,
    trust = Vec::new(), cache_dir = None, remote = None,
    tls_creds = None, tls_psk = None, tls_verify_peer = false, tls_authz = Vec::new(), tls_required = true,
    handshake_limit = None, poll_max_ns = None, metrics = None, signals = false, patience = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
#[expect(clippy::fn_params_excessive_bools, reason = "keyword arguments of Python")]
pub(crate) fn serve(
    py: Python<'_>,
    disks: Vec<(String, Given<'_>)>,
    sockets: Vec<i32>,
    socket: Option<PathBuf>,
    bind: Option<String>,
    #[pyo3(from_py_with = numbers::port)] port: Option<u16>,
    description: &str,
    format: Option<&str>,
    #[pyo3(from_py_with = numbers::offset)] offset: u64,
    #[pyo3(from_py_with = numbers::size)] size: Option<u64>,
    read_only: bool,
    persistent: bool,
    #[pyo3(from_py_with = numbers::shared)] shared: usize,
    force_share: bool,
    cache: &str,
    discard: &str,
    detect_zeroes: &str,
    aio: Option<&str>,
    copy_on_read: Option<bool>,
    base_error: Option<&str>,
    #[pyo3(from_py_with = numbers::base_timeout)] base_timeout: Option<Duration>,
    write_base: bool,
    trust: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    remote: Option<Remote>,
    tls_creds: Option<PathBuf>,
    tls_psk: Option<PathBuf>,
    tls_verify_peer: bool,
    tls_authz: Vec<String>,
    tls_required: bool,
    #[pyo3(from_py_with = numbers::handshake_limit)] handshake_limit: Option<u32>,
    #[pyo3(from_py_with = numbers::poll_max_ns)] poll_max_ns: Option<u64>,
    metrics: Option<String>,
    signals: bool,
    #[pyo3(from_py_with = numbers::patience)] patience: Option<Duration>,
) -> PyResult<Server> {
    let on_outage = outage(base_error, base_timeout)?;
    let mut sources = Sources::new();
    let how = Use {
        tells: true,
        ..using(on_outage)
    };
    disks
        .iter()
        .try_for_each(|(_, given)| given.add_to(&mut sources, how))?;
    let opening = Opening {
        // This applies only to files that are opened here. The program itself may still write to images that
        // it has open.
        writable: !(read_only || force_share),
        write_base,
        cache,
        discard,
        detect_zeroes,
        copy_on_read,
        on_outage,
        limits_local: true,
        force_share,
        trust: &trust,
        far: Far::new(cache_dir, remote),
        base: None,
        sources,
    };
    let chain = opening.options()?;
    let format = format.map(disk_format).transpose()?;
    let file = |path| FileOptions {
        path,
        format,
        chain: chain.clone(),
    };
    let leased = disks.iter().filter_map(|(_, given)| given.object()).collect();
    let disks: Vec<_> = disks
        .into_iter()
        .map(|(name, given)| (name, given.into_disk(file)))
        .collect();
    let part = Part { offset, size };
    let options = DaemonOptions {
        disks: Vec::new(),
        patience: patience.unwrap_or_default(),
        addresses: addresses(&sockets, socket, bind, port)?,
        backend: aio.map(backend).transpose()?,
        limits: limits(poll_max_ns.map(Duration::from_nanos), handshake_limit),
        tls: tls(tls_creds, tls_psk, tls_verify_peer, tls_authz, tls_required)?,
        metrics,
        remote: chain.remote.clone(),
        sharing: Sharing { shared, persistent },
        signals,
    };
    let daemon = blocking(py, || {
        let disk = |(name, disk): (String, Disk)| {
            Ok(DiskOptions {
                name,
                description: description.to_owned(),
                part,
                source: disk.source(read_only)?,
            })
        };
        let disks = disks.into_iter().map(disk).collect::<Result<_, Error>>()?;
        Daemon::start(DaemonOptions { disks, ..options })
    })?;
    Ok(Server::new(daemon, leased))
}

/// The limits of a server that spins for requests for at most `poll`, and allows `handshake` seconds for a
/// handshake (0: no limit).
fn limits(poll: Option<Duration>, handshake: Option<u32>) -> Limits {
    /// Longer than any server runs.
    const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
    let default = Limits::default();
    Limits {
        poll: poll.unwrap_or(default.poll),
        handshake: match handshake {
            None => default.handshake,
            Some(0) => FOR_EVER,
            Some(seconds) => Duration::from_secs(seconds.into()),
        },
        ..default
    }
}

fn addresses(
    sockets: &[i32],
    socket: Option<PathBuf>,
    bind: Option<String>,
    port: Option<u16>,
) -> PyResult<Vec<Address>> {
    let is_tcp = bind.is_some() || port.is_some();
    if is_tcp && socket.is_some() {
        let message = "A Unix socket has no address and no port: give either `socket`, or `bind` and `port`";
        return Err(PyValueError::new_err(message));
    }
    if !sockets.is_empty() {
        // The caller keeps its descriptors; the server uses duplicates.
        let inherited = |fd: &i32| Ok(Address::Inherited(duplicate(*fd)?.into()));
        return sockets.iter().map(inherited).collect();
    }
    Ok(vec![match socket {
        Some(path) => Address::Unix(path),
        None => Address::Tcp {
            host: bind.unwrap_or_else(|| "localhost".to_owned()),
            port: port.unwrap_or(DEFAULT_PORT),
        },
    }])
}

fn tls(
    folder: Option<PathBuf>,
    keys: Option<PathBuf>,
    verify_peer: bool,
    subjects: Vec<String>,
    required: bool,
) -> PyResult<Option<TlsOptions>> {
    let credentials = match (folder, keys) {
        (Some(_), Some(_)) => {
            let message = "TLS is either by certificates or by keys";
            return Err(PyValueError::new_err(message));
        }
        (Some(folder), None) => TlsCredentials::Certificates {
            folder,
            verify_peer,
            subjects,
        },
        (None, Some(_)) if !subjects.is_empty() => {
            let message = "Who is let in (tls_authz) goes by certificates; with keys, the file of the keys says it";
            return Err(PyValueError::new_err(message));
        }
        (None, _) if !subjects.is_empty() => {
            let message = "Who is let in (tls_authz) goes by certificates: TLS needs some (tls_creds)";
            return Err(PyValueError::new_err(message));
        }
        (None, _) if verify_peer => {
            let message = "To verify clients, TLS needs certificates";
            return Err(PyValueError::new_err(message));
        }
        (None, Some(keys)) => TlsCredentials::Keys(keys),
        (None, None) => return Ok(None),
    };
    Ok(Some(TlsOptions { credentials, required }))
}

fn disk_format(name: &str) -> PyResult<Format> {
    match name {
        "fvd" => Ok(Format::Fvd),
        "raw" => Ok(Format::Raw),
        "qcow2" => Ok(Format::Qcow2),
        _ => Err(PyValueError::new_err(format!("Unknown file format '{name}'"))),
    }
}

fn backend(aio: &str) -> PyResult<Backend> {
    match aio {
        "io_uring" => Ok(Backend::Uring),
        "threads" => Ok(Backend::Threads),
        _ => Err(PyValueError::new_err(format!(
            "Invalid aio mode '{aio}': threads or io_uring"
        ))),
    }
}
