//! Commit: writes what an image has to its base, and empties the image (`docs/design/chains.md`).

use std::path::{Path, PathBuf};

use pollster::block_on;

use super::progress::Callback;
use super::transfer::{Select, Transfer, transfer};
use crate::chain::{self, ChainOptions, OpenedFile, open_base_to_commit};
use crate::error::{Error, Result};
use crate::format::BaseUpdate;
use crate::image::{Head, Image, empty, read_head_to_write};
use crate::remote::AnyFile;
use crate::source::{BaseSource, probe_file};
use crate::storage::{FileStorage, Storage};

/// Bytes that are compared and written at once.
const UNIT: u64 = 4096;

/// What to commit.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The image.
    pub path: PathBuf,
    /// Its format. None: probe.
    pub format: Option<String>,
    /// Whether the image keeps what it has (`-d` of qemu-img).
    pub keep: bool,
    /// Most bytes per second. None: no limit.
    pub rate: Option<u64>,
    /// How the files are opened.
    pub chain: ChainOptions,
}

/// The result of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Size of the disk in bytes.
    pub size: u64,
    /// Bytes that were written to the base or zeroed there: those that differed.
    pub written: u64,
}

/// Writes what the image has to its base, durably. Then empties the image, unless it is to keep everything.
/// Blocks the caller, and runs worker threads.
///
/// Other images on the same base are damaged by that, and nothing tells whether there are any.
///
/// At any moment the image reads as before, also after a crash or an error, and a further commit completes what
/// one has begun.
///
/// # Errors
///
/// [`Unsupported`](crate::ErrorKind::Unsupported) for an image that is not FVD, or a base that cannot be
/// written to; [`InUse`](crate::ErrorKind::InUse) if another program has one of the two open;
/// [`Cancelled`](crate::ErrorKind::Cancelled) after a Break of `progress`.
pub fn commit(request: &CommitRequest, progress: &mut Callback<'_>) -> Result<Committed> {
    let (image, spare) = block_on(open(request))?;
    let base = spare.as_deref().or(image.base()).expect("it was opened for this");
    let written = commit_opened(&image, base, request.rate, progress)?;
    if !request.keep {
        let emptied = block_on(empty(image.file(), image.data()));
        emptied.map_err(|error| error.during("empty"))?;
    }
    Ok(Committed {
        size: image.size(),
        written,
    })
}

/// Writes what the image has to its base, where that has something else. Then closes both: everything is
/// durable. Returns the bytes written.
pub(crate) fn commit_opened<S: Storage>(
    image: &Image<S>,
    base: &dyn BaseSource,
    rate: Option<u64>,
    progress: &mut Callback<'_>,
) -> Result<u64> {
    let target = base.writable().expect("it was opened for writing");
    // What an earlier commit wrote in vain must not count as equal (M2).
    block_on(async {
        target.prepare(image.size()).await?;
        target.sync_leftovers().await
    })?;
    let job = Transfer {
        from: image,
        select: Select::Own,
        than: Some(base),
        to: target,
        unit: UNIT,
        rate,
    };
    let written = transfer(&job, progress);
    // After an error, too: a base that is an image is not to be left unclean.
    let closed = block_on(target.close());
    let written = written?;
    closed.map_err(|error| error.during("commit"))?;
    block_on(image.close())?;
    Ok(written)
}

/// Opens the image and its base for writing. Returns the base if the image does not need it, and so does not
/// hold it.
async fn open(request: &CommitRequest) -> Result<(Image<OpenedFile>, Option<Box<dyn BaseSource>>)> {
    let options = session(&request.chain);
    let (file, mut head) = open_overlay(&request.path, request.format.as_deref(), &options, "commit").await?;
    if head.base_update().map_err(|error| error.with_path(&request.path))? != BaseUpdate::No {
        let message = "The image writes to its base itself (write_updates_base_img), so there is nothing to commit: \
                       to open it with write_base=True brings the base up to date";
        return Err(Error::invalid_argument(message).with_path(&request.path));
    }
    head.header.generate_prefetch_profile = false;
    let data = chain::open_data(&request.path, &head, &file, &options)?;
    let base = open_base_to_commit(&file, &head, &options).await?;
    let (base, spare) = if head.needs_base() {
        (Some(base), None)
    } else {
        (None, Some(base))
    };
    let data = data.map(AnyFile::Local);
    let image = Image::open(AnyFile::Local(file), head, data, base, options.image()).await?;
    Ok((image, spare))
}

/// Opens the file of an image that is written to, and reads its head. Fails for other formats.
pub(super) async fn open_overlay(
    path: &Path,
    format: Option<&str>,
    options: &ChainOptions,
    what: &str,
) -> Result<(FileStorage, Head)> {
    let file = chain::open_file(path, options)?;
    let format = match format {
        Some(format) => chain::known_format(format)?,
        None => probe_file(&file)?,
    };
    if format != "fvd" {
        let message = format!("Format '{format}' does not support '{what}', only 'fvd' does");
        return Err(Error::unsupported(message).with_path(path));
    }
    let head = read_head_to_write(&file).await?;
    Ok((file, head))
}

/// The options for an image whose blocks are moved: nothing is stored that is only read.
pub(super) fn session(options: &ChainOptions) -> ChainOptions {
    ChainOptions {
        writable: true,
        write_base: false,
        copy_on_read: Some(false),
        force_share: false,
        base_timeout: None,
        ..options.clone()
    }
}
