//! A file or block device with blocking I/O on the caller's thread: every future is ready at its first poll.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::direct::Direct;
use super::lock::Locks;
use super::medium::Medium;
use super::{Allocation, IoBufMut, Space, Storage};
use crate::error::{Error, Result};
use crate::process::{CloseOnFork, Process};
use crate::sys::file as sys;

/// Every file must end here or before: the largest offset that system calls can express, even after it is
/// rounded up for `O_DIRECT`.
pub(super) const MAX_OFFSET: u64 = i64::MAX as u64 & !((1 << 20) - 1);

/// A regular file or a block device.
#[derive(Debug)]
pub struct FileStorage {
    /// Before `file`, so that it is dropped first: see [`CloseOnFork`].
    _descriptor: CloseOnFork,
    file: File,
    path: PathBuf,
    medium: Medium,
    /// What `O_DIRECT` demands. `None` when the page cache is used.
    direct: Option<Direct>,
    identity: (u64, u64),
    /// Released on drop.
    locks: Locks,
    /// The process that opened the file.
    process: Process,
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        self.locks.release(self.fd());
    }
}

impl FileStorage {
    pub(super) fn assemble(
        file: File,
        path: &Path,
        medium: Medium,
        direct: Option<Direct>,
        identity: (u64, u64),
        locks: Locks,
    ) -> Self {
        Self {
            _descriptor: CloseOnFork::new(file.as_fd()),
            file,
            path: path.to_owned(),
            medium,
            direct,
            identity,
            locks,
            process: Process::current(),
        }
    }

    /// Fails in a process that was forked after the file was opened, before it touches any lock.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        self.process.check_for(&self.path)
    }

    /// Identifies the file: device and inode, or the device number of a block device. The same for every name
    /// of one file.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// True for a block device.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.medium == Medium::Device
    }

    /// Bytes that the file occupies on disk, without its holes. May be 0 for a device.
    pub fn allocated_bytes(&self) -> Result<u64> {
        self.check_process()?;
        let result = self.file.metadata();
        let metadata = result.map_err(|error| Error::io("get the size on disk", error).with_path(&self.path))?;
        // st_blocks is in units of 512 bytes on every file system.
        Ok(metadata.blocks() * 512)
    }

    /// What `O_DIRECT` demands. None when the page cache is used.
    pub(super) fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    /// Releases the locks now.
    pub(crate) fn unlock(&self) {
        self.locks.release(self.fd());
    }

    pub(super) fn medium(&self) -> Medium {
        self.medium
    }

    /// The open file. Its duplicates share the lock, which ends when this storage is dropped.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    #[cold]
    pub(super) fn error(&self, op: &str, offset: u64, error: io::Error) -> Error {
        Error::io(op, error).with_path(&self.path).with_offset(offset)
    }

    /// [`Storage::read`], on this thread.
    #[inline]
    pub fn read_blocking(&self, buf: &mut IoBufMut, offset: u64) -> Result<()> {
        self.check_process()?;
        if buf.is_empty() {
            return Ok(());
        }
        if MAX_OFFSET.saturating_sub(offset) < buf.len() as u64 {
            return self.read_far_away(buf, offset);
        }
        let result = match &self.direct {
            None => sys::read_full(self.fd(), buf, offset, 1),
            Some(direct) => direct.read(self.fd(), buf, offset),
        };
        result.map_err(|error| self.error("read", offset, error))
    }

    /// A read of offsets beyond the largest file.
    #[cold]
    fn read_far_away(&self, buf: &mut IoBufMut, offset: u64) -> Result<()> {
        let inside = MAX_OFFSET.saturating_sub(offset) as usize;
        let mut piece = IoBufMut::zeroed(inside);
        self.read_blocking(&mut piece, offset)?;
        buf.as_mut_slice()[..inside].copy_from_slice(piece.as_slice());
        buf.as_mut_slice()[inside..].fill(0);
        Ok(())
    }

    /// [`Storage::write`], on this thread.
    #[inline]
    pub fn write_blocking(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check_process()?;
        if buf.is_empty() {
            return Ok(());
        }
        let result = check_end(offset, buf.len() as u64).and_then(|()| match &self.direct {
            None => sys::write_cached(self.fd(), buf, offset),
            Some(direct) => direct.write(&self.file, self.medium, buf, offset),
        });
        result.map_err(|error| self.error("write", offset, error))
    }

    /// Starts writeback of dirty pages, so that a later [`Storage::sync`] has less to wait for. Makes nothing
    /// durable.
    pub fn start_writeback(&self) {
        if self.direct.is_none() && self.process.is_current() {
            sys::start_writeback(self.fd());
        }
    }

    pub(super) fn write_vectored_blocking(&self, bufs: &[Bytes], offset: u64) -> Result<()> {
        self.check_process()?;
        let len = bufs.iter().map(|buf| buf.len() as u64).sum();
        if len == 0 {
            return Ok(());
        }
        let result = check_end(offset, len).and_then(|()| match &self.direct {
            None => sys::write_vectored_full(self.fd(), bufs, offset),
            Some(direct) => direct.write_vectored(&self.file, self.medium, bufs, offset),
        });
        result.map_err(|error| self.error("write", offset, error))
    }

    pub(super) fn len_now(&self) -> io::Result<u64> {
        match self.medium {
            Medium::File => Ok(self.file.metadata()?.len()),
            Medium::Device => sys::device_len(self.fd()),
        }
    }

    pub(super) fn len_blocking(&self) -> Result<u64> {
        self.check_process()?;
        let _no_rewrite = self.direct.as_ref().map(Direct::exclude_rewrites);
        self.len_unlocked()
    }

    /// The length, for a caller that excludes read-modify-write itself.
    pub(super) fn len_unlocked(&self) -> Result<u64> {
        let result = self.len_now();
        result.map_err(|error| Error::io("get the length", error).with_path(&self.path))
    }

    pub(super) fn sync_blocking(&self) -> Result<()> {
        self.check_process()?;
        sys::sync_data(self.fd()).map_err(|error| Error::io("sync", error).with_path(&self.path))
    }

    pub(super) fn drop_cached_blocking(&self, len: u64) {
        let end = len.saturating_add(sys::MAX_FOLIO).min(MAX_OFFSET);
        sys::drop_cached(self.fd(), end / sys::MAX_FOLIO * sys::MAX_FOLIO);
    }

    pub(super) fn set_len_blocking(&self, len: u64) -> Result<()> {
        self.check_process()?;
        if self.is_device() {
            return Err(Error::unsupported("The length of a block device cannot be changed").with_path(&self.path));
        }
        let _alone = self.direct.as_ref().map(Direct::alone);
        let result = check_end(len, 0).and_then(|()| self.file.set_len(len));
        result.map_err(|error| self.error("change the length", len, error))
    }

    pub(super) fn allocation_blocking(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        let end = self.len_blocking()?;
        if offset >= end {
            return Ok((Allocation::Hole, len));
        }
        let inside = len.min(end - offset);
        if self.is_device() {
            return Ok((Allocation::Data, inside));
        }
        let result = self.file_allocation(offset, len, inside);
        result.map_err(|error| self.error("look for data", offset, error))
    }

    /// `inside`: the part of `len`, in bytes, that lies before the end of the file.
    pub(super) fn file_allocation(&self, offset: u64, len: u64, inside: u64) -> io::Result<(Allocation, u64)> {
        let data = match sys::seek_data(self.fd(), offset) {
            Ok(Some(data)) => data,
            // A hole up to the end of the file. The rest of the range is a hole anyway.
            Ok(None) => return Ok((Allocation::Hole, len)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Ok((Allocation::Data, inside));
            }
            Err(error) => return Err(error),
        };
        if data > offset {
            return Ok((Allocation::Hole, (data - offset).min(len)));
        }
        // Another thread may have punched a hole here meanwhile. Then the answer is outdated, but was true.
        let hole = sys::seek_hole(self.fd(), offset)?.unwrap_or(offset);
        let stretch = if hole > offset { hole - offset } else { inside };
        Ok((Allocation::Data, stretch.min(inside)))
    }
}

/// EFBIG, as the kernel answers for offsets that no file can have.
pub(super) fn check_end(offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= MAX_OFFSET => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EFBIG)),
    }
}

impl Storage for FileStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    async fn read(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.read_blocking(&mut buf, offset)?;
        Ok(buf)
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        self.write_blocking(&buf, offset)
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        self.write_vectored_blocking(&bufs, offset)
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        self.write_zeroes_blocking(offset, len, space)
    }

    async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.discard_blocking(offset, len)
    }

    async fn sync(&self) -> Result<()> {
        self.sync_blocking()
    }

    async fn drop_cached(&self, len: u64) -> Result<()> {
        self.drop_cached_blocking(len);
        Ok(())
    }

    async fn len(&self) -> Result<u64> {
        self.len_blocking()
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.set_len_blocking(len)
    }

    fn can_resize(&self) -> bool {
        self.medium == Medium::File
    }

    fn hole_unit(&self) -> u64 {
        self.file.metadata().map_or(1, |metadata| metadata.blksize().max(1))
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        self.allocation_blocking(offset, len)
    }
}
