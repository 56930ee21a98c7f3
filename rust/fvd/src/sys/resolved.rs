//! Opens a resolved path: no component may be a symbolic link now.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};
use rustix::io::{Errno, retry_on_intr};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens `path`, which must have no `..`, with `flags`. Fails with ELOOP if a component is a symbolic link.
///
/// So a link that replaced a folder after the path was resolved does not lead to another file.
pub(crate) fn open_resolved(path: &Path, flags: OFlags) -> io::Result<File> {
    match at_once(path, flags) {
        // openat2 exists since Linux 5.6. The filters of some containers deny system calls that they do not
        // know.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(path, flags),
        result => result,
    }
    .map(File::from)
    .map_err(io::Error::from)
}

/// The root or current directory, and the path from there. Fails if the path has a `..`.
fn start(path: &Path) -> Result<(&Path, &Path), Errno> {
    let (top, below) = match path.strip_prefix("/") {
        Ok(below) => (Path::new("/"), below),
        Err(_) => (Path::new("."), path),
    };
    let is_plain = below
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if is_plain { Ok((top, below)) } else { Err(Errno::INVAL) }
}

fn at_once(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (top, below) = start(path)?;
    let top = retry_on_intr(|| open(top, FOLDER | OFlags::DIRECTORY, Mode::empty()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry_on_intr(|| openat2(&top, below, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// The same for every kernel: one open for each folder, relative to the one before.
fn step_by_step(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (top, below) = start(path)?;
    let mut folder = retry_on_intr(|| open(top, FOLDER | OFlags::DIRECTORY, Mode::empty()))?;
    let mut names = below.iter().peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return retry_on_intr(|| openat(&folder, name, flags, Mode::empty()));
        }
        folder = retry_on_intr(|| openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()))?;
        if is_link(&folder)? {
            return Err(Errno::LOOP);
        }
    }
    Err(Errno::ISDIR)
}

fn is_link(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    type Open = fn(&Path, OFlags) -> Result<OwnedFd, Errno>;

    const WAYS: [Open; 2] = [at_once, step_by_step];

    #[test]
    fn both_ways_open_a_path_without_links() {
        let top = tempfile::tempdir().expect("a folder");
        let top = top.path().canonicalize().expect("it is there");
        fs::create_dir_all(top.join("a/b")).expect("folders");
        fs::write(top.join("a/b/file"), "mine").expect("a file");
        for open in WAYS {
            let mut text = String::new();
            let mut file = File::from(open(&top.join("a/b/file"), OFlags::RDONLY).expect("no link"));
            file.read_to_string(&mut text).expect("readable");
            assert_eq!(text, "mine");
            let missing = open(&top.join("a/none/file"), OFlags::RDONLY);
            assert_eq!(missing.expect_err("there is none"), Errno::NOENT);
            let through_a_file = open(&top.join("a/b/file/x"), OFlags::RDONLY);
            assert_eq!(through_a_file.expect_err("no folder"), Errno::NOTDIR);
        }
    }

    #[test]
    fn neither_way_follows_a_link_in_any_component() {
        let top = tempfile::tempdir().expect("a folder");
        let top = top.path().canonicalize().expect("it is there");
        fs::create_dir_all(top.join("outside/b")).expect("folders");
        fs::write(top.join("outside/b/file"), "theirs").expect("a file");
        symlink("outside", top.join("a")).expect("a link");
        symlink("b", top.join("outside/c")).expect("a link");
        symlink("file", top.join("outside/b/link")).expect("a link");
        for open in WAYS {
            for path in ["a/b/file", "outside/c/file", "outside/b/link"] {
                let refused = open(&top.join(path), OFlags::RDONLY);
                assert_eq!(refused.expect_err("a link"), Errno::LOOP, "{path}");
            }
            let upward = open(&top.join("outside/../outside/b/file"), OFlags::RDONLY);
            assert_eq!(upward.expect_err("not resolved"), Errno::INVAL);
        }
    }
}
