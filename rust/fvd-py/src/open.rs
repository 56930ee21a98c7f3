//! An open engine, shared by the Python object and the exit hook.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use fvd::Error;
use fvd::copy::Control;
use fvd::process::Owned;
use fvd::storage::Storage;
use fvd_nbd::daemon::{OpenEngine, OpenImage};
use pollster::block_on;

use crate::background::{self, Background, Engine, Running};
use crate::exit::Closable;
use crate::leases::{Leasable, Lease, Leases};

/// An engine that can be closed while other threads use it: each operation holds a shared lock, and `close`
/// an exclusive one.
pub(crate) struct Open {
    /// The path of the image, for messages.
    path: PathBuf,
    parts: Owned<Parts>,
    closed: AtomicBool,
}

/// The locks are taken only without the GIL, so that a thread that waits for one blocks no other Python
/// thread. They are never taken in a forked child, where they may be held by threads that do not exist
/// (docs/design/async-io.md, F3).
struct Parts {
    engine: RwLock<Option<Arc<Engine>>>,
    background: Mutex<Option<Background>>,
    leases: Leases,
}

impl Parts {
    fn background(&self) -> MutexGuard<'_, Option<Background>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Opens the engine for use, and starts the background work of the image.
    pub(crate) fn new(engine: Engine) -> Result<Self, Error> {
        let engine = Arc::new(engine);
        let path = engine.file().path().to_owned();
        let wanted = background::is_wanted(&engine);
        let background = wanted.then(|| Background::start(Arc::clone(&engine))).transpose()?;
        let parts = Parts {
            leases: Leases::new(&path),
            engine: RwLock::new(Some(engine)),
            background: Mutex::new(background),
        };
        Ok(Self {
            path,
            parts: Owned::new(parts),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Fails in a child process that was forked while the image was open.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.parts().map(drop)
    }

    fn parts(&self) -> Result<&Parts, Error> {
        self.parts.get().map_err(|error| error.with_path(&self.path))
    }

    /// Runs `work` on the engine. Fails if the engine has been closed.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Arc<Engine>) -> Result<T, Error>) -> Result<T, Error> {
        let engine = self.parts()?.engine.read().unwrap_or_else(PoisonError::into_inner);
        match engine.as_ref() {
            Some(engine) => work(engine),
            None => Err(closed()),
        }
    }

    /// The control of prefetch. Starts the background work if it does not run. None if the image has no base.
    pub(crate) fn control(&self) -> Result<Option<Control>, Error> {
        self.with(|engine| {
            let mut background = self.parts()?.background();
            if self.is_closed() {
                return Err(closed());
            }
            background::control(engine, &mut *background, || Background::start(Arc::clone(engine)))
        })
    }

    /// Leases the engine to a server. The image cannot be closed before the lease ends.
    pub(crate) fn lease(self: &Arc<Self>, read_only: bool) -> Result<OpenImage, Error> {
        // From here on the image is not closed.
        let lease = Arc::new(Lease::begin(self)?);
        let image = self.with(|engine| Ok(OpenEngine::Blocking(Arc::clone(engine))))?;
        Ok(OpenImage {
            image,
            read_only,
            lease,
        })
    }

    /// False in a child process that was forked while the image was open.
    pub(crate) fn is_ours(&self) -> bool {
        self.parts.is_ours()
    }

    /// Waits until all operations have ended, flushes, marks the image clean and releases its files. The
    /// files are released even after an error of the flush. If the image is served, fails and changes
    /// nothing. Does nothing in a forked child: only the parent may close the image.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let Ok(parts) = self.parts() else {
            self.closed.store(true, Ordering::Release);
            return Ok(());
        };
        block_on(parts.leases.end())?;
        // From here on no background work is started.
        self.closed.store(true, Ordering::Release);
        let mut background = parts.background();
        // The lock is held meanwhile, so a concurrent close waits until the threads have ended.
        if let Some(background) = background.take() {
            background.end();
        }
        drop(background);
        let mut engine = parts.engine.write().unwrap_or_else(PoisonError::into_inner);
        match engine.take() {
            Some(engine) => block_on(engine.close()),
            None => Ok(()),
        }
    }
}

impl Leasable for Open {
    fn leases(&self) -> Result<&Leases, Error> {
        self.parts().map(|parts| &parts.leases)
    }

    fn running(&self) -> Option<Control> {
        let background = self.parts().ok()?.background();
        background.as_ref().map(|background| background.control().clone())
    }
}

impl Closable for Open {
    fn is_ours(&self) -> bool {
        self.is_ours()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn try_return(&self) -> Result<bool, Error> {
        self.leases()?.try_end()
    }

    fn close_now(&self) -> Result<(), Error> {
        self.close()
    }

    fn abandon(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

pub(crate) fn closed() -> Error {
    Error::invalid_argument("I/O operation on a closed image")
}
