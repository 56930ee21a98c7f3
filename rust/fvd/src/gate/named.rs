//! Errors about a file that an image names.

use std::ffi::OsStr;
use std::path::{Path, absolute};

use super::beside;
use crate::error::{Error, Result};
use crate::url::{is_url, shown};

/// A name in an image, and its role there.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    image: &'a Path,
    /// The role of the file for the image.
    role: &'static str,
    name: &'a OsStr,
    /// The option of `fvd amend` that changes the name, if there is one.
    option: Option<&'static str>,
}

impl<'a> Named<'a> {
    /// The base that `image` calls `name`. `image` is the path by which the user or the image above named it.
    pub(crate) fn base(image: &'a Path, name: &'a OsStr) -> Self {
        Self {
            image,
            role: "backing file",
            name,
            option: None,
        }
    }

    /// The data file that `image` calls `name`.
    pub(crate) fn data(image: &'a Path, name: &'a OsStr) -> Self {
        Self {
            role: "data file",
            ..Self::base(image, name)
        }
    }

    /// This option of `fvd amend` can change the name.
    #[must_use]
    pub(crate) fn amendable(self, option: &'static str) -> Self {
        Self {
            option: Some(option),
            ..self
        }
    }

    /// Adds the image to an error of opening the file: the user who named the image may not know the file.
    pub(crate) fn opened<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.failure(error))
    }

    /// As [`opened`](Self::opened), for the error alone.
    pub(crate) fn failure(&self, error: Error) -> Error {
        if error.path() == Some(self.image) {
            // An error of the gate, which names the file already.
            return error;
        }
        // In a chain, only the lowest layer fails in this way.
        let is_missing = error.op() == Some("open") && error.errno() == Some(libc::ENOENT);
        let place = if Path::new(self.name).is_absolute() || is_url(self.name) {
            String::new()
        } else if is_url(self.image.as_os_str()) {
            format!(" ({})", beside(self.image, self.name).display())
        } else {
            let path = beside(self.image, self.name);
            format!(" ({})", absolute(&path).unwrap_or(path).display())
        };
        let context = format!("its {} '{}'{place} cannot be opened", self.role, shown(self.name));
        let error = error.seen_from(self.image, &context);
        match self.option.filter(|_| is_missing) {
            Some(option) => error.with_hint(&format!(
                "`fvd amend -o {option}=NAME {}` tells the image where it is now",
                self.image.display()
            )),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_error_keeps_its_cause_and_names_the_image() {
        let named = Named::base(Path::new("/d/disk.fvd"), OsStr::new("/b/base.raw")).amendable("backing_file");
        let error = Error::io("read", io::Error::from_raw_os_error(libc::EIO))
            .with_path("/b/base.raw")
            .with_offset(512);
        let error = named.failure(error);
        assert_eq!(
            error.to_string(),
            "/d/disk.fvd: its backing file '/b/base.raw' cannot be opened: could not read: Input/output error (at \
             offset 512)"
        );
        let of_image = (error.kind(), error.errno(), error.op(), error.offset());
        assert_eq!(of_image, (ErrorKind::Io, Some(libc::EIO), None, None));
    }

    #[test]
    fn only_the_lowest_layer_gets_a_hint() {
        let lower = Named::data(Path::new("/d/lower.fvd"), OsStr::new("/d/data")).amendable("data_file");
        let upper = Named::base(Path::new("/d/upper.fvd"), OsStr::new("/d/lower.fvd")).amendable("backing_file");
        let missing = Error::io("open", io::Error::from_raw_os_error(libc::ENOENT)).with_path("/d/data");
        assert_eq!(
            upper.failure(lower.failure(missing)).to_string(),
            "/d/upper.fvd: its backing file '/d/lower.fvd' cannot be opened: its data file '/d/data' cannot be opened: \
             No such file or directory; `fvd amend -o data_file=NAME /d/lower.fvd` tells the image where it is now"
        );
    }

    #[test]
    fn an_error_of_the_gate_stays_as_it_is() {
        let named = Named::base(Path::new("/d/disk.fvd"), OsStr::new("../base"));
        let refused = Error::new(ErrorKind::NotPermitted, "The image names '../base'").with_path("/d/disk.fvd");
        assert_eq!(
            named.failure(refused).to_string(),
            "/d/disk.fvd: The image names '../base'"
        );
    }
}
