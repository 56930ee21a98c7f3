//! Opens an image by path, with its data file and its backing chain.

mod base;
mod commit_base;
mod files;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{open_base, open_base_of, tell_of_damage};
pub use commit_base::open_base_to_commit;
pub use files::{AsyncIo, Blocking, FileOf, Files};

use crate::error::{Error, Result};
use crate::format::StoredPin;
use crate::gate::{Gate, Named};
use crate::image::{
    CacheMode, DetectZeroes, Discard, Head, Image, OpenOptions, read_head, read_head_to_write, read_unfinished_head,
};
use crate::remote::{Access, AnyFile, GivenBase, Identity, RemoteOpener, RemoteStorage};
use crate::source::{BaseSource, BoxFuture, NamedBy, Qcow2Options, Qcow2Source, RawSource, Seen, deep, readable};
use crate::storage::{FileOptions, FileStorage, LockMode, Storage};
use crate::url::{is_url, shown};

/// An open file, before a host wraps it.
pub type OpenedFile = AnyFile<FileStorage>;

/// How to open an image and the files that it names.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ChainOptions {
    /// Open the image and its data file for writing. The layers below are opened for reading, unless
    /// `write_base` is set.
    pub writable: bool,
    /// Permits writes to the base of an image whose header asks for them (`write_updates_base_img`). Without
    /// this, such an image cannot be opened for writing. The caller must run
    /// [`write_back_base`](crate::copy::write_back_base).
    pub write_base: bool,
    /// When acknowledged writes become durable.
    pub cache: CacheMode,
    /// Bypass the page cache (`O_DIRECT`).
    pub direct: bool,
    /// Store what is read from the base. None: as the header of the image says. The caller must run
    /// [`copy_on_read`](crate::copy::copy_on_read).
    pub copy_on_read: Option<bool>,
    /// How long one read of the base may take before it fails with `ETIMEDOUT`. None: no limit. A limit needs
    /// [`Files`] that have a clock and do not block.
    pub base_timeout: Option<Duration>,
    /// What to do with discards.
    pub discard: Discard,
    /// What to do with writes of zeros.
    pub detect_zeroes: DetectZeroes,
    /// Take no locks (`-U`): another process may write to the image meanwhile. Read-only.
    pub force_share: bool,
    /// Also open an image that is marked unfinished: its metadata is valid, its content is incomplete.
    pub unfinished: bool,
    /// Which files images may name.
    pub gate: Gate,
    /// Opens the files that URLs name. None: URLs are refused.
    pub remote: Option<Arc<dyn RemoteOpener>>,
    /// What the user gives the image as its base, instead of the file that it names. The gate is not asked. It
    /// must be the object of the pin, if the image has one.
    pub base: Option<GivenBase>,
}

impl ChainOptions {
    fn file(&self, writable: bool) -> FileOptions {
        let lock = match (self.force_share, writable) {
            (true, _) => LockMode::None,
            (false, true) => LockMode::Exclusive,
            (false, false) => LockMode::Shared,
        };
        FileOptions {
            writable,
            direct: self.direct,
            lock,
            no_follow: false,
        }
    }

    /// The options for the image alone, without those for the files that it names.
    #[must_use]
    pub fn image(&self) -> OpenOptions {
        OpenOptions {
            writable: self.writable,
            cache: self.cache,
            copy_on_read: self.copy_on_read,
            discard: self.discard,
            detect_zeroes: self.detect_zeroes,
        }
    }

    fn read_only(&self) -> Self {
        Self {
            writable: false,
            ..self.clone()
        }
    }

    pub(crate) fn access(&self) -> Access<'_> {
        Access {
            gate: &self.gate,
            remote: self.remote.as_ref(),
        }
    }
}

/// Opens the FVD image at `path`, which may be a URL, here and in all functions of this module, unless it
/// says otherwise.
pub async fn open_image(path: &Path, options: &ChainOptions) -> Result<Image<OpenedFile>> {
    open_image_on(&Blocking, path, options).await
}

/// As [`open_image`], with files of the kind that `files` makes. Opening blocks in any case.
pub async fn open_image_on<F: Files>(files: &F, path: &Path, options: &ChainOptions) -> Result<Image<FileOf<F>>> {
    let storage = open_any(path, options)?;
    let mut seen = Seen::default();
    deep(|| Box::pin(open_fvd(files, storage, options, &mut seen))).await
}

/// Opens the image in `storage` with the head `head`, which may differ from that in the file in what only
/// tunes a session, and the files that it names.
pub async fn open_image_with(storage: OpenedFile, head: Head, options: &ChainOptions) -> Result<Image<OpenedFile>> {
    let mut seen = Seen::default();
    seen.add(storage.identity(), storage.path())?;
    deep(|| Box::pin(open_headed(&Blocking, storage, head, options, &mut seen))).await
}

/// Opens the disk at `path` for reading. `format`: `raw`, `qcow2` or `fvd`. None: probe which of them it is,
/// and refuse all other known formats.
pub async fn open_source(path: &Path, format: Option<&str>, options: &ChainOptions) -> Result<Box<dyn BaseSource>> {
    open_source_on(&Blocking, path, format, options).await
}

/// As [`open_source`], with files of the kind that `files` makes. Opening blocks in any case.
pub async fn open_source_on<F: Files>(
    files: &F,
    path: &Path,
    format: Option<&str>,
    options: &ChainOptions,
) -> Result<Box<dyn BaseSource>> {
    let options = options.read_only();
    let storage = open_any(path, &options)?;
    let mut seen = Seen::default();
    deep(|| open_layer(files, storage, format, &options, &mut seen)).await
}

/// The base of a new image.
pub struct NewBase {
    /// The disk.
    pub source: Box<dyn BaseSource>,
    /// The file, if it is a remote one.
    pub remote: Option<RemoteStorage>,
}

impl NewBase {
    /// Which object it is, if it is a remote file.
    #[must_use]
    pub fn pin(&self) -> Option<StoredPin> {
        self.remote.as_ref().map(|file| file.pin().into())
    }
}

/// As [`open_source`], for a disk that becomes the base of a new image with `new_files` files. Fails if a
/// chain with that image could not be opened.
pub async fn open_new_base(
    path: &Path,
    format: Option<&str>,
    new_files: usize,
    options: &ChainOptions,
) -> Result<NewBase> {
    let options = options.read_only();
    let storage = open_any(path, &options)?;
    let remote = storage.remote().cloned();
    let mut seen = Seen::default().with_above(new_files);
    let source = deep(|| open_layer(&Blocking, storage, format, &options, &mut seen)).await?;
    Ok(NewBase { source, remote })
}

/// As [`open_any`], for what can only be done with a local file.
pub fn open_file(path: &Path, options: &ChainOptions) -> Result<FileStorage> {
    if is_url(path.as_os_str()) {
        let message = "This needs a file on this machine, and the name is a URL";
        return Err(Error::unsupported(message).with_path(shown(path.as_os_str())));
    }
    open_any(path, options)?.into_local("used here")
}

/// Opens only the file of an image, locked as `options` say. Opens no file that it names.
pub fn open_any(path: &Path, options: &ChainOptions) -> Result<OpenedFile> {
    if options.force_share && options.writable {
        return Err(Error::invalid_argument(
            "An image can be opened without locks only for reading",
        ));
    }
    options.access().open(path, None, &options.file(options.writable))
}

/// Opens the file that `image` calls `name`, for reading, if the gate permits it. `pin`: the object that a
/// remote file must be.
pub fn open_below(image: &Path, name: &OsStr, pin: Option<&StoredPin>, options: &ChainOptions) -> Result<OpenedFile> {
    options.access().open_named(image, name, pin, &options.file(false))
}

/// Opens the files that the head of `file` names. Returns the data file. The backing chain is opened only as
/// a test.
pub async fn open_named(
    image: &Path,
    head: &Head,
    file: &FileStorage,
    options: &ChainOptions,
) -> Result<Option<FileStorage>> {
    let mut seen = Seen::below(identity_of(file));
    let data = open_data_file(image, head, options, &mut seen)?;
    open_base(&Blocking, image, head, &options.read_only(), &mut seen).await?;
    Ok(data)
}

/// Checks that the disk in `base` can be read as the base of the image in `file`. `data_files`: how many data
/// files the image has.
pub async fn try_base(
    base: OpenedFile,
    format: Option<&str>,
    file: &FileStorage,
    data_files: usize,
    options: &ChainOptions,
) -> Result<()> {
    let mut seen = Seen::below(identity_of(file)).with_above(data_files);
    let tried = deep(|| open_layer(&Blocking, base, format, options, &mut seen)).await;
    tried.map(drop)
}

/// Opens the data file that the head of `file` names, if it names one.
pub fn open_data(image: &Path, head: &Head, file: &FileStorage, options: &ChainOptions) -> Result<Option<FileStorage>> {
    open_data_file(image, head, options, &mut Seen::below(identity_of(file)))
}

fn identity_of(file: &FileStorage) -> Identity {
    let (device, inode) = file.identity();
    Identity::Local(device, inode)
}

/// The canonical name of a format, for the names that users and images give.
pub fn known_format(name: &str) -> Result<&'static str> {
    match name {
        "raw" | "file" | "host_device" => Ok("raw"),
        "qcow2" => Ok("qcow2"),
        "fvd" => Ok("fvd"),
        _ => Err(Error::unsupported(format!(
            "Unknown format '{name}': raw, qcow2 and fvd can be read"
        ))),
    }
}

async fn open_fvd<F: Files>(
    files: &F,
    storage: OpenedFile,
    options: &ChainOptions,
    seen: &mut Seen,
) -> Result<Image<FileOf<F>>> {
    seen.add(storage.identity(), storage.path())?;
    let head = if options.unfinished {
        read_unfinished_head(&storage).await?
    } else if options.writable {
        read_head_to_write(&storage).await?
    } else {
        read_head(&storage).await?
    };
    open_headed(files, storage, head, options, seen).await
}

/// Opens the image in `storage` whose head has been read, and the files that it names.
async fn open_headed<F: Files>(
    files: &F,
    storage: OpenedFile,
    head: Head,
    options: &ChainOptions,
    seen: &mut Seen,
) -> Result<Image<FileOf<F>>> {
    let path = storage.path().to_owned();
    let data = open_data_file(&path, &head, options, seen)?;
    let base = open_base_of(files, &storage, &head, options, seen).await?;
    tell_of_damage(&head, &path);
    let data = data.map(|data| files.storage(AnyFile::Local(data)));
    Image::open(files.storage(storage), head, data, base, options.image()).await
}

fn open_data_file(image: &Path, head: &Head, options: &ChainOptions, seen: &mut Seen) -> Result<Option<FileStorage>> {
    let name = &head.header.data_file;
    if name.is_empty() {
        return Ok(None);
    }
    let format = head.header.data_file_fmt.as_str();
    if !matches!(format, "" | "raw") {
        let message = format!("The format '{format}' of its data file is not supported, only 'raw'");
        return Err(Error::unsupported(message).with_path(image));
    }
    let named = Named::data(image, name).amendable("data_file");
    if is_url(image.as_os_str()) || is_url(name) {
        let message = "The image keeps its data in another file, which can be used only where both are on this machine";
        return Err(Error::unsupported(message).with_path(image));
    }
    let storage = named.opened(options.gate.open(image, name, &options.file(options.writable)))?;
    named.opened(seen.add(identity_of(&storage), storage.path()))?;
    Ok(Some(storage))
}

/// Fails for formats that cannot be written to as the base of an image.
pub fn check_writable_format(format: &str) -> Result<()> {
    match known_format(format)? {
        "qcow2" => Err(Error::unsupported(
            "A base of format 'qcow2' cannot be written to (write_updates_base_img), only 'raw' and 'fvd'",
        )),
        _ => Ok(()),
    }
}

/// Boxed, because it recurses: the files decide how deep the chain is.
fn open_layer<'a, F: Files>(
    files: &'a F,
    storage: OpenedFile,
    format: Option<&'a str>,
    options: &'a ChainOptions,
    seen: &'a mut Seen,
) -> BoxFuture<'a, Result<Box<dyn BaseSource>>> {
    Box::pin(async move {
        let format = match format {
            Some(format) => known_format(format).map_err(|error| error.with_path(storage.path()))?,
            // The user names the file at the top.
            None if seen.is_empty() => readable(&storage, NamedBy::User)?,
            None => readable(&storage, NamedBy::Fvd)?,
        };
        if options.writable {
            check_writable_format(format).map_err(|error| error.with_path(storage.path()))?;
        }
        let source: Box<dyn BaseSource> = match format {
            "qcow2" => files.qcow2(open_qcow2(storage, options, seen)?),
            "fvd" => Box::new(open_fvd(files, storage, options, seen).await?),
            _ => {
                seen.add(storage.identity(), storage.path())?;
                let storage = files.storage(storage);
                if options.writable {
                    Box::new(RawSource::for_writing(storage).await?)
                } else {
                    Box::new(RawSource::new(storage).await?)
                }
            }
        };
        Ok(source)
    })
}

fn open_qcow2(storage: OpenedFile, options: &ChainOptions, seen: &mut Seen) -> Result<Qcow2Source> {
    seen.add(storage.identity(), storage.path())?;
    let lock = if options.force_share {
        LockMode::None
    } else {
        LockMode::Shared
    };
    let qcow2 = Qcow2Options {
        lock,
        direct: options.direct,
        gate: Some(&options.gate),
        probe_backing: true,
        remote: options.remote.as_ref(),
    };
    let path = storage.path().to_owned();
    let source = Qcow2Source::from_file(storage, &qcow2)?;
    for identity in source.identities().skip(1) {
        seen.add(identity, &path)?;
    }
    Ok(source)
}
