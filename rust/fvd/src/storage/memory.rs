//! A disk in memory, for tests and temporary images.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::file::MAX_OFFSET;
use super::{Allocation, IoBufMut, Space, SparseBytes, Storage};
use crate::error::{Error, ErrorKind, Result};

/// Sparse bytes in memory. Clones share the content, like two handles of one file.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    content: Arc<RwLock<SparseBytes>>,
    /// A device has a fixed length.
    is_device: bool,
}

impl MemoryStorage {
    /// An empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A file that holds `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let storage = Self::new();
        storage.write_guard().write(bytes, 0);
        storage
    }

    /// A block device of `len` zero bytes. Its length is fixed.
    #[must_use]
    pub fn device(len: u64) -> Self {
        let storage = Self {
            is_device: true,
            ..Self::default()
        };
        storage.write_guard().set_len(len);
        storage
    }

    /// Copies all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let content = self.read_guard();
        let mut bytes = vec![0; content.len() as usize];
        content.read(&mut bytes, 0);
        bytes
    }

    fn read_guard(&self) -> RwLockReadGuard<'_, SparseBytes> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_guard(&self) -> RwLockWriteGuard<'_, SparseBytes> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all<'a>(&self, bufs: impl IntoIterator<Item = &'a [u8]> + Clone, mut offset: u64) -> Result<()> {
        let len = bufs.clone().into_iter().map(|buf| buf.len() as u64).sum();
        let mut content = self.write_guard();
        self.check_end(&content, offset, len)?;
        for buf in bufs {
            content.write(buf, offset);
            offset += buf.len() as u64;
        }
        Ok(())
    }

    fn check_end(&self, content: &SparseBytes, offset: u64, len: u64) -> Result<()> {
        let limit = if self.is_device { content.len() } else { MAX_OFFSET };
        match offset.checked_add(len) {
            Some(end) if end <= limit || len == 0 => Ok(()),
            _ => {
                let cause = if self.is_device { libc::ENOSPC } else { libc::EFBIG };
                let error = Error::io("write", io::Error::from_raw_os_error(cause));
                Err(error.with_path(self.path()).with_offset(offset))
            }
        }
    }
}

impl Storage for MemoryStorage {
    fn path(&self) -> &Path {
        Path::new("<memory>")
    }

    async fn read(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.read_guard().read(buf.as_mut_slice(), offset);
        Ok(buf)
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        self.write_all([buf.as_ref()], offset)
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        self.write_all(bufs.iter().map(AsRef::as_ref), offset)
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        let mut content = self.write_guard();
        let end = offset.saturating_add(len).min(content.len());
        content.zero(offset, end, space);
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.read_guard().len())
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        if self.is_device {
            let error = Error::new(ErrorKind::Unsupported, "The length of a device cannot be changed");
            return Err(error.with_path(self.path()));
        }
        if len > MAX_OFFSET {
            let error = Error::io("change the length", io::Error::from_raw_os_error(libc::EFBIG));
            return Err(error.with_path(self.path()).with_offset(len));
        }
        self.write_guard().set_len(len);
        Ok(())
    }

    fn can_resize(&self) -> bool {
        !self.is_device
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        Ok(self.read_guard().allocation(offset, len))
    }
}
