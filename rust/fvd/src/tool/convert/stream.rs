//! Pipes as source or target: raw disks that are read or written in order.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind as IoKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::sink::Sink;
use crate::error::{Error, Result};
use crate::storage::FileStorage;
use crate::tool::lock;

/// How long to wait for a pipe before checking whether the job was stopped.
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The most bytes of one write to a pipe.
const WRITE_LEN: usize = 256 << 10;

/// Name of the source stream in messages.
pub(super) const STDIN: &str = "<standard input>";
const STDOUT: &str = "<standard output>";

/// Fills `buf` from a pipe. Returns fewer bytes than `buf` has only at the end of the pipe, or when
/// `stopped`.
pub(super) fn read_full(file: &File, buf: &mut [u8], stopped: &dyn Fn() -> bool) -> Result<usize> {
    let failed = |error| Error::io("read", error).with_path(STDIN);
    let mut filled = 0;
    while filled < buf.len() {
        if !wait(file, PollFlags::IN, stopped).map_err(failed)? {
            break;
        }
        let mut file = file;
        match file.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if matches!(error.kind(), IoKind::Interrupted | IoKind::WouldBlock) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(filled)
}

/// Waits until the stream is ready. Returns false if the job was stopped.
fn wait(file: &File, flags: PollFlags, stopped: &dyn Fn() -> bool) -> io::Result<bool> {
    loop {
        if stopped() {
            return Ok(false);
        }
        match poll(&mut [PollFd::new(file, flags)], Some(&WAIT)) {
            // Ready, or an error, which the following read or write reports.
            Ok(1..) => return Ok(true),
            Ok(0) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A pipe or redirected file as the target. It takes all bytes in order.
pub(super) struct StreamSink<'a> {
    file: &'a File,
    /// Bytes written.
    position: Mutex<u64>,
}

impl<'a> StreamSink<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self {
            file,
            position: Mutex::new(0),
        }
    }

    /// Makes a redirected file durable. Does nothing for a pipe.
    pub(super) fn sync(&self) -> Result<()> {
        match self.file.sync_data() {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS)) => {
                Err(Error::io("sync", error).with_path(STDOUT))
            }
            _ => Ok(()),
        }
    }
}

impl Sink for StreamSink<'_> {
    fn write(&self, buf: Bytes, offset: u64, stopped: &dyn Fn() -> bool) -> Result<()> {
        let failed = |error| Error::io("write", error).with_path(STDOUT);
        let mut position = lock(&self.position);
        assert_eq!(*position, offset, "a stream gets its bytes in order");
        let mut rest = buf.as_ref();
        while !rest.is_empty() {
            if !wait(self.file, PollFlags::OUT, stopped).map_err(failed)? {
                return Ok(());
            }
            let mut file = self.file;
            match file.write(&rest[..rest.len().min(WRITE_LEN)]) {
                Ok(0) => return Err(failed(IoKind::WriteZero.into())),
                Ok(count) => rest = &rest[count..],
                Err(error) if matches!(error.kind(), IoKind::Interrupted | IoKind::WouldBlock) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        *position += buf.len() as u64;
        Ok(())
    }

    fn zero(&self, _offset: u64, _len: u64) -> Result<()> {
        unreachable!("zeros for a stream are written as data")
    }
}

/// The stream as a file. `None` if it is not a regular file, or if its position is not 0 because it was
/// already read.
pub(super) fn as_file(stream: &File) -> Result<Option<FileStorage>> {
    let inspect = |error| Error::io("inspect", error).with_path(STDIN);
    let is_file = stream.metadata().map_err(inspect)?.is_file();
    let mut reader = stream;
    if !is_file || reader.stream_position().map_err(inspect)? != 0 {
        return Ok(None);
    }
    let duplicate = stream.try_clone().map_err(inspect)?;
    FileStorage::from_file(duplicate, STDIN).map(Some)
}

/// Creates an unlinked temporary file in the directory of `target`. The file system of the target must have
/// room for the image anyway, unlike that of `/tmp`. Errors name `target`, which the user knows.
pub(super) fn spool(target: &Path) -> Result<FileStorage> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let directory = crate::gate::directory_of(target);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path: PathBuf = directory.join(format!(".fvd-spool-{}-{number}", std::process::id()));
        let mut how = OpenOptions::new();
        how.read(true).write(true).create_new(true).mode(0o600);
        match how.open(&path) {
            Err(error) if error.kind() == IoKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create a temporary file for", error).with_path(target)),
            Ok(file) => {
                let removed = std::fs::remove_file(&path);
                removed.map_err(|error| Error::io("remove the temporary file of", error).with_path(target))?;
                return FileStorage::from_file(file, target);
            }
        }
    }
}
