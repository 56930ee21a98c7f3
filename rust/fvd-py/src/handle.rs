//! An open engine, shared by the Python object, servers and the exit hook.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_lock::RwLock;
use fvd::Error;
use fvd::chain::OpenedFile;
use fvd::copy::Control;
use fvd::image::Image;
use fvd::process::Owned;
use fvd::storage::Storage;
use fvd_nbd::daemon::{OpenEngine, OpenImage};
use pollster::block_on;

use crate::background::{self, Background, Running};
use crate::exit::Closable;
use crate::leases::{Leasable, Lease, Leases};

/// An open engine with blocking file I/O.
pub(crate) type BlockingHandle = Handle<OpenedFile, Background>;

/// An engine that can be closed while it is used: each operation holds a shared lock, and `close` an
/// exclusive one.
pub(crate) struct Handle<S: Storage, B> {
    /// The path of the image, for messages.
    path: PathBuf,
    parts: Owned<Parts<S, B>>,
    /// Starts the background work of the image.
    start: fn(&Arc<Image<S>>) -> Result<B, Error>,
    closed: AtomicBool,
}

/// The parts with locks. The locks are taken only without the GIL, so that a thread that waits for one blocks
/// no other Python thread. They are never taken in a forked child, where they may be held by threads that do
/// not exist (docs/design/async-io.md, F3).
struct Parts<S: Storage, B> {
    engine: RwLock<Option<Arc<Image<S>>>>,
    background: Mutex<Option<B>>,
    /// Held during a close.
    closing: async_lock::Mutex<()>,
    leases: Leases,
}

impl<S: Storage, B> Parts<S, B> {
    fn background(&self) -> MutexGuard<'_, Option<B>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Storage, B: Running> Handle<S, B> {
    /// Takes over an engine. `start` starts the background work of the image, when it is needed.
    pub(crate) fn new(engine: Image<S>, start: fn(&Arc<Image<S>>) -> Result<B, Error>) -> Self {
        let path = engine.file().path().to_owned();
        let parts = Parts {
            leases: Leases::new(&path),
            engine: RwLock::new(Some(Arc::new(engine))),
            background: Mutex::new(None),
            closing: async_lock::Mutex::new(()),
        };
        Self {
            path,
            parts: Owned::new(parts),
            start,
            closed: AtomicBool::new(false),
        }
    }

    /// Starts the background work of the image, if it has any. Must be called before the image is used.
    pub(crate) fn start(&self) -> Result<(), Error> {
        self.with(|engine| {
            if background::is_wanted(engine) {
                *self.parts()?.background() = Some((self.start)(engine)?);
            }
            Ok(())
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// False in a child process that was forked while the image was open.
    pub(crate) fn is_ours(&self) -> bool {
        self.parts.is_ours()
    }

    /// Fails in a child process that was forked while the image was open.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        self.parts().map(drop)
    }

    fn parts(&self) -> Result<&Parts<S, B>, Error> {
        self.parts.get().map_err(|error| error.with_path(&self.path))
    }

    /// Runs `work` on the engine, which is not closed before `work` has ended. Fails if the engine has been
    /// closed. Blocks.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Arc<Image<S>>) -> Result<T, Error>) -> Result<T, Error> {
        let engine = self.parts()?.engine.read_blocking();
        engine.as_ref().map_or_else(|| Err(closed()), work)
    }

    /// As [`Open::with`], for tasks.
    pub(crate) async fn with_async<T, W, F>(&self, work: W) -> Result<T, Error>
    where
        W: FnOnce(Arc<Image<S>>) -> F,
        F: Future<Output = Result<T, Error>>,
    {
        let engine = self.parts()?.engine.read().await;
        match engine.as_ref() {
            Some(engine) => work(Arc::clone(engine)).await,
            None => Err(closed()),
        }
    }

    /// The control of prefetch of `engine`, which is this one. Starts the background work if it does not run.
    /// None if the image has no base.
    pub(crate) fn control(&self, engine: &Arc<Image<S>>) -> Result<Option<Control>, Error> {
        let mut running = self.parts()?.background();
        if self.is_closed() {
            return Err(closed());
        }
        background::control(engine, &mut *running, || (self.start)(engine))
    }

    /// Waits until all operations have ended, flushes, marks the image clean and releases its files. The
    /// files are released even after an error of the flush. If the image is served, fails and changes
    /// nothing. Does nothing in a forked child: only the parent may close the image.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let Ok(parts) = self.parts() else {
            self.closed.store(true, Ordering::Release);
            return Ok(());
        };
        parts.leases.end().await?;
        // From here on no background work is started.
        self.closed.store(true, Ordering::Release);
        // Held to the end, so a concurrent close waits until all of this is done.
        let _closing = parts.closing.lock().await;
        let background = parts.background().take();
        if let Some(background) = background {
            background.stop().await;
        }
        let engine = parts.engine.write().await.take();
        match engine {
            Some(engine) => engine.close().await,
            None => Ok(()),
        }
    }
}

impl<S: Storage + 'static, B: Running> Handle<S, B> {
    /// Leases the engine to a server. The image cannot be closed before the lease ends. Blocks.
    pub(crate) fn lease(
        self: &Arc<Self>,
        read_only: bool,
        as_engine: fn(Arc<Image<S>>) -> OpenEngine,
    ) -> Result<OpenImage, Error> {
        // From here on the image is not closed.
        let lease = Arc::new(Lease::begin(self)?);
        let image = self.with(|engine| Ok(as_engine(Arc::clone(engine))))?;
        Ok(OpenImage {
            image,
            read_only,
            lease,
        })
    }
}

impl<S: Storage + 'static, B: Running> Leasable for Handle<S, B> {
    fn leases(&self) -> Result<&Leases, Error> {
        self.parts().map(|parts| &parts.leases)
    }

    fn running(&self) -> Option<Control> {
        let background = self.parts().ok()?.background();
        background.as_ref().map(|background| background.control().clone())
    }
}

impl<S: Storage + 'static, B: Running> Closable for Handle<S, B> {
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
        block_on(self.close())
    }

    fn abandon(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

pub(crate) fn closed() -> Error {
    Error::invalid_argument("I/O operation on a closed image")
}

/// The `repr` of an open image.
pub(crate) fn describe(class: &str, path: &Path, writable: bool, size: u64, closed: bool) -> String {
    let mode = if writable { "r+" } else { "r" };
    let state = if closed { ", closed" } else { "" };
    format!("<{class} '{}', mode '{mode}', {size} bytes{state}>", path.display())
}
