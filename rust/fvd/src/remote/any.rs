//! A file on this machine or on another one.

use std::path::Path;

use bytes::Bytes;

use super::{OutageState, Pin, RemoteStorage};
use crate::error::{Error, Result};
use crate::storage::{Allocation, FileStorage, IoBufMut, Space, Storage};

/// A file on this machine or on another one. `L`: how local files are used.
#[derive(Debug)]
pub enum AnyFile<L> {
    /// On this machine.
    Local(L),
    /// On another machine.
    Remote(RemoteStorage),
}

/// Which file it is, under any of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// As [`FileStorage::identity`].
    Local(u64, u64),
    /// The URL and the object there.
    Remote(String, Pin),
}

impl<L> AnyFile<L> {
    /// The local file; None if it is remote.
    pub fn local(&self) -> Option<&L> {
        match self {
            Self::Local(file) => Some(file),
            Self::Remote(_) => None,
        }
    }

    /// The remote file; None if it is local.
    pub fn remote(&self) -> Option<&RemoteStorage> {
        match self {
            Self::Local(_) => None,
            Self::Remote(file) => Some(file),
        }
    }
}

impl AnyFile<FileStorage> {
    /// Which file it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        match self {
            Self::Local(file) => {
                let (device, inode) = file.identity();
                Identity::Local(device, inode)
            }
            Self::Remote(file) => Identity::Remote(file.path().display().to_string(), file.pin().clone()),
        }
    }

    /// Fails in a process that was forked after the file was opened.
    pub(crate) fn check_process(&self) -> Result<()> {
        match self {
            Self::Local(file) => file.check_process(),
            Self::Remote(file) => file.check_process(),
        }
    }

    /// [`Storage::read`], on this thread.
    pub(crate) fn read_blocking(&self, buf: &mut IoBufMut, offset: u64) -> Result<()> {
        match self {
            Self::Local(file) => file.read_blocking(buf, offset),
            Self::Remote(file) => {
                let len = buf.len();
                // The buffer is away while it is filled, and lost if that fails.
                let lent = std::mem::replace(buf, IoBufMut::zeroed(0));
                *buf = file.read_blocking(lent, offset)?;
                debug_assert_eq!(buf.len(), len, "a read returns its buffer");
                Ok(())
            }
        }
    }

    /// Bytes that the file occupies on its disk. None: only its server knows.
    pub fn allocated_bytes(&self) -> Result<Option<u64>> {
        self.local().map(FileStorage::allocated_bytes).transpose()
    }

    /// As [`FileStorage::start_writeback`].
    pub fn start_writeback(&self) {
        if let Self::Local(file) = self {
            file.start_writeback();
        }
    }

    /// The file, for what only a local one can be used for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is remote. `use_as` completes the
    /// sentence "cannot be".
    pub fn into_local(self, use_as: &str) -> Result<FileStorage> {
        match self {
            Self::Local(file) => Ok(file),
            Self::Remote(file) => {
                let message = format!("A file on another machine cannot be {use_as}");
                Err(Error::unsupported(message).with_path(file.path()))
            }
        }
    }
}

/// Calls the same method of whichever file it is.
macro_rules! either {
    ($self:ident, $file:ident => $call:expr) => {
        match $self {
            AnyFile::Local($file) => $call,
            AnyFile::Remote($file) => $call,
        }
    };
}

impl<L: Storage> Storage for AnyFile<L> {
    fn path(&self) -> &Path {
        either!(self, file => file.path())
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        either!(self, file => file.read(buf, offset).await)
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        either!(self, file => file.write(buf, offset).await)
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        either!(self, file => file.write_vectored(bufs, offset).await)
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        either!(self, file => file.write_zeroes(offset, len, space).await)
    }

    async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        either!(self, file => file.discard(offset, len).await)
    }

    async fn sync(&self) -> Result<()> {
        either!(self, file => file.sync().await)
    }

    async fn drop_cached(&self, len: u64) -> Result<()> {
        either!(self, file => file.drop_cached(len).await)
    }

    async fn len(&self) -> Result<u64> {
        either!(self, file => file.len().await)
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        either!(self, file => file.set_len(len).await)
    }

    fn can_resize(&self) -> bool {
        either!(self, file => file.can_resize())
    }

    fn hole_unit(&self) -> u64 {
        either!(self, file => file.hole_unit())
    }

    fn outage(&self) -> Option<OutageState> {
        self.remote().and_then(Storage::outage)
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        either!(self, file => file.allocation(offset, len).await)
    }
}
