//! A base that must not change while an image is open over it.

use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BaseSource, BoxFuture, Run};
use crate::aio::Pool;
use crate::error::{Error, ErrorKind, Result};
use crate::process::CloseOnFork;
use crate::storage::{FileStorage, IoBufMut, Storage};
use crate::sys::nowait::FsKind;

/// Most looks at one file at once.
const THREADS: usize = 4;

/// A source, and the file that it reads. Once that has changed, every read fails: what an image
/// keeps of the old content does not fit what the base holds now.
///
/// It is the open file that is watched, not its name: a template that is replaced by renaming a new
/// one over it goes on to serve those who have it open. On a device nothing but its identity can be
/// seen.
pub struct WatchedSource {
    source: Box<dyn BaseSource>,
    watch: Arc<Watch>,
    /// Where to look at the file; None: here.
    pool: Option<Pool>,
}

/// An open file, and what it was like.
pub struct Watch {
    /// Before the file: see [`CloseOnFork`].
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
    /// Seconds, and nanoseconds of the second.
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
    /// From here on the file is to stay as it is. Its lock is kept as long as this.
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
    /// `watch` is that of the file which `source` reads.
    #[must_use]
    pub fn new(source: Box<dyn BaseSource>, watch: Watch) -> Self {
        Self {
            source,
            watch: Arc::new(watch),
            pool: None,
        }
    }

    /// As [`WatchedSource::new`], for hosts that must not be blocked: on a file system that is far
    /// away, even a look at the file can hang.
    #[must_use]
    pub fn on_threads(source: Box<dyn BaseSource>, watch: Watch) -> Self {
        let is_remote = FsKind::of(watch.file.as_fd()) == FsKind::Remote;
        Self {
            pool: is_remote.then(|| Pool::new(THREADS)),
            ..Self::new(source, watch)
        }
    }

    async fn check(&self) -> Result<()> {
        let Some(pool) = &self.pool else {
            return self.watch.check();
        };
        let watch = Arc::clone(&self.watch);
        pool.run(move || watch.check())?.await
    }

    async fn read_watched(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let buf = self.source.read(buf, offset).await?;
        // Behind the read: what it gave was there before the file could change unseen.
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
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn format(&self) -> &'static str {
        self.source.format()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

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
    fn a_base_that_stays_as_it_is_can_be_read() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 4096]).expect("room for a page");
        let source = watched(file.path());
        assert_eq!(read(&source).expect("unchanged"), [7; 512]);
        assert_eq!(read(&source).expect("unchanged"), [7; 512]);
    }

    #[test]
    fn a_base_that_is_cut_short_gives_an_error_and_no_zeros() {
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
    fn a_file_that_is_far_away_is_looked_at_on_threads() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 4096]).expect("room for a page");
        let mut source = watched(file.path());
        source.pool = Some(Pool::new(1));
        assert_eq!(read(&source).expect("unchanged"), [7; 512]);
        file.as_file().set_len(1024).expect("a shorter file");
        read(&source).expect_err("the file is shorter");
    }

    #[test]
    fn a_base_that_is_written_to_gives_an_error() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[7; 4096]).expect("room for a page");
        // Long ago: a write within the tick of the file system's clock has the same time.
        let past = std::time::SystemTime::UNIX_EPOCH;
        file.as_file().set_modified(past).expect("one's own file");
        let source = watched(file.path());
        file.seek(SeekFrom::Start(2048)).expect("within the file");
        file.write_all(&[8; 10]).expect("room for a page");
        let error = read(&source).expect_err("the file was written to");
        assert!(error.to_string().contains("was written to"), "{error}");
    }

    #[test]
    fn a_base_whose_name_now_leads_to_another_file_goes_on() {
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
