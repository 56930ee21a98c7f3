//! QEMU's image locks, so that `qemu-img`, a running virtual machine and this crate see one another.
//!
//! A user of an image holds shared locks of its open file description on single bytes of the file: on byte
//! `100 + p` for every permission `p` that it uses, and on byte `200 + p` for every permission that others
//! must not use. Taking a lock never waits. To find a conflict, a user checks whether another one holds the
//! other byte of each pair.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Once;

use crate::error::{Error, ErrorKind, Result};
use crate::notice;
use crate::process::Process;
use crate::sys::file::{is_byte_locked, lock_byte_shared, unlock_byte};

/// Which lock to hold on a file while it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMode {
    /// Permits other readers, but no writer.
    #[default]
    Shared,
    /// Permits no other user of the file. Needs no write access to it.
    Exclusive,
    /// No lock and no check: the content may change during reads (`-U`, `--force-share`).
    None,
}

const USED_BASE: u64 = 100;
const UNSHARED_BASE: u64 = 200;

/// QEMU's names of the permissions, indexed by their numbers.
const NAMES: [&str; 4] = ["consistent read", "write", "write unchanged", "resize"];
const CONSISTENT_READ: usize = 0;
const WRITE: usize = 1;
const RESIZE: usize = 3;

/// Permissions that no user of this crate shares: even a reader needs an image that does not change.
const UNSHARED: [usize; 2] = [WRITE, RESIZE];

impl LockMode {
    fn used(self) -> &'static [usize] {
        match self {
            Self::Shared => &[CONSISTENT_READ],
            Self::Exclusive => &[CONSISTENT_READ, WRITE, RESIZE],
            Self::None => &[],
        }
    }

    fn unshared(self) -> &'static [usize] {
        match self {
            Self::Shared | Self::Exclusive => &UNSHARED,
            Self::None => &[],
        }
    }

    /// Offsets of the bytes to lock.
    fn bytes(self) -> impl Iterator<Item = u64> {
        let used = self.used().iter().map(|p| USED_BASE + *p as u64);
        let unshared = self.unshared().iter().map(|p| UNSHARED_BASE + *p as u64);
        used.chain(unshared)
    }
}

/// The locks of one open file.
#[derive(Debug)]
pub(super) struct Locks {
    mode: LockMode,
    /// The process that took them. A child that was forked later shares them and must not release them.
    process: Process,
}

impl Locks {
    /// Takes the locks of `mode`. They last until [`Locks::release`], or until the last duplicate of `fd` is
    /// closed. After a failure none is left.
    ///
    /// On a file system without such locks it succeeds, as in QEMU. The first writer in this process gets a
    /// notice.
    pub(super) fn acquire(fd: BorrowedFd<'_>, path: &Path, mode: LockMode) -> Result<Self> {
        static TOLD: Once = Once::new();
        let tell = |text: &str| TOLD.call_once(|| notice::tell(text));
        Self::acquire_with(fd, path, mode, lock_byte_shared, tell)
    }

    fn acquire_with(
        fd: BorrowedFd<'_>,
        path: &Path,
        mode: LockMode,
        lock_byte: impl Fn(BorrowedFd<'_>, u64) -> io::Result<()>,
        tell: impl Fn(&str),
    ) -> Result<Self> {
        let process = Process::current();
        let locks = Self { mode, process };
        let has_locks = take(fd, path, mode, lock_byte).inspect_err(|_| locks.release(fd))?;
        if !has_locks && mode == LockMode::Exclusive {
            tell(&format!(
                "warning: '{}' lies on a file system without locks: nothing keeps others from writing to it",
                path.display()
            ));
        }
        Ok(locks)
    }

    /// Releases the locks. Closing the file is not enough: a process that another thread starts at that
    /// moment has a duplicate of the file, with its locks, until it calls exec.
    pub(super) fn release(&self, fd: BorrowedFd<'_>) {
        if !self.process.is_current() {
            return;
        }
        for byte in self.mode.bytes() {
            // Unlocking fails only where no lock could be taken either.
            let _ = unlock_byte(fd, byte);
        }
    }
}

/// False: the file system has no locks.
fn take(
    fd: BorrowedFd<'_>,
    path: &Path,
    mode: LockMode,
    lock_byte: impl Fn(BorrowedFd<'_>, u64) -> io::Result<()>,
) -> Result<bool> {
    // Take all locks first, then check: of two users that come at the same time, at least one sees the other.
    for byte in mode.bytes() {
        match lock_byte(fd, byte) {
            Ok(()) => {}
            Err(error) if has_no_locks(&error) => return Ok(false),
            Err(error) if is_conflict(&error) => {
                return Err(in_use(path, &format!("Failed to lock byte {byte}")));
            }
            Err(error) => return Err(Error::io("lock the file", error).with_path(path)),
        }
    }
    for &permission in mode.used() {
        if is_held(fd, path, UNSHARED_BASE + permission as u64)? {
            let what = format!("Failed to get \"{}\" lock", NAMES[permission]);
            return Err(in_use(path, &what));
        }
    }
    for &permission in mode.unshared() {
        if is_held(fd, path, USED_BASE + permission as u64)? {
            let what = format!("Failed to get shared \"{}\" lock", NAMES[permission]);
            return Err(in_use(path, &what));
        }
    }
    Ok(true)
}

fn is_held(fd: BorrowedFd<'_>, path: &Path, byte: u64) -> Result<bool> {
    match is_byte_locked(fd, byte) {
        Err(error) if has_no_locks(&error) => Ok(false),
        result => result.map_err(|error| Error::io("look for locks on the file", error).with_path(path)),
    }
}

fn in_use(path: &Path, what: &str) -> Error {
    let advice = format!("Is another process using the image [{}]?", path.display());
    Error::new(ErrorKind::InUse, format!("{what}. {advice}")).with_path(path)
}

fn has_no_locks(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS)
    )
}

fn is_conflict(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::storage::{FileOptions, FileStorage};

    fn open(path: &Path) -> Result<FileStorage> {
        let options = FileOptions {
            lock: LockMode::Exclusive,
            ..FileOptions::default()
        };
        FileStorage::open(path, &options)
    }

    #[test]
    fn a_duplicate_that_outlives_the_storage_holds_no_lock() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let storage = open(file.path()).expect("it is free");
        // As a child process has one between fork and exec.
        let duplicate = storage.file().try_clone().expect("duplicated");
        assert_eq!(open(file.path()).expect_err("locked").kind(), ErrorKind::InUse);
        drop(storage);
        drop(open(file.path()).expect("unlocked"));
        drop(duplicate);
    }

    #[test]
    fn only_a_writer_is_told_that_there_are_no_locks() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let no_locks = |_: BorrowedFd<'_>, _| Err(io::Error::from_raw_os_error(libc::ENOLCK));
        for (mode, lines) in [(LockMode::Exclusive, 1), (LockMode::Shared, 0), (LockMode::None, 0)] {
            let told = std::cell::RefCell::new(Vec::new());
            let tell = |text: &str| told.borrow_mut().push(text.to_owned());
            Locks::acquire_with(file.as_file().as_fd(), Path::new("disk.fvd"), mode, no_locks, tell).expect("let in");
            let told = told.into_inner();
            assert_eq!(told.len(), lines, "{told:?}");
            assert!(
                told.iter()
                    .all(|line| line.contains("'disk.fvd' lies on a file system without locks"))
            );
        }
    }

    #[test]
    fn a_failed_attempt_leaves_no_lock() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let storage = open(file.path()).expect("it is free");
        let other = std::fs::File::open(file.path()).expect("opened");
        let refused = Locks::acquire(other.as_fd(), file.path(), LockMode::Exclusive);
        assert_eq!(refused.expect_err("locked").kind(), ErrorKind::InUse);
        drop(storage);
        drop(open(file.path()).expect("unlocked"));
    }

    #[test]
    fn a_forked_child_leaves_the_locks_to_its_parent() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let storage = open(file.path()).expect("it is free");
        let of_the_parent = Locks {
            mode: LockMode::Exclusive,
            process: Process::other(),
        };
        of_the_parent.release(storage.file().as_fd());
        assert_eq!(open(file.path()).expect_err("locked").kind(), ErrorKind::InUse);
    }
}
