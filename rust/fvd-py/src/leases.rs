//! Who serves an open image: it is not closed before they have given it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fvd::copy::Control;
use fvd::{Error, ErrorKind};
use tokio::sync::watch;

use crate::open::closed;

/// The leases of one image, for as long as it is open.
pub(crate) struct Leases {
    /// The image, for messages.
    path: PathBuf,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    /// It is being closed: there are no more.
    over: bool,
    next: u64,
    running: BTreeMap<u64, Stage>,
}

enum Stage {
    /// Clients can come, to these URIs.
    Serving(Vec<String>),
    /// The server ends; the image comes back soon.
    Ending,
}

impl Leases {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: watch::Sender::new(State::default()),
        }
    }

    /// The number of a new lease.
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

    /// Lends no more, if everything has come back: false, and nothing has changed, while something has
    /// not. Fails where a server goes on.
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

    /// Waits until everything has come back, and lends no more. Fails where a server goes on.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        while !self.try_end()? {
            let mut watched = self.state.subscribe();
            // It ends with an error only with `self`.
            let _ = watched.wait_for(|state| state.running.is_empty()).await;
        }
        Ok(())
    }

    fn served_at(&self, uris: &[String]) -> Error {
        // While the server starts there are none.
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

/// An open image that has leases.
pub(crate) trait Leasable: Send + Sync + 'static {
    /// Fails in a forked child.
    fn leases(&self) -> Result<&Leases, Error>;

    /// The control of prefetch, if anything runs in the background.
    fn running(&self) -> Option<Control>;
}

/// One lease, which ends when it is dropped.
pub(crate) struct Lease<L: Leasable> {
    leasable: Arc<L>,
    number: u64,
}

impl<L: Leasable> Lease<L> {
    /// Fails once the image is closed.
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
