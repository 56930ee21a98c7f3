//! Opens the disks that are to be served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fvd::chain::{AsyncIo, ChainOptions, FileOf, Files, OpenedFile, open_any, open_image_on, open_source_on};
use fvd::image::Image;
use fvd::source::{foreign, probe_file};
use fvd::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::disk::{Content, DiskExport, Lease, Part, RawDisk, ThreadedImage};

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An FVD image.
    Fvd,
    /// A raw disk.
    Raw,
    /// A qcow2 image; read-only.
    Qcow2,
}

/// A disk to serve.
pub struct DiskOptions {
    /// The name of the export; "" is the default export.
    pub name: String,
    /// The description of the export, for people.
    pub description: String,
    /// The part of the disk that is served.
    pub part: Part,
    /// The source of the disk.
    pub source: DiskSource,
}

/// The source of a disk.
pub enum DiskSource {
    /// A file that the server opens and closes.
    File(FileOptions),
    /// An image that the program has open, and continues to use.
    Open(OpenImage),
}

/// A file to open.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Its path, or its URL.
    pub path: PathBuf,
    /// Its format. None: an FVD image; any other content is an error. A guest can make a raw disk look like
    /// any format, so the format is never guessed.
    pub format: Option<Format>,
    /// How to open the file and the files that it refers to.
    pub chain: ChainOptions,
}

/// An image that is leased to the server.
pub struct OpenImage {
    /// The image.
    pub image: OpenEngine,
    /// Whether clients may only read, even if the image is writable.
    pub read_only: bool,
    /// Dropped when no request runs any more.
    pub lease: Arc<dyn Lease>,
}

/// The engine of an open image, by the kind of its file I/O.
pub enum OpenEngine {
    /// Asynchronous I/O: the image is served as if the server had opened it.
    Async(Arc<Image<FileOf<AsyncIo>>>),
    /// Blocking I/O: the image is served on a pool of threads.
    Blocking(Arc<Image<OpenedFile>>),
}

/// The pause between two attempts to open a disk that is in use.
const RETRY: Duration = Duration::from_millis(20);

/// Opens a disk. While it is in use, retries for as long as `patience`. The caller must close the returned
/// disk.
pub(super) async fn open_patiently(
    files: &AsyncIo,
    options: DiskOptions,
    patience: Duration,
) -> Result<DiskExport<FileOf<AsyncIo>>> {
    let DiskOptions {
        name,
        description,
        source,
        ..
    } = options;
    let options = match source {
        DiskSource::File(options) => options,
        DiskSource::Open(open) => return Ok(borrow(&name, &description, open)),
    };
    let start = Instant::now();
    let content = loop {
        match open(files, &options).await {
            Err(error) if error.kind() == ErrorKind::InUse && start.elapsed() < patience => {
                debug!(%error, "tried again in {RETRY:?}");
                sleep(RETRY).await;
            }
            done => break done?,
        }
    };
    info!(export = %name, file = %options.path.display(), "a disk is open");
    Ok(DiskExport::new(&name, &description, content))
}

fn borrow(name: &str, description: &str, open: OpenImage) -> DiskExport<FileOf<AsyncIo>> {
    let OpenImage {
        image,
        read_only,
        lease,
    } = open;
    let content = match image {
        OpenEngine::Async(image) => Content::Image(image),
        OpenEngine::Blocking(image) => Content::Threaded(ThreadedImage::new(image, Arc::clone(&lease) as _)),
    };
    let disk = DiskExport::new(name, description, content).leased(lease);
    if read_only { disk.read_only() } else { disk }
}

async fn open(files: &AsyncIo, options: &FileOptions) -> Result<Content<FileOf<AsyncIo>>> {
    let format = match options.format {
        Some(format) => format,
        None => probe(&options.path, &options.chain)?,
    };
    let FileOptions { path, chain, .. } = options;
    Ok(match format {
        Format::Fvd => Content::Image(Arc::new(open_image_on(files, path, chain).await?)),
        Format::Raw => {
            let storage = files.storage(open_any(path, chain)?);
            Content::Raw(RawDisk::new(storage, chain.image()).await?)
        }
        Format::Qcow2 if chain.writable => {
            let message = "A disk of format qcow2 can only be served read-only (-r)";
            return Err(Error::unsupported(message).with_path(path));
        }
        Format::Qcow2 => Content::Source(open_source_on(files, path, Some("qcow2"), chain).await?),
    })
}

fn probe(path: &Path, options: &ChainOptions) -> Result<Format> {
    let options = ChainOptions {
        writable: false,
        force_share: true,
        ..options.clone()
    };
    let storage = open_any(path, &options)?;
    let format = probe_file(&storage)?;
    if format == "fvd" {
        return Ok(Format::Fvd);
    }
    let what = foreign(format).unwrap_or_else(|| "It is no FVD image".to_owned());
    let message = format!("{what}; say what it is, with the format raw or qcow2 (-f)");
    Err(Error::invalid_argument(message).with_path(path))
}
