//! A server with its disks, from opening to closing them.
//!
//! All disks are opened before any client can connect. After the last request has ended, the background work
//! of the images is stopped, their state is made durable, and they are marked clean. Errors of these steps
//! are returned by [`Daemon::close`]. See docs/design/nbd.md, "Serving".

mod address;
mod background;
mod clock;
mod close;
mod http;
mod metrics;
mod open;
mod pauses;
mod signals;
mod start;

use std::mem;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fvd::chain::{AsyncIo, FileOf};
use fvd::copy::{Control, PrefetchStatus};
use fvd::image::Stats;
use fvd::process::Owned;
use fvd::remote::RemoteOpener;
use fvd::storage::Backend;
use fvd::{Error, ErrorKind, Result};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{Instrument as _, info_span};

pub use address::{Address, DEFAULT_PORT};
pub use background::{Background, seed};
pub use clock::TokioClock;
pub use open::{DiskOptions, DiskSource, FileOptions, Format, OpenEngine, OpenImage};

use crate::disk::DiskExport;
use crate::server::{Counters, Export, Limits, Server, Sharing};
use address::Place;
use close::close_all;
use signals::Signals;

/// Requests are first polled on the task of their connection, so files must not block there.
type Disk = DiskExport<FileOf<AsyncIo>>;

/// What is served, where, and to whom.
pub struct DaemonOptions {
    /// The disks, at least one.
    pub disks: Vec<DiskOptions>,
    /// How long to wait for a disk that is in use: after a program was killed, the kernel may release its
    /// locks a moment later.
    pub patience: Duration,
    /// The addresses to listen on, at least one.
    pub addresses: Vec<Address>,
    /// The backend for I/O that would block. None: the best that the system permits.
    pub backend: Option<Backend>,
    /// The limits on what clients can use.
    pub limits: Limits,
    /// The number of clients at once, and whether the server continues when the last one has left.
    pub sharing: Sharing,
    /// TLS; None: without TLS.
    pub tls: Option<TlsOptions>,
    /// The address `ADDRESS:PORT` on which metrics are served over HTTP, for Prometheus.
    pub metrics: Option<String>,
    /// What opens remote files, for the metrics of stores.
    pub remote: Option<Arc<dyn RemoteOpener>>,
    /// Whether to handle SIGTERM, SIGINT and SIGHUP. If so, these signals do not end the process by default
    /// any more, even after the server has ended.
    pub signals: bool,
}

/// How clients authenticate the server, and the server its clients.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The certificates or keys of the server.
    pub credentials: TlsCredentials,
    /// Whether clients without TLS are refused.
    pub required: bool,
}

/// The files with certificates or keys.
#[derive(Clone, Debug)]
pub enum TlsCredentials {
    /// X.509 certificates: `server-cert.pem`, `server-key.pem` and, to verify clients, `ca-cert.pem`.
    Certificates {
        /// The folder that contains them.
        folder: PathBuf,
        /// Whether clients must present a certificate.
        verify_peer: bool,
        /// The subjects of the client certificates that are allowed; implies `verify_peer`. Empty: all
        /// subjects.
        subjects: Vec<String>,
    },
    /// A file with lines `user:key`.
    Keys(PathBuf),
}

/// Why [`Daemon::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time has passed.
    Timeout,
    /// A signal asked the server to end.
    Signal,
    /// The server no longer serves, and should be closed.
    Ended,
}

/// The status of one disk.
#[derive(Clone, Debug)]
pub struct DiskStatus {
    /// The name of the export.
    pub name: String,
    /// The counters, if the disk is an image.
    pub stats: Option<Stats>,
    /// The progress of prefetch, if the disk is an image with a base.
    pub prefetch: Option<PrefetchStatus>,
}

impl DiskStatus {
    async fn new(disk: &Disk, control: Option<&Control>) -> Self {
        let control = match disk.lease() {
            Some(lease) => lease.prefetch(),
            None => control.cloned(),
        };
        Self {
            name: disk.info().name,
            stats: disk.content().stats(),
            prefetch: disk.content().prefetch(control.as_ref()).await,
        }
    }

    async fn of_all(disks: &[(Arc<Disk>, Option<Control>)]) -> Vec<Self> {
        let mut all = Vec::with_capacity(disks.len());
        for (disk, control) in disks {
            all.push(Self::new(disk, control.as_ref()).await);
        }
        all
    }
}

/// A running server.
///
/// It belongs to the process that started it. In a forked child it counts as ended, and `stop`, `close` and
/// drop do nothing (docs/design/async-io.md, F2).
pub struct Daemon {
    runtime: Owned<Runtime>,
    server: Arc<Server<Disk>>,
    disks: Vec<(Arc<Disk>, Option<Background>)>,
    places: Vec<Place>,
    has_tls: bool,
    requires_tls: bool,
    listening: Vec<JoinHandle<()>>,
    metrics: Option<(SocketAddr, JoinHandle<()>)>,
    signals: Signals,
}

impl Daemon {
    /// The URIs for clients: one for each export on each socket.
    #[must_use]
    pub fn uris(&self) -> Vec<String> {
        let of_place = |place| self.disks.iter().filter_map(move |(disk, _)| self.uri(disk, place));
        self.places.iter().flat_map(of_place).collect()
    }

    fn uris_of(&self, disk: &Disk) -> impl Iterator<Item = String> {
        self.places.iter().filter_map(|place| self.uri(disk, place))
    }

    fn uri(&self, disk: &Disk, place: &Place) -> Option<String> {
        place.uri(&disk.info().name, self.has_tls)
    }

    /// The addresses that other machines can reach and where TLS is not required, so any client can use the
    /// disks.
    #[must_use]
    pub fn open_doors(&self) -> Vec<SocketAddr> {
        if self.requires_tls {
            return Vec::new();
        }
        self.places.iter().filter_map(Place::reachable).collect()
    }

    /// The counters of the server.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        self.server.counters()
    }

    /// The status of all disks. Empty in a forked child. Blocks.
    #[must_use]
    pub fn disks(&self) -> Vec<DiskStatus> {
        let Ok(runtime) = self.runtime.get() else {
            return Vec::new();
        };
        let control = |background: &Option<Background>| background.as_ref().map(|b| b.control().clone());
        let disks = self.disks.iter();
        let disks: Vec<_> = disks.map(|(disk, work)| (Arc::clone(disk), control(work))).collect();
        runtime.block_on(DiskStatus::of_all(&disks))
    }

    /// The URL of the metrics, if they are served.
    #[must_use]
    pub fn metrics_url(&self) -> Option<String> {
        let url = |(address, _): &(SocketAddr, _)| format!("http://{address}/metrics");
        self.metrics.as_ref().map(url)
    }

    /// Waits for the end of the server, a signal, or the end of `time`, whichever comes first. Blocks.
    pub fn wait(&self, time: Option<Duration>) -> Event {
        let Ok(runtime) = self.runtime.get() else {
            return Event::Ended;
        };
        let event = async {
            tokio::select! {
                () = self.server.ended() => Event::Ended,
                () = self.signals.first() => Event::Signal,
            }
        };
        runtime.block_on(async {
            match time {
                None => event.await,
                Some(time) => timeout(time, event).await.unwrap_or(Event::Timeout),
            }
        })
    }

    /// Begins the end of the server, whether or not clients are connected: it accepts no new connection and
    /// no new request. Requests in flight are completed. [`Daemon::wait`] returns [`Event::Ended`] from now
    /// on. [`Daemon::close`] waits for the end.
    pub fn stop(&self) {
        if !self.runtime.is_ours() {
            return;
        }
        self.server.shut_down();
        let leases = self.disks.iter().filter_map(|(disk, _)| disk.lease());
        leases.for_each(|lease| lease.ending());
    }

    /// Stops the server, waits until requests in flight have completed, and closes all disks that are not
    /// leased. Blocks. Does nothing in a forked child.
    ///
    /// Every disk is closed, even if others fail. A second signal ends the server immediately: flushed data
    /// is safe, and the images are left as after a crash, so the process must not use them any more. A signal
    /// within a second of the first one counts as the same signal.
    ///
    /// # Errors
    ///
    /// The errors of the disks, merged into one with the kind of the first. [`ErrorKind::Cancelled`] after a
    /// second signal.
    pub fn close(self) -> Result<()> {
        if !self.runtime.is_ours() {
            mem::forget(self);
            return Ok(());
        }
        self.stop();
        let Self {
            runtime,
            server,
            disks,
            listening,
            metrics,
            signals,
            ..
        } = self;
        let exports = server;
        let runtime = runtime.into_inner().expect("it is ours");
        if let Some((_, task)) = &metrics {
            task.abort();
        }
        let closing = async move {
            for task in listening.into_iter().chain(metrics.map(|(_, task)| task)) {
                // A task that panicked or was aborted has ended as well.
                let _ = task.await;
            }
            drop(exports);
            close_all(disks).instrument(info_span!("close")).await
        };
        let closed = runtime.block_on(async {
            tokio::select! {
                closed = closing => Some(closed),
                () = signals.second() => None,
            }
        });
        closed.unwrap_or_else(|| {
            runtime.shutdown_background();
            Err(Error::new(
                ErrorKind::Cancelled,
                "A second signal ended the server at once",
            ))
        })
    }
}
