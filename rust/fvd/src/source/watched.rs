//! A base that must not change while an image uses it.

use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::delegate::delegate_to_inner;
use super::{BaseSource, BoxFuture, Run};
use crate::aio::Threaded;
use crate::error::{Error, ErrorKind, Result};
use crate::process::CloseOnFork;
use crate::storage::{FileStorage, IoBufMut, Storage};
use crate::sys::nowait::FsKind;

/// The most checks of one file at once.
const THREADS: usize = 4;

/// A source that watches the file it reads. Once the file has changed, every read fails, because the copied
/// blocks of the image do not fit the new content.
///
/// It watches the open file, not its name. If a new template is renamed over the old one, readers that have
/// the old file open continue to read it. For a device it sees only a change of identity.
pub struct WatchedSource {
    source: Box<dyn BaseSource>,
    watch: Arc<Watch>,
    /// Threads for the checks. None: check on the caller's thread.
    threads: Option<Threaded<Watch>>,
}

/// An open file, and its state when the watch began.
pub struct Watch {
    /// Before `file`, so that it is dropped first: see [`CloseOnFork`].
    _descriptor: CloseOnFork,
    file: File,
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds, and nanoseconds within the second.
    modified: (i64, i64),
}

impl From<Metadata> for Version {
    fn from(metadata: Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Watch {
    /// From now on, every change of the file counts. Keeps the file open, and so its lock.
    pub fn new(storage: &FileStorage) -> Result<Self> {
        let path = storage.path().to_owned();
        let failed = |error| Error::io("watch", error).with_path(&path);
        let file = storage.file().try_clone().map_err(failed)?;
        let version = file.metadata().map_err(failed)?.into();
        Ok(Self {
            _descriptor: CloseOnFork::new(file.as_fd()),
            file,
            path,
            version,
        })
    }

    /// Fails if the file has changed.
    fn check(&self) -> Result<()> {
        let failed = |error| Error::io("look at", error).with_path(&self.path);
        let now = Version::from(self.file.metadata().map_err(failed)?);
        let then = self.version;
        if now == then {
            return Ok(());
        }
        let what = if now.len == then.len {
            "it was written to".to_owned()
        } else {
            format!("it had {} bytes, and has {}", then.len, now.len)
        };
        let message = format!(
            "The backing file has changed while it was in use ({what}): what the image keeps of its old content \
             does not fit any more"
        );
        Err(Error::new(ErrorKind::Io, message).with_path(&self.path).with_op("read"))
    }
}

impl WatchedSource {
    /// `watch` must be that of the file which `source` reads.
    #[must_use]
    pub fn new(source: Box<dyn BaseSource>, watch: Watch) -> Self {
        Self {
            source,
            watch: Arc::new(watch),
            threads: None,
        }
    }

    /// As [`WatchedSource::new`], for callers that must not block: on a remote file system, even a stat of
    /// the file can hang.
    #[must_use]
    pub fn on_threads(source: Box<dyn BaseSource>, watch: Watch) -> Self {
        let is_remote = FsKind::of(watch.file.as_fd()) == FsKind::Remote;
        let mut watched = Self::new(source, watch);
        watched.threads = is_remote.then(|| Threaded::new(Arc::clone(&watched.watch), THREADS));
        watched
    }

    async fn check(&self) -> Result<()> {
        match &self.threads {
            None => self.watch.check(),
            Some(threads) => threads.run(async |watch: &Watch| watch.check()).await,
        }
    }

    async fn read_watched(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let buf = self.source.read(buf, offset).await?;
        // After the read: if the file has not changed by now, the data read is that of the watched version.
        self.check().await?;
        Ok(buf)
    }

    async fn status_watched(&self, offset: u64, len: u64) -> Result<Run> {
        let run = self.source.status(offset, len).await?;
        self.check().await?;
        Ok(run)
    }
}

impl BaseSource for WatchedSource {
    delegate_to_inner!(source);

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.read_watched(buf, offset))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.status_watched(offset, len))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::path::Path;

    use pollster::block_on;

    use super::*;
    use crate::source::RawSource;
    use crate::storage::FileOptions;

    fn watched(path: &Path) -> WatchedSource {
        let storage = FileStorage::open(path, &FileOptions::default()).expect("a regular file");
        let watch = Watch::new(&storage).expect("an open file");
        let source = block_on(RawSource::new(storage)).expect("an open file");
        WatchedSource::new(Box::new(source), watch)
    }

    fn read(source: &WatchedSource) -> Result<Vec<u8>> {
        block_on(source.read(IoBufMut::zeroed(512), 0)).map(|buf| buf.as_slice().to_vec())
    }

    #[test]
    fn a_base_that_does_not_change_can_be_read() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 4096]).expect("room for a page");
        let source = watched(file.path());
        assert_eq!(read(&source).expect("unchanged"), [7; 512]);
        assert_eq!(read(&source).expect("unchanged"), [7; 512]);
    }

    #[test]
    fn a_truncated_base_gives_an_error_and_no_zeros() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 4096]).expect("room for a page");
        let source = watched(file.path());
        file.as_file().set_len(1024).expect("a shorter file");
        let error = read(&source).expect_err("the file is shorter");
        assert!(error.to_string().contains("it had 4096 bytes, and has 1024"), "{error}");
        assert_eq!(error.path(), Some(file.path()));
        block_on(source.status(0, 4096)).expect_err("its holes are not to be believed, either");
    }

    #[test]
    fn a_remote_file_is_checked_on_threads() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 4096]).expect("room for a page");
        let mut source = watched(file.path());
        source.threads = Some(Threaded::new(Arc::clone(&source.watch), 1));
        assert_eq!(read(&source).expect("unchanged"), [7; 512]);
        file.as_file().set_len(1024).expect("a shorter file");
        read(&source).expect_err("the file is shorter");
    }

    #[test]
    fn a_base_that_is_written_to_gives_an_error() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 4096]).expect("room for a page");
        // Long ago: a write within one tick of the file system's clock would leave the same time.
        let past = std::time::SystemTime::UNIX_EPOCH;
        file.as_file().set_modified(past).expect("one's own file");
        let source = watched(file.path());
        file.seek(SeekFrom::Start(2048)).expect("within the file");
        file.write_all(&[8; 10]).expect("room for a page");
        let error = read(&source).expect_err("the file was written to");
        assert!(error.to_string().contains("was written to"), "{error}");
    }

    #[test]
    fn a_base_can_be_read_after_its_name_was_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("base");
        std::fs::write(&path, [7; 4096]).expect("room for a page");
        let source = watched(&path);
        let new = folder.path().join("new");
        std::fs::write(&new, [8; 4096]).expect("room for a page");
        std::fs::rename(&new, &path).expect("the same folder");
        assert_eq!(read(&source).expect("the old file is still there"), [7; 512]);
    }
}
