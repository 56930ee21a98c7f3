//! Checks an image, by path.

use std::path::Path;

use crate::chain::{self, ChainOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::image::check::{self, Repair, Report};
use crate::image::read_head;
use crate::source::probe_file;
use crate::storage::{FileStorage, Storage as _};

/// Checks the image at `path`, and makes the repairs that `repair` allows.
///
/// With `named`, the data file and the backing chain are opened through the gate of `options`, so that a
/// missing base is found. Without `named`, checks that need the data file are skipped.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] if, and only if, the format has no check.
pub async fn check(
    path: &Path,
    format: Option<&str>,
    repair: Repair,
    named: bool,
    options: &ChainOptions,
) -> Result<Report> {
    let options = ChainOptions {
        writable: repair != Repair::None,
        ..options.clone()
    };
    let file = chain::open_file(path, &options).map_err(cannot_check)?;
    let format = match format {
        Some(format) => chain::known_format(format)?,
        None => probe_file(&file)?,
    };
    if format != "fvd" {
        return Err(Error::unsupported("This image format does not support checks").with_path(path));
    }
    let result = check_fvd(&file, repair, named, &options).await;
    result.map_err(cannot_check)
}

/// Replaces `Unsupported` by `InvalidImage`: the caller must be able to distinguish a format without a check
/// from an image that cannot be checked.
fn cannot_check(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unsupported => error.with_context(ErrorKind::InvalidImage, "The image cannot be checked"),
        _ => error,
    }
}

async fn check_fvd(file: &FileStorage, repair: Repair, named: bool, options: &ChainOptions) -> Result<Report> {
    let head = read_head(file).await?;
    let data = if named {
        chain::open_named(file.path(), &head, file, options).await?
    } else {
        None
    };
    check::check(file, data.as_ref(), repair).await
}
