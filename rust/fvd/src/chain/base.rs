//! Opens the base that an FVD image names.

use std::path::Path;

use super::files::clock_of;
use super::{ChainOptions, Files, OpenedFile, open_layer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Area, BaseUpdate, Header, StoredPin};
use crate::gate::Named;
use crate::image::{Head, local_bytes};
use crate::notice;
use crate::remote::{AnyFile, GivenBase, RemoteStorage};
use crate::source::{AbsentSource, BaseSource, Seen, TimedSource, Watch, WatchedSource, deep};
use crate::storage::Storage as _;
use crate::url::{is_url, shown};

/// Opens the base of the image in `file`. A base on another machine is not missed if every block is local.
pub(super) async fn open_base_of<F: Files>(
    files: &F,
    file: &OpenedFile,
    head: &Head,
    options: &ChainOptions,
    seen: &mut Seen,
) -> Result<Option<Box<dyn BaseSource>>> {
    let image = file.path().to_owned();
    if options.base.is_some() || !head.needs_base() || !is_remote(&image, &head.header) {
        return open_base(files, &image, head, options, seen).await;
    }
    if head.is_all_in_place(file).await? {
        let error = Error::new(ErrorKind::Io, "It was not opened, because every block of it is local");
        return Ok(Some(absent(&head.header, head.geometry.base_size, error)));
    }
    match open_base(files, &image, head, options, seen).await {
        // The journal may name the rest.
        Err(error) if local_bytes(file, head).await? == head.geometry.base_size => {
            Ok(Some(absent(&head.header, head.geometry.base_size, error)))
        }
        opened => opened,
    }
}

fn absent(header: &Header, len: u64, error: Error) -> Box<dyn BaseSource> {
    let format = super::known_format(&header.base_img_fmt).unwrap_or("raw");
    let path = shown(&header.base_img);
    let error = error.with_path(&path).with_op("read");
    Box::new(AbsentSource::new(Path::new(&path), format, len, error))
}

/// Whether the base of `image` lies on another machine: its URL is there, or the image is and the base is next
/// to it.
fn is_remote(image: &Path, header: &Header) -> bool {
    is_url(&header.base_img) || is_url(image.as_os_str())
}

/// Tells the user of a damaged record area. Without a remote base, nothing that it can hold is missed.
pub(super) fn tell_of_damage(head: &Head, image: &Path) {
    if let Area::Damaged(why) = head.records {
        notice::tell(&format!(
            "{}: the record area of the header is damaged ({why}): what it held is ignored",
            image.display()
        ));
    }
}

/// Opens the base that the head of `image` names, if it needs one.
pub(super) async fn open_base<F: Files>(
    files: &F,
    image: &Path,
    head: &Head,
    options: &ChainOptions,
    seen: &mut Seen,
) -> Result<Option<Box<dyn BaseSource>>> {
    if options.base.is_some() && head.header.base_img.is_empty() {
        let message = "The image has no backing file, so none can be given in its place";
        return Err(Error::invalid_argument(message).with_path(image));
    }
    if !head.needs_base() {
        return Ok(None);
    }
    let name = &head.header.base_img;
    let named = Named::base(image, name).amendable("backing_file");
    let limit = options
        .base_timeout
        .map(|limit| clock_of(files).map(|clock| (limit, clock)))
        .transpose()?;
    let given = options.base.clone();
    let options = ChainOptions {
        base: None,
        writable: options.writable && may_write_base(image, head, options)?,
        // Background copies do not run for lower layers.
        copy_on_read: Some(false),
        // This limit holds for all lower layers.
        base_timeout: None,
        unfinished: false,
        ..options.clone()
    };
    let pin = if given.is_some() || is_remote(image, &head.header) {
        head.base_pin().map_err(|error| error.with_path(image))?
    } else {
        None
    };
    let storage = if let Some(given) = given {
        given_base(given, pin.as_ref(), &options)?
    } else {
        let how = options.file(options.writable);
        named.opened(options.access().open_named(image, name, pin.as_ref(), &how))?
    };
    let format = Some(head.header.base_img_fmt.as_str()).filter(|f| !f.is_empty());
    // Its own limit has the reason in the error.
    let limit = limit.filter(|_| !storage.remote().is_some_and(RemoteStorage::has_time_limit));
    // Without locks, another process may write to the base, and the user accepts that. With `writable`, the
    // image itself writes to it. A remote file is watched by its opener: its pin says which object it is.
    let local = storage.local().filter(|_| !options.force_share && !options.writable);
    let watch = named.opened(local.map(Watch::new).transpose())?;
    let mut base = named.opened(deep(|| open_layer(files, storage, format, &options, seen)).await)?;
    if let Some(watch) = watch {
        let watched = if files.may_block() {
            WatchedSource::new
        } else {
            WatchedSource::on_threads
        };
        base = Box::new(watched(base, watch));
    }
    if let Some((limit, clock)) = limit {
        base = Box::new(TimedSource::new(base, clock, limit));
    }
    Ok(Some(base))
}

/// What the user gives in place of the file that the image names.
fn given_base(given: GivenBase, pin: Option<&StoredPin>, options: &ChainOptions) -> Result<OpenedFile> {
    let storage = RemoteStorage::new(given.0);
    let checked = pin.map_or(Ok(()), |pin| pin.check_given(storage.pin()));
    let permitted = if options.writable {
        let message = "The image writes to its base (write_updates_base_img), and what is given can only be read";
        Err(Error::new(ErrorKind::NotPermitted, message))
    } else {
        Ok(())
    };
    checked
        .and(permitted)
        .map_err(|error| error.with_path(storage.path()))?;
    Ok(AnyFile::Remote(storage))
}

/// Whether an image that is opened for writing writes to its base. Fails if the header asks for that without
/// the permission of the user: a header can name any file next to the image.
fn may_write_base(image: &Path, head: &Head, options: &ChainOptions) -> Result<bool> {
    let update = head.base_update().map_err(|error| error.with_path(image))?;
    if update == BaseUpdate::No {
        return Ok(false);
    }
    let header = &head.header;
    if !options.write_base {
        let message = format!(
            "The image is to write to its base '{}' (write_updates_base_img is '{}'): use write_base to allow it",
            header.base_img.display(),
            update.name()
        );
        return Err(Error::new(ErrorKind::NotPermitted, message).with_path(image));
    }
    if header.base_img_fmt.is_empty() {
        let message = "The image is to write to its base and does not name its format (base_img_fmt): \
                       a format that is guessed would be what a guest makes it look like";
        return Err(Error::unsupported(message).with_path(image));
    }
    Ok(true)
}
