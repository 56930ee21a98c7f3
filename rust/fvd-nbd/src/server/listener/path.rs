//! The path of a Unix socket: created, replaced if it is stale, and removed at the end if it is still our
//! socket.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fvd::process::Process;
use rustix::fs::{FlockOperation, flock};

/// How long to wait for the lock on the folder.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two attempts to get the lock.
const RETRY: Duration = Duration::from_millis(10);

/// A socket that this process created. Its path is removed on drop, unless the path names another file by
/// then, or a forked child drops it.
#[derive(Debug)]
pub(super) struct OwnSocket {
    path: PathBuf,
    identity: (u64, u64),
    /// The process that created it.
    process: Process,
    /// The folder of the socket, if its lock was not available.
    pub(super) unlocked: Option<PathBuf>,
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        if self.process.is_current()
            && fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.identity)
        {
            // If this fails, the next server replaces the stale socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Creates a non-blocking listener at `path`.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, OwnSocket)> {
    // The lock serializes servers that start at the same time. Without it, both could find the socket stale,
    // and the second could remove the socket that the first has just created.
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let lock = lock(folder);
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_if_dead(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    listener.set_nonblocking(true)?;
    // Absolute, because the program may change its working directory.
    let path = fs::canonicalize(path)?;
    let own = OwnSocket {
        identity: identity(&fs::symlink_metadata(&path)?),
        path,
        process: Process::current(),
        unlocked: lock.is_none().then(|| folder.to_owned()),
    };
    Ok((listener, own))
}

/// Locks a folder against other servers. Returns None if the lock is not available in time: any user that can
/// read the folder can hold the lock for ever, and must not be able to keep a server from starting.
fn lock(folder: &Path) -> Option<File> {
    let folder = File::open(folder).ok()?;
    let start = Instant::now();
    while flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() >= PATIENCE {
            return None;
        }
        thread::sleep(RETRY);
    }
    Some(folder)
}

/// Removes the socket at `path` if no process listens on it.
fn remove_if_dead(path: &Path) -> io::Result<()> {
    let refuse = |why: &str| Err(io::Error::new(ErrorKind::AddrInUse, why));
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return refuse("there is a file with this name, and it is no socket");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => refuse("another server listens on this socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = folder();
        let path = folder.path().join("nbd");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, own) = bind(&path).unwrap();
        assert_eq!(own.unlocked, None);
        let refused = bind(&path).unwrap_err();
        assert_eq!(refused.to_string(), "another server listens on this socket");
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_lock_that_is_never_released_only_delays_the_start() {
        let folder = folder();
        let path = folder.path().join("nbd");
        drop(UnixListener::bind(&path).unwrap());
        let holder = File::open(folder.path()).unwrap();
        flock(&holder, FlockOperation::LockShared).unwrap();
        let (_listener, own) = bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(own.unlocked.as_deref(), Some(folder.path()));
    }

    #[test]
    fn files_that_are_no_sockets_are_never_removed() {
        let folder = folder();
        let path = folder.path().join("disk");
        fs::write(&path, "data").unwrap();
        assert!(bind(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"data");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(bind(&link).is_err());
        assert!(fs::symlink_metadata(&link).is_ok());
    }

    #[test]
    fn at_the_end_only_the_own_socket_is_removed() {
        let folder = folder();
        let path = folder.path().join("nbd");
        drop(bind(&path).unwrap());
        assert!(!path.exists());
        let (listener, own) = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // While the first listener is open, its inode is not reused.
        let _another = UnixListener::bind(&path).unwrap();
        drop((listener, own));
        assert!(path.exists());
    }
}
