//! A file or device whose bytes are the disk.

use std::path::Path;

use super::{BaseSource, BoxFuture, Location, Run};
use crate::error::Result;
use crate::storage::{IoBufMut, Storage};

/// A storage, read as a disk.
#[derive(Debug)]
pub struct RawSource<S> {
    storage: S,
    len: u64,
}

impl<S: Storage> RawSource<S> {
    /// The disk is as long as the storage is now; what is appended later is not part of it.
    pub async fn new(storage: S) -> Result<Self> {
        let len = storage.len().await?;
        Ok(Self { storage, len })
    }

    /// Where the bytes are.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    async fn read_clipped(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let mut buf = self.storage.read(buf, offset).await?;
        let inside = self.len.saturating_sub(offset);
        if inside < buf.len() as u64 {
            // The storage may have grown.
            buf.as_mut_slice()[inside as usize..].fill(0);
        }
        Ok(buf)
    }

    async fn status_clipped(&self, offset: u64, len: u64) -> Result<Run> {
        if offset >= self.len {
            return Ok(Run::zeros(len));
        }
        let inside = len.min(self.len - offset);
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
        self.len
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.read_clipped(buf, offset))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.status_clipped(offset, len))
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
    fn reads_as_zeros_behind_the_length_it_had_when_opened() {
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
