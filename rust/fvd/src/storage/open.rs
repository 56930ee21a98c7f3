//! Opens and creates files and devices: what is refused, what is locked, and in which order.

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
use crate::url::{is_url, shown};

/// How to open a file.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// Open for reading and writing. False: for reading only.
    pub writable: bool,
    /// Bypass the page cache (`O_DIRECT`, `cache=none`).
    pub direct: bool,
    /// Which lock to take. Independent of [`FileOptions::writable`].
    pub lock: LockMode,
    /// Fail if any component of the path is a symbolic link or `..`. For paths that
    /// [`Gate`](crate::gate::Gate) resolved: they have none, unless one was put there after that.
    pub no_follow: bool,
}

impl FileStorage {
    /// Opens an existing regular file or block device, and locks it.
    ///
    /// Refuses everything else. Does not wait for the other end of a FIFO.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`] if another user holds a lock that conflicts. [`ErrorKind::Unsupported`] if it is
    /// neither a regular file nor a block device, or if the file system refuses `O_DIRECT`.
    pub fn open(path: impl AsRef<Path>, options: &FileOptions) -> Result<Self> {
        let path = path.as_ref();
        let file = open_file(path, options, OpenOptions::new())?;
        Self::build(file, path, options)
    }

    /// Creates an empty file for reading and writing, locked exclusively. An existing file is emptied only
    /// after it is locked, so a file in use keeps its content. A block device keeps its content in any case.
    pub fn create(path: impl AsRef<Path>, direct: bool) -> Result<Self> {
        let storage = Self::claim(path, direct)?;
        storage.empty()?;
        Ok(storage)
    }

    /// The first half of [`FileStorage::create`]: creates or opens the file, and locks it. An existing file
    /// keeps its content.
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
                // The kernel creates the file first and then refuses O_DIRECT.
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                // It may be a symbolic link to a file that does not exist yet: `create` follows it.
                open_file(path, &options, OpenOptions::new().create(true).clone())?
            }
            result => result?,
        };
        Self::build(file, path, &options)
    }

    /// The second half of [`FileStorage::create`]: truncates a file to 0 bytes. A device keeps its content.
    pub fn empty(&self) -> Result<()> {
        self.check_process()?;
        if let Medium::File = self.medium() {
            let emptied = empty(self.file());
            return emptied.map_err(|error| Error::io("empty the file", error).with_path(self.path()));
        }
        Ok(())
    }

    /// Takes over a file that is already open. Takes no lock. Whether it is writable and uses `O_DIRECT`
    /// follows from how the file was opened. `path` is for messages.
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
            // Two device nodes can be the same device.
            Medium::Device => (metadata.rdev(), 0),
        };
        Ok(Self::assemble(file, path, medium, direct, identity, locks))
    }
}

/// Does not touch an empty file: when a file that was truncated to 0 bytes is closed, ext4 writes it out at
/// once, because it assumes that the new content replaces the old file.
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
    // std sets O_CLOEXEC. With O_NONBLOCK, opening a FIFO does not wait, and its type is refused later.
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

/// Explains the error number where its meaning is known.
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
        Some(libc::ENOENT) if is_url(path.as_os_str()) => {
            let message = "This needs a file on this machine, and the name is a URL";
            Error::unsupported(message).with_path(shown(path.as_os_str()))
        }
        _ => Error::io("open", error).with_path(path),
    }
}
