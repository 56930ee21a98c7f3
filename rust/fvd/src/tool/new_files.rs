//! Checks the files that a new image would overwrite: none may be part of its base, and its data file must be
//! empty.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;

use super::convert::chain_of;
use crate::error::{Error, Result};
use crate::gate::{beside, check_storable, directory_of};
use crate::image::read_unfinished_head;
use crate::remote::{Access, AnyFile};
use crate::source::is_zero;
use crate::storage::{Allocation, FileOptions, FileStorage, IoBufMut, LockMode, Storage as _};

/// Bytes at the start of a device that are checked for zeros: file systems and partition tables start there.
const LOOK_LEN: u64 = 1 << 20;

/// The most symbolic links that are followed to a file that does not exist.
const MAX_LINKS: usize = 40;

/// The files of an image that will be created.
pub(super) struct NewFiles<'a> {
    /// Path of the image.
    pub(super) image: &'a Path,
    /// Name of the data file as stored in the header. Empty: no data file.
    pub(super) data_file: &'a OsStr,
    /// Name and format of the base, named by the user.
    pub(super) base: Option<(&'a OsStr, Option<&'a str>)>,
    /// Opens the files that the base names.
    pub(super) access: Access<'a>,
    /// Allow to overwrite a data file that is not empty.
    pub(super) force: bool,
}

impl NewFiles<'_> {
    /// Fails if the image, its data file and the files of the backing chain are not all different, or if the
    /// data file is not empty.
    pub(super) fn check(&self) -> Result<()> {
        let image = self.image;
        if let Some((name, _)) = self.base {
            check_storable("backing_file", name)?;
        }
        check_storable("data_file", self.data_file)?;
        let data = (!self.data_file.is_empty()).then(|| beside(image, self.data_file));
        if let Some(data) = &data
            && is_same(data, image)
        {
            let message = "data_file: the image cannot be its own data file";
            return Err(Error::invalid_argument(message).with_path(data));
        }
        self.check_base(image, "the image cannot be its own backing file")?;
        if let Some(data) = &data {
            self.check_base(
                data,
                "data_file: it is part of the backing chain, and would be overwritten",
            )?;
            if !self.force && !self.was_begun() {
                check_empty(data)?;
            }
        }
        Ok(())
    }

    /// Whether an earlier command started to create the same image with this data file, and did not finish.
    /// Then the content of the data file comes from that command, and the user may repeat it without
    /// `--force`.
    fn was_begun(&self) -> bool {
        let head = look_at(self.image).and_then(|file| block_on(read_unfinished_head(&file)).ok());
        head.is_some_and(|head| head.unfinished && head.header.data_file == self.data_file)
    }

    /// Fails with `message` if the file at `path` belongs to the backing chain, because it would be
    /// overwritten.
    fn check_base(&self, path: &Path, message: &str) -> Result<()> {
        let Some((name, format)) = self.base else {
            return Ok(());
        };
        let base = beside(self.image, name);
        let in_chain = || {
            let (Some(base), Some(file)) = (look_at(&base), look_at(path)) else {
                return false;
            };
            chain_of(base, format.map(str::to_owned), self.access).contains(&AnyFile::Local(file).identity())
        };
        if is_same(path, &base) || in_chain() {
            return Err(Error::invalid_argument(message).with_path(path));
        }
        Ok(())
    }
}

/// Opens the file at `path` read-only and without a lock. `None` if it cannot be opened.
pub(super) fn look_at(path: &Path) -> Option<FileStorage> {
    FileStorage::open(path, &unlocked()).ok()
}

/// The options to open a file read-only and without a lock.
pub(super) fn unlocked() -> FileOptions {
    FileOptions {
        lock: LockMode::None,
        ..FileOptions::default()
    }
}

/// Whether two paths name the same file. If neither file exists: whether both would name the same new file.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    match (look_at(a), look_at(b)) {
        (Some(a), Some(b)) => a.identity() == b.identity(),
        (None, None) => resolve(a) == resolve(b),
        _ => false,
    }
}

/// The path of a file that may not exist, with symbolic links resolved as far as possible.
fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => break,
        }
    }
    match (directory_of(&path).canonicalize(), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path,
    }
}

/// Fails if the file at `path` exists and is not empty. A file is empty if it has only holes, a device if its
/// first [`LOOK_LEN`] bytes are zeros.
fn check_empty(path: &Path) -> Result<()> {
    let Some(file) = look_at(path) else {
        return Ok(());
    };
    let len = block_on(file.len())?;
    let is_empty = if file.is_device() {
        let first = block_on(file.read(IoBufMut::zeroed(len.min(LOOK_LEN) as usize), 0))?;
        is_zero(first.as_slice())
    } else {
        len == 0 || block_on(file.allocation(0, len))? == (Allocation::Hole, len)
    };
    if is_empty {
        return Ok(());
    }
    let message = "data_file: the file is not empty; --force (in Python force=True) overwrites it";
    Err(Error::invalid_argument(message).with_path(path))
}
