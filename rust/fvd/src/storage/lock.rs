//! QEMU's image locks, so that `qemu-img`, a running virtual machine and this crate see one another.
//!
//! A user of an image holds shared locks of its open file description on single bytes of the file:
//! on byte `100 + p` for every permission `p` that it uses, and on byte `200 + p` for every
//! permission that it does not want others to use. Locks never block; whether two users conflict is
//! found by looking who holds the other half of each pair.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::file::{is_byte_locked, lock_byte_shared};

/// Which lock to hold on a file while it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMode {
    /// Other readers are welcome, writers are not.
    #[default]
    Shared,
    /// Nobody else may use the file. Needs no write access to it.
    Exclusive,
    /// No lock and no check: what is read may be changing (`-U`, `--force-share`).
    None,
}

const USED_BASE: u64 = 100;
const UNSHARED_BASE: u64 = 200;

/// QEMU's names of the permissions, at their numbers.
const NAMES: [&str; 4] = ["consistent read", "write", "write unchanged", "resize"];
const CONSISTENT_READ: usize = 0;
const WRITE: usize = 1;
const RESIZE: usize = 3;

/// Nobody here shares these: a reader wants an image that stands still.
const UNSHARED: [usize; 2] = [WRITE, RESIZE];

impl LockMode {
    fn used(self) -> &'static [usize] {
        match self {
            Self::Shared => &[CONSISTENT_READ],
            Self::Exclusive => &[CONSISTENT_READ, WRITE, RESIZE],
            Self::None => &[],
        }
    }
}

/// Takes the locks of `mode`, which last until the last duplicate of `fd` is closed.
///
/// A file system without such locks lets everybody in, as QEMU does.
pub(super) fn acquire(fd: BorrowedFd<'_>, path: &Path, mode: LockMode) -> Result<()> {
    if mode == LockMode::None {
        return Ok(());
    }
    // All locks first, then the checks: of two that come at the same time at least one sees the other.
    let used = mode.used().iter().map(|p| USED_BASE + *p as u64);
    let unshared = UNSHARED.iter().map(|p| UNSHARED_BASE + *p as u64);
    for byte in used.chain(unshared) {
        match lock_byte_shared(fd, byte) {
            Ok(()) => {}
            Err(error) if has_no_locks(&error) => return Ok(()),
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
    for permission in UNSHARED {
        if is_held(fd, path, USED_BASE + permission as u64)? {
            let what = format!("Failed to get shared \"{}\" lock", NAMES[permission]);
            return Err(in_use(path, &what));
        }
    }
    Ok(())
}

fn is_held(fd: BorrowedFd<'_>, path: &Path, byte: u64) -> Result<bool> {
    match is_byte_locked(fd, byte) {
        Err(error) if has_no_locks(&error) => Ok(false),
        result => result.map_err(|error| Error::io("look for locks on the file", error).with_path(path)),
    }
}

fn in_use(path: &Path, what: &str) -> Error {
    let advice = format!("Is another process using the image [{}]?", path.display());
    Error::new(ErrorKind::InUse, format!("{what}\n{advice}")).with_path(path)
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
