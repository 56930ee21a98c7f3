//! A disk in memory that counts operations, and panics if a caller does not come to an end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fvd::Result;
use fvd::storage::{Allocation, IoBufMut, MemoryStorage, Space, Storage};

/// The most operations on one disk. The images are small, so more operations mean an endless loop.
const STEPS: u64 = 100_000;

#[derive(Clone)]
pub(crate) struct Disk {
    content: MemoryStorage,
    steps: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
}

impl Disk {
    pub(crate) fn new(bytes: &[u8], is_device: bool) -> Self {
        let content = if is_device {
            let device = MemoryStorage::device(bytes.len() as u64);
            pollster::block_on(device.write(Bytes::copy_from_slice(bytes), 0)).expect("fits");
            device
        } else {
            MemoryStorage::from_bytes(bytes)
        };
        Self {
            content,
            steps: Arc::default(),
            changes: Arc::default(),
        }
    }

    /// Writes, zeroings and changes of length so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn step(&self) {
        let steps = self.steps.fetch_add(1, Ordering::Relaxed);
        assert!(steps < STEPS, "this does not come to an end");
    }

    fn change(&self) {
        self.step();
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Storage for Disk {
    fn path(&self) -> &Path {
        self.content.path()
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.step();
        self.content.read(buf, offset).await
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        self.change();
        self.content.write(buf, offset).await
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        self.change();
        self.content.write_vectored(bufs, offset).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        self.change();
        self.content.write_zeroes(offset, len, space).await
    }

    async fn sync(&self) -> Result<()> {
        self.step();
        self.content.sync().await
    }

    async fn len(&self) -> Result<u64> {
        self.content.len().await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.change();
        self.content.set_len(len).await
    }

    fn can_resize(&self) -> bool {
        self.content.can_resize()
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        self.step();
        self.content.allocation(offset, len).await
    }
}
