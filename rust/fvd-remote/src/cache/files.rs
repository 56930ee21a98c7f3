//! The files of an object on a real file system.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;

use fvd::process::CloseOnFork;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fstat, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2, retry_on_intr};

use super::medium::{ByteLock, Files, Waiting, Which};

/// A file that forked children do not have: its locks end when this process closes it or dies.
pub(super) struct Kept {
    /// Dropped first.
    _close: CloseOnFork,
    file: File,
}

impl Kept {
    pub(super) fn new(file: File) -> Self {
        Self {
            _close: CloseOnFork::new(file.as_fd()),
            file,
        }
    }
}

/// The files of an object.
pub(super) struct Pair {
    index: Kept,
    data: Kept,
}

impl Pair {
    pub(super) fn new(index: File, data: File) -> Self {
        Self {
            index: Kept::new(index),
            data: Kept::new(data),
        }
    }

    fn file(&self, which: Which) -> &File {
        match which {
            Which::Index => &self.index.file,
            Which::Data => &self.data.file,
        }
    }
}

pub(super) fn write_all(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

impl Files for Pair {
    fn read(&self, file: Which, buf: &mut [u8], offset: u64, waiting: Waiting) -> io::Result<usize> {
        let file = self.file(file);
        if waiting == Waiting::Never {
            let mut pieces = [io::IoSliceMut::new(buf)];
            return Ok(preadv2(file, &mut pieces, offset, ReadWriteFlags::NOWAIT)?);
        }
        let mut filled = 0;
        while filled < buf.len() {
            let rest = &mut buf[filled..];
            match retry_on_intr(|| rustix::io::pread(file, &mut *rest, offset + filled as u64))? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn write(&self, file: Which, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all(self.file(file), bytes, offset)
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let len = range.end - range.start;
        Ok(retry_on_intr(|| fallocate(&self.data.file, flags, range.start, len))?)
    }

    fn allocated(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let file = &self.data.file;
        let start = match seek(file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(start..seek(file, SeekFrom::Hole(start))?))
    }

    fn used(&self) -> io::Result<u64> {
        let blocks = |file| Ok::<_, io::Error>(fstat(file)?.st_blocks.cast_unsigned() * 512);
        Ok(blocks(&self.index.file)? + blocks(&self.data.file)?)
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(fstat(&self.index.file)?.st_nlink > 0)
    }

    fn try_lock(&self, byte: u64, lock: ByteLock) -> io::Result<bool> {
        lock.try_take(self.index.file.as_fd(), byte)
    }

    fn is_locked(&self, byte: u64) -> io::Result<bool> {
        ByteLock::is_taken(self.index.file.as_fd(), byte)
    }

    fn unlock(&self, byte: u64) {
        // Unlocking fails only where no lock could be taken either.
        _ = ByteLock::release(self.index.file.as_fd(), byte);
    }
}
