//! A file or block device whose futures do not block: other threads or the kernel do what must wait.
//!
//! `docs/design/async-io.md`, "Asynchronous I/O", has the invariants A1 to A7.

mod detached;
mod inline;
mod io_queue;
mod read;
mod stalls;
mod syncs;
mod write;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_lock::RwLock;
use bytes::Bytes;
use tracing::{Instrument as _, trace_span};

use self::detached::{DetachOnDrop, DetachedOps, EVERYTHING, Effect};
use self::inline::Inline;
use self::io_queue::IoQueue;
use self::syncs::Syncs;
use super::file::FileStorage;
use super::{Allocation, IoBufMut, Space, Storage};
use crate::aio::{Backend, CloseGuard, Guard, Opened, Outcome, Receiver};
use crate::error::Result;
use crate::sys::uring::Operation;

/// A [`FileStorage`] whose futures wait instead of blocking the thread that polls them. They need no
/// particular runtime.
///
/// Opening a file blocks, and comes before [`AsyncFile::new`].
pub struct AsyncFile {
    file: Arc<Opened<FileStorage>>,
    inline: Inline,
    io_queue: IoQueue,
    detached: DetachedOps,
    /// For `O_DIRECT`: shared for aligned writes, exclusive for what moves the end of the file or rewrites
    /// part of a sector (A4). [`Direct`](super::direct::Direct) has the same lock for blocking callers.
    writers: Option<Arc<RwLock<()>>>,
    syncs: Syncs,
    /// Last, so that it is dropped last: it closes the file.
    close_guard: CloseGuard<FileStorage>,
}

impl fmt::Debug for AsyncFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFile")
            .field("file", &self.file)
            .field("io_queue", &self.io_queue)
            .finish_non_exhaustive()
    }
}

impl Drop for AsyncFile {
    fn drop(&mut self) {
        if self.io_queue.is_own() {
            self.close_guard.remains = self.detached.remains();
        }
    }
}

impl AsyncFile {
    /// Takes over an open file.
    #[must_use]
    pub fn new(file: FileStorage, backend: Backend) -> Self {
        let inline = Inline::of(&file);
        let writers = file.direct().map(|_| Arc::default());
        let (file, close_guard) = CloseGuard::of(file, inline.is_local(), FileStorage::unlock);
        Self {
            inline,
            io_queue: IoQueue::new(&file, backend),
            detached: DetachedOps::default(),
            writers,
            syncs: Syncs::default(),
            file,
            close_guard,
        }
    }

    /// The file itself, for callers that may block. It does not know of operations of this handle that are in
    /// flight.
    #[must_use]
    pub fn file(&self) -> &FileStorage {
        &self.file
    }

    /// Until this is dropped, no read-modify-write runs.
    async fn shared(&self) -> Guard {
        match &self.writers {
            Some(writers) => Some(writers.read_arc().await),
            None => None,
        }
    }

    /// Runs `work` on a thread where it may block. Return buffers in the result: then the caller drops them,
    /// after the end and without a lock (A1), as dropping one may take a lock of the program that owns it.
    /// With `O_DIRECT`, `is_alone` excludes all other writes meanwhile. Without it, only work with `is_alone`
    /// is excluded.
    async fn on_thread<T: Send + 'static>(
        &self,
        effect: Effect,
        is_alone: bool,
        work: impl FnOnce(&FileStorage) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let locked = match &self.writers {
            Some(writers) if is_alone => (None, Some(writers.write_arc().await)),
            Some(writers) => (Some(writers.read_arc().await), None),
            None => (None, None),
        };
        let span = trace_span!("thread", file = %self.path().display(), %effect);
        let file = Arc::clone(&self.file);
        let job = move || {
            let result = work(&file);
            drop(locked);
            drop(file);
            result
        };
        let receiver = self.io_queue.run(job).map_err(|error| error.with_path(self.path()))?;
        self.detach_on_drop(receiver, effect).instrument(span).await
    }

    /// Runs `operation` in the ring, which must exist.
    async fn on_ring(&self, operation: Operation, guard: Guard, effect: Effect) -> Result<Outcome> {
        let span = trace_span!("ring", file = %self.path().display(), %effect);
        let result = match self.io_queue.submit(operation, guard) {
            Ok(receiver) => self.detach_on_drop(receiver, effect).instrument(span).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| error.with_path(self.path()))
    }

    fn detach_on_drop<T: Send + 'static>(&self, receiver: Receiver<T>, effect: Effect) -> DetachOnDrop<'_, T> {
        DetachOnDrop::new(receiver, effect, &self.detached)
    }

    async fn sync_offloaded(&self) -> Result<()> {
        self.io_queue.check(self.path())?;
        self.syncs.join(|| self.sync_alone()).await
    }

    async fn sync_alone(&self) -> Result<()> {
        let heard = self.detached.wait_for_all().await;
        heard.map_err(|error| error.with_path(self.path()))?;
        // A ring without a free thread answers ECANCELED, and so may a server: then the two cannot be told
        // apart (A3).
        if self.inline.is_local() && self.io_queue.has_ring() {
            let done = self.on_ring(Operation::SyncData, None, Effect::Syncs).await?;
            if let Outcome::Done(..) = done {
                return Ok(());
            }
        }
        self.on_thread(Effect::Syncs, false, FileStorage::sync_blocking).await
    }

    async fn len_offloaded(&self) -> Result<u64> {
        self.io_queue.check(self.path())?;
        self.detached.wait(EVERYTHING).await;
        if self.inline.is_local() {
            let _no_rewrite = self.shared().await;
            return self.file.len_unlocked();
        }
        self.on_thread(Effect::Reads, false, FileStorage::len_blocking).await
    }

    async fn zero_offloaded(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        self.io_queue.check(self.path())?;
        let effect = Effect::Changes(offset..offset.saturating_add(len));
        self.detached.wait(offset..offset.saturating_add(len)).await;
        let busy = self.inline.busy();
        let zero = move |file: &FileStorage| {
            let _busy = busy;
            file.zero_blocking(offset, len, space)
        };
        let left = self.on_thread(effect.clone(), false, zero).await?;
        if left.is_empty() {
            return Ok(());
        }
        // The medium cannot zero. A write that covers sectors in part must be alone (A4). With `Space::Keep`
        // the file system decides where data begins and ends, so the ranges may be unaligned.
        let is_aligned = self.covers_sectors(left.start, left.end - left.start) && space != Space::Keep;
        let busy = self.inline.busy();
        let write = move |file: &FileStorage| {
            let _busy = busy;
            file.write_zeros(left, space)
        };
        self.on_thread(effect, !is_aligned, write).await
    }

    async fn discard_offloaded(&self, offset: u64, len: u64) -> Result<()> {
        self.io_queue.check(self.path())?;
        let range = offset..offset.saturating_add(len);
        self.detached.wait(range.clone()).await;
        let busy = self.inline.busy();
        let punch = move |file: &FileStorage| {
            let _busy = busy;
            file.discard_blocking(offset, len)
        };
        self.on_thread(Effect::Changes(range), false, punch).await
    }

    /// Whether a write of this range covers no sector in part.
    fn covers_sectors(&self, offset: u64, len: u64) -> bool {
        let direct = self.file.direct();
        direct.is_none_or(|direct| direct.is_range_aligned(offset, len))
    }
}

impl Storage for AsyncFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    async fn read(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let filled = self.read_inline(&mut buf, offset);
        if filled == buf.len() {
            return Ok(buf);
        }
        // Boxed: every future of the engine contains this one, and few get here.
        Box::pin(self.read_offloaded(buf, filled, offset)).await
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        let written = self.write_inline(std::slice::from_ref(&buf), buf.len(), offset);
        if written == buf.len() {
            return Ok(());
        }
        Box::pin(self.write_offloaded(vec![buf], written, offset)).await
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        let len = bufs.iter().map(Bytes::len).sum();
        let written = self.write_inline(&bufs, len, offset);
        if written == len {
            return Ok(());
        }
        Box::pin(self.write_offloaded(bufs, written, offset)).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        Box::pin(self.zero_offloaded(offset, len, space)).await
    }

    async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        Box::pin(self.discard_offloaded(offset, len)).await
    }

    async fn sync(&self) -> Result<()> {
        Box::pin(self.sync_offloaded()).await
    }

    async fn drop_cached(&self, len: u64) -> Result<()> {
        self.io_queue.check(self.path())?;
        self.detached.wait(EVERYTHING).await;
        let drop = move |file: &FileStorage| {
            file.drop_cached_blocking(len);
            Ok(())
        };
        self.on_thread(Effect::Reads, false, drop).await
    }

    async fn len(&self) -> Result<u64> {
        Box::pin(self.len_offloaded()).await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.io_queue.check(self.path())?;
        self.detached.wait(EVERYTHING).await;
        let busy = self.inline.busy();
        let cut = move |file: &FileStorage| {
            let _busy = busy;
            file.set_len_blocking(len)
        };
        self.on_thread(Effect::Changes(EVERYTHING), true, cut).await
    }

    fn can_resize(&self) -> bool {
        self.file.can_resize()
    }

    fn hole_unit(&self) -> u64 {
        self.file.hole_unit()
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        self.io_queue.check(self.path())?;
        self.detached.wait(EVERYTHING).await;
        let look = move |file: &FileStorage| file.allocation_blocking(offset, len);
        self.on_thread(Effect::Reads, false, look).await
    }
}
