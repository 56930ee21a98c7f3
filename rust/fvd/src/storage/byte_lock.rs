//! Locks on single bytes of a file, between processes (`F_OFD_SETLK`).
//!
//! A lock belongs to an open file description: two files that are opened separately exclude each other, also
//! within one process, and all duplicates of one descriptor share its locks. The kernel releases the locks when
//! the last duplicate is closed, so a process that dies holds none. The byte need not exist.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::file;

/// What a lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteLock {
    /// Other shared locks. The file must be open for reading.
    Shared,
    /// No other lock. The file must be open for writing.
    Exclusive,
}

impl ByteLock {
    /// Takes the lock on `byte`, or changes the one that this open file description has there. Never waits:
    /// false if another one has a lock that does not allow it.
    ///
    /// # Errors
    ///
    /// ENOLCK, EOPNOTSUPP, EINVAL or ENOSYS on a file system without such locks.
    pub fn try_take(self, fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
        let taken = match self {
            Self::Shared => file::lock_byte_shared(fd, byte),
            Self::Exclusive => file::lock_byte_exclusive(fd, byte),
        };
        match taken {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether another open file description has any lock on `byte`.
    pub fn is_taken(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
        file::is_byte_locked(fd, byte)
    }

    /// Releases any lock of this open file description on `byte`.
    pub fn release(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
        file::unlock_byte(fd, byte)
    }
}
