//! What a caller asks for.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::image::{CacheMode, CreateOptions};
use crate::source::BaseSource;
use crate::tool::new_files::NewFiles;

/// Zeros shorter than this are written as data, unless the caller says otherwise. Bytes.
pub const DEFAULT_SPARSE_SIZE: u64 = 4096;

/// Largest [`ConvertRequest::sparse_size`], bytes.
pub const MAX_SPARSE_SIZE: u64 = 16 << 20;

/// What to read.
pub enum Source {
    /// A disk in a file or device.
    File {
        /// Where it is.
        path: PathBuf,
        /// `raw`, `qcow2` or `fvd`; None: look what it is.
        format: Option<String>,
    },
    /// A disk that is open, and is read as it is meanwhile.
    Open(Arc<dyn BaseSource>),
    /// The bytes of a raw disk up to the end of a pipe. A regular file that has not been read
    /// from is used as a file, with its holes, but without a lock.
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

/// Where to write.
#[derive(Debug)]
pub enum Target {
    /// A file, made or emptied, or an existing device.
    File(PathBuf),
    /// A pipe that takes all bytes of a raw disk in order. A redirected file gets no holes.
    Stream(File),
}

/// Format of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes as they are.
    Raw,
    /// An FVD image.
    Fvd,
}

/// How a file is read and written, and when what is written becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Durable at the end.
    Writeback,
    /// Durable after each write.
    Writethrough,
    /// Past the page cache (`O_DIRECT`), durable at the end.
    None,
    /// Past the page cache, durable after each write.
    DirectSync,
    /// Durable when the operating system feels like it.
    #[default]
    Unsafe,
}

impl Cache {
    /// Whether the page cache is bypassed.
    #[must_use]
    pub fn is_direct(self) -> bool {
        matches!(self, Self::None | Self::DirectSync)
    }

    /// The mode of an image in this file.
    #[must_use]
    pub fn image(self) -> CacheMode {
        match self {
            Self::Writeback | Self::None => CacheMode::Writeback,
            Self::Writethrough | Self::DirectSync => CacheMode::Writethrough,
            Self::Unsafe => CacheMode::Unsafe,
        }
    }
}

/// What to convert into what.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct ConvertRequest {
    /// What to read.
    pub source: Source,
    /// Where to write.
    pub target: Target,
    /// What to make of it.
    pub format: Format,
    /// What a new FVD image is to be. Its sizes of disk and base are set from the source and the
    /// base. Names in it start at the target's directory; a base is opened as one that the
    /// user named, what the base names goes through [`ConvertRequest::gate`]. With a base the
    /// whole disk is written all the same, also where it equals the base.
    pub create: CreateOptions,
    /// Zeros become holes in units of so many bytes: a multiple of 512, at most
    /// [`MAX_SPARSE_SIZE`]. 0: everything is written, so that the target is fully allocated.
    pub sparse_size: u64,
    /// The target exists already. It is at least as long as the source, is written whole, and
    /// keeps what lies behind the source's end.
    pub no_create: bool,
    /// Write in whatever order data is ready, also where the order decides how the target is laid
    /// out: the storage of a compact image may then not be in the order of the disk.
    pub out_of_order: bool,
    /// A data file that is not empty may be overwritten.
    pub force: bool,
    /// With [`ConvertRequest::no_create`]: the target reads as zeros, so that none need be written.
    pub target_is_zero: bool,
    /// Cache mode of the target.
    pub cache: Cache,
    /// Cache mode of the source; only [`Cache::is_direct`] matters.
    pub source_cache: Cache,
    /// What source and target may name.
    pub gate: Gate,
    /// Read the source without locks.
    pub force_share: bool,
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
            force_share: false,
        }
    }

    /// What is made at `target`.
    pub(super) fn new_files<'a>(&'a self, target: &'a Path) -> NewFiles<'a> {
        let create = &self.create;
        let format = Some(create.base_img_fmt.as_str()).filter(|format| !format.is_empty());
        NewFiles {
            image: target,
            data_file: &create.data_file,
            base: (!create.base_img.is_empty()).then_some((create.base_img.as_os_str(), format)),
            gate: &self.gate,
            force: self.force,
        }
    }

    /// Fails where parts of the request contradict one another.
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
