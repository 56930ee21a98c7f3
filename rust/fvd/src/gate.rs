//! May this name, found inside an image, be opened?
//!
//! An image is untrusted input: its author chose the names of its base and data files. Opened
//! without a rule, an image from elsewhere could make the user read any file of theirs into a disk
//! that is then handed on. The rule: a name is opened if the file lies in the directory of the
//! image or below it and is not hidden there, or in a directory that the user trusts or below it,
//! once every symbolic link is followed.
//!
//! Hidden is what has a dot in front, or lies in such a directory: there programs keep what is
//! nobody else's, as the keys in `~/.ssh` beside an image in `~`. The directory of the image may
//! itself be hidden. In a trusted directory everything is open: the user has named it.
//!
//! Names that the user gives directly do not come here.

mod named;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

pub(crate) use named::Named;

use crate::error::{Error, ErrorKind, Result};

/// The places that names found in images may lead to.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Without links.
    trusted: Vec<PathBuf>,
}

impl Gate {
    /// A gate that trusts the given directories (or single files), besides the directory of each image.
    ///
    /// # Errors
    ///
    /// If one of them does not exist or cannot be resolved.
    pub fn new(trusted: &[PathBuf]) -> Result<Self> {
        let resolve = |path: &PathBuf| {
            let resolved = path.canonicalize();
            resolved.map_err(|error| Error::io("resolve the trusted directory", error).with_path(path))
        };
        let trusted = trusted.iter().map(resolve).collect::<Result<_>>()?;
        Ok(Self { trusted })
    }

    /// The path, absolute and without links, of the file that `image` calls `name`.
    ///
    /// A relative name starts at the directory of `image` as the user named it, as in QEMU: not at
    /// the one that `image`, itself a link, leads to.
    ///
    /// The answer is about now. Who can write to the directories on the way can put something
    /// else there before the file is opened. Open it with
    /// [`no_follow`](crate::storage::FileOptions::no_follow), so that at least a link in
    /// place of the file fails. Directories that others can write to should not be trusted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotPermitted`] if the file lies elsewhere, is not a regular file, or is a hidden
    /// one or a block device that no trusted place covers; [`ErrorKind::Unsupported`] for URLs and
    /// other names with a protocol; [`ErrorKind::Io`] if it does not exist.
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
        let is_trusted = self.trusted.iter().any(|place| target.starts_with(place));
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
}

impl Gate {
    /// The directory that has to be trusted before `image` may name `name`; None: none has to, or
    /// that would not help.
    #[must_use]
    pub fn missing_trust(&self, image: &Path, name: &OsStr) -> Option<PathBuf> {
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

/// The directory in which the names start that `image` holds, as QEMU has it.
#[must_use]
pub fn directory_of(image: &Path) -> &Path {
    let parent = image.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The path of the file that `image` calls `name`, neither checked nor without links: to show it,
/// or where it is the user who gave the name.
#[must_use]
pub fn beside(image: &Path, name: &OsStr) -> PathBuf {
    // Not `directory_of`: nobody wrote the `./` that it would put in front.
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

/// Says what is wrong with a file that no trusted place covers, named by an image in `home`. Both
/// are without links.
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
    // As QEMU reads names: a colon before the first slash ends a protocol. A file with a colon in
    // its name is written `./a:b`.
    let first = bytes.iter().find(|byte| matches!(byte, b':' | b'/'));
    if first == Some(&b':') {
        let shown = name.display();
        let message = format!("The image names '{shown}': only files are opened, no protocol or URL");
        return Err(Error::unsupported(message).with_path(image));
    }
    Ok(())
}
