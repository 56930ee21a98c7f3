//! Rebase: gives an image another base, and keeps its content (`docs/design/chains.md`).

use std::ffi::OsString;
use std::path::PathBuf;

use pollster::block_on;

use super::amend::{amend, check_apart, check_named};
use super::commit::{open_overlay, session};
use super::progress::Callback;
use super::transfer::{Select, Transfer, transfer};
use crate::chain::{ChainOptions, OpenedFile, open_image_with, open_new_base};
use crate::error::{Error, Result};
use crate::format::{BaseUpdate, Value};
use crate::gate::beside;
use crate::image::Image;
use crate::image::amend::{Changes, amend as amend_file, needs_data};
use crate::remote::AnyFile;
use crate::source::BaseSource;

/// What to rebase, and onto what.
#[derive(Clone, Debug)]
pub struct RebaseRequest {
    /// The image.
    pub path: PathBuf,
    /// Its format. None: probe.
    pub format: Option<String>,
    /// The name of the new base. Empty: the image is to have none.
    pub base: OsString,
    /// The format of the new base. Empty: it is probed whenever the image is opened.
    pub base_format: String,
    /// Only change the name: the new base has the same content as the old one. No base is opened.
    pub name_only: bool,
    /// Most bytes per second. None: no limit.
    pub rate: Option<u64>,
    /// How the files are opened.
    pub chain: ChainOptions,
}

/// The result of a rebase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebased {
    /// Size of the disk in bytes.
    pub size: u64,
    /// Bytes that the image has got from the old base, zeros included.
    pub copied: u64,
}

/// Copies what comes from the old base, and differs in the new one, to the image. Then changes the name of the
/// base, all at once. Blocks the caller, and runs worker threads.
///
/// After an error or a crash the image has the old base or the new one, with the same content. A further rebase
/// completes what one has begun.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the image has no base now, writes to its base, or
/// would be a part of its own chain; [`Cancelled`](crate::ErrorKind::Cancelled) after a Break of `progress`.
pub fn rebase(request: &RebaseRequest, progress: &mut Callback<'_>) -> Result<Rebased> {
    let mut changes = Changes::new(false);
    changes.set("base_img", Value::Text(request.base.clone()))?;
    if !request.base.is_empty() {
        changes.set("base_img_fmt", Value::Text(request.base_format.clone().into()))?;
    }
    if request.name_only {
        let header = block_on(amend(
            &request.path,
            request.format.as_deref(),
            &changes,
            true,
            &request.chain,
        ))?;
        return Ok(Rebased {
            size: header.virtual_disk_size,
            copied: 0,
        });
    }
    let Opened { image, new } = block_on(open(request, &mut changes))?;
    let copied = pull(&image, new.as_deref(), request.rate, progress);
    let closed = block_on(image.close());
    let copied = copied?;
    closed?;
    let separate = (!image.header().data_file.is_empty()).then(|| image.data());
    block_on(amend_file(image.file(), separate, &changes))?;
    Ok(Rebased {
        size: image.size(),
        copied,
    })
}

struct Opened {
    /// With its old base.
    image: Image<OpenedFile>,
    /// None: the image is to have none.
    new: Option<Box<dyn BaseSource>>,
}

/// Opens everything, and checks what can be checked before anything is copied. Adds the pin of the new base
/// to the changes.
async fn open(request: &RebaseRequest, changes: &mut Changes) -> Result<Opened> {
    let (path, options) = (&request.path, session(&request.chain));
    let (file, mut head) = open_overlay(path, request.format.as_deref(), &options, "rebase").await?;
    if head.base_update().map_err(|error| error.with_path(path))? != BaseUpdate::No {
        let message = "The image writes to its base (write_updates_base_img): only the name of the base can be changed \
                       (-u), which needs a copy of the base there";
        return Err(Error::invalid_argument(message).with_path(path));
    }
    check_apart(&file, &head, changes, options.access())?;
    // Fails for changes that are not possible.
    needs_data(&file, &head, changes).await?;
    let checked = check_named(path, &file, &head, changes, &options).await;
    if let Some(pin) = checked.map_err(|error| error.with_op("rebase").with_path(path))? {
        changes.set_pin(pin);
    }
    let new = if request.base.is_empty() {
        None
    } else {
        let format = Some(request.base_format.as_str()).filter(|format| !format.is_empty());
        let files = 1 + usize::from(!head.header.data_file.is_empty());
        Some(
            open_new_base(&beside(path, &request.base), format, files, &options)
                .await?
                .source,
        )
    };
    head.header.generate_prefetch_profile = false;
    let image = open_image_with(AnyFile::Local(file), head, &options).await?;
    Ok(Opened { image, new })
}

/// Copies what comes from the old base and differs in the new one. Returns the bytes copied. Nothing is durable
/// before the image is closed.
fn pull(
    image: &Image<OpenedFile>,
    new: Option<&dyn BaseSource>,
    rate: Option<u64>,
    progress: &mut Callback<'_>,
) -> Result<u64> {
    let job = Transfer {
        from: image,
        select: Select::FromBase,
        than: new,
        to: image.writable().expect("it was opened for writing"),
        unit: image.geometry().block_size,
        rate,
    };
    transfer(&job, progress)
}
