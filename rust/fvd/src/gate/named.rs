//! A file that cannot be used, and the image that names it.

use std::ffi::OsStr;
use std::path::{Path, absolute};

use super::beside;
use crate::error::{Error, Result};

/// A name in an image, and what it stands for there.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    image: &'a Path,
    /// What the file is to the image.
    role: &'static str,
    name: &'a OsStr,
    /// The option of `fvd amend` that changes the name, if one does.
    option: Option<&'static str>,
}

impl<'a> Named<'a> {
    /// The base that `image`, as the user or the image above named it, calls `name`.
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

    /// The name can be changed with this option of `fvd amend`.
    #[must_use]
    pub(crate) fn amendable(self, option: &'static str) -> Self {
        Self {
            option: Some(option),
            ..self
        }
    }

    /// What came of opening the file, with an error that names the image, too: who asked for the image may
    /// never have heard of the file.
    pub(crate) fn opened<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.failure(error))
    }

    /// As [`opened`](Self::opened), of what went wrong.
    pub(crate) fn failure(&self, error: Error) -> Error {
        if error.path() == Some(self.image) {
            // The gate's: it says what the image names.
            return error;
        }
        // Of the layers of a chain only the lowest fails in that way.
        let is_missing = error.op() == Some("open") && error.errno() == Some(libc::ENOENT);
        let place = if Path::new(self.name).is_absolute() {
            String::new()
        } else {
            let path = beside(self.image, self.name);
            format!(" ({})", absolute(&path).unwrap_or(path).display())
        };
        let context = format!("its {} '{}'{place} cannot be opened", self.role, self.name.display());
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
    fn an_error_keeps_its_cause_and_gets_the_file_of_the_image() {
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
    fn what_helps_is_said_of_the_lowest_layer_alone() {
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
    fn what_the_gate_says_of_the_image_is_left_as_it_is() {
        let named = Named::base(Path::new("/d/disk.fvd"), OsStr::new("../base"));
        let refused = Error::new(ErrorKind::NotPermitted, "The image names '../base'").with_path("/d/disk.fvd");
        assert_eq!(
            named.failure(refused).to_string(),
            "/d/disk.fvd: The image names '../base'"
        );
    }
}
