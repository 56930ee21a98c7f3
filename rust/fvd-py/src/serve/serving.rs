//! A daemon that is closed only once, even if several threads use and close it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use fvd::Error;
use fvd::process::Owned;
use fvd_nbd::daemon::Daemon;

use crate::exit::Closable;

/// The locks are taken only without the GIL, and only in the process that started the daemon: in a forked
/// child they may be held by threads that do not exist (docs/design/async-io.md, F3).
pub(super) struct Serving(Owned<Parts>);

struct Parts {
    daemon: RwLock<Option<Daemon>>,
    /// Held during the close. The error of the close, until it has been reported to a caller.
    closing: Mutex<Result<(), Error>>,
}

impl Serving {
    pub(super) fn new(daemon: Daemon) -> Self {
        Self(Owned::new(Parts {
            daemon: RwLock::new(Some(daemon)),
            closing: Mutex::new(Ok(())),
        }))
    }

    /// Runs `work` on the daemon. None if the daemon is closed, or in a forked child.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Daemon) -> T) -> Option<T> {
        let daemon = self.0.get().ok()?.daemon.read().unwrap_or_else(PoisonError::into_inner);
        daemon.as_ref().map(work)
    }

    /// Fails in a child process that was forked while the server ran: the server's threads do not exist
    /// there.
    pub(super) fn check_process(&self) -> Result<(), Error> {
        self.0.get().map(drop)
    }

    /// Closes the daemon. Does nothing in a forked child. A concurrent call waits until the close is done. An
    /// error of the close is returned only once.
    pub(super) fn close(&self) -> Result<(), Error> {
        let mut result = Ok(());
        self.close_and_tell(|closed| {
            result.clone_from(closed);
            true
        });
        result
    }

    /// Begins to close the daemon on a thread, which completes the close even if the caller stops waiting.
    /// `tell` gets the result, and returns whether a caller has received it. Fails if no thread can be
    /// started.
    pub(super) fn begin_close(
        self: &Arc<Self>,
        tell: impl FnOnce(&Result<(), Error>) -> bool + Send + 'static,
    ) -> Result<(), Error> {
        // Stop here, not on the thread, which may start late: from now on, closing a served image waits
        // instead of failing.
        self.with(Daemon::stop);
        let serving = Arc::clone(self);
        let close = move || serving.close_and_tell(tell);
        let thread = thread::Builder::new().name("fvd-close".to_owned()).spawn(close);
        thread.map_err(|error| Error::io("start a thread", error))?;
        Ok(())
    }

    /// Closes the daemon. `tell` gets the result, and returns whether a caller has received it.
    fn close_and_tell(&self, tell: impl FnOnce(&Result<(), Error>) -> bool) {
        let Ok(parts) = self.0.get() else { return };
        let mut unreported = parts.closing.lock().unwrap_or_else(PoisonError::into_inner);
        // `Daemon::wait` returns now, which releases the shared lock.
        self.with(Daemon::stop);
        let daemon = parts.daemon.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(daemon) = daemon {
            *unreported = daemon.close();
        }
        if tell(&unreported) {
            *unreported = Ok(());
        }
    }
}

impl Closable for Serving {
    fn is_ours(&self) -> bool {
        self.0.is_ours()
    }

    fn is_closed(&self) -> bool {
        self.with(|_| ()).is_none()
    }

    fn try_return(&self) -> Result<bool, Error> {
        Ok(true)
    }

    fn close_now(&self) -> Result<(), Error> {
        self.close()
    }

    /// A server has no leases, so its close never waits for one.
    fn abandon(&self) {}
}
