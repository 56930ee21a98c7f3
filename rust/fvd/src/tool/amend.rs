//! Amends an image, by path.

use std::ffi::OsStr;
use std::path::Path;

use super::convert::chain_of;
use super::new_files::{is_same, look_at, unlocked};
use crate::chain::{self, ChainOptions, OpenedFile};
use crate::error::{Error, Result};
use crate::format::{Header, StoredPin};
use crate::gate::{Named, beside};
use crate::image::amend::{self, Changes};
use crate::image::{Head, read_head_to_write};
use crate::remote::{Access, Identity};
use crate::source::probe_file;
use crate::storage::{FileStorage, Storage as _};
use crate::url::is_url;

/// Applies the changes to the image at `path`, and returns its new header. No other process may have the
/// image open.
///
/// Of `options`, only those about the files that images name count. If a change needs the data file of the
/// image, it is opened through the gate. The user is trusted to name any base and data file in the changes.
/// Unless `unchecked`, these are opened without locks before anything is changed, so that a wrong name is
/// found in time. Files that such a base names must pass the gate. A base on another machine is pinned.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the disk is not an FVD image.
pub async fn amend(
    path: &Path,
    format: Option<&str>,
    changes: &Changes,
    unchecked: bool,
    options: &ChainOptions,
) -> Result<Header> {
    let options = &ChainOptions {
        writable: true,
        ..options.clone()
    };
    let file = chain::open_file(path, options)?;
    let format = match format {
        Some(format) => chain::known_format(format)?,
        None => probe_file(&file)?,
    };
    if format != "fvd" {
        let message = format!("Format driver '{format}' does not support option amendment");
        return Err(Error::unsupported(message).with_path(path));
    }
    let mut head = read_head_to_write(&file).await?;
    check_apart(&file, &head, changes, options.access())?;
    let mut changes = changes.clone();
    if changes.updates_pin() {
        check_pinnable(path, &head, &changes, unchecked)?;
    }
    let needs_data = amend::needs_data(&file, &head, &changes).await?;
    if !unchecked {
        let checked = check_named(path, &file, &head, &changes, options).await;
        let pin = checked.map_err(|error| {
            let error = error.with_op("amend").with_path(path);
            error.with_hint("-u, or backing_unsafe=True, writes the name without a look")
        })?;
        if let Some(pin) = pin {
            changes.set_pin(pin);
        }
    }
    let data = match needs_data {
        Some(name) => {
            head.header.data_file = name;
            chain::open_data(path, &head, &file, options)?
        }
        None => None,
    };
    amend::amend(&file, data.as_ref(), &changes).await
}

/// Fails if the base cannot be pinned: it is on this machine, or is not to be opened.
fn check_pinnable(path: &Path, head: &Head, changes: &Changes, unchecked: bool) -> Result<()> {
    let base = changes.text("base_img").unwrap_or(&head.header.base_img);
    let why = if base.is_empty() {
        "the image has no backing file"
    } else if !is_url(base) {
        "the backing file is on this machine, and only files on other machines are pinned"
    } else if unchecked {
        "the backing file has to be opened for that, which -u (backing_unsafe=True) forbids"
    } else {
        return Ok(());
    };
    Err(Error::invalid_argument(format!("backing_pin: {why}")).with_path(path))
}

/// Fails if the data file or the base cannot be opened as the changed header will name them. Returns the pin of
/// the base, if it is to be stored.
pub(super) async fn check_named(
    path: &Path,
    file: &FileStorage,
    head: &Head,
    changes: &Changes,
    options: &ChainOptions,
) -> Result<Option<StoredPin>> {
    let options = ChainOptions {
        writable: false,
        force_share: true,
        ..options.clone()
    };
    if let Some(name) = changes.text("data_file").filter(|name| !name.is_empty()) {
        let opened = chain::open_file(&beside(path, name), &options);
        Named::data(path, name).opened(opened.map(drop))?;
    }
    let old_name = &head.header.base_img;
    let (new_name, new_format) = (changes.text("base_img"), changes.text("base_img_fmt"));
    let name = new_name.unwrap_or(old_name);
    let is_new_object = name != old_name || changes.updates_pin();
    if name.is_empty() || (new_name.is_none() && new_format.is_none() && !is_new_object) {
        return Ok(None);
    }
    let named = Named::base(path, name);
    let base = named.opened(open_base(path, head, new_name, is_new_object, &options))?;
    let pin = base.remote().filter(|_| is_new_object).map(|file| file.pin().into());
    let format = new_format.map_or(head.header.base_img_fmt.clone().into(), |format| {
        format.to_string_lossy()
    });
    let format = Some(&*format).filter(|format| !format.is_empty());
    let data_file = changes.text("data_file").unwrap_or(&head.header.data_file);
    let data_files = usize::from(!data_file.is_empty());
    named.opened(chain::try_base(base, format, file, data_files, &options).await)?;
    Ok(pin)
}

/// Opens the base of the changed image. `is_new_object`: it need not be the one that is pinned.
fn open_base(
    path: &Path,
    head: &Head,
    new_name: Option<&OsStr>,
    is_new_object: bool,
    options: &ChainOptions,
) -> Result<OpenedFile> {
    let name = new_name.unwrap_or(&head.header.base_img);
    let pin = if is_new_object || !is_url(name) {
        None
    } else {
        head.base_pin()?
    };
    let access = options.access();
    match new_name {
        Some(name) => access.open(&beside(path, name), pin.as_ref(), &unlocked()),
        // This name comes from the image, so it must pass the gate.
        None => access.open_named(path, name, pin.as_ref(), &unlocked()),
    }
}

/// Fails if, after the changes, the image, its data file and the files of the backing chain would not all be
/// different.
pub(super) fn check_apart(file: &FileStorage, head: &Head, changes: &Changes, access: Access<'_>) -> Result<()> {
    let path = file.path();
    let refuse = |name: &OsStr, what: &str| {
        let message = format!("'{}' is {what}", name.display());
        Err(Error::invalid_argument(message).with_path(path))
    };
    let named = ["base_img", "data_file"].map(|field| changes.text(field).filter(|name| !name.is_empty()));
    if let Some(name) = named
        .into_iter()
        .flatten()
        .find(|name| is_same(&beside(path, name), path))
    {
        return refuse(name, "the image itself");
    }
    let [base, data] = named;
    let Some(new) = data.or(base) else {
        return Ok(());
    };
    // A name that does not change comes from the image, so it must pass the gate.
    let open = |new: Option<&OsStr>, old: &OsStr| match new {
        Some(name) => look_at(&beside(path, name)),
        None if old.is_empty() => None,
        None => access.gate.open(path, old, &unlocked()).ok(),
    };
    let header = &head.header;
    let (Some(base), Some(data)) = (open(base, &header.base_img), open(data, &header.data_file)) else {
        return Ok(());
    };
    let format = changes.text("base_img_fmt").unwrap_or(header.base_img_fmt.as_ref());
    let format = Some(format.to_string_lossy().into_owned()).filter(|format| !format.is_empty());
    let chain = chain_of(base, format, access);
    // If the chain contains the image itself, it also contains the data file. That loop is another error.
    let is_in_chain = |file: &FileStorage| {
        let (device, inode) = file.identity();
        chain.contains(&Identity::Local(device, inode))
    };
    if is_in_chain(&data) && !is_in_chain(file) {
        return refuse(
            new,
            "refused: the data file, which is written to, would be part of the backing chain",
        );
    }
    Ok(())
}
