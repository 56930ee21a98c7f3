//! Runs the operations of one file that would block.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use crate::aio::{Backend, Guard, Opened, Outcome, Pool, Receiver, Ring};
use crate::error::{Error, Result};
use crate::process::Process;
use crate::storage::file::FileStorage;
use crate::sys::uring::Operation;

/// The most worker threads of one file. More gain little with any disk.
const THREADS: usize = 32;

/// Worker threads, and a ring if there is one. Each file has its own, so an operation that hangs, for
/// instance on a network file system, delays no other file.
#[derive(Debug)]
pub(super) struct IoQueue {
    pool: Pool,
    /// One thread, for writes to the page cache of a file: the kernel carries them out one at a time, so more
    /// threads would only wait for one another.
    cached_writes: Pool,
    ring: Option<Ring>,
    process: Process,
}

/// Keeps the file open for the thread of the ring.
struct Held(Arc<Opened<FileStorage>>);

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}

impl IoQueue {
    pub(super) fn new(file: &Arc<Opened<FileStorage>>, backend: Backend) -> Self {
        let file = Arc::clone(file);
        Self {
            pool: Pool::new(THREADS),
            cached_writes: Pool::new(1),
            ring: (backend == Backend::Uring).then(|| Ring::new(move || Held(Arc::clone(&file)))),
            process: Process::current(),
        }
    }

    /// False in a forked child.
    pub(super) fn is_own(&self) -> bool {
        self.process.is_current()
    }

    /// Fails in a forked child, which has no thread that could answer.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        self.process.check_for(path)
    }

    pub(super) fn has_ring(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.is_refused())
    }

    pub(super) fn submit(&self, operation: Operation, guard: Guard) -> Result<Receiver<Outcome>> {
        match &self.ring {
            Some(ring) => ring.submit(operation, guard),
            None => Err(Error::unsupported("There is no ring")),
        }
    }

    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Receiver<T>> {
        self.pool.run(work)
    }

    /// As [`IoQueue::run`], for a write to the page cache of a file.
    pub(super) fn run_cached_write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Receiver<T>> {
        self.cached_writes.run(work)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pollster::block_on;

    use super::*;
    use crate::storage::{AsyncFile, IoBufMut, Space, Storage as _};

    /// A file whose ring the system refuses, as some containers do.
    fn refused(direct: bool) -> (AsyncFile, tempfile::TempDir) {
        let folder = tempfile::tempdir_in(std::env::current_dir().expect("a directory")).expect("a folder");
        let file = FileStorage::create(folder.path().join("file"), direct).expect("a new file");
        let mut file = AsyncFile::new(file, Backend::Uring);
        file.io_queue.ring = Some(Ring::refused());
        (file, folder)
    }

    #[test]
    fn threads_do_the_work_of_a_refused_ring() {
        for direct in [false, true] {
            let (file, _folder) = refused(direct);
            block_on(file.write(Bytes::from_owner(IoBufMut::zeroed(8192)), 0)).expect("on a thread");
            block_on(file.write(Bytes::from_static(b"data"), 1001)).expect("on a thread");
            block_on(file.sync()).expect("on a thread");
            let buf = block_on(file.read(IoBufMut::zeroed(4096), 0)).expect("on a thread");
            assert_eq!(&buf.as_slice()[1000..1006], b"\0data\0");
        }
    }

    #[test]
    fn nothing_fails_for_want_of_threads() {
        for direct in [false, true] {
            let (mut file, _folder) = refused(direct);
            file.io_queue.pool = Pool::new(0);
            file.io_queue.cached_writes = Pool::new(0);
            block_on(file.write(Bytes::from_static(b"data"), 1001)).expect("here");
            block_on(file.write_zeroes(1003, 1, Space::Free)).expect("here");
            block_on(file.sync()).expect("here");
            let buf = block_on(file.read(IoBufMut::zeroed(4096), 0)).expect("here");
            assert_eq!(&buf.as_slice()[1000..1006], b"\0da\0a\0");
        }
    }
}
