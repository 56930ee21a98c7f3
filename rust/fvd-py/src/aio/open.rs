//! An open engine for asyncio.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fvd::Error;
use fvd::chain::{AsyncIo, ChainOptions, open_image_on};
use fvd::copy::Control;
use fvd::image::Image;
use fvd::process::Owned;
use fvd::storage::{AsyncFile, Storage};
use fvd_nbd::daemon::{Background, OpenEngine, OpenImage};
use pollster::block_on;
use tokio::sync::RwLock;

use super::order::Order;
use crate::background;
use crate::exit::Closable;
use crate::leases::{Leasable, Lease, Leases};
use crate::open::closed;
use crate::{runtime, time};

/// An engine with asynchronous file I/O.
pub(crate) type Engine = Image<AsyncFile>;

/// An engine that can be closed while it is used: each operation holds a shared lock, and `close` an
/// exclusive one.
pub(crate) struct AsyncOpen {
    /// The path of the image, for messages.
    path: PathBuf,
    parts: Owned<Parts>,
    /// Whether a caller has received the image.
    started: AtomicBool,
    closed: AtomicBool,
}

/// The parts with locks. The locks are never taken in a forked child, where they may be held by threads that
/// do not exist (docs/design/async-io.md, F3).
struct Parts {
    engine: RwLock<Option<Arc<Engine>>>,
    background: Mutex<Option<Background>>,
    /// Held during a close.
    closing: tokio::sync::Mutex<()>,
    order: Order,
    leases: Leases,
}

impl Parts {
    fn background(&self) -> MutexGuard<'_, Option<Background>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncOpen {
    /// Opens the image. Also returns the size of the disk in bytes. Blocks.
    pub(super) fn open(path: &Path, options: &ChainOptions) -> Result<(Self, u64), Error> {
        let files = AsyncIo::new()?.with_clock(Arc::new(time::clock()?));
        let engine = Arc::new(block_on(open_image_on(&files, path, options))?);
        let size = engine.size();
        let path = engine.file().path().to_owned();
        let parts = Parts {
            leases: Leases::new(&path),
            engine: RwLock::new(Some(engine)),
            background: Mutex::new(None),
            closing: tokio::sync::Mutex::new(()),
            order: Order::default(),
        };
        let open = Self {
            path,
            parts: Owned::new(parts),
            started: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        };
        Ok((open, size))
    }

    /// Starts the background work of the image. Must be called before the image is used.
    pub(super) fn start(&self) -> Result<(), Error> {
        let parts = self.parts()?;
        let mut background = parts.background();
        match block_on(parts.engine.read()).as_ref() {
            Some(engine) if background::is_wanted(engine) => *background = Some(start_background(engine)?),
            _ => {}
        }
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Closes the image on another thread, for callers that must not block. Errors are ignored: no caller is
    /// left to receive them.
    pub(super) fn close_soon(self: &Arc<Self>) {
        if let (true, Ok(runtime)) = (self.is_ours(), runtime::shared()) {
            let open = Arc::clone(self);
            runtime.spawn_blocking(move || block_on(open.close()));
        }
    }

    /// False in a child process that was forked while the image was open.
    pub(super) fn is_ours(&self) -> bool {
        self.parts.is_ours()
    }

    /// Fails in a child process that was forked while the image was open.
    pub(super) fn check_process(&self) -> Result<(), Error> {
        self.parts().map(drop)
    }

    fn parts(&self) -> Result<&Parts, Error> {
        self.parts.get().map_err(|error| error.with_path(&self.path))
    }

    /// The order of overlapping requests.
    pub(super) fn order(&self) -> Result<&Order, Error> {
        self.parts().map(|parts| &parts.order)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Runs `work` on the engine, which is not closed before `work` has ended. Fails if the engine has been
    /// closed.
    pub(crate) async fn with<T, W, F>(&self, work: W) -> Result<T, Error>
    where
        W: FnOnce(Arc<Engine>) -> F,
        F: Future<Output = Result<T, Error>>,
    {
        let engine = self.parts()?.engine.read().await;
        match engine.as_ref() {
            Some(engine) => work(Arc::clone(engine)).await,
            None => Err(closed()),
        }
    }

    /// The control of prefetch. Starts the background work if it does not run. None if the image has no base.
    pub(super) async fn control(&self) -> Result<Option<Control>, Error> {
        self.with(async |engine: Arc<Engine>| {
            let mut running = self.parts()?.background();
            if self.is_closed() {
                return Err(closed());
            }
            background::control(&engine, &mut *running, || start_background(&engine))
        })
        .await
    }

    /// Leases the engine to a server. The image cannot be closed before the lease ends. Blocks.
    pub(crate) fn lease(self: &Arc<Self>, read_only: bool) -> Result<OpenImage, Error> {
        // From here on the image is not closed.
        let lease = Arc::new(Lease::begin(self)?);
        let engine = block_on(self.with(async |engine: Arc<Engine>| Ok(engine)))?;
        let image = OpenEngine::Async(engine);
        Ok(OpenImage {
            image,
            read_only,
            lease,
        })
    }

    /// Waits until all operations have ended, flushes, marks the image clean and releases its files. The
    /// files are released even after an error of the flush. If the image is served, fails and changes
    /// nothing. Does nothing in a forked child: only the parent may close the image.
    pub(super) async fn close(&self) -> Result<(), Error> {
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

fn start_background(engine: &Arc<Engine>) -> Result<Background, Error> {
    Ok(Background::start(engine, &runtime::shared()?))
}

impl Leasable for AsyncOpen {
    fn leases(&self) -> Result<&Leases, Error> {
        self.parts().map(|parts| &parts.leases)
    }

    fn running(&self) -> Option<Control> {
        let background = self.parts().ok()?.background();
        background.as_ref().map(|background| background.control().clone())
    }
}

impl Closable for AsyncOpen {
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
