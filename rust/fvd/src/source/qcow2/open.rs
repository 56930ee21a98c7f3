//! Opens a qcow2 image, and through the gate the files that it names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pollster::block_on;

use super::header::Header;
use super::layer::{Image, Layer};
use super::tables::check_l1;
use super::{File, Qcow2Options};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SECTOR;
use crate::gate::{Gate, Named};
use crate::remote::Access;
use crate::source::{NamedBy, Seen, readable};
use crate::storage::{FileOptions, LockMode, Storage};
use crate::url::is_url;

/// The chain of the image in `storage`: this image first, the last backing file last.
pub(super) fn open_chain(storage: File, options: &Qcow2Options<'_>) -> Result<Vec<Layer>> {
    let mut opening = Opening {
        options,
        layers: Vec::new(),
        seen: Seen::default(),
    };
    let mut next = Some((storage, "qcow2"));
    while let Some((storage, format)) = next.take() {
        let opened = match format {
            "qcow2" => opening.image(storage),
            _ => opening.raw(storage),
        };
        match opened.and_then(|()| opening.below()) {
            Ok(below) => next = below,
            Err(error) => return Err(opening.led_to(error)),
        }
    }
    Ok(opening.layers)
}

struct Opening<'a> {
    options: &'a Qcow2Options<'a>,
    layers: Vec<Layer>,
    seen: Seen,
}

impl Opening<'_> {
    fn image(&mut self, file: File) -> Result<()> {
        self.see(&file)?;
        let header = Header::read(&file)?;
        let file_len = block_on(file.len())?;
        let checked = header.check_readable().and_then(|()| header.check_size(file_len));
        checked.map_err(|error| error.with_path(file.path()))?;
        check_l1(&header, &file)?;
        let data = if header.features.has_data_file() {
            Some(self.data_file(&header, &file)?)
        } else {
            None
        };
        let image = Box::new(Image { header, file, data });
        self.layers.push(Layer::Image(image));
        Ok(())
    }

    fn raw(&mut self, file: File) -> Result<()> {
        self.see(&file)?;
        let len = block_on(file.len())?.next_multiple_of(SECTOR);
        self.layers.push(Layer::Raw { file, len });
        Ok(())
    }

    fn see(&mut self, file: &File) -> Result<()> {
        self.seen.add(file.identity(), file.path())
    }

    fn data_file(&mut self, header: &Header, image: &File) -> Result<File> {
        let Some(name) = header.data_file.as_deref() else {
            let message = "The image keeps its data in another file, and does not name it";
            return Err(Error::invalid_image(message).with_path(image.path()));
        };
        let name = OsStr::from_bytes(name);
        let named = Named::data(image.path(), name);
        if image.remote().is_some() || is_url(name) {
            let message =
                "The image keeps its data in another file, which can be read only where both are on this machine";
            return Err(Error::unsupported(message).with_path(image.path()));
        }
        let data = named.opened(self.named(image.path(), name))?;
        named.opened(self.see(&data))?;
        Ok(data)
    }

    /// The file below the last layer, and its format.
    fn below(&self) -> Result<Option<(File, &'static str)>> {
        let Some(Layer::Image(image)) = self.layers.last() else {
            return Ok(None);
        };
        let Some(name) = image.backing_name() else {
            return Ok(None);
        };
        let path = image.file.path();
        let storage = self.named(path, name)?;
        let format = backing_format(path, &image.header, &storage, self.options)?;
        Ok(Some((storage, format)))
    }

    /// Turns an error of the last file into one that names the first image and all layers between.
    fn led_to(&self, error: Error) -> Error {
        self.layers.iter().rev().fold(error, |error, layer| match layer {
            Layer::Image(image) => match image.backing_name() {
                Some(name) => Named::base(image.file.path(), name).failure(error),
                None => error,
            },
            Layer::Raw { .. } => error,
        })
    }

    /// Opens a file that `image` names.
    fn named(&self, image: &Path, name: &OsStr) -> Result<File> {
        let Some(gate) = self.options.gate else {
            let message = format!(
                "The image names '{}', and files that it names are not to be opened",
                name.display()
            );
            return Err(Error::new(ErrorKind::NotPermitted, message).with_path(image));
        };
        open_named(gate, image, name, self.options)
    }
}

fn open_named(gate: &Gate, image: &Path, name: &OsStr, options: &Qcow2Options<'_>) -> Result<File> {
    let lock = match options.lock {
        LockMode::None => LockMode::None,
        LockMode::Shared | LockMode::Exclusive => LockMode::Shared,
    };
    let how = FileOptions {
        writable: false,
        direct: options.direct,
        lock,
        ..FileOptions::default()
    };
    let access = Access {
        gate,
        remote: options.remote,
    };
    access.open_named(image, name, None, &how)
}

fn backing_format(image: &Path, header: &Header, backing: &File, options: &Qcow2Options<'_>) -> Result<&'static str> {
    let unsupported = |format: &str| {
        let message = format!("The format '{format}' of its backing file is not supported");
        let error = Error::unsupported(message).with_path(image);
        Err(error.with_hint("`qemu-img convert` makes one image of the chain"))
    };
    match header.backing_format.as_deref() {
        Some(b"raw" | b"file" | b"host_device") => Ok("raw"),
        Some(b"qcow2") => Ok("qcow2"),
        Some(other) => unsupported(&String::from_utf8_lossy(other)),
        None if options.probe_backing => match readable(backing, NamedBy::Qcow2)? {
            found @ ("raw" | "qcow2") => Ok(found),
            found => unsupported(found),
        },
        None => {
            let message = format!(
                "The image does not say which format its backing file '{}' has",
                backing.path().display()
            );
            Err(Error::new(ErrorKind::NotPermitted, message).with_path(image))
        }
    }
}
