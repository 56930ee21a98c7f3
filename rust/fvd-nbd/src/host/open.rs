//! Opening what is to be served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fvd::chain::{AsyncIo, ChainOptions, Files, open_file, open_image_on, open_source_on, probe_format};
use fvd::storage::AsyncFile;
use fvd::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use crate::disk::{Content, DiskExport, RawDisk};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An image.
    Fvd,
    /// The disk itself.
    Raw,
    /// An image of QEMU's; read-only.
    Qcow2,
}

/// A disk to be served.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Where it is.
    pub path: PathBuf,
    /// The name of the export; "" is the default export.
    pub name: String,
    /// Words for people.
    pub description: String,
    /// What it is; None: an image, if it begins like one. A guest can make a raw disk look like
    /// anything, so that is never guessed.
    pub format: Option<Format>,
    /// How to open it, and what it names.
    pub chain: ChainOptions,
}

/// Between two attempts to open a disk that is in use.
const RETRY: Duration = Duration::from_millis(20);

/// Opens a disk, for as long as `patience` while it is in use. One that was opened is to be closed.
pub(super) async fn open_patiently(
    files: &AsyncIo,
    options: &DiskOptions,
    patience: Duration,
) -> Result<DiskExport<AsyncFile>> {
    let start = Instant::now();
    loop {
        match open(files, options).await {
            Err(error) if error.kind() == ErrorKind::InUse && start.elapsed() < patience => sleep(RETRY).await,
            done => return done,
        }
    }
}

async fn open(files: &AsyncIo, options: &DiskOptions) -> Result<DiskExport<AsyncFile>> {
    let format = match options.format {
        Some(format) => format,
        None => probe(&options.path).await?,
    };
    let DiskOptions { path, chain, .. } = options;
    let content = match format {
        Format::Fvd => Content::Image(Arc::new(open_image_on(files, path, chain).await?)),
        Format::Raw => {
            let storage = files.storage(open_file(path, chain)?);
            Content::Raw(RawDisk::new(storage, chain.image()).await?)
        }
        Format::Qcow2 if chain.writable => {
            let message = "A disk of format qcow2 can only be served read-only (-r)";
            return Err(Error::unsupported(message).with_path(path));
        }
        Format::Qcow2 => Content::Source(open_source_on(files, path, Some("qcow2"), chain).await?),
    };
    Ok(DiskExport::new(&options.name, &options.description, content))
}

async fn probe(path: &Path) -> Result<Format> {
    let options = ChainOptions {
        force_share: true,
        ..ChainOptions::default()
    };
    let storage = open_file(path, &options)?;
    if probe_format(&storage).await? == "fvd" {
        return Ok(Format::Fvd);
    }
    let message = "It is no FVD image: say what it is, with the format raw or qcow2 (-f)";
    Err(Error::invalid_argument(message).with_path(path))
}
