//! How a file or device is opened and created: what is refused, what is locked, in which order.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::Storage as _;
use super::direct::Direct;
use super::file::FileStorage;
use super::lock::{LockMode, Locks};
use super::medium::Medium;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::file::set_blocking;
use crate::sys::resolved::open_resolved;

/// How to open a file.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// Open for reading and writing; false: for reading only.
    pub writable: bool,
    /// Bypass the page cache (`O_DIRECT`, `cache=none`).
    pub direct: bool,
    /// Which lock to take. Independent of [`FileOptions::writable`].
    pub lock: LockMode,
    /// Fail if any component of the path is a symbolic link, or `..`. For paths that the
    /// [`Gate`](crate::gate::Gate) resolved: they have none, unless one was put there since.
    pub no_follow: bool,
}

impl FileStorage {
    /// Opens an existing regular file or block device, and locks it.
    ///
    /// Everything else is refused, without waiting for the other end of a FIFO.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`] if somebody holds a lock that conflicts; [`ErrorKind::Unsupported`] if
    /// it is neither a file nor a block device, or the file system refuses `O_DIRECT`.
    pub fn open(path: impl AsRef<Path>, options: &FileOptions) -> Result<Self> {
        let path = path.as_ref();
        let file = open_file(path, options, OpenOptions::new())?;
        Self::build(file, path, options)
    }

    /// Makes an empty file for reading and writing, locked exclusively; an existing one is emptied
    /// only once the lock is held, so that a file in use stays as it is. A block device is opened
    /// as it is.
    pub fn create(path: impl AsRef<Path>, direct: bool) -> Result<Self> {
        let storage = Self::claim(path, direct)?;
        storage.empty()?;
        Ok(storage)
    }

    /// The first half of [`FileStorage::create`]: the file is made, or opened, and locked; what it
    /// holds is still there.
    pub fn claim(path: impl AsRef<Path>, direct: bool) -> Result<Self> {
        let path = path.as_ref();
        let options = FileOptions {
            writable: true,
            direct,
            lock: LockMode::Exclusive,
            no_follow: false,
        };
        let mut how = OpenOptions::new();
        let file = match open_file(path, &options, how.create_new(true).clone()) {
            Err(error) if direct && error.errno() == Some(libc::EINVAL) => {
                // The kernel makes the file first and refuses O_DIRECT then.
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                // It may be a link to a file that does not exist yet: `create` follows it.
                open_file(path, &options, OpenOptions::new().create(true).clone())?
            }
            result => result?,
        };
        Self::build(file, path, &options)
    }

    /// The second half of [`FileStorage::create`]: cuts a file to nothing. A device stays as it is.
    pub fn empty(&self) -> Result<()> {
        self.check_process()?;
        if let Medium::File = self.medium() {
            let emptied = empty(self.file());
            return emptied.map_err(|error| Error::io("empty the file", error).with_path(self.path()));
        }
        Ok(())
    }

    /// Takes over a file that is already open. No lock is taken; reading only and `O_DIRECT` are
    /// what the file was opened with. `path` is for messages.
    pub fn from_file(file: File, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = rustix::fs::fcntl_getfl(&file)
            .map_err(|error| Error::io("inspect the file", error.into()).with_path(path))?;
        let options = FileOptions {
            writable: flags.intersection(OFlags::ACCMODE) == OFlags::RDWR,
            direct: flags.contains(OFlags::DIRECT),
            lock: LockMode::None,
            no_follow: false,
        };
        Self::build(file, path, &options)
    }

    fn build(file: File, path: &Path, options: &FileOptions) -> Result<Self> {
        let inspect = |error| Error::io("inspect the file", error).with_path(path);
        let metadata = file.metadata().map_err(inspect)?;
        let medium = medium_of(&metadata, path)?;
        set_blocking(&file).map_err(inspect)?;
        let locks = Locks::acquire(file.as_fd(), path, options.lock)?;
        let direct = options.direct.then(|| Direct::of(file.as_fd()));
        let identity = match medium {
            Medium::File => (metadata.dev(), metadata.ino()),
            // Device nodes in different places can be the same device.
            Medium::Device => (metadata.rdev(), 0),
        };
        Ok(Self::assemble(file, path, medium, direct, identity, locks))
    }
}

/// An empty file is left alone: ext4 writes out a file that was cut to nothing when it is closed,
/// in the belief that it replaces another one's content.
fn empty(file: &File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    file.set_len(0)
}

fn medium_of(metadata: &std::fs::Metadata, path: &Path) -> Result<Medium> {
    let kind = metadata.file_type();
    let name = if kind.is_file() {
        return Ok(Medium::File);
    } else if kind.is_block_device() {
        return Ok(Medium::Device);
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a character device"
    };
    Err(not_a_disk(path, name))
}

fn not_a_disk(path: &Path, name: &str) -> Error {
    let message = format!("It is {name}, neither a regular file nor a block device");
    Error::unsupported(message).with_path(path)
}

fn open_file(path: &Path, options: &FileOptions, mut how: OpenOptions) -> Result<File> {
    // O_CLOEXEC is std's default. O_NONBLOCK: a FIFO opens at once, to be refused by its type.
    let mut flags = OFlags::NONBLOCK;
    if options.direct {
        flags |= OFlags::DIRECT;
    }
    if options.no_follow {
        flags |= if options.writable { OFlags::RDWR } else { OFlags::RDONLY };
        return open_resolved(path, flags).map_err(|error| explain(path, options, error));
    }
    how.read(true)
        .write(options.writable)
        .custom_flags(flags.bits().cast_signed());
    how.open(path).map_err(|error| explain(path, options, error))
}

/// Says more than the bare error number where its meaning is known.
fn explain(path: &Path, options: &FileOptions, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) if options.direct => {
            let hint = "The file system does not support O_DIRECT: drop `direct` (cache=none)";
            let error = Error::io("open the file past the page cache", error).with_path(path);
            error.with_context(ErrorKind::Unsupported, hint)
        }
        Some(libc::EISDIR) => not_a_disk(path, "a directory"),
        Some(libc::ENXIO | libc::EOPNOTSUPP) => {
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
            if is_socket {
                not_a_disk(path, "a socket")
            } else {
                Error::io("open", error).with_path(path)
            }
        }
        Some(libc::ELOOP) if options.no_follow => {
            let error = Error::io("open", error).with_path(path);
            error.with_context(
                ErrorKind::NotPermitted,
                "It became a symbolic link, or lies behind one now",
            )
        }
        _ => Error::io("open", error).with_path(path),
    }
}
