//! qcow2 disks, read by the crate `imago`.
//!
//! This module opens every file of a backing chain itself, with the locks of
//! [`storage`](crate::storage) and through the [`Gate`], and hands `imago` the open files: it
//! never opens anything. Everything runs on the caller's thread.

use std::ffi::OsStr;
use std::future::ready;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, Mapping};

use super::qcow2_header::Header;
use super::{BaseSource, BoxFuture, Content, Run, detect};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Named};
use crate::process::CloseOnFork;
use crate::storage::{FileOptions, FileStorage, IoBufMut, LockMode, Storage};

/// Most files in a backing chain.
const MAX_CHAIN_LEN: usize = 200;

type Disk = FormatAccess<ImagoFile>;

/// How to open a qcow2 disk and the files that it names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Qcow2Options<'a> {
    /// Lock of every file of the chain. [`LockMode::Exclusive`] is for the first file only: backing
    /// files are shared.
    pub lock: LockMode,
    /// Bypass the page cache.
    pub direct: bool,
    /// What the image may name as its backing and data files; `None`: nothing.
    pub gate: Option<&'a Gate>,
    /// Guess the format of a backing file that the image does not name. Dangerous where a guest
    /// wrote to a raw one: see [`probe`](super::probe).
    pub probe_backing: bool,
}

#[derive(Debug)]
struct ChainFile {
    storage: FileStorage,
    /// The descriptor that `imago` reads.
    duplicate: RawFd,
}

/// A qcow2 disk with its backing chain, read-only.
#[derive(Debug)]
pub struct Qcow2Source {
    /// Before the disk, which closes its duplicates of the files: see [`CloseOnFork`].
    _duplicates: Vec<CloseOnFork>,
    disk: Disk,
    /// Every file of the chain, this one first: they hold the locks.
    files: Vec<ChainFile>,
    len: u64,
    /// `imago` panicked: what it holds in memory is not to be relied on.
    is_broken: AtomicBool,
}

impl Qcow2Source {
    /// Opens the image at `path`, and what it names as far as `options` allow.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotPermitted`] if it names a file that the gate refuses;
    /// [`ErrorKind::Unsupported`] for encryption and formats of backing files other than `raw` and
    /// `qcow2`; [`ErrorKind::InvalidImage`] for what contradicts the format.
    pub fn open(path: impl AsRef<Path>, options: &Qcow2Options<'_>) -> Result<Self> {
        let how = FileOptions {
            direct: options.direct,
            lock: options.lock,
            ..FileOptions::default()
        };
        Self::from_storage(FileStorage::open(path, &how)?, options)
    }

    /// As [`Qcow2Source::open`], with a file that is already open. Its lock stays as it is.
    pub fn from_storage(storage: FileStorage, options: &Qcow2Options<'_>) -> Result<Self> {
        let path = storage.path().to_owned();
        let mut files = Vec::new();
        let disk = open_qcow2(storage, options, &mut files)?;
        let len = disk.size();
        if len > i64::MAX as u64 {
            let message = format!("The virtual size {len} is more than a disk can have");
            return Err(Error::invalid_image(message).with_path(path));
        }
        let duplicate = |file: &ChainFile| CloseOnFork::of_number(file.duplicate);
        Ok(Self {
            _duplicates: files.iter().map(duplicate).collect(),
            disk,
            files,
            len,
            is_broken: AtomicBool::new(false),
        })
    }

    /// [`FileStorage::identity`] of every file of the chain, the image itself first.
    pub fn identities(&self) -> impl Iterator<Item = (u64, u64)> {
        self.files.iter().map(|file| file.storage.identity())
    }

    /// Runs `work` on the disk; names file and offset in errors.
    fn with_disk<T>(&self, op: &str, offset: u64, work: impl FnOnce(&Disk) -> io::Result<T>) -> Result<T> {
        // Before the locks of `imago`.
        self.files[0].storage.check_process()?;
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(panicked(self.path()));
        }
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| work(&self.disk))) else {
            self.is_broken.store(true, Ordering::Relaxed);
            return Err(panicked(self.path()));
        };
        result.map_err(|error| translate(op, error, self.path()).during(op).with_offset(offset))
    }

    fn status_now(&self, offset: u64, len: u64) -> Result<Run> {
        if offset >= self.len {
            return Ok(Run::zeros(len));
        }
        let inside = len.min(self.len - offset);
        self.with_disk("look up", offset, |disk| {
            let (mapping, stretch) = disk.get_mapping(offset, inside)?;
            if stretch == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "A mapping has no length"));
            }
            let len = stretch.min(inside);
            Ok(match mapping {
                Mapping::Eof { .. } => Run::zeros(len),
                Mapping::Zero { explicit, .. } => Run {
                    present: explicit,
                    ..Run::zeros(len)
                },
                _ => Run {
                    content: Content::Data,
                    present: true,
                    ..Run::zeros(len)
                },
            })
        })
    }
}

/// Opens one image of the chain and, below it, the rest; adds all files to `files`.
fn open_qcow2(storage: FileStorage, options: &Qcow2Options<'_>, files: &mut Vec<ChainFile>) -> Result<Disk> {
    let path = storage.path().to_owned();
    let header = Header::read(&storage)?;
    let file = add_file(storage, files)?;
    let mut image = guarded(&path, || Qcow2::<ImagoFile>::open_image(file, false))?;

    let mut data_file = None;
    if image.requires_external_data_file() {
        let name = image.implicit_external_data_file().ok_or_else(|| {
            let message = "The image keeps its data in another file, and does not name it";
            Error::invalid_image(message).with_path(&path)
        })?;
        let named = Named::data(&path, OsStr::new(name));
        let storage = named.opened(open_named(&path, name, options))?;
        data_file = Some(named.opened(add_file(storage, files))?);
    }
    image.set_data_file(data_file);

    let mut backing = None;
    if let Some(name) = image.implicit_backing_file().filter(|name| !name.is_empty()) {
        let named = Named::base(&path, OsStr::new(name));
        let storage = named.opened(open_named(&path, name, options))?;
        let format = named.opened(backing_format(&path, &header, &storage, options))?;
        backing = Some(named.opened(match format {
            "qcow2" => open_qcow2(storage, options, files),
            _ => open_raw(storage, files),
        })?);
    }
    image.set_backing(backing);
    Ok(FormatAccess::new(image))
}

fn open_raw(storage: FileStorage, files: &mut Vec<ChainFile>) -> Result<Disk> {
    let path = storage.path().to_owned();
    let file = add_file(storage, files)?;
    let raw = guarded(&path, || {
        Raw::<ImagoFile>::builder(file).open(DenyImplicitOpenGate::default())
    })?;
    Ok(FormatAccess::new(raw))
}

/// Opens a file that `image` names.
fn open_named(image: &Path, name: &str, options: &Qcow2Options<'_>) -> Result<FileStorage> {
    let Some(gate) = options.gate else {
        let message = format!("The image names '{name}', and files that it names are not to be opened");
        return Err(Error::new(ErrorKind::NotPermitted, message).with_path(image));
    };
    let lock = match options.lock {
        LockMode::None => LockMode::None,
        LockMode::Shared | LockMode::Exclusive => LockMode::Shared,
    };
    let how = FileOptions {
        writable: false,
        direct: options.direct,
        lock,
        ..FileOptions::default()
    };
    gate.open(image, OsStr::new(name), &how)
}

/// Keeps `storage` with its lock, and makes a duplicate of its file for `imago`.
fn add_file(storage: FileStorage, files: &mut Vec<ChainFile>) -> Result<ImagoFile> {
    let path = storage.path().to_owned();
    if files.iter().any(|file| file.storage.identity() == storage.identity()) {
        return Err(Error::invalid_image("The file is part of its own backing chain").with_path(path));
    }
    if files.len() >= MAX_CHAIN_LEN {
        let message = format!("The backing chain has more than {MAX_CHAIN_LEN} files");
        return Err(Error::unsupported(message).with_path(path));
    }
    let clone = storage.file().try_clone();
    let clone = clone.map_err(|error| Error::io("open", error).with_path(&path))?;
    let duplicate = clone.as_raw_fd();
    let file = guarded(&path, || ImagoFile::try_from(clone))?;
    files.push(ChainFile { storage, duplicate });
    Ok(file)
}

fn backing_format(
    image: &Path,
    header: &Header,
    backing: &FileStorage,
    options: &Qcow2Options<'_>,
) -> Result<&'static str> {
    let named = header.backing_format.as_deref();
    let format = match named {
        Some(b"raw" | b"file" | b"host_device") => "raw",
        Some(b"qcow2") => "qcow2",
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            let message = format!("The format '{other}' of its backing file is not supported");
            return Err(Error::unsupported(message).with_path(image));
        }
        None if options.probe_backing => match detect::readable(backing, detect::NamedBy::Qcow2)? {
            found @ ("raw" | "qcow2") => found,
            found => {
                let message = format!("The format '{found}' of its backing file is not supported");
                return Err(Error::unsupported(message).with_path(image));
            }
        },
        None => {
            let message = format!(
                "The image does not say which format its backing file '{}' has",
                backing.path().display()
            );
            return Err(Error::new(ErrorKind::NotPermitted, message).with_path(image));
        }
    };
    Ok(format)
}

/// Runs a function of `imago`, which asserts some of what it reads: a panic becomes an error.
fn guarded<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| translate("open", error, path)),
        Err(_) => Err(panicked(path)),
    }
}

fn panicked(path: &Path) -> Error {
    Error::invalid_image("The qcow2 driver gave up on this image, which must be corrupt").with_path(path)
}

/// Errors of the system keep their number; the others are `imago`'s, about what it read.
fn translate(op: &str, error: io::Error, path: &Path) -> Error {
    let error = match error.kind() {
        _ if error.raw_os_error().is_some() => Error::io(op, error),
        io::ErrorKind::Unsupported => Error::unsupported(error.to_string()),
        io::ErrorKind::InvalidData | io::ErrorKind::Other | io::ErrorKind::UnexpectedEof => {
            Error::invalid_image(error.to_string())
        }
        _ => Error::io(op, error),
    };
    error.with_path(path)
}

impl BaseSource for Qcow2Source {
    fn path(&self) -> &Path {
        self.files[0].storage.path()
    }

    fn format(&self) -> &'static str {
        "qcow2"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, mut buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        let result = self.with_disk("read", offset, |disk| disk.read(buf.as_mut_slice(), offset));
        Box::pin(ready(result.map(|()| buf)))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(ready(self.status_now(offset, len)))
    }
}
