//! A disk whose reads wait for each other.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use fvd::Result;
use fvd::storage::IoBufMut;
use fvd_nbd::protocol::export::ExportInfo;
use fvd_nbd::protocol::meta::Status;
use fvd_nbd::server::{Export, MemoryExport, Zeroing};
use tokio::sync::Semaphore;

/// A disk whose reads wait until `size` of them are in flight, and then complete together.
pub(crate) struct Meeting {
    disk: MemoryExport,
    size: u32,
    here: AtomicU32,
    /// `now`: reads in flight. `most`: the maximum of `now` so far.
    now: AtomicU32,
    most: AtomicU32,
    go: Semaphore,
}

impl Meeting {
    /// A disk whose reads complete in groups of `size`.
    pub(crate) fn new(size: u32) -> Self {
        Self {
            disk: MemoryExport::new("disk", 1 << 20),
            size,
            here: 0.into(),
            now: 0.into(),
            most: 0.into(),
            go: Semaphore::new(0),
        }
    }

    /// Counts as one read.
    pub(crate) fn join(&self) {
        let here = 1 + self.here.fetch_add(1, Ordering::SeqCst);
        if here.is_multiple_of(self.size) {
            self.go.add_permits(self.size as usize);
        }
    }

    /// The maximum number of reads in flight so far.
    pub(crate) fn most(&self) -> u32 {
        self.most.load(Ordering::SeqCst)
    }

    /// Whether a read has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.here.load(Ordering::SeqCst) > 0
    }
}

impl Export for Meeting {
    fn info(&self) -> ExportInfo {
        self.disk.info()
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let now = 1 + self.now.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(now, Ordering::SeqCst);
        self.join();
        self.go.acquire().await.expect("it is not closed").forget();
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.disk.read(buf, offset).await
    }

    fn write(&self, buf: Bytes, offset: u64) -> impl Future<Output = Result<()>> + Send {
        self.disk.write(buf, offset)
    }

    fn flush(&self) -> impl Future<Output = Result<()>> + Send {
        self.disk.flush()
    }

    fn write_zeroes(&self, offset: u64, length: u64, how: Zeroing) -> impl Future<Output = Result<()>> + Send {
        self.disk.write_zeroes(offset, length, how)
    }

    fn trim(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send {
        self.disk.trim(offset, length)
    }

    fn cache(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send {
        self.disk.cache(offset, length)
    }

    fn status(
        &self,
        offset: u64,
        length: u64,
        piece: &mut (dyn FnMut(u64, Status) -> bool + Send),
    ) -> impl Future<Output = Result<()>> + Send {
        self.disk.status(offset, length, piece)
    }
}
