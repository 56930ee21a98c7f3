//! The files that a new image would overwrite: none may be part of its base, or hold data already.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use pollster::block_on;

use super::convert::chain_of;
use crate::error::{Error, Result};
use crate::gate::{Gate, beside, check_storable, directory_of};
use crate::image::read_unfinished_head;
use crate::source::is_zero;
use crate::storage::{Allocation, FileOptions, FileStorage, IoBufMut, LockMode, Storage as _};

/// Bytes of a device that are looked at: file systems and partition tables begin there.
const LOOK_LEN: u64 = 1 << 20;

/// Most links that are followed from one name to a file that does not exist.
const MAX_LINKS: usize = 40;

/// An image that is to be made.
pub(super) struct NewFiles<'a> {
    /// Where.
    pub(super) image: &'a Path,
    /// As it goes into the header; empty: none.
    pub(super) data_file: &'a OsStr,
    /// Name and format of the base, named by the user.
    pub(super) base: Option<(&'a OsStr, Option<&'a str>)>,
    /// What the base may name.
    pub(super) gate: &'a Gate,
    /// A data file that is not empty may be overwritten.
    pub(super) force: bool,
}

impl NewFiles<'_> {
    /// Fails if image, data file and the files of the backing chain are not all different files, or the data file
    /// holds something.
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

    /// Whether an earlier command began the same image, with this data file, and did not come to its end: what the
    /// data file holds is its doing, and the user is told to repeat it.
    fn was_begun(&self) -> bool {
        let head = look_at(self.image).and_then(|file| block_on(read_unfinished_head(&file)).ok());
        head.is_some_and(|head| head.unfinished && head.header.data_file == self.data_file)
    }

    /// Fails with `message` if the file at `path`, which would be overwritten, belongs to the backing chain.
    fn check_base(&self, path: &Path, message: &str) -> Result<()> {
        let Some((name, format)) = self.base else {
            return Ok(());
        };
        let base = beside(self.image, name);
        let in_chain = || {
            let (Some(base), Some(file)) = (look_at(&base), look_at(path)) else {
                return false;
            };
            chain_of(base, format.map(str::to_owned), self.gate).contains(&file.identity())
        };
        if is_same(path, &base) || in_chain() {
            return Err(Error::invalid_argument(message).with_path(path));
        }
        Ok(())
    }
}

/// The file at `path`, to be looked at without a lock; None: it cannot be opened.
pub(super) fn look_at(path: &Path) -> Option<FileStorage> {
    FileStorage::open(path, &unlocked()).ok()
}

/// How a file is opened only to be looked at.
pub(super) fn unlocked() -> FileOptions {
    FileOptions {
        lock: LockMode::None,
        ..FileOptions::default()
    }
}

/// Whether two names are those of one file, or would be of the one that does not exist yet.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    match (look_at(a), look_at(b)) {
        (Some(a), Some(b)) => a.identity() == b.identity(),
        (None, None) => resolve(a) == resolve(b),
        _ => false,
    }
}

/// The path of a file that need not exist, without links as far as there is something.
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

/// Fails if the file at `path` exists and holds something: more than holes; on a device, more than zeros where it
/// begins.
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
