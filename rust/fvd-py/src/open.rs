//! An open engine, shared by the object of Python and the hook that runs at the exit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use fvd::Error;
use fvd::copy::Control;
use fvd::storage::Storage;
use fvd_nbd::host::{OpenEngine, OpenImage};
use pollster::block_on;

use crate::background::{self, Background, Engine, Running};
use crate::exit::Closable;
use crate::loans::{Lender, Loan, Loans};

/// An engine that can be closed while other threads use it: each operation holds the lock shared.
///
/// The locks are taken only without the GIL, so that who waits for them stops nobody.
pub(crate) struct Open {
    engine: RwLock<Option<Arc<Engine>>>,
    background: Mutex<Option<Background>>,
    loans: Loans,
    closed: AtomicBool,
    /// The process that opened it.
    process: u32,
}

impl Open {
    /// Starts what the image does on its own.
    pub(crate) fn new(engine: Engine) -> Result<Self, Error> {
        let engine = Arc::new(engine);
        let wanted = background::is_wanted(&engine);
        let background = wanted.then(|| Background::start(Arc::clone(&engine))).transpose()?;
        Ok(Self {
            loans: Loans::new(engine.file().path()),
            engine: RwLock::new(Some(engine)),
            background: Mutex::new(background),
            closed: AtomicBool::new(false),
            process: std::process::id(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Runs `work` on the engine, or fails if it has been closed.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Arc<Engine>) -> Result<T, Error>) -> Result<T, Error> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        match engine.as_ref() {
            Some(engine) => work(engine),
            None => Err(closed()),
        }
    }

    /// The control of prefetch, which is made ready to run if it is not; None where nothing comes
    /// from a base.
    pub(crate) fn control(&self) -> Result<Option<Control>, Error> {
        self.with(|engine| {
            if !self.is_ours() {
                return Err(forked());
            }
            let mut background = self.background();
            if self.is_closed() {
                return Err(closed());
            }
            background::control(engine, &mut *background, || Background::start(Arc::clone(engine)))
        })
    }

    /// Lends the engine to a server, which has to end before this can be closed.
    pub(crate) fn lend(self: &Arc<Self>, read_only: bool) -> Result<OpenImage, Error> {
        if !self.is_ours() {
            return Err(forked());
        }
        // From here on nobody closes it.
        let loan = Arc::new(Loan::begin(self)?);
        let image = self.with(|engine| Ok(OpenEngine::Blocking(Arc::clone(engine))))?;
        Ok(OpenImage { image, read_only, loan })
    }

    fn background(&self) -> MutexGuard<'_, Option<Background>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False in a child that was forked while the image was open. What its copy holds in memory is
    /// the parent's to write, who does not know of anything that the child does: nothing that
    /// happens by itself, at the exit or in a destructor, may close the image there.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Flushes, marks the image clean and releases its files, once all operations have ended.
    /// The files are released also after an error; but not while the image is served, which is one.
    pub(crate) fn close(&self) -> Result<(), Error> {
        if self.is_ours() {
            block_on(self.loans.end())?;
        } else if self.loans.any() {
            // The clients of the parent's server go on changing what is written here.
            self.closed.store(true, Ordering::Release);
            return Ok(());
        }
        // From here on nothing begins in the background.
        self.closed.store(true, Ordering::Release);
        let mut background = self.background();
        match background.take() {
            // Somebody else who closes it waits until its threads have ended.
            Some(background) if self.is_ours() => background.end(),
            // Its threads are the parent's.
            other => std::mem::forget(other),
        }
        drop(background);
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        match engine.take() {
            Some(engine) => block_on(engine.close()),
            None => Ok(()),
        }
    }
}

impl Lender for Open {
    fn loans(&self) -> &Loans {
        &self.loans
    }

    fn running(&self) -> Option<Control> {
        self.background()
            .as_ref()
            .map(|background| background.control().clone())
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
        self.loans.try_end()
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

pub(crate) fn forked() -> Error {
    Error::invalid_argument("The image was opened by the process that forked this one")
}
