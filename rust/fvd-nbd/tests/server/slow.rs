//! A disk that takes its time.

use std::future::Future;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fvd::Result;
use fvd::storage::IoBufMut;
use fvd_nbd::export::ExportInfo;
use fvd_nbd::meta::Status;
use fvd_nbd::server::{Export, MemoryExport, Zeroing};
use tokio::sync::Semaphore;

/// Reads end when there are enough of them.
pub(crate) struct Meeting {
    disk: MemoryExport,
    size: u32,
    here: std::sync::atomic::AtomicU32,
    go: Semaphore,
}

impl Meeting {
    /// The reads that have to be under way at once.
    pub(crate) fn new(size: u32) -> Self {
        Self {
            disk: MemoryExport::new("disk", 1 << 20),
            size,
            here: 0.into(),
            go: Semaphore::new(0),
        }
    }

    /// Counts as a read.
    pub(crate) fn join(&self) {
        let here = 1 + self.here.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if here == self.size {
            self.go.add_permits(self.size as usize);
        }
    }

    pub(crate) fn wait_for_the_first(&self) {
        while self.here.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Export for Meeting {
    fn info(&self) -> ExportInfo {
        self.disk.info()
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.join();
        self.go.acquire().await.expect("it is not closed").forget();
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
