//! Names of files on other machines.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Gate, has_protocol};
use crate::error::{Error, ErrorKind, Result};
use crate::url::{Url, is_url, shown};

impl Gate {
    /// The URL of the file that `image` calls `name`, if it may be opened. None: the name is that of a local
    /// file, which [`Gate::open`] opens.
    ///
    /// A local image names it by its URL, and a trusted prefix must cover that. A remote image can also name a
    /// file in its folder or below it, by a relative path. It can never name a local file.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::NotPermitted`] if no trusted prefix covers the URL, or a remote image names a local
    ///   file.
    /// * [`ErrorKind::InvalidArgument`] for a URL with credentials, or one that can be understood in two ways.
    pub fn permit_remote(&self, image: &Path, name: &OsStr) -> Result<Option<Url>> {
        let in_image = |error: Error| error.with_path(image);
        if is_url(name) {
            let url = Url::parse(name).map_err(in_image)?;
            return if self.covers(&url) {
                Ok(Some(url))
            } else {
                Err(refusal(image, name, &url))
            };
        }
        if !is_url(image.as_os_str()) {
            return Ok(None);
        }
        if name.is_empty() || has_protocol(name) {
            let message = format!(
                "The image names '{}', which is neither a file nor a URL",
                name.display()
            );
            return Err(Error::unsupported(message).with_path(image));
        }
        let home = Url::parse(image.as_os_str())?;
        let url = home.join(name).map_err(in_image)?;
        let is_near = url.hidden_below(&home.folder()) == Some(false);
        if is_near || self.covers(&url) {
            Ok(Some(url))
        } else {
            Err(refusal(image, name, &url))
        }
    }

    /// Whether a trusted prefix covers `url`. False for what is no URL.
    #[must_use]
    pub fn trusts_url(&self, url: &str) -> bool {
        Url::parse(OsStr::new(url)).is_ok_and(|url| self.covers(&url))
    }

    fn covers(&self, url: &Url) -> bool {
        self.urls.iter().any(|prefix| prefix.covers(url))
    }

    /// As [`Gate::missing_trust`], for the name of a remote file.
    pub(super) fn missing_prefix(&self, name: &OsStr) -> Option<PathBuf> {
        let url = Url::parse(name).ok()?;
        (!self.covers(&url)).then(|| PathBuf::from(url.folder().shown()))
    }
}

/// A trusted prefix, from the user.
pub(super) fn prefix(name: &Path) -> Result<Url> {
    let url = Url::parse(name.as_os_str())?;
    url.check_prefix()?;
    Ok(url)
}

fn refusal(image: &Path, name: &OsStr, url: &Url) -> Error {
    let folder = url.folder().shown();
    let message = format!(
        "The image names '{}', which lies on another machine, and {folder} is not trusted",
        shown(name)
    );
    let error = Error::new(ErrorKind::NotPermitted, message).with_path(image);
    error.with_needed_trust(Path::new(&folder))
}

/// Checks that `field` of an image may contain the URL `name`.
pub(super) fn check_storable(field: &str, name: &OsStr) -> Result<()> {
    let in_field = |error: Error| error.with_context(ErrorKind::InvalidArgument, field);
    if field == "data_file" {
        let message = format!(
            "{field}: '{}' is on another machine, and nothing is written there",
            shown(name)
        );
        return Err(Error::invalid_argument(message));
    }
    let url = Url::parse(name).map_err(in_field)?;
    url.check_storable().map_err(in_field)
}
