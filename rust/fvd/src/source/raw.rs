//! A raw disk: the bytes of a file or device.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{BaseSource, BoxFuture, Location, Run, WritableBase};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SECTOR;
use crate::mutation::{self, Mutation};
use crate::remote::OutageState;
use crate::storage::{IoBufMut, Space, Storage};

/// A storage as a raw disk.
#[derive(Debug)]
pub struct RawSource<S> {
    storage: S,
    /// Grows once at most, in [`WritableBase::prepare`].
    len: AtomicU64,
    writable: bool,
}

impl<S: Storage> RawSource<S> {
    /// The length of the disk is that of the storage now. What is appended later does not belong to it.
    pub async fn new(storage: S) -> Result<Self> {
        Self::open(storage, false).await
    }

    /// As [`RawSource::new`], for a storage that was opened for writing.
    pub async fn for_writing(storage: S) -> Result<Self> {
        Self::open(storage, true).await
    }

    async fn open(storage: S, writable: bool) -> Result<Self> {
        let len = AtomicU64::new(storage.len().await?);
        Ok(Self { storage, len, writable })
    }

    fn disk_len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    async fn read_clipped(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let mut buf = self.storage.read(buf, offset).await?;
        let inside = self.disk_len().saturating_sub(offset);
        if inside < buf.len() as u64 {
            // The storage may have grown.
            buf.as_mut_slice()[inside as usize..].fill(0);
        }
        Ok(buf)
    }

    async fn status_clipped(&self, offset: u64, len: u64) -> Result<Run> {
        let disk_len = self.disk_len();
        if offset >= disk_len {
            return Ok(Run::zeros(len));
        }
        let inside = len.min(disk_len - offset);
        let (allocation, len) = self.storage.allocation(offset, inside).await?;
        Ok(Run {
            content: allocation.into(),
            len,
            depth: 0,
            present: true,
            location: Some(Location {
                path: self.storage.path().to_owned(),
                offset,
            }),
            compressed: false,
        })
    }
}

impl<S: Storage> BaseSource for RawSource<S> {
    fn path(&self) -> &Path {
        self.storage.path()
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        self.disk_len()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.read_clipped(buf, offset))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.status_clipped(offset, len))
    }

    fn writable(&self) -> Option<&dyn WritableBase> {
        self.writable.then_some(self as _)
    }

    fn outage(&self) -> Option<OutageState> {
        self.storage.outage()
    }
}

impl<S: Storage> RawSource<S> {
    /// Rounds the length up to whole sectors, if `size` lies in the last sector.
    async fn complete_sector(&self, size: u64) -> Result<()> {
        let len = self.disk_len();
        if len >= size {
            return Ok(());
        }
        if len.next_multiple_of(SECTOR) < size {
            let message = format!("The base has {len} bytes, the image above it needs {size}");
            return Err(Error::new(ErrorKind::Io, message).with_path(self.path()));
        }
        if self.storage.len().await? < size {
            self.storage.set_len(size).await?;
        }
        self.len.fetch_max(size, Ordering::AcqRel);
        Ok(())
    }

    async fn sync_all(&self) -> Result<()> {
        let synced = self.storage.sync().await;
        // A sync that finds the disk full has lost data. Space that becomes free later does not bring it
        // back.
        synced.map_err(|error| error.with_context(ErrorKind::Io, "The base may have lost what was written to it"))
    }
}

impl<S: Storage> WritableBase for RawSource<S> {
    fn prepare(&self, size: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.complete_sector(size))
    }

    fn write(&self, buf: Bytes, offset: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.storage.write(buf, offset))
    }

    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.storage.write_zeroes(offset, len, space))
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.sync_all())
    }

    fn sync_leftovers(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.sync_all().await?;
            if mutation::is(Mutation::BaseNotDropped) {
                return Ok(());
            }
            self.storage.drop_cached(u64::MAX).await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pollster::block_on;

    use super::*;
    use crate::source::Content;
    use crate::storage::MemoryStorage;

    #[test]
    fn reads_beyond_the_length_at_open_give_zeros() {
        let storage = MemoryStorage::from_bytes(&[7; 1000]);
        let source = block_on(RawSource::new(storage.clone())).expect("memory does not fail");
        block_on(storage.write(Bytes::from_static(&[9; 3000]), 1000)).expect("memory does not fail");
        let mut expected = [0; 600];
        expected[..100].fill(7);
        let buf = block_on(source.read(IoBufMut::zeroed(600), 900)).expect("memory does not fail");
        assert_eq!(source.len(), 1000);
        assert_eq!(buf.as_slice(), expected);
        assert_eq!(block_on(source.status(1000, 50)).expect("no I/O"), Run::zeros(50));
    }

    #[test]
    fn only_a_source_opened_for_writing_is_writable() {
        let open = |storage| block_on(RawSource::new(storage)).expect("memory does not fail");
        assert!(open(MemoryStorage::new()).writable().is_none());
    }

    #[test]
    fn a_prepared_base_has_whole_sectors() {
        let storage = MemoryStorage::from_bytes(&[7; 1000]);
        let source = block_on(RawSource::for_writing(storage.clone())).expect("memory does not fail");
        let base = source.writable().expect("opened for that");
        block_on(base.prepare(1024)).expect("memory does not fail");
        assert_eq!(block_on(storage.len()).expect("memory does not fail"), 1024);
        block_on(base.write(Bytes::from_static(&[9; 24]), 1000)).expect("memory does not fail");
        let buf = block_on(source.read(IoBufMut::zeroed(30), 995)).expect("memory does not fail");
        assert_eq!(buf.as_slice()[..5], [7; 5]);
        assert_eq!(buf.as_slice()[5..29], [9; 24]);
        assert_eq!(buf.as_slice()[29], 0);
        block_on(base.prepare(512)).expect("memory does not fail");
        assert_eq!(source.len(), 1024);
        let error = block_on(base.prepare(1536)).expect_err("a sector is missing, and zeros would pass for it");
        assert!(error.to_string().contains("has 1024 bytes"), "{error}");
    }

    #[test]
    fn holes_are_known_to_be_zeros() {
        let storage = MemoryStorage::new();
        block_on(storage.write(Bytes::from_static(&[1; 512]), 1 << 20)).expect("memory does not fail");
        let source = block_on(RawSource::new(storage)).expect("memory does not fail");
        let content = |offset, len| {
            let run = block_on(source.status(offset, len)).expect("memory does not fail");
            (run.content, run.len)
        };
        assert_eq!(content(5, 4 << 20), (Content::Zero, (1 << 20) - 5));
        assert_eq!(content(1 << 20, 4096), (Content::Data, 512));
    }
}
