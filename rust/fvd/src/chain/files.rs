//! How the files of a chain are used: blocking, or not.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::host::Clock;
use crate::source::{BaseSource, ThreadedSource};
use crate::storage::{AsyncFile, Backend, FileStorage, Storage};

/// Turns what was opened into what the engine uses.
pub trait Files: Clone + Send + Sync + 'static {
    /// What an image lies on.
    type Storage: Storage;

    /// A file or device.
    fn storage(&self, file: FileStorage) -> Self::Storage;

    /// A source that blocks (qcow2), read-only.
    fn source(&self, source: Box<dyn BaseSource>) -> Box<dyn BaseSource>;

    /// Whether the thread that polls may be blocked.
    fn may_block(&self) -> bool {
        false
    }

    /// Time, where the host waits without blocking.
    fn clock(&self) -> Option<Arc<dyn Clock>> {
        None
    }
}

/// Everything happens on the caller's thread, and every future is ready at its first poll.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocking;

impl Files for Blocking {
    type Storage = FileStorage;

    fn storage(&self, file: FileStorage) -> FileStorage {
        file
    }

    fn source(&self, source: Box<dyn BaseSource>) -> Box<dyn BaseSource> {
        source
    }

    fn may_block(&self) -> bool {
        true
    }
}

/// Nothing blocks the thread that polls, in whatever runtime.
#[derive(Clone)]
pub struct AsyncIo {
    backend: Backend,
    clock: Option<Arc<dyn Clock>>,
}

impl AsyncIo {
    /// With the backend of [`Backend::choose`].
    pub fn new() -> Result<Self> {
        Ok(Self {
            backend: Backend::choose()?,
            clock: None,
        })
    }

    /// With a backend that the user has named.
    ///
    /// # Errors
    ///
    /// Where the system does not permit it.
    pub fn with_backend(backend: Backend) -> Result<Self> {
        backend.check()?;
        Ok(Self { backend, clock: None })
    }

    /// Lends the clock that [`ChainOptions::base_timeout`](super::ChainOptions::base_timeout) needs.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// What does the I/O that would block.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }
}

impl Files for AsyncIo {
    type Storage = AsyncFile;

    fn storage(&self, file: FileStorage) -> AsyncFile {
        AsyncFile::new(file, self.backend)
    }

    fn source(&self, source: Box<dyn BaseSource>) -> Box<dyn BaseSource> {
        Box::new(ThreadedSource::new(source))
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.clock.clone()
    }
}

/// The clock of `files`, for a limit that needs one.
pub(super) fn clock_of(files: &impl Files) -> Result<Arc<dyn Clock>> {
    let message = "A time limit for the backing file needs a host with a clock, which does not block";
    files.clock().ok_or_else(|| Error::invalid_argument(message))
}
