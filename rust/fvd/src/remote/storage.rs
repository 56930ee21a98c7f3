//! A remote file as a read-only storage.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pollster::block_on;

use super::{OutageState, Pin, RemoteFile};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Owned;
use crate::storage::{Allocation, IoBufMut, Space, Storage};

/// A remote file with the interface of a file: every write fails. Clones share the file.
///
/// In a forked child all operations fail, and dropping it does nothing: the connections belong to the parent.
#[derive(Clone)]
pub struct RemoteStorage {
    file: Arc<Owned<Arc<dyn RemoteFile>>>,
    pin: Pin,
    /// The URL, for messages.
    path: PathBuf,
}

impl RemoteStorage {
    /// Polling it never blocks.
    #[must_use]
    pub fn new(file: Arc<dyn RemoteFile>) -> Self {
        Self {
            pin: file.pin().clone(),
            path: PathBuf::from(file.url()),
            file: Arc::new(Owned::new(file)),
        }
    }

    /// Which object it is.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Fails in a process that was forked after the file was opened.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.file().map(drop)
    }

    /// See [`RemoteFile::boot_profile`].
    pub(crate) async fn boot_profile(&self) -> Option<Vec<Range<u64>>> {
        self.file.get().ok()?.boot_profile().await
    }

    /// See [`RemoteFile::has_time_limit`].
    pub(crate) fn has_time_limit(&self) -> bool {
        self.file.get().is_ok_and(|file| file.has_time_limit())
    }

    /// [`Storage::read`], on this thread.
    pub(crate) fn read_blocking(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        block_on(self.read_now(buf, offset))
    }

    fn file(&self) -> Result<&Arc<dyn RemoteFile>> {
        self.file.get().map_err(|error| error.with_path(&self.path))
    }

    async fn read_now(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let read = self.file()?.read(buf, offset).await;
        read.map_err(|error| self.located(error, offset))
    }

    async fn allocation_now(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        let found = self.file()?.allocation(offset, len).await;
        found.map_err(|error| self.located(error, offset))
    }

    fn located(&self, error: Error, offset: u64) -> Error {
        match error.offset() {
            Some(_) => error.with_path(&self.path),
            None => error.with_path(&self.path).with_offset(offset),
        }
    }

    fn refused(&self, op: &str) -> Error {
        let message = "A file on another machine can only be read";
        Error::new(ErrorKind::NotPermitted, message)
            .with_path(&self.path)
            .with_op(op)
    }
}

impl fmt::Debug for RemoteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteStorage").field(&self.path).finish()
    }
}

impl Storage for RemoteStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        if buf.is_empty() {
            return Ok(buf);
        }
        self.read_now(buf, offset).await
    }

    async fn write(&self, _: Bytes, offset: u64) -> Result<()> {
        Err(self.refused("write").with_offset(offset))
    }

    async fn write_vectored(&self, _: Vec<Bytes>, offset: u64) -> Result<()> {
        Err(self.refused("write").with_offset(offset))
    }

    async fn write_zeroes(&self, offset: u64, _: u64, _: Space) -> Result<()> {
        Err(self.refused("write zeros").with_offset(offset))
    }

    async fn sync(&self) -> Result<()> {
        // Nothing was written.
        Ok(())
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.pin.len)
    }

    async fn set_len(&self, _: u64) -> Result<()> {
        Err(self.refused("change the length"))
    }

    fn can_resize(&self) -> bool {
        false
    }

    fn outage(&self) -> Option<OutageState> {
        self.file.get().ok()?.outage()
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        self.allocation_now(offset, len).await
    }
}
