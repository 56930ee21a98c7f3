//! The cache on a real file system.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use fvd::process::effective_user;
use fvd::{Error, ErrorKind, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, fstat, ftruncate, mkdirat, openat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::files::{Kept, Pair, write_all};
use super::medium::{ByteLock, Files, Medium, Sizes};

/// The folder of this version of the layout, below the one that the user names.
const FOLDER: &str = "v1";
const LOCK: &str = "lock";
/// What objects that are being made or removed are called, before a number.
const TEMPORARY: &str = "tmp-";
/// Seconds after which one of them is left over. No step on it takes that long.
const ABANDONED: i64 = 3600;

/// `DIR/v1`, open.
pub(crate) struct Folder {
    folder: OwnedFd,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Folder {
    /// Opens the cache in `dir`, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotPermitted`] if others can write to it: they could give all who use it any content.
    pub(crate) fn open(dir: &Path, missing: Missing) -> Result<Self> {
        let failed = |error: Errno| Error::io("open the cache", error.into()).with_path(dir);
        if missing == Missing::Make {
            make(CWD, dir).map_err(failed)?;
        }
        // The user may name it through a symbolic link. Below it, none is followed.
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let outer = openat(CWD, dir, flags, Mode::empty()).map_err(failed)?;
        check_owner(&fstat(&outer).map_err(failed)?, dir)?;
        if missing == Missing::Make {
            make(&outer, Path::new(FOLDER)).map_err(failed)?;
        }
        let folder = openat(&outer, FOLDER, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
        check_owner(&fstat(&folder).map_err(failed)?, &dir.join(FOLDER))?;
        Ok(Self { folder })
    }

    fn open_file(folder: &OwnedFd, name: &str, more: OFlags) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        // A device or a pipe could be worse than useless.
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn open_folder(&self, name: &str) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&self, temporary: &str, header: &[u8], sizes: Sizes) -> io::Result<()> {
        let folder = self.open_folder(temporary)?.ok_or(Errno::NOENT)?;
        let make = OFlags::CREATE | OFlags::EXCL;
        let index = Self::open_file(&folder, "index", make)?;
        write_all(&index, header, 0)?;
        ftruncate(&index, sizes.index)?;
        let data = Self::open_file(&folder, "data", make)?;
        ftruncate(&data, sizes.data)?;
        Ok(())
    }

    /// Removes a folder that no process opens by this name any more.
    fn clear(&self, temporary: &str) -> io::Result<()> {
        if let Some(folder) = self.open_folder(temporary)? {
            for file in ["index", "data"] {
                ignore_missing(unlinkat(&folder, file, AtFlags::empty()))?;
            }
        }
        ignore_missing(unlinkat(&self.folder, temporary, AtFlags::REMOVEDIR))
    }

    fn all_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.folder)? {
            // Other names are none of ours.
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Whether no process can be working on it any more.
    fn is_old(&self, temporary: &str) -> io::Result<bool> {
        match statat(&self.folder, temporary, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(i64::from(self.now()) - stat.st_mtime > ABANDONED),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn temporary() -> String {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let random = fastrand::u64(..);
        format!("{TEMPORARY}{}-{number}-{random:x}", std::process::id())
    }
}

/// What to do if there is no cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Make,
    Fail,
}

fn make(at: impl std::os::fd::AsFd, name: &Path) -> rustix::io::Result<()> {
    match mkdirat(at, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

fn check_owner(stat: &Stat, path: &Path) -> Result<()> {
    let us = effective_user();
    let refuse = |text: String| Err(Error::new(ErrorKind::NotPermitted, text).with_path(path));
    if stat.st_uid != us && stat.st_uid != 0 {
        return refuse(format!(
            "The cache belongs to user {}, who could change what all others read from it",
            stat.st_uid
        ));
    }
    if stat.st_mode & 0o022 != 0 {
        return refuse(
            "Other users can write to the cache, and so change what is read from it. `chmod go-w` helps".to_owned(),
        );
    }
    Ok(())
}

fn ignore_missing(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

impl Medium for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.all_names()?;
        names.retain(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Files>>> {
        let Some(folder) = self.open_folder(name)? else {
            return Ok(None);
        };
        let open = |name| match Self::open_file(&folder, name, OFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        };
        match (open("index")?, open("data")?) {
            (Some(index), Some(data)) => Ok(Some(Box::new(Pair::new(index, data)))),
            // Not made by this program: either way it is no object.
            _ => self.remove(name).map(|()| None),
        }
    }

    fn create(&self, name: &str, header: &[u8], sizes: Sizes) -> io::Result<()> {
        let temporary = Self::temporary();
        mkdirat(&self.folder, &temporary, Mode::RWXU)?;
        let made = self.fill(&temporary, header, sizes).and_then(|()| {
            let renamed = renameat_with(&self.folder, &temporary, &self.folder, name, RenameFlags::NOREPLACE);
            match renamed {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(error) => Err(error.into()),
            }
        });
        if !matches!(made, Ok(true)) {
            // The first error is the one to report. What stays is removed by the next eviction.
            _ = self.clear(&temporary);
        }
        made.map(|_| ())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let temporary = Self::temporary();
        ignore_missing(rustix::fs::renameat(&self.folder, name, &self.folder, &temporary))?;
        self.clear(&temporary)
    }

    fn sweep(&self) -> io::Result<()> {
        for name in self.all_names()? {
            if name.starts_with(TEMPORARY) && self.is_old(&name)? {
                self.clear(&name)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        let file = Self::open_file(&self.folder, LOCK, OFlags::CREATE)?;
        if !ByteLock::Exclusive.try_take(file.as_fd(), 0)? {
            return Ok(None);
        }
        Ok(Some(Box::new(Kept::new(file))))
    }

    fn now(&self) -> u32 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs() as u32)
    }
}
