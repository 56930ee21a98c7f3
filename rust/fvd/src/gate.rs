//! Decides whether a file that an image names may be opened.
//!
//! An image is untrusted input: its author chose the names of its base and data files. Without a rule, an
//! image from elsewhere could make users copy any of their files into a disk that they then pass on. The
//! rule: after all symbolic links are followed, the file must lie in or below the directory of the image and
//! must not be hidden there, or it must lie in or below a directory that the user trusts.
//!
//! A path component that begins with a dot is hidden, with everything below it: programs keep secrets there,
//! such as the keys in `~/.ssh` next to an image in `~`. The directory of the image may itself be hidden. In
//! a trusted directory everything may be opened, because the user has named it.
//!
//! A URL in an image is opened only if the user trusts a prefix of it ([`Gate::permit_remote`]).
//!
//! Names that the user gives directly are not checked here. See `docs/design/trust.md`, "Trust".

mod named;
mod remote;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

pub(crate) use named::Named;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::{FileOptions, FileStorage};
use crate::url::{Url, is_url, shown};

/// The places where files named by images may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Resolved: without symbolic links.
    trusted: Vec<PathBuf>,
    /// Prefixes of URLs.
    urls: Vec<Url>,
}

impl Gate {
    /// A gate that trusts the given directories (or single files) and prefixes of URLs, in addition to the
    /// directory of each image.
    ///
    /// # Errors
    ///
    /// If a directory does not exist or cannot be resolved, or a URL cannot be a prefix.
    pub fn new(trusted: &[PathBuf]) -> Result<Self> {
        let (urls, paths): (Vec<_>, Vec<_>) = trusted.iter().partition(|name| is_url(name.as_os_str()));
        let resolve = |path: &PathBuf| {
            let resolved = path.canonicalize();
            resolved.map_err(|error| Error::io("resolve the trusted directory", error).with_path(path))
        };
        Ok(Self {
            trusted: paths.into_iter().map(resolve).collect::<Result<_>>()?,
            urls: urls
                .into_iter()
                .map(|name| remote::prefix(name))
                .collect::<Result<_>>()?,
        })
    }

    /// Opens the file that `image` calls `name`, if it may be opened.
    ///
    /// It opens exactly the file that was checked: if a component of the path has become a symbolic link
    /// meanwhile, it fails. So a program that can write to the directories on the path gains no other file.
    ///
    /// # Errors
    ///
    /// Those of [`Gate::permit`] and of [`FileStorage::open`].
    pub fn open(&self, image: &Path, name: &OsStr, options: &FileOptions) -> Result<FileStorage> {
        let target = self.permit(image, name)?;
        let options = FileOptions {
            no_follow: true,
            ..options.clone()
        };
        let storage = FileStorage::open(&target, &options)?;
        if storage.is_device() && !self.trusts(&target) {
            // It became one after it was checked.
            return Err(refusal(image, name, "is a block device", &target));
        }
        Ok(storage)
    }

    /// The path, absolute and without symbolic links, of the file that `image` calls `name`.
    ///
    /// A relative name starts at the directory of `image` as the user named it, as in QEMU. If `image` is a
    /// symbolic link, its target does not matter.
    ///
    /// The result is for display, because it may be outdated at once. To open the file, use [`Gate::open`].
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::NotPermitted`] if no trusted place contains the file, and it lies outside the directory
    ///   of the image, is hidden, or is a block device. Also if it is neither a regular file nor a block
    ///   device.
    /// * [`ErrorKind::Unsupported`] for URLs and other names with a protocol.
    /// * [`ErrorKind::Io`] if it does not exist.
    pub fn permit(&self, image: &Path, name: &OsStr) -> Result<PathBuf> {
        check_form(image, name)?;
        let directory = directory_of(image);
        let named = directory.join(name);
        let resolve = |path: &Path| {
            let resolved = path.canonicalize();
            resolved.map_err(|error| Error::io("open", error).with_path(path))
        };
        let target = resolve(&named)?;
        let home = resolve(directory)?;
        let is_trusted = self.trusts(&target);
        if !is_trusted {
            check_place(&home, &target).map_err(|why| refusal(image, name, &why, &target))?;
        }
        let metadata = target.metadata();
        let kind = metadata.map_err(|error| Error::io("inspect the file", error).with_path(&target))?;
        let kind = kind.file_type();
        if kind.is_file() || (kind.is_block_device() && is_trusted) {
            Ok(target)
        } else if kind.is_block_device() {
            Err(refusal(image, name, "is a block device", &target))
        } else {
            let message = format!(
                "The image names '{}', which is neither a regular file nor a block device",
                name.display()
            );
            Err(Error::new(ErrorKind::NotPermitted, message).with_path(image))
        }
    }

    fn trusts(&self, target: &Path) -> bool {
        self.trusted.iter().any(|place| target.starts_with(place))
    }
}

impl Gate {
    /// The directory, or the prefix of URLs, that the user must trust before `image` may name `name`. None:
    /// there is no need to trust one, or it would not help.
    #[must_use]
    pub fn missing_trust(&self, image: &Path, name: &OsStr) -> Option<PathBuf> {
        if is_url(name) {
            return self.missing_prefix(name);
        }
        let refused = self.permit(image, name).err()?;
        if refused.kind() != ErrorKind::NotPermitted {
            return None;
        }
        let target = directory_of(image).join(name).canonicalize().ok()?;
        let directory = target.parent()?.to_owned();
        let trusting = Self::new(std::slice::from_ref(&directory)).ok()?;
        trusting.permit(image, name).is_ok().then_some(directory)
    }
}

/// The directory where relative names in `image` start, as in QEMU.
#[must_use]
pub fn directory_of(image: &Path) -> &Path {
    let parent = image.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The path or URL of the file that `image` calls `name`, neither checked nor resolved: for display, or if
/// the user gave the name.
#[must_use]
pub fn beside(image: &Path, name: &OsStr) -> PathBuf {
    if is_url(name) {
        return PathBuf::from(name);
    }
    if is_url(image.as_os_str()) {
        let joined = Url::parse(image.as_os_str()).and_then(|image| image.join(name));
        return joined.map_or_else(|_| PathBuf::from(name), |url| PathBuf::from(url.shown()));
    }
    // Not `directory_of`, which would put a `./` in front that was not in the name.
    image.parent().unwrap_or(Path::new("")).join(name)
}

fn refusal(image: &Path, name: &OsStr, why: &str, target: &Path) -> Error {
    let directory = target.parent().unwrap_or(target);
    let message = format!(
        "The image names '{}', which {why}, and {} is not trusted",
        name.display(),
        directory.display()
    );
    let error = Error::new(ErrorKind::NotPermitted, message).with_path(image);
    error.with_needed_trust(directory)
}

/// Checks a file that no trusted place contains, named by an image in `home`. Both paths are resolved. The
/// error says what is wrong.
fn check_place(home: &Path, target: &Path) -> std::result::Result<(), String> {
    let Ok(below) = target.strip_prefix(home) else {
        return Err(format!(
            "lies outside the directory of the image, at {}",
            target.display()
        ));
    };
    if below.components().any(is_hidden) {
        return Err(format!("is hidden, at {}", target.display()));
    }
    Ok(())
}

fn is_hidden(component: Component<'_>) -> bool {
    component.as_os_str().as_bytes().starts_with(b".")
}

/// Refuses what is not the name of a file.
fn check_form(image: &Path, name: &OsStr) -> Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        let message = "The image holds an empty or broken file name";
        return Err(Error::invalid_image(message).with_path(image));
    }
    if has_protocol(name) {
        let shown = shown(name);
        let message = format!("The image names '{shown}': only files are opened here, no protocol or URL");
        return Err(Error::unsupported(message).with_path(image));
    }
    Ok(())
}

/// As in QEMU, a colon before the first slash ends a protocol. A file with a colon in its name is written
/// `./a:b`.
fn has_protocol(name: &OsStr) -> bool {
    let first = name.as_bytes().iter().find(|byte| matches!(byte, b':' | b'/'));
    first == Some(&b':')
}

/// Checks that `name`, which `field` of an image will contain, can be opened as the name of a file, and holds
/// no secret.
///
/// # Errors
///
/// [`ErrorKind::InvalidArgument`], with the correct spelling.
pub fn check_storable(field: &str, name: &OsStr) -> Result<()> {
    let shown = name.display();
    if name.as_bytes().contains(&0) {
        let message = format!("{field}: a file name has no zero byte in it: '{shown}'");
        return Err(Error::invalid_argument(message));
    }
    if is_url(name) {
        return remote::check_storable(field, name);
    }
    if has_protocol(name) {
        return Err(Error::invalid_argument(format!(
            "{field}: '{shown}' begins with a protocol, as its colon says, and only files are opened: write './{shown}' \
             for a file of that name"
        )));
    }
    Ok(())
}
