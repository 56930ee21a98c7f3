//! The leases of an open image to servers. The image is not closed before they have ended
//! (docs/design/nbd.md, S3).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fvd::copy::Control;
use fvd::{Error, ErrorKind};
use tokio::sync::watch;

use crate::handle::closed;

/// The leases of one image.
pub(crate) struct Leases {
    /// The path of the image, for messages.
    path: PathBuf,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    /// The image is being closed: no new lease begins.
    over: bool,
    next: u64,
    running: BTreeMap<u64, Stage>,
}

enum Stage {
    /// Clients can connect, at these URIs.
    Serving(Vec<String>),
    /// The server is ending, so the lease ends soon.
    Ending,
}

impl Leases {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: watch::Sender::new(State::default()),
        }
    }

    /// Begins a lease and returns its number. Fails if the image is being closed.
    fn begin(&self) -> Result<u64, Error> {
        self.change(|state| {
            if state.over {
                return Err(closed());
            }
            state.next += 1;
            state.running.insert(state.next, Stage::Serving(Vec::new()));
            Ok(state.next)
        })
    }

    /// If no lease is left, allows no new ones and returns true. If all remaining leases are ending, changes
    /// nothing and returns false. Fails while a server serves the image.
    pub(crate) fn try_end(&self) -> Result<bool, Error> {
        self.change(|state| {
            let serving = |stage: &Stage| match stage {
                Stage::Serving(uris) => Some(uris.clone()),
                Stage::Ending => None,
            };
            let servers: Vec<_> = state.running.values().filter_map(serving).collect();
            if !servers.is_empty() {
                return Err(self.served_at(&servers.concat()));
            }
            state.over = state.running.is_empty();
            Ok(state.over)
        })
    }

    /// Waits until all leases have ended, and allows no new ones. Fails while a server serves the image.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        while !self.try_end()? {
            let mut watched = self.state.subscribe();
            // An error means that `self` was dropped, which is not possible here.
            let _ = watched.wait_for(|state| state.running.is_empty()).await;
        }
        Ok(())
    }

    fn served_at(&self, uris: &[String]) -> Error {
        // While the server starts there are no URIs yet.
        let place = if uris.is_empty() { "" } else { " at " };
        let message = format!("The image is served{place}{}: stop the server first", uris.join(", "));
        Error::new(ErrorKind::InUse, message).with_path(&self.path)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut result = None;
        self.state.send_modify(|state| result = Some(change(state)));
        result.expect("it has been called")
    }
}

/// An open image that can be leased.
pub(crate) trait Leasable: Send + Sync + 'static {
    /// Its leases. Fails in a forked child.
    fn leases(&self) -> Result<&Leases, Error>;

    /// The control of prefetch, if background work runs.
    fn running(&self) -> Option<Control>;
}

/// One lease. It ends on drop.
pub(crate) struct Lease<L: Leasable> {
    leasable: Arc<L>,
    number: u64,
}

impl<L: Leasable> Lease<L> {
    /// Begins a lease. Fails if the image is closed.
    pub(crate) fn begin(leasable: &Arc<L>) -> Result<Self, Error> {
        let number = leasable.leases()?.begin()?;
        let leasable = Arc::clone(leasable);
        Ok(Self { leasable, number })
    }

    fn set(&self, stage: Stage) {
        if let Ok(leases) = self.leasable.leases() {
            leases.change(|state| state.running.insert(self.number, stage));
        }
    }
}

impl<L: Leasable> fvd_nbd::disk::Lease for Lease<L> {
    fn served_at(&self, uris: Vec<String>) {
        self.set(Stage::Serving(uris));
    }

    fn ending(&self) {
        self.set(Stage::Ending);
    }

    fn prefetch(&self) -> Option<Control> {
        self.leasable.running()
    }
}

impl<L: Leasable> Drop for Lease<L> {
    fn drop(&mut self) {
        if let Ok(leases) = self.leasable.leases() {
            leases.change(|state| state.running.remove(&self.number));
        }
    }
}
