//! A server with its disks, from opening them to closing them.
//!
//! Everything is opened before anybody can connect, and closed after the last request has ended:
//! the background work of the images is stopped, what they hold is made durable, and they are
//! marked clean. What fails there is the result of [`Daemon::close`].

mod address;
mod background;
mod clock;
mod close;
mod http;
mod log;
mod metrics;
mod open;
mod pauses;
mod signals;
mod start;

use std::fmt::Display;
use std::mem;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fvd::copy::{Control, PrefetchStatus};
use fvd::image::Stats;
use fvd::process::Owned;
use fvd::storage::{AsyncFile, Backend};
use fvd::{Error, ErrorKind, Result};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use address::{Address, DEFAULT_PORT};
pub use background::{Background, seed};
pub use clock::TokioClock;
pub use log::Log;
pub use open::{DiskOptions, DiskSource, FileOptions, Format, OpenEngine, OpenImage};

use crate::disk::DiskExport;
use crate::server::{Counters, Export, Limits, Server, Sharing};
use address::Place;
use close::close_all;
use signals::Signals;

/// Requests of a connection begin on its task: what would block is handed on.
type Disk = DiskExport<AsyncFile>;

/// Hears of what fails nothing else: connections that ended as nobody meant them to, a lock that was passed
/// over. Must not block.
pub type Report = Box<dyn Fn(&dyn Display) + Send + Sync>;

/// What is served, where, and to whom.
pub struct DaemonOptions {
    /// The disks; at least one.
    pub disks: Vec<DiskOptions>,
    /// How long to wait for a disk that is in use: the kernel may give back the locks of a program
    /// that was killed a moment later.
    pub patience: Duration,
    /// Where to listen; at least one.
    pub addresses: Vec<Address>,
    /// What does the I/O that would block; None: the best that the system permits.
    pub backend: Option<Backend>,
    /// What clients may take.
    pub limits: Limits,
    /// How many clients at once, and whether it goes on when the last one has left.
    pub sharing: Sharing,
    /// TLS, if there is to be any.
    pub tls: Option<TlsOptions>,
    /// Where to hand out metrics over HTTP, for Prometheus: `ADDRESS:PORT`.
    pub metrics: Option<String>,
    /// Whether SIGTERM, SIGINT and SIGHUP are waited for. They stay with this library then, for as
    /// long as the process lives.
    pub signals: bool,
    /// Hears of what goes wrong meanwhile.
    pub report: Report,
}

/// How clients are to know the server, and the server its clients.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// What is shown to clients.
    pub credentials: TlsCredentials,
    /// Whether clients without TLS are refused.
    pub required: bool,
}

/// Where certificates or keys are.
#[derive(Clone, Debug)]
pub enum TlsCredentials {
    /// `server-cert.pem`, `server-key.pem` and, to verify clients, `ca-cert.pem`.
    Certificates {
        /// The folder that they are in.
        folder: PathBuf,
        /// Whether clients have to show a certificate.
        verify_peer: bool,
        /// The subjects of the certificates that are let in, which implies `verify_peer`; empty: all are.
        subjects: Vec<String>,
    },
    /// A file of lines `user:key`.
    Keys(PathBuf),
}

/// Why [`Daemon::wait`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time has passed.
    Timeout,
    /// A signal has asked it to end.
    Signal,
    /// No client is connected, and none will be: it is to be closed.
    Ended,
}

/// How one disk does.
#[derive(Clone, Debug)]
pub struct DiskStatus {
    /// The name of the export.
    pub name: String,
    /// Counters of an image.
    pub stats: Option<Stats>,
    /// How far it is from needing no base, where it has one.
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

/// A server that runs.
///
/// It belongs to the process that started it: in a child that was forked since, it has ended, and to
/// stop, close or drop it does nothing.
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
    /// What clients are given: one URI for each export on each socket.
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

    /// Addresses that other machines can reach and whose clients need no TLS: any client can use the disks.
    #[must_use]
    pub fn open_doors(&self) -> Vec<SocketAddr> {
        if self.requires_tls {
            return Vec::new();
        }
        self.places.iter().filter_map(Place::reachable).collect()
    }

    /// What clients have asked for so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        self.server.counters()
    }

    /// How the disks do.
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

    /// Where the metrics are.
    #[must_use]
    pub fn metrics_url(&self) -> Option<String> {
        let url = |(address, _): &(SocketAddr, _)| format!("http://{address}/metrics");
        self.metrics.as_ref().map(url)
    }

    /// Waits for whatever comes first: the end, a signal, or the end of `time`.
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

    /// Ends it without a client's consent: no new connection, no new request; what is under way is
    /// answered. [`Daemon::wait`] says that it has ended; [`Daemon::close`] waits until it has.
    pub fn stop(&self) {
        if !self.runtime.is_ours() {
            return;
        }
        self.server.shut_down();
        let leases = self.disks.iter().filter_map(|(disk, _)| disk.lease());
        leases.for_each(|lease| lease.ending());
    }

    /// Stops, waits until what is under way has ended, and closes all disks but those on lease.
    ///
    /// Each is closed, whichever of the others fail. A second signal ends it at once
    /// ([`ErrorKind::Cancelled`]): what a flush covered is safe, and images are as after a crash. The
    /// process must not use them any more. Signals within a second of the first are the same one.
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
                // One that panicked, or was not to go on, has ended, too.
                let _ = task.await;
            }
            drop(exports);
            close_all(disks).await
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
