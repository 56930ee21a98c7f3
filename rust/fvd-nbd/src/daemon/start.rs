//! Starts a server: first opens all disks, then accepts clients.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use fvd::chain::AsyncIo;
use fvd::host::BoxFuture;
use fvd::process::Owned;
use fvd::remote::RemoteOpener;
use fvd::storage::Storage as _;
use fvd::{Error, Result};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::sleep;
use tracing::warn;

use super::address::{Address, Place, bind, bind_metrics};
use super::background::Background;
use super::clock::TokioClock;
use super::close::close_all;
use super::http::respond;
use super::metrics;
use super::open::{DiskOptions, open_patiently};
use super::pauses::tell_pauses;
use super::signals::Signals;
use super::{Daemon, DaemonOptions, Disk, DiskStatus, TlsCredentials, TlsOptions};
use crate::protocol::handshake::TlsPolicy;
use crate::server::{Credentials, Exports, Listener, Server};

/// The maximum number of threads that serve.
const MOST_WORKERS: usize = 4;

/// The parts of a server other than its disks.
struct Prepared {
    exports: Exports<Disk>,
    listeners: Vec<Listener>,
    metrics: Option<(SocketAddr, TcpListener)>,
    background: Vec<Option<Background>>,
    signals: Signals,
}

impl Daemon {
    /// Opens the disks, listens and serves. Blocks until clients can connect.
    ///
    /// # Errors
    ///
    /// A disk cannot be opened or its part does not fit, a socket cannot be bound, the TLS files are invalid,
    /// an export is invalid, or the system has no resources left. In every case, all disks are closed again
    /// and no socket remains.
    pub fn start(options: DaemonOptions) -> Result<Self> {
        let runtime = runtime().map_err(|error| Error::io("start a thread", error))?;
        let DaemonOptions {
            disks,
            patience,
            addresses,
            backend,
            limits,
            sharing,
            tls,
            metrics,
            remote,
            signals,
        } = options;
        // If only one client is allowed at a time, a second connection of the same client would wait for
        // ever.
        let multi_conn = sharing.shared != 1;
        let credentials = tls.as_ref().map(credentials).transpose()?;
        let has_tls = credentials.is_some();
        let requires_tls = tls.as_ref().is_some_and(|tls| tls.required);
        let files = match backend {
            Some(backend) => AsyncIo::with_backend(backend)?,
            None => AsyncIo::new()?,
        };
        let files = files.with_clock(Arc::new(TokioClock::new(runtime.handle().clone())));
        let mut open = Vec::new();
        let prepared = runtime.block_on(async {
            let exports = open_all(&files, disks, patience, multi_conn, &mut open).await?;
            let listeners = bind_all(addresses).await?;
            let metrics = match metrics {
                None => None,
                Some(address) => Some(bind_metrics(&address).await?),
            };
            let signals = if signals { Signals::catch() } else { Ok(Signals::none()) };
            Ok(Prepared {
                signals: signals.map_err(|error| Error::io("wait for signals", error))?,
                background: start_background(&open),
                exports,
                listeners,
                metrics,
            })
        });
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                // The first error is reported. Errors of closing are ignored.
                let _ = runtime.block_on(close_all(open.into_iter().map(|disk| (disk, None)).collect()));
                return Err(error);
            }
        };
        for folder in prepared.listeners.iter().filter_map(Listener::unlocked_folder) {
            warn!("{}", unlocked(folder));
        }
        tell_pauses_of(&runtime, &open, &prepared.background);
        let mut server = Server::new(prepared.exports, limits, |error| warn!("{error}")).with_sharing(sharing);
        if let Some((credentials, policy)) = credentials {
            server = server.with_tls(credentials, policy);
        }
        let server = Arc::new(server);
        let places = prepared.listeners.iter().map(Place::of).collect();
        let listen = |listener| {
            let server = Arc::clone(&server);
            runtime.spawn(async move { server.listen(listener).await })
        };
        let metrics = prepared.metrics.map(|(address, listener)| {
            let text = metrics_of(&server, &open, &prepared.background, remote);
            (address, runtime.spawn(respond(listener, text)))
        });
        let daemon = Self {
            metrics,
            listening: prepared.listeners.into_iter().map(listen).collect(),
            disks: open.into_iter().zip(prepared.background).collect(),
            signals: prepared.signals,
            runtime: Owned::new(runtime),
            server,
            places,
            has_tls,
            requires_tls,
        };
        daemon.tell_leasables();
        Ok(daemon)
    }

    /// Tells the owners of leased images where these are served.
    fn tell_leasables(&self) {
        for (disk, _) in &self.disks {
            if let Some(lease) = disk.lease() {
                lease.served_at(self.uris_of(disk).collect());
            }
        }
    }
}

/// The message about a socket that was created without the lock on its folder.
fn unlocked(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "The lock on the folder {folder} could not be had: if another server makes the same socket now, one replaces the other's"
    )
}

fn credentials(tls: &TlsOptions) -> Result<(Credentials, TlsPolicy)> {
    let credentials = match &tls.credentials {
        TlsCredentials::Certificates {
            folder,
            verify_peer,
            subjects,
        } => {
            let credentials = Credentials::x509(folder, *verify_peer || !subjects.is_empty())?;
            if subjects.is_empty() {
                credentials
            } else {
                credentials.for_subjects(subjects.clone())?
            }
        }
        TlsCredentials::Keys(file) => Credentials::psk(file)?,
    };
    let policy = if tls.required {
        TlsPolicy::Required
    } else {
        TlsPolicy::Optional
    };
    Ok((credentials, policy))
}

fn runtime() -> std::io::Result<Runtime> {
    let cores = available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.min(MOST_WORKERS))
        .thread_name("fvd-serve")
        .enable_all()
        .build()
}

/// Opens all disks before any socket exists, so that their errors leave none. After an error, `open` contains
/// the disks that were opened.
async fn open_all(
    files: &AsyncIo,
    disks: Vec<DiskOptions>,
    patience: Duration,
    multi_conn: bool,
    open: &mut Vec<Arc<Disk>>,
) -> Result<Exports<Disk>> {
    let mut exports = Exports::new();
    for options in disks {
        let part = options.part;
        let mut disk = open_patiently(files, options, patience)
            .await?
            .with_multi_conn(multi_conn);
        let fits = disk.limit_to(part);
        let disk = Arc::new(disk);
        open.push(Arc::clone(&disk));
        fits?;
        exports.add(disk)?;
    }
    Ok(exports)
}

async fn bind_all(addresses: Vec<Address>) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.extend(bind(address).await?);
    }
    Ok(listeners)
}

/// A function that creates the text of the metrics, for each request.
fn metrics_of(
    server: &Arc<Server<Disk>>,
    disks: &[Arc<Disk>],
    background: &[Option<Background>],
    remote: Option<Arc<dyn RemoteOpener>>,
) -> impl Fn() -> BoxFuture<'static, String> + Send + Sync + 'static {
    let counters = Arc::clone(server.counters());
    let controls = background
        .iter()
        .map(|all| all.as_ref().map(|one| one.control().clone()));
    let disks: Arc<[_]> = disks.iter().cloned().zip(controls).collect();
    move || {
        let (counters, disks) = (Arc::clone(&counters), Arc::clone(&disks));
        let stores = remote.as_ref().map(|remote| remote.counters());
        Box::pin(async move { metrics::text(&counters, &DiskStatus::of_all(&disks).await, stores.as_ref()) })
    }
}

/// Reports when prefetch of a disk pauses. Not for leased images: the program can ask these itself.
fn tell_pauses_of(runtime: &Runtime, disks: &[Arc<Disk>], background: &[Option<Background>]) {
    for (disk, background) in disks.iter().zip(background) {
        if let (Some(image), Some(background)) = (disk.content().image(), background) {
            let path = image.file().path().to_owned();
            let report = |line: &dyn Display| warn!("{line}");
            runtime.spawn(tell_pauses(path, background.control().clone(), report, sleep));
        }
    }
}

/// Starts the background work of the images. Leased images already run theirs.
fn start_background(disks: &[Arc<Disk>]) -> Vec<Option<Background>> {
    let runtime = Handle::current();
    let of_disk = |disk: &Arc<Disk>| {
        let image = disk.content().image()?;
        let works = image.is_writable() && image.base().is_some() && disk.lease().is_none();
        works.then(|| Background::start(image, &runtime))
    };
    disks.iter().map(of_disk).collect()
}
