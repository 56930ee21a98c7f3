//! A daemon that is closed once, while other threads use it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use fvd::Error;
use fvd::process::Owned;
use fvd_nbd::daemon::Daemon;

use crate::exit::Closable;

/// The locks are taken only without the GIL, and only in the process that started the daemon: in a
/// child that was forked they may be held by threads that are not there.
pub(super) struct Serving(Owned<Parts>);

struct Parts {
    daemon: RwLock<Option<Daemon>>,
    /// Held while it is closed. What that has failed with, if nobody has heard of it.
    closing: Mutex<Result<(), Error>>,
}

impl Serving {
    pub(super) fn new(daemon: Daemon) -> Self {
        Self(Owned::new(Parts {
            daemon: RwLock::new(Some(daemon)),
            closing: Mutex::new(Ok(())),
        }))
    }

    /// What `work` makes of the daemon; None once that is closed, and where it never was.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Daemon) -> T) -> Option<T> {
        let daemon = self.0.get().ok()?.daemon.read().unwrap_or_else(PoisonError::into_inner);
        daemon.as_ref().map(work)
    }

    /// Fails in a child that was forked while the server ran: its threads are not there.
    pub(super) fn check_process(&self) -> Result<(), Error> {
        self.0.get().map(drop)
    }

    /// Closes it; does nothing in a forked child. Another thread that closes it waits until that is done.
    /// What it has failed with is told once.
    pub(super) fn close(&self) -> Result<(), Error> {
        let mut result = Ok(());
        self.close_and_tell(|closed| {
            result.clone_from(closed);
            true
        });
        result
    }

    /// Begins to close it, on a thread that ends it whoever still waits. `tell` hears how that went, and
    /// says whether somebody has heard. Fails where no thread can be started.
    pub(super) fn begin_close(
        self: &Arc<Self>,
        tell: impl FnOnce(&Result<(), Error>) -> bool + Send + 'static,
    ) -> Result<(), Error> {
        // Here, and not on the thread, which may begin late: whoever closes an image from now on waits.
        self.with(Daemon::stop);
        let serving = Arc::clone(self);
        let close = move || serving.close_and_tell(tell);
        let thread = thread::Builder::new().name("fvd-close".to_owned()).spawn(close);
        thread.map_err(|error| Error::io("start a thread", error))?;
        Ok(())
    }

    /// `tell` says whether somebody has heard.
    fn close_and_tell(&self, tell: impl FnOnce(&Result<(), Error>) -> bool) {
        let Ok(parts) = self.0.get() else { return };
        let mut unheard = parts.closing.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits, waits no longer.
        self.with(Daemon::stop);
        let daemon = parts.daemon.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(daemon) = daemon {
            *unheard = daemon.close();
        }
        if tell(&unheard) {
            *unheard = Ok(());
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

    /// Nobody lends a server: nothing is waited for before it is closed.
    fn abandon(&self) {}
}
