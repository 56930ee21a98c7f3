//! I/O that fails instead of waiting (`RWF_NOWAIT`).

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::ReadWriteFlags;

use super::buffer::IoBufMut;

/// Fills the buffer after its first `filled` bytes, as far as that needs no waiting. Returns the number of
/// bytes: 0 at the end of the file.
///
/// # Errors
///
/// EAGAIN if it would have to wait, EOPNOTSUPP where the medium cannot tell.
#[inline]
pub(crate) fn read_nowait(fd: BorrowedFd<'_>, buf: &mut IoBufMut, filled: usize, offset: u64) -> io::Result<usize> {
    assert!(filled <= buf.len(), "read behind the end of a buffer");
    // SAFETY: `filled` is within the buffer or its end.
    let target = unsafe { buf.as_mut_ptr().add(filled) };
    let piece = libc::iovec {
        iov_base: target.cast(),
        iov_len: buf.len() - filled,
    };
    // SAFETY: the one piece lies within the buffer, which is valid for writes and which no other code
    // accesses. The kernel may fill bytes that are not initialised.
    let count = unsafe {
        libc::preadv2(
            fd.as_raw_fd(),
            &raw const piece,
            1,
            offset.cast_signed(),
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Writes from `bufs`, at most 1024 pieces, what needs no waiting. Returns the number of bytes. Errors as
/// [`read_nowait`].
#[inline]
pub(crate) fn write_nowait(fd: BorrowedFd<'_>, bufs: &[Bytes], offset: u64) -> io::Result<usize> {
    let flags = ReadWriteFlags::NOWAIT;
    if let [buf] = bufs {
        return Ok(rustix::io::pwritev2(fd, &[IoSlice::new(buf)], offset, flags)?);
    }
    let pieces: Vec<IoSlice<'_>> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
    Ok(rustix::io::pwritev2(fd, &pieces, offset, flags)?)
}

/// What a file system stores its data on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FsKind {
    /// Nothing but memory: the pages of the cache are all there is.
    Memory,
    /// A disk of this machine, with a page cache that takes writes.
    Local,
    /// Another machine or another process, which may not answer.
    Remote,
}

impl FsKind {
    /// An unknown file system counts as [`FsKind::Remote`].
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Self {
        const TMPFS: i64 = 0x0102_1994;
        const EXT4: i64 = 0xef53;
        const XFS: i64 = 0x5846_5342;
        const BTRFS: i64 = 0x9123_683e;
        const F2FS: i64 = 0xf2f5_2010;
        const ZFS: i64 = 0x2fc1_2fc1;
        // In containers. A file that is open for writing lies on an upper layer, which is on a local disk.
        // Any other file may lie on a remote file system.
        const OVERLAYFS: i64 = 0x794c_7630;
        match rustix::fs::fstatfs(fd).map(|stat| stat.f_type) {
            Ok(TMPFS) => Self::Memory,
            Ok(EXT4 | XFS | BTRFS | F2FS | ZFS) => Self::Local,
            Ok(OVERLAYFS) if is_writable(fd) => Self::Local,
            _ => Self::Remote,
        }
    }
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let flags = rustix::fs::fcntl_getfl(fd);
    flags.is_ok_and(|flags| flags.intersects(OFlags::WRONLY | OFlags::RDWR))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::fd::AsFd;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    /// An overlay file system with layers in memory. Needs root.
    struct Overlay(PathBuf);

    fn mount(arguments: &[&str], folder: &Path) {
        let output = Command::new("mount").args(arguments).arg(folder).output();
        let output = output.expect("mount is there");
        assert!(output.status.success(), "mount {arguments:?}: {output:?}");
    }

    impl Overlay {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder").keep();
            mount(&["-t", "tmpfs", "tmpfs"], &folder);
            // From here on, dropping it unmounts, whatever fails.
            let overlay = Self(folder.clone());
            let layer = |name: &str| {
                fs::create_dir(folder.join(name)).expect("room for a folder");
                format!("{name}dir={}", folder.join(name).display())
            };
            let layers = ["lower", "upper", "work"].map(layer).join(",");
            fs::write(folder.join("lower/file"), "below").expect("room for a file");
            fs::create_dir(overlay.path("")).expect("room for a folder");
            mount(&["-t", "overlay", "-o", &layers, "overlay"], &overlay.path(""));
            overlay
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join("merged").join(name)
        }
    }

    impl Drop for Overlay {
        fn drop(&mut self) {
            for folder in [self.path(""), self.0.clone()] {
                let _ = Command::new("umount").arg("--lazy").arg(folder).status();
            }
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn an_overlay_is_local_only_for_files_open_for_writing() {
        let overlay = Overlay::new();
        let path = overlay.path("file");
        let home = |options: &OpenOptions| {
            let file = options.open(&path).expect("a file of the overlay");
            FsKind::of(file.as_fd())
        };
        // The second time it has been copied up: the result must not depend on whether it was opened for
        // writing before.
        for _ in 0..2 {
            assert_eq!(home(OpenOptions::new().read(true)), FsKind::Remote);
            assert_eq!(home(OpenOptions::new().read(true).write(true)), FsKind::Local);
            assert_eq!(home(OpenOptions::new().append(true)), FsKind::Local);
        }
        // A file of a layer, opened directly, has the kind of that layer.
        let below = fs::File::open(overlay.0.join("lower/file")).expect("a file in memory");
        assert_eq!(FsKind::of(below.as_fd()), FsKind::Memory);
    }
}
