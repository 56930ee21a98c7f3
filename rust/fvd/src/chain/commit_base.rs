//! Opens the base of an image to write to it what the image has.

use std::path::Path;

use super::{Blocking, ChainOptions, OpenedFile, identity_of, known_format, open_data, open_headed};
use crate::error::{Error, Result};
use crate::format::{SECTOR, Value};
use crate::gate::Named;
use crate::image::amend::{self, Changes};
use crate::image::{Head, read_head_to_write};
use crate::remote::AnyFile;
use crate::source::{BaseSource, RawSource, Seen, deep};
use crate::storage::{FileStorage, Storage as _};
use crate::url::is_url;

/// Opens the base that the head of the image in `file` names, for writing. A base that is shorter than the
/// image becomes as long as that; what it gets reads as zeros.
///
/// # Errors
///
/// [`Unsupported`](crate::ErrorKind::Unsupported) for a base that is not raw or fvd, whose format the image
/// does not name, or that lies on another machine.
pub async fn open_base_to_commit(
    file: &FileStorage,
    head: &Head,
    options: &ChainOptions,
) -> Result<Box<dyn BaseSource>> {
    let (image, header) = (file.path(), &head.header);
    let format = check(image, head)?;
    let options = ChainOptions {
        writable: true,
        force_share: false,
        copy_on_read: Some(false),
        base: None,
        base_timeout: None,
        unfinished: false,
        ..options.clone()
    };
    let named = Named::base(image, &header.base_img).amendable("backing_file");
    let how = options.file(true);
    let storage = named.opened(options.access().open_named(image, &header.base_img, None, &how))?;
    let storage = storage.into_local("written to")?;
    let mut seen = Seen::below(identity_of(file)).with_above(usize::from(!header.data_file.is_empty()));
    let size = header.virtual_disk_size;
    let opened = match format {
        "raw" => open_raw(storage, size, &mut seen).await,
        _ => open_fvd(storage, size, &options, &mut seen).await,
    };
    named.opened(opened)
}

/// The format of the base. Fails if it cannot be committed to.
fn check(image: &Path, head: &Head) -> Result<&'static str> {
    let header = &head.header;
    let base = header.base_img.display();
    let refuse = |error: Error| Err(error.with_path(image));
    if header.base_img.is_empty() {
        return refuse(Error::invalid_argument(
            "The image has no backing file, so there is nothing to commit to",
        ));
    }
    if is_url(&header.base_img) || is_url(image.as_os_str()) {
        let message = format!("The backing file '{base}' is on another machine, and is only read");
        let hint = "'fvd convert' and 'fvd publish' make a new template of the image";
        return refuse(Error::unsupported(message).with_hint(hint));
    }
    if header.base_img_fmt.is_empty() {
        let message = format!(
            "The image does not name the format of its backing file '{base}': a format that is guessed would be what \
             a guest makes it look like"
        );
        return refuse(Error::unsupported(message).with_hint("'fvd amend -o backing_fmt=raw' (or fvd) names it"));
    }
    match known_format(&header.base_img_fmt).map_err(|error| error.with_path(image))? {
        "qcow2" => {
            let message = format!("The backing file '{base}' is of format 'qcow2', which fvd only reads");
            let hint = "qemu-img can write to it: 'fvd serve' the image and let 'qemu-img convert -n' copy the disk \
                        into the backing file, or 'fvd convert' the whole disk into a new file";
            refuse(Error::unsupported(message).with_hint(hint))
        }
        format => Ok(format),
    }
}

async fn open_raw(storage: FileStorage, size: u64, seen: &mut Seen) -> Result<Box<dyn BaseSource>> {
    let storage = AnyFile::Local(storage);
    seen.add(storage.identity(), storage.path())?;
    let len = storage.len().await?;
    if len < size {
        if !storage.can_resize() {
            let message = format!("The device has {len} bytes, the image above it {size}");
            return Err(Error::invalid_argument(message).with_path(storage.path()));
        }
        storage.set_len(size).await?;
    }
    Ok(Box::new(RawSource::for_writing(storage).await?))
}

async fn open_fvd(
    storage: FileStorage,
    size: u64,
    options: &ChainOptions,
    seen: &mut Seen,
) -> Result<Box<dyn BaseSource>> {
    let path = storage.path().to_owned();
    seen.add(identity_of(&storage), &path)?;
    let mut head = read_head_to_write(&storage).await?;
    if head.header.virtual_disk_size < size {
        let mut changes = Changes::new(false);
        let size = i64::try_from(size.next_multiple_of(SECTOR)).unwrap_or(i64::MAX);
        changes.set("size", Value::Int(size))?;
        let data = open_data(&path, &head, &storage, options)?;
        amend::amend(&storage, data.as_ref(), &changes).await?;
        head = read_head_to_write(&storage).await?;
    }
    // What is read for a comparison is not what a guest reads.
    head.header.generate_prefetch_profile = false;
    let storage: OpenedFile = AnyFile::Local(storage);
    let image = deep(|| Box::pin(open_headed(&Blocking, storage, head, options, seen))).await?;
    Ok(Box::new(image))
}
