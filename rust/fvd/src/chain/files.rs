//! Whether the files of a chain are used with blocking or asynchronous I/O.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::host::Clock;
use crate::remote::AnyFile;
use crate::source::{BaseSource, Qcow2Source, RemoteQcow2, ThreadedSource};
use crate::storage::{AsyncFile, Backend, FileStorage, Storage};

/// Wraps open files for the engine.
pub trait Files: Clone + Send + Sync + 'static {
    /// How local files are used.
    type Local: Storage;

    /// Wraps a local file or device.
    fn local(&self, file: FileStorage) -> Self::Local;

    /// Wraps a qcow2 chain, which blocks.
    fn qcow2(&self, source: Qcow2Source) -> Box<dyn BaseSource>;

    /// Wraps a file for an image or a raw disk.
    fn storage(&self, file: AnyFile<FileStorage>) -> AnyFile<Self::Local> {
        match file {
            AnyFile::Local(file) => AnyFile::Local(self.local(file)),
            AnyFile::Remote(file) => AnyFile::Remote(file),
        }
    }

    /// Whether polling may block the thread.
    fn may_block(&self) -> bool {
        false
    }

    /// The clock for time limits, if polling does not block.
    fn clock(&self) -> Option<Arc<dyn Clock>> {
        None
    }
}

/// Local files run on the caller's thread, where every future is ready at its first poll. Remote files are
/// awaited, so that background work which waits for a store can be stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocking;

impl Files for Blocking {
    type Local = FileStorage;

    fn local(&self, file: FileStorage) -> FileStorage {
        file
    }

    fn qcow2(&self, source: Qcow2Source) -> Box<dyn BaseSource> {
        if source.has_remote() {
            Box::new(RemoteQcow2::new(source))
        } else {
            Box::new(source)
        }
    }

    fn may_block(&self) -> bool {
        true
    }
}

/// Polling never blocks the thread, in any runtime.
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
    /// If the system does not permit it.
    pub fn with_backend(backend: Backend) -> Result<Self> {
        backend.check()?;
        Ok(Self { backend, clock: None })
    }

    /// Sets the clock that [`ChainOptions::base_timeout`](super::ChainOptions::base_timeout) needs.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// The backend for I/O that would block.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }
}

impl Files for AsyncIo {
    type Local = AsyncFile;

    fn local(&self, file: FileStorage) -> AsyncFile {
        AsyncFile::new(file, self.backend)
    }

    fn qcow2(&self, source: Qcow2Source) -> Box<dyn BaseSource> {
        if source.has_remote() {
            Box::new(RemoteQcow2::new(source))
        } else {
            Box::new(ThreadedSource::new(Box::new(source)))
        }
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.clock.clone()
    }
}

/// A file as `F` uses it: the storage of an image that [`open_image_on`](super::open_image_on) opens.
pub type FileOf<F> = AnyFile<<F as Files>::Local>;

/// The clock of `files`, for a time limit.
pub(super) fn clock_of(files: &impl Files) -> Result<Arc<dyn Clock>> {
    let message = "A time limit for the backing file needs a host with a clock, which does not block";
    files.clock().ok_or_else(|| Error::invalid_argument(message))
}
