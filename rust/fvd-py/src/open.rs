//! An open engine, shared by the object of Python and the hook that runs at the exit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use fvd::storage::FileStorage;
use fvd::{Error, image};
use pollster::block_on;

/// An engine that can be closed while other threads use it: each operation holds the lock shared.
///
/// The lock is taken only without the GIL, so that who waits for it stops nobody.
pub(crate) struct Open {
    engine: RwLock<Option<image::Image<FileStorage>>>,
    closed: AtomicBool,
    /// The process that opened it.
    process: u32,
}

impl Open {
    pub(crate) fn new(engine: image::Image<FileStorage>) -> Self {
        Self {
            engine: RwLock::new(Some(engine)),
            closed: AtomicBool::new(false),
            process: std::process::id(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Runs `work` on the engine, or fails if it has been closed.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&image::Image<FileStorage>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        match engine.as_ref() {
            Some(engine) => work(engine),
            None => Err(Error::invalid_argument("I/O operation on a closed image")),
        }
    }

    /// False in a child that was forked while the image was open. What its copy holds in memory is
    /// the parent's to write, who does not know of anything that the child does: nothing that
    /// happens by itself, at the exit or in a destructor, may close the image there.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Flushes, marks the image clean and releases its files, once all operations have ended.
    /// The files are released also after an error.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        match engine.take() {
            Some(engine) => block_on(engine.close()),
            None => Ok(()),
        }
    }
}
