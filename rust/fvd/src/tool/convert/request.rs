//! The parameters of a conversion.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::image::{CacheMode, CreateOptions};
use crate::remote::{Access, RemoteOpener};
use crate::source::BaseSource;
use crate::tool::new_files::NewFiles;

/// The default [`ConvertRequest::sparse_size`], in bytes.
pub const DEFAULT_SPARSE_SIZE: u64 = 4096;

/// The largest [`ConvertRequest::sparse_size`], in bytes.
pub const MAX_SPARSE_SIZE: u64 = 16 << 20;

/// The source of a conversion.
pub enum Source {
    /// A disk in a file or device.
    File {
        /// Path of the file or device, or the URL of a file on another machine.
        path: PathBuf,
        /// `raw`, `qcow2` or `fvd`. `None`: the format is detected.
        format: Option<String>,
    },
    /// A disk that is already open. Changes that are made to it during the conversion may or may not be
    /// copied.
    Open(Arc<dyn BaseSource>),
    /// A pipe, with the bytes of a raw disk up to its end. A regular file at position 0 is used as a file:
    /// holes are kept, but the file is not locked.
    Stream(File),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, format } => f
                .debug_struct("File")
                .field("path", path)
                .field("format", format)
                .finish(),
            Self::Open(disk) => f.debug_tuple("Open").field(&disk.path()).finish(),
            Self::Stream(stream) => f.debug_tuple("Stream").field(stream).finish(),
        }
    }
}

/// The target of a conversion.
#[derive(Debug)]
pub enum Target {
    /// A file, which is created or emptied, or an existing device.
    File(PathBuf),
    /// A pipe that takes all bytes of a raw disk in order. A redirected file is written like a pipe and gets
    /// no holes.
    Stream(File),
}

/// The format of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A raw disk.
    Raw,
    /// An FVD image.
    Fvd,
}

/// The cache mode: whether a file uses the page cache, and when writes become durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Durable at the end.
    Writeback,
    /// Durable after each write.
    Writethrough,
    /// Direct I/O (`O_DIRECT`), durable at the end.
    None,
    /// Direct I/O, durable after each write.
    DirectSync,
    /// Never synced. The kernel decides when writes become durable.
    #[default]
    Unsafe,
}

impl Cache {
    /// Whether the page cache is bypassed.
    #[must_use]
    pub fn is_direct(self) -> bool {
        matches!(self, Self::None | Self::DirectSync)
    }

    /// The cache mode of an FVD image in such a file.
    #[must_use]
    pub fn image(self) -> CacheMode {
        match self {
            Self::Writeback | Self::None => CacheMode::Writeback,
            Self::Writethrough | Self::DirectSync => CacheMode::Writethrough,
            Self::Unsafe => CacheMode::Unsafe,
        }
    }
}

/// The parameters of a conversion.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct ConvertRequest {
    /// The source.
    pub source: Source,
    /// The target.
    pub target: Target,
    /// The format of the target.
    pub format: Format,
    /// The options of a new FVD image. The sizes of disk and base are set from the source and the base.
    /// Relative names are relative to the directory of the target. The user is trusted to name any base;
    /// files that the base names must pass [`ConvertRequest::gate`]. The whole disk is written even if the
    /// image has a base with the same content.
    pub create: CreateOptions,
    /// The unit, in bytes, in which zeros become holes: a multiple of 512, at most [`MAX_SPARSE_SIZE`].
    /// Shorter runs of zeros are written as data. 0: everything is written, so that the target is fully
    /// allocated.
    pub sparse_size: u64,
    /// The target must exist. It must be at least as long as the source. Its first bytes, up to the length of
    /// the source, are overwritten; the rest stays unchanged.
    pub no_create: bool,
    /// Write data in any order, even if the order decides where the target stores it. The storage of a
    /// compact image may then not be in the order of the disk.
    pub out_of_order: bool,
    /// Allow to overwrite a data file that is not empty.
    pub force: bool,
    /// With [`ConvertRequest::no_create`]: the target is known to read as zeros, so that zeros are not
    /// written.
    pub target_is_zero: bool,
    /// The cache mode of the target.
    pub cache: Cache,
    /// The cache mode of the source. Only [`Cache::is_direct`] matters.
    pub source_cache: Cache,
    /// Decides which files source and target may name.
    pub gate: Gate,
    /// Opens the files that URLs name. None: URLs are refused.
    pub remote: Option<Arc<dyn RemoteOpener>>,
    /// Read the source without locks.
    pub force_share: bool,
    /// Most bytes of data per second. None: no limit.
    pub rate: Option<u64>,
}

impl ConvertRequest {
    /// A request with the defaults of `qemu-img convert`.
    #[must_use]
    pub fn new(source: Source, target: Target, format: Format) -> Self {
        Self {
            source,
            target,
            format,
            create: CreateOptions::default(),
            sparse_size: DEFAULT_SPARSE_SIZE,
            no_create: false,
            out_of_order: false,
            force: false,
            target_is_zero: false,
            cache: Cache::default(),
            source_cache: Cache::default(),
            gate: Gate::default(),
            remote: None,
            force_share: false,
            rate: None,
        }
    }

    pub(super) fn access(&self) -> Access<'_> {
        Access {
            gate: &self.gate,
            remote: self.remote.as_ref(),
        }
    }

    /// The files that the conversion creates at `target`.
    pub(super) fn new_files<'a>(&'a self, target: &'a Path) -> NewFiles<'a> {
        let create = &self.create;
        let format = Some(create.base_img_fmt.as_str()).filter(|format| !format.is_empty());
        NewFiles {
            image: target,
            data_file: &create.data_file,
            base: (!create.base_img.is_empty()).then_some((create.base_img.as_os_str(), format)),
            access: self.access(),
            force: self.force,
        }
    }

    /// Fails if options of the request contradict each other or are out of range.
    pub(super) fn check(&self) -> Result<()> {
        let sparse_size = self.sparse_size;
        if !sparse_size.is_multiple_of(512) || sparse_size > MAX_SPARSE_SIZE {
            return Err(Error::invalid_argument(format!(
                "The sparse size {sparse_size} is not a multiple of 512 up to {MAX_SPARSE_SIZE}"
            )));
        }
        if self.target_is_zero && !self.no_create {
            let message = "That the target is zero can be said only of one that exists (no_create)";
            return Err(Error::invalid_argument(message));
        }
        if let Target::Stream(_) = self.target {
            if self.format != Format::Raw {
                let message = "Only a raw disk can be written to a stream";
                return Err(Error::unsupported(message));
            }
            if self.no_create {
                let message = "A stream does not exist beforehand";
                return Err(Error::invalid_argument(message));
            }
        }
        Ok(())
    }
}
