//! Opens files by name: a path or a URL, from the user or from an image.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::{AnyFile, Pin, RemoteFile, RemoteOpener, RemoteStorage};
use crate::error::{Error, ErrorKind, Result};
use crate::format::StoredPin;
use crate::gate::Gate;
use crate::storage::{FileOptions, FileStorage};
use crate::url::{Url, is_url};

/// What opens files by name. The gate decides about those that images name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    pub(crate) gate: &'a Gate,
    /// None: this program opens no URLs.
    pub(crate) remote: Option<&'a Arc<dyn RemoteOpener>>,
}

/// Where a URL comes from.
#[derive(Clone, Copy, Debug)]
enum By {
    User,
    Image,
}

impl Access<'_> {
    /// Opens the file that the user calls `path`. `pin` is for a remote file: it must be that object.
    pub(crate) fn open(
        &self,
        path: &Path,
        pin: Option<&StoredPin>,
        options: &FileOptions,
    ) -> Result<AnyFile<FileStorage>> {
        if is_url(path.as_os_str()) {
            return self.open_url(&Url::parse(path.as_os_str())?, pin, options, By::User);
        }
        FileStorage::open(path, options).map(AnyFile::Local)
    }

    /// Opens the file that `image` calls `name`, if the gate permits it. `pin` is for a remote file: it must be
    /// that object.
    pub(crate) fn open_named(
        &self,
        image: &Path,
        name: &OsStr,
        pin: Option<&StoredPin>,
        options: &FileOptions,
    ) -> Result<AnyFile<FileStorage>> {
        match self.gate.permit_remote(image, name)? {
            None => self.gate.open(image, name, options).map(AnyFile::Local),
            Some(url) => self.open_url(&url, pin, options, By::Image),
        }
    }

    fn open_url(
        &self,
        url: &Url,
        pin: Option<&StoredPin>,
        options: &FileOptions,
        by: By,
    ) -> Result<AnyFile<FileStorage>> {
        let path = url.shown();
        let Some(opener) = self.remote else {
            let message = "This program opens files on this machine only, no URL";
            return Err(Error::unsupported(message).with_path(path));
        };
        if options.writable {
            let message = "A file on another machine can only be opened for reading";
            return Err(Error::new(ErrorKind::NotPermitted, message).with_path(path));
        }
        let url = url.to_string();
        let open = |pin: Option<&Pin>| match by {
            By::User => opener.open(&url, pin),
            By::Image => opener.open_named(&url, pin),
        };
        let file = match pin {
            None => open(None),
            Some(pin) => open_pinned(open, pin),
        };
        let file = file.map_err(|error| error.with_path(path))?;
        Ok(AnyFile::Remote(RemoteStorage::new(file)))
    }
}

/// Opens the object of the pin. An error about another object says what was expected and what is there.
fn open_pinned(
    open: impl Fn(Option<&Pin>) -> Result<Arc<dyn RemoteFile>>,
    pin: &StoredPin,
) -> Result<Arc<dyn RemoteFile>> {
    match open(pin.whole().as_ref()) {
        Ok(file) => pin.check(file.pin()).map(|()| file),
        // Whether another object is there is only looked up after a failure.
        Err(error) => match open(None) {
            Ok(file) => Err(pin.check(file.pin()).err().unwrap_or(error)),
            Err(_) => Err(error),
        },
    }
}
