//! Check an image by path.

use std::path::Path;

use crate::chain::{self, ChainOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::image::check::{self, Repair, Report};
use crate::image::read_head;
use crate::source::probe_file;
use crate::storage::{FileStorage, Storage as _};

/// Checks the image at `path`, and repairs it as far as `repair` says.
///
/// Its data file is opened, through the gate of `options`, only with `named`; without it what
/// depends on that file is not checked. With `named` the backing chain is opened, too, so that a
/// base that is missing shows.
///
/// Fails with [`ErrorKind::Unsupported`] only for formats that have no check.
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

/// The caller tells "no such check" from "this cannot be checked" by the kind.
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
