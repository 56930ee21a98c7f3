//! An open engine that asyncio uses.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fvd::Error;
use fvd::chain::{AsyncIo, ChainOptions, open_image_on};
use fvd::copy::Control;
use fvd::image::Image;
use fvd::storage::{AsyncFile, Storage};
use fvd_nbd::host::{Background, OpenEngine, OpenImage};
use pollster::block_on;
use tokio::sync::RwLock;

use super::order::Order;
use crate::background;
use crate::exit::Closable;
use crate::loans::{Lender, Loan, Loans};
use crate::open::{closed, forked};
use crate::{runtime, time};

/// An engine whose operations wait without a thread.
pub(crate) type Engine = Image<AsyncFile>;

/// An engine that can be closed while it is used: each operation holds the lock shared.
pub(crate) struct AsyncOpen {
    engine: RwLock<Option<Arc<Engine>>>,
    background: Mutex<Option<Background>>,
    /// Held while it is closed.
    closing: tokio::sync::Mutex<()>,
    pub(super) order: Order,
    loans: Loans,
    /// Whether somebody has got it.
    started: AtomicBool,
    closed: AtomicBool,
    /// The process that opened it.
    process: u32,
}

impl AsyncOpen {
    /// Opens the image. Also gives the size of the disk in bytes. Blocks.
    pub(super) fn open(path: &Path, options: &ChainOptions) -> Result<(Self, u64), Error> {
        let files = AsyncIo::new()?.with_clock(Arc::new(time::clock()?));
        let engine = Arc::new(block_on(open_image_on(&files, path, options))?);
        let size = engine.size();
        let open = Self {
            loans: Loans::new(engine.file().path()),
            engine: RwLock::new(Some(engine)),
            background: Mutex::new(None),
            closing: tokio::sync::Mutex::new(()),
            order: Order::default(),
            started: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            process: std::process::id(),
        };
        Ok((open, size))
    }

    /// Starts what the image does on its own. Before it is used.
    pub(super) fn start(&self) -> Result<(), Error> {
        let mut background = self.background();
        match block_on(self.engine.read()).as_ref() {
            Some(engine) if background::is_wanted(engine) => *background = Some(start_background(engine)?),
            _ => {}
        }
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Closes it where nothing may wait, and nobody is left who would hear of an error.
    pub(super) fn close_soon(self: &Arc<Self>) {
        if let (true, Ok(runtime)) = (self.is_ours(), runtime::shared()) {
            let open = Arc::clone(self);
            runtime.spawn_blocking(move || block_on(open.close()));
        }
    }

    /// False in a child that was forked while the image was open: see `Open::is_ours`.
    pub(super) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Runs `work` on the engine, which is not closed before that has ended.
    pub(crate) async fn with<T, W, F>(&self, work: W) -> Result<T, Error>
    where
        W: FnOnce(Arc<Engine>) -> F,
        F: Future<Output = Result<T, Error>>,
    {
        let engine = self.engine.read().await;
        match engine.as_ref() {
            Some(engine) if self.is_ours() => work(Arc::clone(engine)).await,
            Some(_) => Err(forked()),
            None => Err(closed()),
        }
    }

    /// The control of prefetch, which is made ready to run if it is not; None where nothing comes
    /// from a base.
    pub(super) async fn control(&self) -> Result<Option<Control>, Error> {
        self.with(async |engine: Arc<Engine>| {
            let mut running = self.background();
            if self.is_closed() {
                return Err(closed());
            }
            background::control(&engine, &mut *running, || start_background(&engine))
        })
        .await
    }

    /// Lends the engine to a server, which has to end before this can be closed. Blocks.
    pub(crate) fn lend(self: &Arc<Self>, read_only: bool) -> Result<OpenImage, Error> {
        if !self.is_ours() {
            return Err(forked());
        }
        // From here on nobody closes it.
        let loan = Arc::new(Loan::begin(self)?);
        let engine = block_on(self.with(async |engine: Arc<Engine>| Ok(engine)))?;
        let image = OpenEngine::Async(engine);
        Ok(OpenImage { image, read_only, loan })
    }

    fn background(&self) -> MutexGuard<'_, Option<Background>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes, marks the image clean and releases its files, once all operations have ended.
    /// The files are released also after an error; but not while the image is served, which is one.
    pub(super) async fn close(&self) -> Result<(), Error> {
        if !self.is_ours() {
            // Its threads, and what its memory holds, are the parent's.
            self.closed.store(true, Ordering::Release);
            std::mem::forget(self.background().take());
            return Ok(());
        }
        self.loans.end().await?;
        // From here on nothing begins in the background.
        self.closed.store(true, Ordering::Release);
        // Held to the end: somebody else who closes it waits until all of that is done.
        let _closing = self.closing.lock().await;
        let background = self.background().take();
        if let Some(background) = background {
            background.stop().await;
        }
        let engine = self.engine.write().await.take();
        match engine {
            Some(engine) => engine.close().await,
            None => Ok(()),
        }
    }
}

fn start_background(engine: &Arc<Engine>) -> Result<Background, Error> {
    Ok(Background::start(engine, &runtime::shared()?))
}

impl Lender for AsyncOpen {
    fn loans(&self) -> &Loans {
        &self.loans
    }

    fn running(&self) -> Option<Control> {
        self.background()
            .as_ref()
            .map(|background| background.control().clone())
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
        self.loans.try_end()
    }

    fn close_now(&self) -> Result<(), Error> {
        block_on(self.close())
    }

    fn abandon(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
